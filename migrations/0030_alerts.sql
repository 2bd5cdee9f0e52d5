-- Where alerts come from: one row per monitoring system, found by the token in its hook URL.
create table alert_sources (
    id                    uuid        not null constraint alert_sources_pkey primary key,
    organization_id       uuid        not null constraint alert_sources_organization_fkey references organizations on delete cascade,
    kind                  text        not null constraint alert_sources_kind_check check (kind in ('alertmanager', 'generic')),
    name                  text        not null constraint alert_sources_name_check check (length(name) between 1 and 200),
    token_hash            text        not null constraint alert_sources_token_hash_key unique, -- hex SHA-256; the token itself is shown once
    token_prefix          text        not null,
    team_id               uuid,
    severity_map          jsonb       not null, -- severity -> {"impact","urgency"}; '*' for severities that are not listed
    grouping              text        not null constraint alert_sources_grouping_check check (grouping in ('group', 'alert')),
    auto_resolve          boolean     not null,
    reopen_within_seconds integer     not null constraint alert_sources_reopen_check check (reopen_within_seconds between 0 and 2592000),
    max_per_minute        integer     constraint alert_sources_rate_check check (max_per_minute between 1 and 1000000),
    is_active             boolean     not null default true,
    version               bigint      not null default 1,
    created_at            timestamptz not null,
    updated_at            timestamptz not null,
    constraint alert_sources_name_key unique (organization_id, name),
    constraint alert_sources_tenant_key unique (organization_id, id),
    constraint alert_sources_team_fkey foreign key (organization_id, team_id) references teams (organization_id, id)
);

-- What becomes one incident. The row stays when the group is over: its lock is what makes payloads of one group take
-- turns, so that 20 at once open one incident.
create table alert_groups (
    id               uuid        not null constraint alert_groups_pkey primary key,
    organization_id  uuid        not null,
    source_id        uuid        not null,
    group_key        text        not null constraint alert_groups_group_key_check check (length(group_key) between 1 and 1000),
    incident_id      uuid,       -- the latest one
    has_unnamed      boolean     not null default false, -- the last payload said or suggested that more fires than it named
    last_received_at timestamptz not null,
    created_at       timestamptz not null,
    constraint alert_groups_group_key_key unique (source_id, group_key),
    constraint alert_groups_tenant_key unique (organization_id, id),
    constraint alert_groups_source_fkey foreign key (organization_id, source_id) references alert_sources (organization_id, id) on delete cascade,
    constraint alert_groups_incident_fkey foreign key (organization_id, incident_id) references tickets (organization_id, id) on delete set null (incident_id)
) with (fillfactor = 85);

-- One row per episode of one alert: from its first firing to its end.
create table alerts (
    id                uuid        not null constraint alerts_pkey primary key,
    organization_id   uuid        not null,
    source_id         uuid        not null,
    group_id          uuid        not null,
    fingerprint       text        not null constraint alerts_fingerprint_check check (length(fingerprint) between 1 and 255),
    status            text        not null constraint alerts_status_check check (status in ('firing', 'resolved')),
    severity          text        not null,
    title             text        not null,
    description       text        not null default '',
    labels            jsonb       not null default '{}',
    source_url        text,
    starts_at         timestamptz not null, -- start of the episode
    latest_start_at   timestamptz not null, -- newest start that a firing told us; a resolve older than it is late
    firing_received_at timestamptz,         -- when the newest firing arrived
    ends_at           timestamptz,          -- set while resolved
    latest_end_at     timestamptz,          -- newest end that a resolve told us, of this episode or of one before
    latest_end_received_at timestamptz,     -- when it did
    received_count    bigint      not null default 1,
    first_received_at timestamptz not null,
    last_received_at  timestamptz not null,
    incident_id       uuid,
    constraint alerts_tenant_key unique (organization_id, id),
    constraint alerts_ends_at_check check ((status = 'resolved') = (ends_at is not null)),
    constraint alerts_latest_end_check check ((latest_end_at is null) = (latest_end_received_at is null)),
    constraint alerts_source_fkey foreign key (organization_id, source_id) references alert_sources (organization_id, id) on delete cascade,
    constraint alerts_group_fkey foreign key (organization_id, group_id) references alert_groups (organization_id, id) on delete cascade,
    constraint alerts_incident_fkey foreign key (organization_id, incident_id) references tickets (organization_id, id) on delete set null (incident_id)
) with (fillfactor = 85);
create unique index alerts_open_key on alerts (source_id, fingerprint) where status = 'firing';
create index alerts_latest_idx on alerts (source_id, fingerprint, id desc);
create index alerts_group_firing_idx on alerts (group_id) where status = 'firing';
create index alerts_incident_idx on alerts (incident_id);
create index alerts_list_idx on alerts (organization_id, id desc);

call tenant_table('alert_sources', 'token_hash = (select presented_key())');
call tenant_table('alert_groups');
call tenant_table('alerts');
