-- The application role owns nothing and cannot bypass row level security. Roles belong to the cluster, not to the
-- database, so a second database finds it already there.
do $$
begin
    if not exists (select from pg_roles where rolname = 'relaydesk_app') then
        create role relaydesk_app nologin nosuperuser nobypassrls nocreatedb nocreaterole;
    end if;
exception when duplicate_object or unique_violation then
    null; -- two databases being migrated at once
end
$$;

grant usage on schema public to relaydesk_app;
alter default privileges in schema public grant select, insert, update, delete on tables to relaydesk_app;
alter default privileges in schema public grant usage, select on sequences to relaydesk_app;

-- The application asks which schema it meets; the migrator made this table before the default privileges.
do $$
begin
    if to_regclass('public._sqlx_migrations') is not null then
        grant select on _sqlx_migrations to relaydesk_app;
    end if;
end
$$;

-- The oldest program that this schema still serves, by the newest migration that it knows. A migration that takes away what older programs use
-- raises it: docs/development.md, "Changing the schema".
create table schema_floor (
    is_only boolean not null default true constraint schema_floor_pkey primary key constraint schema_floor_only_check check (is_only),
    version bigint  not null
);
insert into schema_floor (version) values (0);
revoke insert, update, delete on schema_floor from relaydesk_app;

-- The organization of this transaction, set by `store::Tx` with set_config(…, true).
create function current_organization() returns uuid
    language sql stable parallel safe
    return nullif(current_setting('app.organization_id', true), '')::uuid;

-- A secret or address that the caller has presented before its organization is known (token hash, hook token hash,
-- e-mail address of a mailbox or a login). Policies that name it show exactly the row that matches it, nothing else.
create function presented_key() returns text
    language sql stable parallel safe
    return nullif(current_setting('app.presented_key', true), '');

-- True in the few background transactions that walk over all organizations (leader sweeps, start-up).
create function is_system() returns boolean
    language sql stable parallel safe
    return coalesce(current_setting('app.system', true), '') = 'on';

-- Puts a table under row level security. `extra` is an additional condition under which a row may be *seen*
-- (never written) outside of its organization, for example a presented key.
create procedure tenant_table(tbl regclass, extra text default null)
    language plpgsql as $$
begin
    execute format('alter table %s enable row level security', tbl);
    execute format('alter table %s force row level security', tbl);
    execute format('create policy tenant on %s using (organization_id = (select current_organization()))', tbl);
    if extra is not null then
        execute format('create policy presented on %s for select using (%s)', tbl, extra);
    end if;
end
$$;

create table organizations (
    id          uuid        not null constraint organizations_pkey primary key,
    slug        text        not null constraint organizations_slug_key unique,
    name        text        not null,
    time_zone   text        not null default 'UTC',
    settings    jsonb       not null default '{}',
    mfa_required_roles text[] not null default '{}', -- who must have a second factor
    -- Where a login ends, in hours since it began and since it was last refreshed: docs/authentication.md.
    login_hours      integer not null default 720 constraint organizations_login_hours_check check (login_hours between 1 and 8760),
    login_idle_hours integer not null default 168 constraint organizations_login_idle_hours_check check (login_idle_hours between 1 and 8760),
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now(),
    constraint organizations_slug_check check (slug ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    constraint organizations_name_check check (length(name) between 1 and 200)
);
alter table organizations enable row level security;
alter table organizations force row level security;
create policy tenant on organizations
    using (id = (select current_organization()) or (select is_system()))
    with check (id = (select current_organization()) or (select is_system()));
