-- One ticket core for every kind: incidents first, requests, problems and changes as further kinds.
create table priority_matrix (
    organization_id uuid not null constraint priority_matrix_organization_fkey references organizations on delete cascade,
    impact          text not null constraint priority_matrix_impact_check check (impact in ('high', 'medium', 'low')),
    urgency         text not null constraint priority_matrix_urgency_check check (urgency in ('high', 'medium', 'low')),
    priority        text not null constraint priority_matrix_priority_check check (priority in ('critical', 'high', 'medium', 'low')),
    constraint priority_matrix_pkey primary key (organization_id, impact, urgency)
);

create table ticket_counters (
    organization_id uuid   not null constraint ticket_counters_organization_fkey references organizations on delete cascade,
    kind            text   not null,
    last            bigint not null default 0,
    constraint ticket_counters_pkey primary key (organization_id, kind)
);

create table tickets (
    id                  uuid        not null constraint tickets_pkey primary key,
    organization_id     uuid        not null constraint tickets_organization_fkey references organizations on delete cascade,
    kind                text        not null constraint tickets_kind_check check (kind in ('incident', 'service_request', 'problem', 'change')),
    number              text        not null,
    title               text        not null constraint tickets_title_check check (length(title) between 1 and 500),
    description         text        not null default '',
    status              text        not null constraint tickets_status_check check (status in ('new', 'assigned', 'in_progress', 'pending', 'resolved', 'closed', 'cancelled')),
    impact              text        not null constraint tickets_impact_check check (impact in ('high', 'medium', 'low')),
    urgency             text        not null constraint tickets_urgency_check check (urgency in ('high', 'medium', 'low')),
    priority            text        not null constraint tickets_priority_check check (priority in ('critical', 'high', 'medium', 'low')),
    requester_id        uuid,
    assignee_id         uuid,
    team_id             uuid,
    source              text        not null constraint tickets_source_check check (source in ('api', 'email', 'alert', 'console', 'chat', 'system')),
    resolution          text,
    first_responded_at  timestamptz,
    resolved_at         timestamptz,
    closed_at           timestamptz,
    reopened_count      integer     not null default 0,
    version             bigint      not null default 1,
    created_by          uuid,
    created_at          timestamptz not null,
    updated_at          timestamptz not null,
    search              tsvector    not null, -- by `ticket_search`; its index is `search.tickets`
    constraint tickets_number_key unique (organization_id, number),
    constraint tickets_tenant_key unique (organization_id, id),
    constraint tickets_requester_fkey foreign key (organization_id, requester_id) references users (organization_id, id),
    constraint tickets_assignee_fkey foreign key (organization_id, assignee_id) references users (organization_id, id),
    constraint tickets_team_fkey foreign key (organization_id, team_id) references teams (organization_id, id)
);
-- What the full-text search finds. Not a generated column: for a long mail it takes longer than all else together, and is
-- worked out by the statement that inserts it before anything is locked.
create function ticket_words(title text, description text) returns tsvector language sql immutable parallel safe
    return setweight(to_tsvector('simple', title), 'A') || setweight(to_tsvector('simple', left(description, 100000)), 'B');
create function ticket_search() returns trigger language plpgsql as $$
begin
    new.search := setweight(to_tsvector('simple', new.number), 'A') || ticket_words(new.title, new.description);
    return new;
end
$$;
create trigger tickets_search_insert before insert on tickets for each row when (new.search is null)
    execute function ticket_search();
create trigger tickets_search_update before update of number, title, description on tickets for each row
    execute function ticket_search();
create index tickets_created_idx on tickets (organization_id, kind, created_at desc, id desc);
create index tickets_updated_idx on tickets (organization_id, kind, updated_at desc, id desc);
-- What is worked on, in both orders in which it is looked at all day.
create index tickets_open_created_idx on tickets (organization_id, kind, created_at desc, id desc)
    where status in ('new', 'assigned', 'in_progress', 'pending');
create index tickets_open_updated_idx on tickets (organization_id, kind, updated_at desc, id desc)
    where status in ('new', 'assigned', 'in_progress', 'pending');
-- By rank: the words' places in these lists are what `store/src/ticket_list.rs` sorts by.
create index tickets_priority_idx on tickets (organization_id, kind, array_position(array['critical', 'high', 'medium', 'low'], priority), id);
create index tickets_impact_idx on tickets (organization_id, kind, array_position(array['high', 'medium', 'low'], impact), id);
create index tickets_urgency_idx on tickets (organization_id, kind, array_position(array['high', 'medium', 'low'], urgency), id);
create index tickets_status_idx on tickets (organization_id, kind,
    array_position(array['new', 'assigned', 'in_progress', 'pending', 'resolved', 'closed', 'cancelled'], status), id);
create index tickets_requester_idx on tickets (organization_id, requester_id);
create index tickets_assignee_idx on tickets (organization_id, assignee_id);
create index tickets_team_idx on tickets (organization_id, team_id);

create table ticket_comments (
    id              uuid        not null constraint ticket_comments_pkey primary key,
    organization_id uuid        not null,
    ticket_id       uuid        not null,
    author_id       uuid,       -- null: written by Relaydesk itself
    visibility      text        not null constraint ticket_comments_visibility_check check (visibility in ('public', 'internal')),
    body            text        not null,
    body_html       text,       -- sanitized; only from mail
    source          text        not null constraint ticket_comments_source_check check (source in ('api', 'email', 'alert', 'console', 'chat', 'system')),
    created_at      timestamptz not null,
    constraint ticket_comments_tenant_key unique (organization_id, id),
    constraint ticket_comments_ticket_fkey foreign key (organization_id, ticket_id) references tickets (organization_id, id) on delete cascade,
    constraint ticket_comments_author_fkey foreign key (organization_id, author_id) references users (organization_id, id)
);
create index ticket_comments_ticket_idx on ticket_comments (ticket_id, created_at, id);

