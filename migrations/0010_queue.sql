-- The job engine. Its tables live in a schema of their own; docs/adr/0010-one-hot-friendly-job-table.md says why they
-- look like this. Nothing here knows of tickets.
create schema queue;
grant usage on schema queue to relaydesk_app;

-- ready: waiting, or running when `worker` is set. A claim must not touch an indexed column (then it is a HOT update:
-- no index is written), therefore "running" is not a state of its own. limited: waits for a limit (0011_queue_limits.sql).
-- suspended: waits for the end of a batch (0012_queue_batches.sql).
create type queue.state as enum ('scheduled', 'ready', 'limited', 'suspended', 'dead');

create table queue.jobs (
    id               uuid        not null constraint jobs_pkey primary key, -- UUIDv7: creation order
    -- The fencing token: raised by every claim and by everything that takes a claim away.
    run              bigint      not null default 0,
    worker           uuid,                                                  -- incarnation that holds the lease
    organization_id  uuid,
    due_at           timestamptz not null,                                  -- ready since, or scheduled for
    -- The place in the tenant's line: due_at, earlier by the lane's `aging` for each point of priority. It does not move
    -- while the job waits, so that what waits long goes before what is important and new.
    rank             timestamptz not null default clock_timestamp(),
    claimed_at       timestamptz,
    -- Handed to the relay of a lane on RabbitMQ; a claim takes it away. In no index: marking is a HOT update, as a claim is.
    published_at     timestamptz,
    state            queue.state not null,
    priority         smallint    not null default 0,                        -- higher runs earlier
    attempt          smallint    not null default 0,                        -- counted at the claim: a crash counts
    max_attempts     smallint    not null,
    crashes          smallint    not null default 0,                        -- claims that ended with a lost worker
    cancel_requested boolean     not null default false,
    unique_key       text,
    unique_while     smallint    not null default 0,                        -- bit 1: waiting, bit 2: running, bit 4: dead
    unique_held      boolean,    -- it has the key now; null when it is unique in no state, so that its updates stay HOT
    lane             text        not null,
    kind             text        not null,
    limit_key        text,       -- what limits per key count by; null when the kind had no limits when it was enqueued
    waits_for        text,       -- the slot that it waits for, or was called for
    paid             text[],     -- rate limits whose tokens it was given in advance
    part             bigint,     -- of a batch (0012_queue_batches.sql) that it is of
    awaits           uuid,       -- the batch whose end it waits or has waited for
    trace_parent     text,
    last_error       text,
    died_of          text,       -- of a dead letter: gave_up, exhausted, timeout, panicked, undecodable, lost, rolled_back
    progress         json,
    args             json        not null,                                  -- json, not jsonb: keeps \u0000; sealed: a string
    args_version     smallint,   -- null: 1
    args_key         text,       -- of the key that sealed them
    -- The state of what is not ready, in a type that row level security lets reach an index (equality of enums is not known to
    -- be leakproof).
    aside            "char"      generated always as
                     (case state when 'scheduled' then 's' when 'limited' then 'l' when 'suspended' then 'u' when 'dead' then 'd' end) stored,
    constraint jobs_attempts_check check (attempt >= 0 and max_attempts > 0),
    constraint jobs_names_check check (length(lane) between 1 and 60 and length(kind) between 1 and 100)
) with (
    -- Room for one new version of every row on its own page: a claim makes it longer by `worker` and `claimed_at`, 24 bytes of some 130.
    fillfactor = 45,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0.5, autovacuum_analyze_scale_factor = 0.2,
    autovacuum_analyze_threshold = 5000, autovacuum_vacuum_cost_delay = 1
);
-- One line a tenant (the nil UUID stands for jobs of none), so that a claim can take turns between tenants by looking at the
-- heads of their lines only: docs/adr/0014-fair-turns-at-the-claim.md.
create index jobs_ready on queue.jobs (lane, (case when organization_id is null then '00000000-0000-0000-0000-000000000000' else organization_id end),
    rank)
    where state = 'ready';
create index jobs_scheduled on queue.jobs (due_at) where state = 'scheduled';
create index jobs_dead on queue.jobs (kind, due_at) where state = 'dead';
-- For lists, counts and bulk work: the line of each lane and tenant in each state. What is ready has no entry.
create index jobs_aside on queue.jobs (aside, lane,
    (case when organization_id is null then '00000000-0000-0000-0000-000000000000' else organization_id end), id)
    where aside is not null;
