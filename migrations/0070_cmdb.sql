create table ci_categories (
    id              uuid        not null constraint ci_categories_pkey primary key,
    organization_id uuid        not null constraint ci_categories_organization_fkey references organizations on delete cascade,
    name            text        not null constraint ci_categories_name_check check (length(name) between 1 and 200),
    description     text        not null default '',
    parent_id       uuid,
    created_at      timestamptz not null,
    updated_at      timestamptz not null,
    constraint ci_categories_name_key unique (organization_id, name),
    constraint ci_categories_tenant_key unique (organization_id, id),
    constraint ci_categories_parent_fkey foreign key (organization_id, parent_id) references ci_categories (organization_id, id),
    constraint ci_categories_self_check check (parent_id is distinct from id)
);

-- An inventory that is read on demand or on a schedule.
create table discovery_sources (
    id                  uuid        not null constraint discovery_sources_pkey primary key,
    organization_id     uuid        not null constraint discovery_sources_organization_fkey references organizations on delete cascade,
    name                text        not null constraint discovery_sources_name_check check (length(name) between 1 and 200),
    format              text        not null constraint discovery_sources_format_check check (format in ('json', 'csv')),
    location            text        not null constraint discovery_sources_location_check check (length(location) between 1 and 2000),
    identification_keys text[]      not null constraint discovery_sources_keys_check check (cardinality(identification_keys) between 1 and 10),
    options             jsonb       not null default '{}', -- mapping, where the items stand, delimiter, charset, default class
    auth_header_name    text,
    auth_header_value   text,       -- never given out again
    schedule            text,       -- cron expression
    time_zone           text        not null default 'UTC',
    is_active           boolean     not null default true,
    version             bigint      not null default 1,
    created_at          timestamptz not null,
    updated_at          timestamptz not null,
    constraint discovery_sources_name_key unique (organization_id, name),
    constraint discovery_sources_tenant_key unique (organization_id, id),
    constraint discovery_sources_auth_check check ((auth_header_name is null) = (auth_header_value is null))
);

create table configuration_items (
    id                  uuid        not null constraint configuration_items_pkey primary key,
    organization_id     uuid        not null constraint configuration_items_organization_fkey references organizations on delete cascade,
    name                text        not null constraint configuration_items_name_check check (length(name) between 1 and 300),
    class               text        not null constraint configuration_items_class_check check (length(class) between 1 and 100),
    category_id         uuid,
    status              text        not null constraint configuration_items_status_check
                                    check (status in ('planned', 'active', 'maintenance', 'inactive', 'retired')),
    description         text        not null default '',
    attributes          jsonb       not null default '{}' constraint configuration_items_attributes_check check (jsonb_typeof(attributes) = 'object'),
    discovery_source_id uuid,       -- the source that answers for it; null: kept by hand
    last_seen_at        timestamptz,
    missing_since       timestamptz, -- its source no longer lists it
    version             bigint      not null default 1,
    created_at          timestamptz not null,
    updated_at          timestamptz not null,
    -- A tsvector holds 1 MiB, and a text can need twelve bytes of it for each of its characters: only the beginning of long
    -- texts can be found. Of short attributes the values alone, of long ones the names too.
    search              tsvector    generated always as (
        setweight(to_tsvector('simple', name), 'A') || setweight(to_tsvector('simple', class), 'B')
        || setweight(to_tsvector('simple', left(description, 30000)), 'C')
        || setweight(case when length(attributes::text) <= 30000 then jsonb_to_tsvector('simple', attributes, '["string", "numeric"]')
                          else to_tsvector('simple', left(attributes::text, 30000)) end, 'D')) stored,
    constraint configuration_items_tenant_key unique (organization_id, id),
    constraint configuration_items_category_fkey foreign key (organization_id, category_id) references ci_categories (organization_id, id),
    constraint configuration_items_source_fkey foreign key (organization_id, discovery_source_id)
        references discovery_sources (organization_id, id) on delete set null (discovery_source_id)
);
create index configuration_items_list_idx on configuration_items (organization_id, id desc);
create index configuration_items_name_idx on configuration_items (organization_id, lower(name), id);
create index configuration_items_source_idx on configuration_items (discovery_source_id) where discovery_source_id is not null;
create index configuration_items_search_idx on configuration_items using gin (search);