-- The bytes lie on disk under their SHA-256, one folder an organization (`store::blobs`).
create table attachments (
    id              uuid        not null constraint attachments_pkey primary key,
    organization_id uuid        not null,
    ticket_id       uuid        not null,
    comment_id      uuid,
    file_name       text        not null constraint attachments_file_name_check check (length(file_name) between 1 and 255),
    media_type      text        not null,
    size_bytes      bigint      not null,
    sha256          text        not null constraint attachments_sha256_check check (sha256 ~ '^[0-9a-f]{64}$'),
    content_id      text,
    created_by      uuid,
    created_at      timestamptz not null,
    constraint attachments_tenant_key unique (organization_id, id),
    constraint attachments_ticket_fkey foreign key (organization_id, ticket_id) references tickets (organization_id, id) on delete cascade,
    constraint attachments_comment_fkey foreign key (organization_id, comment_id) references ticket_comments (organization_id, id) on delete cascade,
    constraint attachments_created_by_fkey foreign key (organization_id, created_by) references users (organization_id, id)
);
create index attachments_ticket_idx on attachments (ticket_id);
create index attachments_sha256_idx on attachments (organization_id, sha256);

create table ticket_watchers (
    organization_id uuid        not null,
    ticket_id       uuid        not null,
    user_id         uuid        not null,
    created_at      timestamptz not null default now(),
    constraint ticket_watchers_pkey primary key (ticket_id, user_id),
    constraint ticket_watchers_ticket_fkey foreign key (organization_id, ticket_id) references tickets (organization_id, id) on delete cascade,
    constraint ticket_watchers_user_fkey foreign key (organization_id, user_id) references users (organization_id, id) on delete cascade
);

create index ticket_watchers_user_idx on ticket_watchers (user_id);

create table ticket_tags (
    organization_id uuid not null,
    ticket_id       uuid not null,
    tag             text not null constraint ticket_tags_tag_check check (length(tag) between 1 and 64),
    -- The organization first: row level security asks for it too, and two indexes would be read.
    constraint ticket_tags_pkey primary key (organization_id, ticket_id, tag),
    constraint ticket_tags_ticket_fkey foreign key (organization_id, ticket_id) references tickets (organization_id, id) on delete cascade
);
create index ticket_tags_tag_idx on ticket_tags (organization_id, tag);

create table ticket_links (
    id              uuid        not null constraint ticket_links_pkey primary key,
    organization_id uuid        not null,
    from_id         uuid        not null,
    to_id           uuid        not null,
    kind            text        not null constraint ticket_links_kind_check check (kind in ('relates_to', 'duplicates', 'blocks', 'caused_by', 'parent_of')),
    created_by      uuid,
    created_at      timestamptz not null,
    constraint ticket_links_pair_key unique (from_id, to_id, kind),
    constraint ticket_links_from_fkey foreign key (organization_id, from_id) references tickets (organization_id, id) on delete cascade,
    constraint ticket_links_to_fkey foreign key (organization_id, to_id) references tickets (organization_id, id) on delete cascade,
    constraint ticket_links_self_check check (from_id <> to_id)
);
create index ticket_links_to_idx on ticket_links (to_id);

-- Who changed what, when, and because of what. Append-only: the application role may not update or delete.
create table ticket_history (
    id              uuid        not null constraint ticket_history_pkey primary key,
    organization_id uuid        not null,
    ticket_id       uuid        not null,
    at              timestamptz not null,
    actor_kind      text        not null constraint ticket_history_actor_kind_check check (actor_kind in ('user', 'system')),
    actor_id        uuid,
    actor_label     text        not null, -- a name as it was then, or the job kind: 'ingest_mail'
    action          text        not null, -- 'opened', 'updated', 'commented', 'assigned', 'escalated' …
    changes         jsonb       not null default '[]', -- [{"field","from","to"}]
    trace_id        text,
    is_internal     boolean     not null default false, -- for staff only: tells of an internal comment, an escalation, a link
    constraint ticket_history_ticket_fkey foreign key (organization_id, ticket_id) references tickets (organization_id, id) on delete cascade
);
create index ticket_history_ticket_idx on ticket_history (ticket_id, at, id);
revoke update, delete on ticket_history from relaydesk_app;

-- The facts that consequences hang on: one row an event, written in the transaction of the change,
-- with a `react` job beside it. The live stream reads them too.
create table events (
    id              uuid        not null constraint events_pkey primary key,
    seq             bigint      generated always as identity,
    organization_id uuid        not null constraint events_organization_fkey references organizations on delete cascade,
    kind            text        not null, -- 'incident.opened', 'sla.breached' …
    ticket_id       uuid,
    actor_kind      text        not null,
    actor_id        uuid,
    payload         jsonb       not null default '{}',
    trace_parent    text,
    created_at      timestamptz not null,
    constraint events_tenant_key unique (organization_id, id),
    constraint events_ticket_fkey foreign key (organization_id, ticket_id) references tickets (organization_id, id) on delete cascade
);
create unique index events_seq_key on events (seq);
create index events_created_idx on events (organization_id, created_at desc);
revoke update, delete on events from relaydesk_app;

call tenant_table('priority_matrix');
call tenant_table('ticket_counters');
call tenant_table('tickets');
call tenant_table('ticket_comments');
call tenant_table('attachments');
call tenant_table('ticket_watchers');
call tenant_table('ticket_tags');
call tenant_table('ticket_links');
call tenant_table('ticket_history');
call tenant_table('events', '(select is_system())');
