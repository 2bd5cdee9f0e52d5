-- Where messages go (channels), when (rules), and what became of each (deliveries).
create table notification_channels (
    id              uuid        not null constraint notification_channels_pkey primary key,
    organization_id uuid        not null constraint notification_channels_organization_fkey references organizations on delete cascade,
    kind            text        not null constraint notification_channels_kind_check
                                check (kind in ('slack', 'teams', 'email', 'sms', 'webhook', 'mattermost', 'discord')),
    name            text        not null constraint notification_channels_name_check check (length(name) between 1 and 200),
    config          jsonb       not null, -- `domain::ChannelConfig`; holds secrets, shown masked
    is_active       boolean     not null default true,
    version         bigint      not null default 1,
    created_at      timestamptz not null,
    updated_at      timestamptz not null,
    constraint notification_channels_name_key unique (organization_id, name),
    constraint notification_channels_tenant_key unique (organization_id, id)
);

-- `domain::gate::Gate`: what a channel's peer asked for and whether it can be reached, known to all workers. A channel that
-- never had trouble has no row.
create table channel_gates (
    channel_id      uuid        not null constraint channel_gates_pkey primary key,
    organization_id uuid        not null constraint channel_gates_organization_fkey references organizations on delete cascade,
    not_before      timestamptz,
    line_end        timestamptz,
    paced_until     timestamptz,
    failures        integer     not null default 0,
    failing_since   timestamptz,
    constraint channel_gates_channel_fkey foreign key (organization_id, channel_id)
        references notification_channels (organization_id, id) on delete cascade
) with (fillfactor = 50);

create table notification_rules (
    id              uuid        not null constraint notification_rules_pkey primary key,
    organization_id uuid        not null constraint notification_rules_organization_fkey references organizations on delete cascade,
    name            text        not null constraint notification_rules_name_check check (length(name) between 1 and 200),
    event           text        not null, -- 'incident.opened', 'sla.breached' …
    channel_id      uuid        not null,
    conditions      jsonb       not null default '{}', -- `domain::Conditions`: field → value or list of values
    is_active       boolean     not null default true,
    version         bigint      not null default 1,
    created_at      timestamptz not null,
    updated_at      timestamptz not null,
    constraint notification_rules_tenant_key unique (organization_id, id),
    constraint notification_rules_channel_fkey foreign key (organization_id, channel_id)
        references notification_channels (organization_id, id) on delete cascade
);
create index notification_rules_event_idx on notification_rules (organization_id, event);

-- The ledger of effects outside of the database: one row per message and recipient, whatever is retried. The row exists
-- before the first attempt; an attempt is counted before the peer is called.
create table deliveries (
    id              uuid        not null constraint deliveries_pkey primary key,
    organization_id uuid        not null constraint deliveries_organization_fkey references organizations on delete cascade,
    unique_key      text        not null, -- what this message is about and for whom: asked for twice, sent once
    channel         text        not null constraint deliveries_channel_check
                                check (channel in ('slack', 'teams', 'email', 'sms', 'webhook', 'mattermost', 'discord')),
    channel_id      uuid,
    rule_id         uuid,
    event_id        uuid,
    ticket_id       uuid,
    message_kind    text        not null, -- 'incident.opened', 'report', 'test' …: which template
    recipient       text        not null, -- an e-mail address, or the name of the channel
    message         jsonb       not null default '{}', -- `store::deliveries::Mail` for mail: headers and words
    message_id      text,       -- Message-ID of a mail, with its angle brackets; stable over all attempts
    subject         text,       -- as rendered at the first attempt
    is_internal     boolean     not null default true, -- of a mail: talk among staff, and so is an answer to it
    status          text        not null default 'pending' constraint deliveries_status_check
                                check (status in ('pending', 'sent', 'given_up')),
    attempts        integer     not null default 0,
    last_attempt_at timestamptz,
    next_attempt_at timestamptz,
    last_status     integer,    -- HTTP status or SMTP reply code of the peer
    last_response   text,       -- beginning of the peer's answer
    last_error      text,
    turn_at         timestamptz, -- when it may pass the gate of its channel, after it had to wait there
    give_up_at      timestamptz not null default now() + interval '24 hours', -- for waits that cost no attempt
    rescues         integer     not null default 0, -- how often its job was lost
    job_id          uuid,       -- the only job that may send it …
    job_run         bigint,     -- … and the last run of that job
    sent_at         timestamptz,
    created_at      timestamptz not null,
    updated_at      timestamptz not null,
    constraint deliveries_unique_key unique (organization_id, unique_key),
    constraint deliveries_tenant_key unique (organization_id, id),
    constraint deliveries_sent_check check ((status = 'sent') = (sent_at is not null)),
    constraint deliveries_channel_fkey foreign key (organization_id, channel_id)
        references notification_channels (organization_id, id) on delete set null (channel_id),
    constraint deliveries_rule_fkey foreign key (organization_id, rule_id)
        references notification_rules (organization_id, id) on delete set null (rule_id),
    constraint deliveries_ticket_fkey foreign key (organization_id, ticket_id)
        references tickets (organization_id, id) on delete cascade
);
create index deliveries_created_idx on deliveries (organization_id, created_at desc, id desc);
create index deliveries_ticket_idx on deliveries (ticket_id);
create index deliveries_pending_idx on deliveries (updated_at) where status = 'pending';

call tenant_table('notification_channels');
call tenant_table('channel_gates');
call tenant_table('notification_rules');
call tenant_table('deliveries', '(select is_system())');
