-- Raw input is kept before it is understood: one row a message or payload, written before its sender gets an OK.
create table inbox (
    id              uuid        not null constraint inbox_pkey primary key,
    organization_id uuid        not null constraint inbox_organization_fkey references organizations on delete cascade,
    source          text        not null constraint inbox_source_check check (source ~ '^[a-z][a-z0-9_]{0,39}$'), -- 'mail', 'alertmanager', 'generic' …
    channel_id      uuid        not null, -- the mailbox or alert source through which it came
    unique_key      text        not null constraint inbox_unique_key_check check (length(unique_key) between 1 and 200),
    content_type    text        not null,
    headers         jsonb       not null default '{}', -- what was said around it: SMTP envelope, HTTP headers
    raw             bytea       not null,
    received_at     timestamptz not null,
    status          text        not null default 'pending'
                    constraint inbox_status_check check (status in ('pending', 'processed', 'ignored', 'failed')),
    reason          text,       -- why ignored or failed, in words for a person
    ticket_id       uuid,       -- what became of it, or what it belongs to
    processed_at    timestamptz,
    replays         integer     not null default 0,
    rescues         integer     not null default 0, -- how often it was pending without a job, and got another
    rescued_at      timestamptz,
    constraint inbox_unique_key unique (organization_id, source, channel_id, unique_key),
    constraint inbox_tenant_key unique (organization_id, id),
    constraint inbox_ticket_fkey foreign key (organization_id, ticket_id) references tickets (organization_id, id)
        on delete set null (ticket_id)
);
-- Mail is mostly base64: trying to compress it costs more than it saves.
alter table inbox alter column raw set storage external;
create index inbox_received_idx on inbox (organization_id, received_at desc, id desc);
create index inbox_ticket_idx on inbox (ticket_id) where ticket_id is not null;
create index inbox_pending_idx on inbox (received_at) where status = 'pending';
-- What may be pruned when it was kept long enough.
create index inbox_mail_over_idx on inbox (organization_id, processed_at) where source = 'mail' and status in ('processed', 'ignored');
create index inbox_payload_over_idx on inbox (organization_id, processed_at) where source <> 'mail' and status in ('processed', 'ignored');
create index inbox_failed_idx on inbox (organization_id, received_at desc) where status = 'failed';

-- An address belongs to one organization in the whole installation: that is how a mail finds its tenant.
create table mailboxes (
    id                uuid        not null constraint mailboxes_pkey primary key,
    organization_id   uuid        not null constraint mailboxes_organization_fkey references organizations on delete cascade,
    address           text        not null constraint mailboxes_address_key unique,
    name              text        not null, -- the display name in From
    team_id           uuid,       -- takes the tickets of this mailbox
    hook_token_hash   text        not null constraint mailboxes_hook_token_hash_key unique, -- hex SHA-256; the token is shown once
    hook_token_prefix text        not null,
    is_active         boolean     not null default true,
    created_at        timestamptz not null,
    updated_at        timestamptz not null,
    constraint mailboxes_tenant_key unique (organization_id, id),
    constraint mailboxes_address_check check (address = lower(address) and address ~ '^[^@\s]+@[^@\s]+$' and length(address) <= 254),
    constraint mailboxes_name_check check (length(name) between 1 and 200),
    constraint mailboxes_team_fkey foreign key (organization_id, team_id) references teams (organization_id, id)
        on delete set null (team_id)
);
create index mailboxes_organization_idx on mailboxes (organization_id, created_at);

-- Which Message-ID belongs to which ticket (RFC 5322, 3.6.4; written without the angle brackets), of mails in and out: the
-- only place where answers are looked up. A mail to two of our mailboxes makes two tickets under one Message-ID.
create table mail_messages (
    id              uuid        not null constraint mail_messages_pkey primary key,
    organization_id uuid        not null,
    message_id      text        not null constraint mail_messages_message_id_check check (length(message_id) between 1 and 998),
    direction       text        not null constraint mail_messages_direction_check check (direction in ('in', 'out')),
    ticket_id       uuid        not null,
    comment_id      uuid,       -- what a message that came in has become
    inbox_id        uuid,       -- of a message that came in
    delivery_id     uuid,       -- of a message that went out
    address         text        not null, -- who sent it to us, or whom we sent it to
    is_internal     boolean     not null default false, -- an answer to it is internal too
    created_at      timestamptz not null,
    constraint mail_messages_ticket_fkey foreign key (organization_id, ticket_id) references tickets (organization_id, id) on delete cascade,
    constraint mail_messages_comment_fkey foreign key (organization_id, comment_id) references ticket_comments (organization_id, id) on delete cascade,
    constraint mail_messages_inbox_fkey foreign key (organization_id, inbox_id) references inbox (organization_id, id) on delete set null (inbox_id)
);
-- A long Message-ID would not fit an index entry: the index holds its hash.
create unique index mail_messages_message_id_key on mail_messages (organization_id, md5(message_id), ticket_id, direction);
create index mail_messages_ticket_idx on mail_messages (ticket_id, created_at);
create index mail_messages_inbox_idx on mail_messages (inbox_id) where inbox_id is not null;

-- Receipts that were sent, for their budgets: one a ticket, few an address, few an organization (RFC 3834, 2).
create table mail_receipts (
    ticket_id       uuid        not null constraint mail_receipts_pkey primary key,
    organization_id uuid        not null,
    address         text        not null,
    created_at      timestamptz not null,
    constraint mail_receipts_ticket_fkey foreign key (organization_id, ticket_id) references tickets (organization_id, id) on delete cascade
);
create index mail_receipts_address_idx on mail_receipts (organization_id, address, created_at);
create index mail_receipts_created_idx on mail_receipts (organization_id, created_at);

call tenant_table('inbox', '(select is_system())');
call tenant_table('mailboxes', 'address = (select presented_key()) or hook_token_hash = (select presented_key())');
call tenant_table('mail_messages');
call tenant_table('mail_receipts');
