-- Business calendars: weekly hours in an IANA zone, less holidays.
create table business_calendars (
    id              uuid        not null constraint business_calendars_pkey primary key,
    organization_id uuid        not null constraint business_calendars_organization_fkey references organizations on delete cascade,
    name            text        not null,
    time_zone       text        not null,
    version         bigint      not null default 1,
    created_at      timestamptz not null,
    updated_at      timestamptz not null,
    constraint business_calendars_name_key unique (organization_id, name),
    constraint business_calendars_tenant_key unique (organization_id, id),
    constraint business_calendars_name_check check (length(name) between 1 and 200)
);

-- Seconds of the local wall clock; 86400 is 24:00.
create table business_windows (
    organization_id uuid        not null,
    calendar_id     uuid        not null,
    weekday         smallint    not null constraint business_windows_weekday_check check (weekday between 1 and 7), -- ISO: 1 is Monday
    opens           integer     not null,
    closes          integer     not null,
    constraint business_windows_pkey primary key (calendar_id, weekday, opens),
    constraint business_windows_calendar_fkey foreign key (organization_id, calendar_id) references business_calendars (organization_id, id) on delete cascade,
    constraint business_windows_order_check check (opens >= 0 and opens < closes and closes <= 86400)
);

create table holidays (
    organization_id uuid        not null,
    calendar_id     uuid        not null,
    day             date        not null,
    name            text        not null default '',
    constraint holidays_pkey primary key (calendar_id, day),
    constraint holidays_calendar_fkey foreign key (organization_id, calendar_id) references business_calendars (organization_id, id) on delete cascade,
    constraint holidays_name_check check (length(name) <= 200)
);

-- `steps` is a list of `domain::escalation::Step`.
create table escalation_chains (
    id              uuid        not null constraint escalation_chains_pkey primary key,
    organization_id uuid        not null constraint escalation_chains_organization_fkey references organizations on delete cascade,
    name            text        not null,
    steps           jsonb       not null,
    version         bigint      not null default 1,
    created_at      timestamptz not null,
    updated_at      timestamptz not null,
    constraint escalation_chains_name_key unique (organization_id, name),
    constraint escalation_chains_tenant_key unique (organization_id, id),
    constraint escalation_chains_name_check check (length(name) between 1 and 200)
);

-- The first active policy whose conditions fit a ticket holds, in the order of `position`; the default comes last.
create table sla_policies (
    id                uuid        not null constraint sla_policies_pkey primary key,
    organization_id   uuid        not null constraint sla_policies_organization_fkey references organizations on delete cascade,
    name              text        not null,
    description       text        not null default '',
    position          integer     not null default 100,
    is_default        boolean     not null default false,
    is_active         boolean     not null default true,
    conditions        jsonb       not null default '{}', -- `domain::sla_policy::Conditions`
    calendar_id       uuid,       -- null: round the clock
    warn_percent      smallint,   -- null: no warnings
    warning_chain_id  uuid,
    breach_chain_id   uuid,
    version           bigint      not null default 1,
    created_at        timestamptz not null,
    updated_at        timestamptz not null,
    constraint sla_policies_name_key unique (organization_id, name),
    constraint sla_policies_tenant_key unique (organization_id, id),
    constraint sla_policies_name_check check (length(name) between 1 and 200),
    constraint sla_policies_warn_percent_check check (warn_percent between 1 and 99),
    constraint sla_policies_default_check check (not is_default or conditions = '{}'),
    constraint sla_policies_calendar_fkey foreign key (organization_id, calendar_id) references business_calendars (organization_id, id),
    constraint sla_policies_warning_chain_fkey foreign key (organization_id, warning_chain_id) references escalation_chains (organization_id, id),
    constraint sla_policies_breach_chain_fkey foreign key (organization_id, breach_chain_id) references escalation_chains (organization_id, id)
);
create unique index sla_policies_default_key on sla_policies (organization_id) where is_default;

create table sla_targets (
    organization_id        uuid    not null,
    policy_id              uuid    not null,
    priority               text    not null constraint sla_targets_priority_check check (priority in ('critical', 'high', 'medium', 'low')),
    first_response_seconds integer constraint sla_targets_first_response_check check (first_response_seconds between 1 and 315576000),
    resolution_seconds     integer constraint sla_targets_resolution_check check (resolution_seconds between 1 and 315576000),
    constraint sla_targets_pkey primary key (policy_id, priority),
    constraint sla_targets_policy_fkey foreign key (organization_id, policy_id) references sla_policies (organization_id, id) on delete cascade
);

