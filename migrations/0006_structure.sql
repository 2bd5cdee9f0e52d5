-- Who becomes known by writing a mail: everybody, people of these domains, or nobody. `*.example.org` stands for what is below it.
alter table organizations
    add column sender_policy text not null default 'open',
    add column sender_domains text[] not null default '{}',
    add constraint organizations_sender_policy_check check (sender_policy in ('open', 'known_domains', 'closed'));

-- Deleted ones stay, for tickets and history name them. They give up their name or address, and get it back when they are restored
-- and it is still free. A deleted person is never active, so that whoever asks for active people need not know of deletion.
alter table users
    add column deleted_at timestamptz,
    add column was_active boolean, -- before the deletion, for the restoration
    add constraint users_deleted_check check ((deleted_at is null) = (was_active is null) and (deleted_at is null or not is_active)),
    drop constraint users_email_key;
create unique index users_email_key on users (organization_id, email) where deleted_at is null;
create index users_deleted_idx on users (organization_id, created_at) where deleted_at is not null;
alter table teams
    add column deleted_at timestamptz,
    drop constraint teams_name_key;
create unique index teams_name_key on teams (organization_id, name) where deleted_at is null;
alter table departments
    add column deleted_at timestamptz,
    drop constraint departments_name_key;
create unique index departments_name_key on departments (organization_id, name) where deleted_at is null;
create index users_name_idx on users (organization_id, lower(name), id) where deleted_at is null;
create index users_department_idx on users (department_id) where department_id is not null and deleted_at is null;

-- As another system calls them: what an import knows them by again.
-- Out of office: from, until (not part of it), and who stands in.
alter table users
    add column external_id text,
    add column away_from timestamptz,
    add column away_until timestamptz,
    add column away_note text,
    add column substitute_id uuid,
    add constraint users_external_id_check check (length(external_id) between 1 and 200),
    add constraint users_away_check check (num_nonnulls(away_from, away_until) <> 1 and away_from < away_until
                                           and (away_from is not null or num_nonnulls(substitute_id, away_note) = 0)),
    add constraint users_substitute_check check (substitute_id <> id),
    add constraint users_substitute_fkey foreign key (organization_id, substitute_id) references users (organization_id, id);
create unique index users_external_id_key on users (organization_id, external_id) where deleted_at is null;

create table contact_ways (
    id              uuid        not null constraint contact_ways_pkey primary key,
    organization_id uuid        not null,
    user_id         uuid        not null,
    place           integer     not null, -- in the order in which they were given
    kind            text        not null constraint contact_ways_kind_check check (kind in ('email', 'phone', 'mobile')),
    value           text        not null constraint contact_ways_value_check check (length(value) between 1 and 320),
    label           text,
    is_preferred    boolean     not null,
    created_at      timestamptz not null,
    constraint contact_ways_value_key unique (user_id, kind, value),
    constraint contact_ways_user_fkey foreign key (organization_id, user_id) references users (organization_id, id) on delete cascade
);
create unique index contact_ways_preferred_key on contact_ways (user_id, kind) where is_preferred;
call tenant_table('contact_ways');

-- What somebody is in a team, and what they can do there: {"linux": 4}, from 1 (begins) to 5 (teaches others).
alter table team_members
    add column is_lead boolean not null default false,
    add column skills jsonb not null default '{}',
    add column updated_at timestamptz not null default now(),
    add constraint team_members_skills_check check (jsonb_typeof(skills) = 'object');

-- Tables of people that were handed in. `csv` is there until it was worked.
create table user_imports (
    id              uuid        not null constraint user_imports_pkey primary key,
    organization_id uuid        not null constraint user_imports_organization_fkey references organizations on delete cascade,
    status          text        not null default 'queued'
                    constraint user_imports_status_check check (status in ('queued', 'done', 'checked', 'refused', 'failed')),
    is_dry_run      boolean     not null,
    creates_missing boolean     not null,
    requested_by    uuid,
    csv             bytea,
    row_count       integer     not null default 0,
    created_count   integer     not null default 0,
    changed_count   integer     not null default 0,
    unchanged_count integer     not null default 0,
    errors          jsonb       not null default '[]', -- the first ones
    error_count     integer     not null default 0,
    created_at      timestamptz not null,
    finished_at     timestamptz,
    constraint user_imports_requested_by_fkey foreign key (organization_id, requested_by) references users (organization_id, id)
        on delete set null (requested_by)
);
create index user_imports_created_idx on user_imports (organization_id, created_at desc, id desc);
call tenant_table('user_imports');
