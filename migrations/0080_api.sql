-- The organization of those who run this installation: the first that is created. Its admins may pause lanes, which all
-- tenants share (docs/adr/0071-operator-organization.md).
alter table organizations add column is_operator boolean not null default false;
create unique index organizations_operator_key on organizations (is_operator) where is_operator;

-- One row per write with an Idempotency-Key. It is made before the handler runs; every transaction of the handler marks
-- it `effective` as it commits, so that a process that dies before it could keep its answer is not repeated.
create table idempotency_keys (
    organization_id uuid        not null constraint idempotency_keys_organization_fkey references organizations on delete cascade,
    user_id         uuid        not null,
    method          text        not null,
    path            text        not null,
    key             text        not null constraint idempotency_keys_key_check check (length(key) between 1 and 255),
    request_hash    text        not null, -- hex SHA-256 of query and body
    run             uuid        not null, -- which request owns the row: a late one cannot commit
    effective       boolean     not null default false,
    status          integer,              -- null while the first request runs
    headers         jsonb       not null default '{}',
    body            bytea,
    created_at      timestamptz not null,
    locked_until    timestamptz not null,
    constraint idempotency_keys_pkey primary key (organization_id, user_id, method, path, key),
    constraint idempotency_keys_user_fkey foreign key (organization_id, user_id) references users (organization_id, id) on delete cascade
);
create index idempotency_keys_created_idx on idempotency_keys (organization_id, created_at);
call tenant_table('idempotency_keys');