-- `domain::sla::Clock`, one a ticket and metric. Whoever changes one locks the ticket first, then the clock.
create table sla_clocks (
    id              uuid        not null constraint sla_clocks_pkey primary key,
    organization_id uuid        not null,
    ticket_id       uuid        not null,
    metric          text        not null constraint sla_clocks_metric_check check (metric in ('first_response', 'resolution')),
    policy_id       uuid,
    calendar_id     uuid,       -- null: round the clock
    target_us       bigint,     -- working time allowed, in microseconds; null: nothing is promised
    warn_percent    smallint,
    phase           text        not null constraint sla_clocks_phase_check check (phase in ('running', 'paused', 'done', 'cancelled')),
    phase_since     timestamptz,
    started_at      timestamptz not null,
    elapsed_us      bigint      not null default 0, -- working time before the current run
    warn_at         timestamptz,
    due_at          timestamptz,
    warned_at       timestamptz,
    breached_at     timestamptz,
    generation      integer     not null default 1,
    armed_at        timestamptz not null,
    next_check_at   timestamptz, -- when the next warning or breach is due
    constraint sla_clocks_metric_key unique (ticket_id, metric),
    constraint sla_clocks_tenant_key unique (organization_id, id),
    constraint sla_clocks_since_check check ((phase in ('running', 'done')) = (phase_since is not null)),
    constraint sla_clocks_ticket_fkey foreign key (organization_id, ticket_id) references tickets (organization_id, id) on delete cascade,
    constraint sla_clocks_policy_fkey foreign key (organization_id, policy_id) references sla_policies (organization_id, id) on delete set null (policy_id),
    constraint sla_clocks_calendar_fkey foreign key (organization_id, calendar_id) references business_calendars (organization_id, id) on delete set null (calendar_id)
);
create index sla_clocks_next_check_idx on sla_clocks (next_check_at) where next_check_at is not null;
create index sla_clocks_calendar_idx on sla_clocks (calendar_id) where phase in ('running', 'paused');

-- Every breach that was ever found, also where the goal changed later. The unique key is what makes it once.
create table sla_breaches (
    id              uuid        not null constraint sla_breaches_pkey primary key,
    organization_id uuid        not null,
    clock_id        uuid        not null,
    generation      integer     not null,
    ticket_id       uuid        not null,
    metric          text        not null,
    policy_id       uuid,
    policy_name     text        not null,
    priority        text        not null,
    team_id         uuid,
    assignee_id     uuid,
    target_seconds  integer     not null,
    breached_at     timestamptz not null, -- the moment at which the target had passed
    detected_at     timestamptz not null,
    fulfilled_at    timestamptz,          -- when the response was given or the ticket resolved after all
    overrun_seconds bigint,               -- working time beyond the target, known then
    constraint sla_breaches_once_key unique (clock_id, generation),
    constraint sla_breaches_clock_fkey foreign key (organization_id, clock_id) references sla_clocks (organization_id, id) on delete cascade,
    constraint sla_breaches_ticket_fkey foreign key (organization_id, ticket_id) references tickets (organization_id, id) on delete cascade,
    constraint sla_breaches_policy_fkey foreign key (organization_id, policy_id) references sla_policies (organization_id, id) on delete set null (policy_id),
    constraint sla_breaches_team_fkey foreign key (organization_id, team_id) references teams (organization_id, id) on delete set null (team_id),
    constraint sla_breaches_assignee_fkey foreign key (organization_id, assignee_id) references users (organization_id, id) on delete set null (assignee_id)
);
create index sla_breaches_time_idx on sla_breaches (organization_id, breached_at desc, id desc);
create index sla_breaches_ticket_idx on sla_breaches (ticket_id);

-- A running chain. Its steps are copied at the start: later edits of the chain do not change it.
create table escalations (
    id              uuid        not null constraint escalations_pkey primary key,
    organization_id uuid        not null,
    ticket_id       uuid        not null,
    clock_id        uuid        not null,
    generation      integer     not null,
    trigger         text        not null constraint escalations_trigger_check check (trigger in ('warning', 'breach')),
    event_id        uuid,       -- sla.warning or sla.breached: what the messages of the chain are about
    chain_id        uuid,
    chain_name      text        not null,
    steps           jsonb       not null,
    next_step       integer     not null default 0,
    next_at         timestamptz, -- null: over
    state           text        not null constraint escalations_state_check check (state in ('running', 'finished', 'stopped')),
    reason          text        not null default '',
    started_at      timestamptz not null,
    ended_at        timestamptz,
    constraint escalations_once_key unique (clock_id, generation, trigger),
    constraint escalations_tenant_key unique (organization_id, id),
    constraint escalations_next_check check ((state = 'running') = (next_at is not null)),
    constraint escalations_ticket_fkey foreign key (organization_id, ticket_id) references tickets (organization_id, id) on delete cascade,
    constraint escalations_clock_fkey foreign key (organization_id, clock_id) references sla_clocks (organization_id, id) on delete cascade,
    constraint escalations_event_fkey foreign key (organization_id, event_id) references events (organization_id, id)
        on delete set null (event_id),
    constraint escalations_chain_fkey foreign key (organization_id, chain_id) references escalation_chains (organization_id, id) on delete set null (chain_id)
);
create index escalations_next_idx on escalations (next_at) where next_at is not null;
create index escalations_ticket_idx on escalations (ticket_id);
create index escalations_event_idx on escalations (event_id);

-- What was done. The primary key is what makes each step once.
create table escalation_steps (
    organization_id uuid        not null,
    escalation_id   uuid        not null,
    step            integer     not null,
    action          text        not null,
    outcome         text        not null constraint escalation_steps_outcome_check check (outcome in ('done', 'skipped', 'failed')),
    detail          text        not null default '',
    done_at         timestamptz not null,
    constraint escalation_steps_pkey primary key (escalation_id, step),
    constraint escalation_steps_escalation_fkey foreign key (organization_id, escalation_id) references escalations (organization_id, id) on delete cascade
);

call tenant_table('business_calendars');
call tenant_table('business_windows');
call tenant_table('holidays');
call tenant_table('escalation_chains');
call tenant_table('sla_policies');
call tenant_table('sla_targets');
call tenant_table('sla_clocks', '(select is_system())');
call tenant_table('sla_breaches');
call tenant_table('escalations', '(select is_system())');
call tenant_table('escalation_steps');
