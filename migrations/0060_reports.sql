-- Reports on a schedule, and every run of a report with what came out of it.
create table report_schedules (
    id              uuid        not null constraint report_schedules_pkey primary key,
    organization_id uuid        not null constraint report_schedules_organization_fkey references organizations on delete cascade,
    name            text        not null constraint report_schedules_name_check check (length(name) between 1 and 200),
    kind            text        not null constraint report_schedules_kind_check check (kind in ('incidents_and_sla')),
    cron            text        not null, -- five fields, Unix meaning
    time_zone       text        not null, -- IANA
    period          text        not null constraint report_schedules_period_check
                                check (period in ('previous_day', 'previous_week', 'previous_month', 'last_n_days', 'last_n_minutes')),
    period_count    integer     constraint report_schedules_period_count_check check (period_count between 1 and 100000),
    recipients      text[]      not null constraint report_schedules_recipients_check check (cardinality(recipients) between 1 and 100),
    is_active       boolean     not null default true,
    version         bigint      not null default 1,
    created_by      uuid,
    created_at      timestamptz not null,
    updated_at      timestamptz not null,
    constraint report_schedules_name_key unique (organization_id, name),
    constraint report_schedules_tenant_key unique (organization_id, id),
    constraint report_schedules_created_by_fkey foreign key (organization_id, created_by)
        references users (organization_id, id) on delete set null (created_by)
);

create table report_executions (
    id              uuid        not null constraint report_executions_pkey primary key,
    organization_id uuid        not null constraint report_executions_organization_fkey references organizations on delete cascade,
    schedule_id     uuid,
    start_key       text        not null, -- what started it: asked for twice, run once
    kind            text        not null,
    time_zone       text        not null,
    period_from     timestamptz not null,
    period_to       timestamptz not null, -- not part of the period
    recipients      text[]      not null,
    status          text        not null default 'queued' constraint report_executions_status_check
                                check (status in ('queued', 'done', 'failed')),
    summary         jsonb,      -- `store::reports::Summary`
    csv             bytea,
    csv_rows        bigint,
    download_hash   text        constraint report_executions_download_hash_key unique, -- hex SHA-256 of the token in a link that was mailed
    download_until  timestamptz,
    error           text,
    job_id          uuid,
    requested_by    uuid,
    created_at      timestamptz not null,
    finished_at     timestamptz,
    constraint report_executions_start_key unique (organization_id, start_key),
    constraint report_executions_tenant_key unique (organization_id, id),
    constraint report_executions_period_check check (period_from < period_to),
    constraint report_executions_download_check check ((download_hash is null) = (download_until is null)),
    constraint report_executions_done_check check (status <> 'done' or (summary is not null and csv is not null)),
    constraint report_executions_schedule_fkey foreign key (organization_id, schedule_id)
        references report_schedules (organization_id, id) on delete set null (schedule_id),
    constraint report_executions_requested_by_fkey foreign key (organization_id, requested_by)
        references users (organization_id, id) on delete set null (requested_by)
);
create index report_executions_created_idx on report_executions (organization_id, created_at desc, id desc);
create index report_executions_queued_idx on report_executions (created_at) where status = 'queued';
create index report_executions_schedule_idx on report_executions (schedule_id, created_at desc);

call tenant_table('report_schedules');
call tenant_table('report_executions', 'download_hash = (select presented_key()) or (select is_system())');

-- The conditions that the figures of a report and the lines of its file share.

-- Whether a ticket was open at a moment, by what the rows say now. (When it was cancelled stands only in history.)
create function was_open(t tickets, at timestamptz) returns boolean
    language sql stable as $$
    select t.created_at < at
       and (t.resolved_at is null or t.resolved_at >= at)
       and (t.closed_at is null or t.closed_at >= at)
       and (t.status <> 'cancelled'
            or exists (select from ticket_history h
                        where h.ticket_id = t.id and h.at >= was_open.at
                          and h.changes @> '[{"field": "status", "to": "cancelled"}]'))
$$;

-- 'met', 'breached', 'running', 'paused', 'cancelled'; null where nothing is promised. What was breached once stays so, even if
-- a later goal was met.
create function sla_outcome(c sla_clocks) returns text
    language sql stable as $$
    select case when c.target_us is null then null
                when c.breached_at is not null or exists (select from sla_breaches b where b.clock_id = c.id) then 'breached'
                when c.phase = 'done' then 'met'
                else c.phase end
$$;