-- By what a configuration item is recognised: serial number, host name, MAC address … One value names one item.
create table ci_identifiers (
    organization_id uuid not null,
    key             text not null constraint ci_identifiers_key_check check (length(key) between 1 and 100),
    value           text not null constraint ci_identifiers_value_check check (length(value) between 1 and 500),
    ci_id           uuid not null,
    constraint ci_identifiers_value_key primary key (organization_id, key, value),
    constraint ci_identifiers_item_key unique (ci_id, key),
    constraint ci_identifiers_item_fkey foreign key (organization_id, ci_id) references configuration_items (organization_id, id) on delete cascade
);

create table ci_relationships (
    id              uuid        not null constraint ci_relationships_pkey primary key,
    organization_id uuid        not null,
    from_id         uuid        not null,
    to_id           uuid        not null,
    kind            text        not null constraint ci_relationships_kind_check
                                check (kind in ('depends_on', 'runs_on', 'hosted_on', 'part_of', 'connected_to', 'uses', 'backed_up_by', 'managed_by')),
    created_at      timestamptz not null,
    constraint ci_relationships_pair_key unique (from_id, to_id, kind),
    constraint ci_relationships_from_fkey foreign key (organization_id, from_id) references configuration_items (organization_id, id) on delete cascade,
    constraint ci_relationships_to_fkey foreign key (organization_id, to_id) references configuration_items (organization_id, id) on delete cascade,
    constraint ci_relationships_self_check check (from_id <> to_id)
);
create index ci_relationships_to_idx on ci_relationships (to_id);
create index ci_relationships_list_idx on ci_relationships (organization_id, id desc);

create table discovery_runs (
    id              uuid        not null constraint discovery_runs_pkey primary key,
    organization_id uuid        not null,
    source_id       uuid        not null,
    mode            text        not null constraint discovery_runs_mode_check check (mode in ('run', 'preview')),
    status          text        not null constraint discovery_runs_status_check check (status in ('queued', 'running', 'succeeded', 'failed')),
    job_id          uuid,
    counts          jsonb       not null default '{}', -- read, created, updated, unchanged, missing, failed
    sample          jsonb       not null default '[]', -- the first differences, item by item
    errors          jsonb       not null default '[]', -- rows that could not be used, and why
    error           text,       -- why the whole run failed
    requested_by    uuid,
    created_at      timestamptz not null,
    started_at      timestamptz,
    finished_at     timestamptz,
    constraint discovery_runs_tenant_key unique (organization_id, id),
    constraint discovery_runs_source_fkey foreign key (organization_id, source_id) references discovery_sources (organization_id, id) on delete cascade,
    constraint discovery_runs_requested_by_fkey foreign key (organization_id, requested_by) references users (organization_id, id)
);
-- One at a time for each source.
create unique index discovery_runs_unfinished_key on discovery_runs (source_id) where status in ('queued', 'running');
create index discovery_runs_source_idx on discovery_runs (source_id, id desc);

create table ticket_configuration_items (
    organization_id uuid        not null,
    ticket_id       uuid        not null,
    ci_id           uuid        not null,
    created_at      timestamptz not null,
    constraint ticket_configuration_items_pkey primary key (ticket_id, ci_id),
    constraint ticket_configuration_items_ticket_fkey foreign key (organization_id, ticket_id) references tickets (organization_id, id) on delete cascade,
    constraint ticket_configuration_items_ci_fkey foreign key (organization_id, ci_id) references configuration_items (organization_id, id) on delete cascade
);
create index ticket_configuration_items_ci_idx on ticket_configuration_items (ci_id);

call tenant_table('ci_categories');
call tenant_table('discovery_sources');
call tenant_table('configuration_items');
call tenant_table('ci_identifiers');
call tenant_table('ci_relationships');
call tenant_table('discovery_runs');
call tenant_table('ticket_configuration_items');