create index jobs_cancel on queue.jobs (id) where cancel_requested;
create unique index jobs_unique_key on queue.jobs (kind, unique_key, organization_id) nulls not distinct where unique_held;

-- Keys that are unique for a time, whatever becomes of the job. A row is locked by whoever enqueues with its key, until the end of
-- that transaction; the pruner takes away what is over.
create table queue.unique_windows (
    kind             text        not null,
    organization_id  uuid,
    unique_key       text        not null,
    job_id           uuid        not null,
    ends_at          timestamptz not null,
    constraint unique_windows_key unique nulls not distinct (kind, unique_key, organization_id)
) with (fillfactor = 80);
create index unique_windows_ends_at on queue.unique_windows (ends_at);

-- The kinds of jobs that a worker has made known, and how long the history of each is kept: 0 not at all, 1 short, 2 normal, 3 long.
create table queue.kinds (
    name             text        not null constraint kinds_pkey primary key,
    retention        smallint    not null constraint kinds_retention_check check (retention between 0 and 3), -- as the program says
    set_retention    smallint    constraint kinds_set_retention_check check (set_retention between 0 and 3),  -- and what an operator has set instead
    changed_at       timestamptz not null default now()
);

-- Finished jobs: append-only. First by how long they are kept, then by when they ended: what is over its time is dropped whole by the pruner.
-- docs/adr/0083-history-by-retention.md says why it looks like this.
create table queue.history (
    id               uuid        not null,
    organization_id  uuid,
    finished_at      timestamptz not null,
    due_at           timestamptz not null,
    started_at       timestamptz,
    worker           uuid,
    priority         smallint    not null,
    attempt          smallint    not null,
    max_attempts     smallint    not null,
    retention        smallint    not null default 2,
    outcome          text        not null, -- done, cancelled, discarded
    lane             text        not null,
    kind             text        not null,
    trace_parent     text,
    error            text,
    result           json,
    progress         json,
    args             json,                 -- null when they were large
    args_key         text
) partition by list (retention);
create index history_id on queue.history (id);
create index history_organization on queue.history (organization_id, id) where organization_id is not null;
create table queue.history_short partition of queue.history for values in (1) partition by range (finished_at);
-- And whatever a later version may call by another number.
create table queue.history_normal partition of queue.history default partition by range (finished_at);
create table queue.history_long partition of queue.history for values in (3) partition by range (finished_at);
-- Catch what finishes while nobody made the partition for it.
create table queue.history_short_rest partition of queue.history_short default;
create table queue.history_normal_rest partition of queue.history_normal default;
create table queue.history_long_rest partition of queue.history_long default;

-- One row for each attempt that did not end well, and for each time that somebody stepped in. Partitions as those of the history; what
-- jobs of a short one leave is kept with the normal, because a dead letter waits longer than that.
create table queue.attempts (
    job_id           uuid        not null,
    organization_id  uuid,
    attempt          smallint    not null,
    retention        smallint    not null default 2,
    run              bigint      not null,
    started_at       timestamptz,
    finished_at      timestamptz not null,
    worker           uuid,
    outcome          text        not null, -- failed, timeout, panicked, undecodable, lost, gave_up; retried, edited, discarded, cancelled
    error            text        not null, -- or why somebody stepped in
    actor            text,                 -- who did
    args             json,                 -- the arguments before they were edited
    args_key         text
) partition by list (retention);
create index attempts_job on queue.attempts (job_id);
create table queue.attempts_normal partition of queue.attempts default partition by range (finished_at);
create table queue.attempts_long partition of queue.attempts for values in (3) partition by range (finished_at);
create table queue.attempts_normal_rest partition of queue.attempts_normal default;
create table queue.attempts_long_rest partition of queue.attempts_long default;

-- For those who end jobs without being workers, who know it.
create function queue.retention_of(kind text) returns smallint language sql stable
    return coalesce((select coalesce(k.set_retention, k.retention) from queue.kinds k where k.name = kind), 2::smallint);

-- One row per incarnation of a worker process. The row is the lease of everything it has claimed.
create table queue.workers (
    id               uuid        not null constraint workers_pkey primary key,
    name             text        not null,
    lanes            text[]      not null,
    running          integer[],                -- handlers that ran in each of them at the last beat
    broker           text        constraint workers_broker_check check (broker in ('away', 'blocked', 'connected')),
    started_at       timestamptz not null default now(),
    beat_at          timestamptz not null default now()
) with (fillfactor = 50);

