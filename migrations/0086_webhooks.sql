-- Outgoing webhooks: where events are told to other systems, and what became of each.
create table webhooks (
    id                     uuid        not null constraint webhooks_pkey primary key,
    organization_id        uuid        not null constraint webhooks_organization_fkey references organizations on delete cascade,
    url                    text        not null constraint webhooks_url_check check (length(url) between 1 and 2000),
    description            text        not null default '' constraint webhooks_description_check check (length(description) <= 500),
    event_types            text[]      not null constraint webhooks_event_types_check check (cardinality(event_types) between 1 and 100),
    is_active              boolean     not null default true,
    created_by             uuid,
    owner_id               uuid        not null, -- whose rights decide what it hears
    scopes                 text[],     -- of the token with which the owner said so; null: all of the owner's rights
    expires_at             timestamptz, -- when that token expires: then it hears nothing any more
    secret_id              uuid        not null, -- new with each secret; it is sealed for this id
    key_name               text        not null, -- of the key that it is sealed with
    sealed_secret          bytea       not null,
    previous_secret_id     uuid,       -- while a secret is being replaced both sign
    previous_key_name      text,
    previous_sealed_secret bytea,
    previous_until         timestamptz,
    disabled_at            timestamptz,
    disabled_reason        text        constraint webhooks_disabled_reason_check check (disabled_reason in ('by_hand', 'gone', 'failing', 'owner_deleted')),
    failing_since          timestamptz, -- the first failure after the last delivery
    failures               integer     not null default 0, -- since then
    version                bigint      not null default 1,
    created_at             timestamptz not null,
    updated_at             timestamptz not null,
    constraint webhooks_tenant_key unique (organization_id, id),
    constraint webhooks_disabled_check check (is_active = (disabled_at is null) and (disabled_at is null) = (disabled_reason is null)),
    constraint webhooks_previous_check check (num_nulls(previous_secret_id, previous_key_name, previous_sealed_secret, previous_until) in (0, 4)),
    constraint webhooks_owner_fkey foreign key (organization_id, owner_id) references users (organization_id, id) on delete cascade,
    constraint webhooks_created_by_fkey foreign key (organization_id, created_by)
        references users (organization_id, id) on delete set null (created_by)
);
create index webhooks_created_idx on webhooks (organization_id, created_at desc, id desc);

-- One event for one webhook. What is sent is made of the event each time, so nothing of it lies here.
create table webhook_deliveries (
    id              uuid        not null constraint webhook_deliveries_pkey primary key,
    organization_id uuid        not null constraint webhook_deliveries_organization_fkey references organizations on delete cascade,
    webhook_id      uuid        not null,
    event_id        uuid,       -- null: a test
    event_type      text        not null,
    ticket_id       uuid,
    status          text        not null default 'pending' constraint webhook_deliveries_status_check
                                check (status in ('pending', 'delivered', 'failed')),
    attempts        integer     not null default 0,
    replays         integer     not null default 0, -- how often somebody wanted it again
    replayed_at     timestamptz,
    last_attempt_at timestamptz,
    next_attempt_at timestamptz,
    last_status     integer,    -- HTTP status of the last answer
    last_error      text,
    delivered_at    timestamptz,
    rescues         integer     not null default 0, -- how often its job was lost
    job_id          uuid,       -- the only job that may send it …
    job_run         bigint,     -- … and the last run of that job
    created_at      timestamptz not null,
    updated_at      timestamptz not null,
    constraint webhook_deliveries_tenant_key unique (organization_id, id),
    constraint webhook_deliveries_event_key unique (webhook_id, event_id),
    constraint webhook_deliveries_webhook_fkey foreign key (organization_id, webhook_id)
        references webhooks (organization_id, id) on delete cascade,
    constraint webhook_deliveries_event_fkey foreign key (organization_id, event_id)
        references events (organization_id, id) on delete cascade,
    constraint webhook_deliveries_ticket_fkey foreign key (organization_id, ticket_id)
        references tickets (organization_id, id) on delete cascade
) with (fillfactor = 70);
create index webhook_deliveries_created_idx on webhook_deliveries (organization_id, created_at desc, id desc);
create index webhook_deliveries_webhook_idx on webhook_deliveries (webhook_id, created_at desc, id desc);
create index webhook_deliveries_event_idx on webhook_deliveries (event_id);
create index webhook_deliveries_ticket_idx on webhook_deliveries (ticket_id);
create index webhook_deliveries_pending_idx on webhook_deliveries (updated_at) where status = 'pending';

-- Written before the receiver is called, and completed afterwards: one without an end is one that nobody knows the end of.
create table webhook_attempts (
    delivery_id     uuid        not null,
    number          integer     not null,
    organization_id uuid        not null,
    started_at      timestamptz not null,
    duration_ms     integer,
    status          integer,    -- HTTP status
    response        text,       -- beginning of the answer
    error           text,
    constraint webhook_attempts_pkey primary key (delivery_id, number),
    constraint webhook_attempts_delivery_fkey foreign key (organization_id, delivery_id)
        references webhook_deliveries (organization_id, id) on delete cascade
);

call tenant_table('webhooks');
call tenant_table('webhook_deliveries', '(select is_system())');
call tenant_table('webhook_attempts');