-- Whoever holds the row leads (schedules, rescue, pruning) until it runs out. No session lock: works behind PgBouncer.
create table queue.leaders (
    name             text        not null constraint leaders_pkey primary key,
    holder           uuid        not null,
    held_until       timestamptz not null
);

create table queue.lanes (
    name             text        not null constraint lanes_pkey primary key,
    transport        text        not null default 'postgres' constraint lanes_transport_check check (transport in ('postgres', 'rabbitmq')),
    paused           boolean     not null default false,
    drain_to         uuid,       -- jobs with later ids are not taken; when none is left with an earlier one, the lane is paused
    -- How much waiting time one point of priority is worth.
    aging            interval    not null default '1 minute'
        constraint lanes_aging_check check (aging between interval '0' and interval '1 day'),
    -- Jobs of the lane that run at once in all processes: as the program says, and what an operator has set instead.
    at_once          integer     constraint lanes_at_once_check check (at_once >= 0),
    set_at_once      integer     constraint lanes_set_at_once_check check (set_at_once >= 0),
    changed_at       timestamptz not null default now()
);

-- Tenants whose share of a busy lane is not the usual one.
create table queue.tenants (
    organization_id  uuid        not null constraint tenants_pkey primary key,
    weight           real        not null default 1 constraint tenants_weight_check check (weight between 0.01::real and 1000),
    changed_at       timestamptz not null default now()
);

create table queue.schedules (
    key              text        not null,
    organization_id  uuid,
    built_in         boolean     not null default false, -- declared in code; removed when the code no longer has it
    cron             text,                               -- five fields, Unix meaning
    every_ms         bigint,
    time_zone        text        not null,
    missed           text        not null constraint schedules_missed_check check (missed in ('skip', 'run_once', 'run_all')),
    next_at          timestamptz not null,
    last_at          timestamptz,
    lane             text        not null,
    kind             text        not null,
    priority         smallint    not null default 0,
    max_attempts     smallint    not null,
    limit_key        text,
    args             json        not null,
    args_version     smallint,
    constraint schedules_key unique nulls not distinct (organization_id, key),
    constraint schedules_rhythm_check check ((cron is null) <> (every_ms is null)),
    constraint schedules_every_check check (every_ms >= 1000)
);
create index schedules_next on queue.schedules (next_at);

-- No organization set: the engine itself, all rows. Set: only its rows. The sub-selects are evaluated once a statement.
do $$
declare t text;
begin
    foreach t in array array['jobs', 'unique_windows', 'history', 'attempts', 'schedules', 'tenants'] loop
        execute format('alter table queue.%I enable row level security', t);
        execute format('alter table queue.%I force row level security', t);
        execute format('create policy tenant on queue.%I using ((select current_organization()) is null '
                       'or organization_id = (select current_organization()))', t);
    end loop;
end
$$;

grant select, insert, update, delete on
    queue.jobs, queue.unique_windows, queue.history, queue.attempts, queue.workers, queue.leaders, queue.lanes, queue.tenants, queue.schedules,
    queue.kinds
    to relaydesk_app;

-- Jobs that wait again take the keys they had let go, unless another job has them by now: then they wait without. Nobody is
-- waited for who is only about to take one: not long for each, and not long for all together.
create function queue.hold_again(ids uuid[]) returns void
    language plpgsql volatile set lock_timeout = '20ms' as $$
declare
    began timestamptz := clock_timestamp();
    again uuid;
begin
    for again in
        select j.id from queue.jobs j
        where j.id = any(ids) and not j.unique_held and j.unique_while & 1 <> 0 and j.worker is null and j.state <> 'dead' order by j.id
    loop
        begin
            update queue.jobs j set unique_held = true where j.id = again;
        exception when unique_violation or lock_not_available then
            if clock_timestamp() > began + interval '200 ms' then
                perform set_config('lock_timeout', '1ms', true);
            end if;
        end;
    end loop;
end
$$;

-- Dead letters run again, each with the key that it is unique by while it waits: one whose key another job has, or is about to take, stays
-- dead. As above, nobody is waited for for long. The caller has locked them. Answers those that wait again.
create function queue.retry_with_keys(ids uuid[]) returns table (id uuid, lane text)
    language plpgsql volatile set lock_timeout = '20ms' as $$
#variable_conflict use_column
declare
    began timestamptz := clock_timestamp();
    again uuid;
    its_lane text;
begin
    foreach again in array (select coalesce(array_agg(u order by u), '{}') from unnest(ids) u) loop
        begin
            update queue.jobs j set state = 'ready', due_at = clock_timestamp(),
                rank = clock_timestamp()
                       - j.priority * coalesce((select l.aging from queue.lanes l where l.name = j.lane), interval '1 minute'),
                run = j.run + 1, attempt = 0, crashes = 0, cancel_requested = false, died_of = null, unique_held = true
            where j.id = again and j.state = 'dead' returning j.lane into its_lane;
            if found then
                id := again;
                lane := its_lane;
                return next;
            end if;
        exception when unique_violation or lock_not_available then
            if clock_timestamp() > began + interval '200 ms' then
                perform set_config('lock_timeout', '1ms', true);
            end if;
        end;
    end loop;
end
$$;

-- The application role owns nothing, so it makes and drops partitions through these two. They wait a moment at most for their locks, and are
-- called again another time.

-- The next partition that is missing from now until `days` from now (UTC): of a day, of what is kept long and of attempts of a month. Answers its
-- name, null when all are there that can be made. One at a time and by itself: it looks through the rest for rows of its time, and meanwhile
-- those who end jobs into the rest wait.
create function queue.make_partition(days integer) returns text
    language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '200ms' as $$
declare
    shelf text;
    unit text;
    name text;
    starts timestamp;
begin
    foreach shelf in array array['history_short', 'history_normal', 'history_long', 'attempts_normal', 'attempts_long'] loop
        unit := case when shelf in ('history_short', 'history_normal') then 'day' else 'month' end;
        for starts in
            select s from generate_series(date_trunc(unit, now() at time zone 'UTC'), (now() at time zone 'UTC') + make_interval(days => days),
                                          ('1 ' || unit)::interval) s
        loop
            name := shelf || to_char(starts, '_YYYYMMDD');
            if to_regclass('queue.' || name) is null then
                begin
                    -- Attached, not made in place, which would lock out all who write.
                    execute format('create table queue.%I (like queue.%I including defaults including storage)', name, shelf);
                    execute format('alter table queue.%I attach partition queue.%I for values from (%L) to (%L)', shelf, name,
                        to_char(starts, 'YYYY-MM-DD 00:00:00+00'), to_char(starts + ('1 ' || unit)::interval, 'YYYY-MM-DD 00:00:00+00'));
                    return name;
                exception when check_violation or duplicate_table or unique_violation or lock_not_available then
                    -- The rest holds rows of its time already and goes on doing so, somebody else makes it, or somebody reads the rest.
                    raise log 'partition % was not made: %', name, sqlerrm;
                end;
            end if;
        end loop;
    end loop;
    return null;
end
$$;

-- Drops the oldest partition of history_short, history_normal, history_long, attempts_normal or attempts_long in which all ended more than `keep`
-- ago, or empties its rest when that is so there. Answers its name, null when there is none. One at a time and by itself, because those who
-- end jobs wait for the lock: a moment at most (then it fails with lock_not_available), because it waits for those who read.
create function queue.drop_partition(shelf text, keep interval) returns text
    language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '100ms' as $$
declare
    unit interval := case when shelf in ('history_short', 'history_normal') then interval '1 day' else interval '1 month' end;
    old text;
    newest timestamptz;
begin
    if shelf not in ('history_short', 'history_normal', 'history_long', 'attempts_normal', 'attempts_long') then
        raise exception 'no partitioned table %', shelf;
    end if;
    select c.relname into old
    from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = ('queue.' || shelf)::regclass and c.relname ~ ('^' || shelf || '_[0-9]{8}$')
      and to_date(right(c.relname, 8), 'YYYYMMDD') + unit <= (now() - keep) at time zone 'UTC'
    order by c.relname limit 1;
    if old is not null then
        execute format('drop table queue.%I', old);
        return old;
    end if;
    old := shelf || '_rest';
    execute format('select max(finished_at) from queue.%I', old) into newest;
    if newest < now() - keep then
        -- Once more, when nobody can be in the middle of writing to it.
        execute format('lock table queue.%I in access exclusive mode', old);
        execute format('select max(finished_at) from queue.%I', old) into newest;
        if newest < now() - keep then
            execute format('truncate queue.%I', old);
            return old;
        end if;
    end if;
    return null;
end
$$;

revoke all on function queue.make_partition(integer), queue.drop_partition(text, interval) from public;
grant execute on function queue.make_partition(integer), queue.drop_partition(text, interval) to relaydesk_app;
do $$ begin
    while queue.make_partition(7) is not null loop end loop;
end $$;
