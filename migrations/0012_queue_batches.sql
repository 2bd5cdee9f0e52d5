-- Batches: jobs whose ends are counted together, and a job that goes on when all of them have ended.
-- docs/adr/0016-batches-and-children.md says why they look like this. Nothing here is touched for jobs of no batch.

create table queue.batches (
    id               uuid        not null constraint batches_pkey primary key,
    organization_id  uuid,
    -- The job that is suspended until the batch has ended: a callback, or the parent of its jobs. Gone when it was cancelled.
    next_job         uuid        not null,
    open             boolean     not null,  -- more jobs are to come: it does not end
    on_death         text        not null constraint batches_on_death_check check (on_death in ('wait', 'go_on')),
    created_at       timestamptz not null default clock_timestamp(),
    ended_at         timestamptz
);
create index batches_ended_at on queue.batches (ended_at) where ended_at is not null;

-- The counts. A batch has a part for every some dozens of its jobs, and each call that adds jobs adds parts of its own: so those who end
-- jobs seldom wait for one another, and those who add jobs wait for nobody.
create table queue.batch_parts (
    id               bigint      not null generated always as identity constraint batch_parts_pkey primary key,
    batch_id         uuid        not null constraint batch_parts_batch references queue.batches on delete cascade,
    organization_id  uuid,
    total            integer     not null,
    pending          integer     not null constraint batch_parts_pending_check check (pending >= 0),
    cancelled        integer     not null default 0,
    discarded        integer     not null default 0,
    died             integer     not null default 0, -- dead letters of a batch that does not wait for them
    constraint batch_parts_sum_check check (pending + cancelled + discarded + died <= total)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
create index batch_parts_batch on queue.batch_parts (batch_id);

-- What its jobs left behind: those with a result, and those that were not done. The history may be dropped before it is read.
create table queue.batch_ends (
    batch_id         uuid        not null constraint batch_ends_batch references queue.batches on delete cascade,
    job_id           uuid        not null,
    organization_id  uuid,
    kind             text        not null,
    outcome          text        not null, -- done, cancelled, discarded, dead
    result           json,
    error            text,
    constraint batch_ends_pkey primary key (batch_id, job_id)
);

create index jobs_part on queue.jobs (part) where part is not null;

do $$
declare t text;
begin
    foreach t in array array['batches', 'batch_parts', 'batch_ends'] loop
        execute format('alter table queue.%I enable row level security', t);
        execute format('alter table queue.%I force row level security', t);
        execute format('create policy tenant on queue.%I using ((select current_organization()) is null '
                       'or organization_id = (select current_organization()))', t);
    end loop;
end
$$;
grant select, insert, update, delete on queue.batches, queue.batch_parts, queue.batch_ends to relaydesk_app;

-- Parts for jobs that the caller is about to insert. A batch takes jobs while it is open, and from one of its own jobs that runs: both are
-- kept so until the caller's transaction ends, without hindering those who end jobs. No row: it takes none.
-- Without a batch: that of the member.
create function queue.join_batch(batch uuid, sizes integer[], member uuid, member_run bigint) returns setof bigint
    language plpgsql volatile as $$
declare
    tenant text := current_setting('app.organization_id', true); -- a batch of none may have jobs of an organization
    b record;
    is_member boolean;
    takes boolean;
begin
    if tenant <> '' then
        perform set_config('app.organization_id', '', true);
    end if;
    if batch is null then
        select p.batch_id into batch from queue.jobs j join queue.batch_parts p on p.id = j.part where j.id = member;
    end if;
    -- The member's row before the batch: in the order in which those who end and abandon batches lock.
    perform from queue.jobs j
    where j.id = member and j.run = member_run and j.worker is not null
      and exists (select from queue.batch_parts p where p.id = j.part and p.batch_id = batch) for key share;
    is_member := found;
    select x.open, x.organization_id into b from queue.batches x
    where x.id = batch and x.ended_at is null and (x.organization_id is null or tenant is null or tenant in ('', x.organization_id::text))
    for key share;
    takes := found and (b.open or is_member);
    if takes then
        return query
            insert into queue.batch_parts (batch_id, organization_id, total, pending)
            select batch, b.organization_id, size, size from unnest(sizes) with ordinality s(size, n) order by n returning id;
    end if;
    if tenant <> '' then
        perform set_config('app.organization_id', tenant, true);
    end if;
end
$$;

-- Of the jobs that were to be inserted, those that were left out for their unique keys, each by its part.
create function queue.leave_out(parts bigint[]) returns void
    language plpgsql volatile as $$
declare
    tenant text := current_setting('app.organization_id', true);
begin
    if tenant <> '' then
        perform set_config('app.organization_id', '', true);
    end if;
    update queue.batch_parts p set total = p.total - u.jobs, pending = p.pending - u.jobs
    from (select part, count(*)::integer as jobs from unnest(parts) part group by part) u where p.id = u.part;
    if tenant <> '' then
        perform set_config('app.organization_id', tenant, true);
    end if;
end
$$;

-- Ends batches of which nothing is pending, and lets their suspended jobs go on. In one order of batches.
create function queue.end_batches(batches uuid[]) returns void
    language plpgsql volatile as $$
declare
    ending uuid;
    next uuid;
    told text;
begin
    for ending in select distinct x from unnest(batches) x order by x loop
        select b.next_job into next from queue.batches b
        where b.id = ending and b.ended_at is null and not b.open for no key update;
        -- The look after the lock: of two who end the last jobs of two parts, the second sees what the first has committed.
        continue when not found
            or exists (select from queue.batch_parts p where p.batch_id = ending and p.pending > 0);
        update queue.batches b set ended_at = clock_timestamp() where b.id = ending;
        update queue.jobs j set state = 'ready', due_at = clock_timestamp(),
            rank = clock_timestamp() - j.priority * coalesce((select l.aging from queue.lanes l where l.name = j.lane), interval '1 minute')
        where j.id = next and j.awaits = ending and j.state = 'suspended'
        returning j.lane into told;
        if found then
            perform pg_notify('relaydesk_jobs', '~' || told);
        end if;
    end loop;
end
$$;

-- Jobs that leave their parts, in the transaction that ends them. Locks are taken in one order: jobs (by the caller), parts, batches.
create function queue.leave_batches(
    ids uuid[], organizations uuid[], parts bigint[], kinds text[], outcomes text[], results text[], errors text[]
) returns void
    language plpgsql volatile as $$
declare
    -- A batch may belong to none or another organization than the transaction works for.
    tenant text := current_setting('app.organization_id', true);
    leaving record;
    batch uuid;
    remain integer;
    over uuid[] := '{}';
begin
    if tenant <> '' then
        perform set_config('app.organization_id', '', true);
    end if;
    for leaving in
        select u.part, count(*)::integer as jobs, count(*) filter (where u.outcome = 'cancelled')::integer as cancelled,
               count(*) filter (where u.outcome = 'discarded')::integer as discarded,
               count(*) filter (where u.outcome = 'dead')::integer as died
        from unnest(parts, outcomes) u(part, outcome) where u.part is not null group by u.part order by u.part
    loop
        update queue.batch_parts p set pending = p.pending - leaving.jobs, cancelled = p.cancelled + leaving.cancelled,
            discarded = p.discarded + leaving.discarded, died = p.died + leaving.died
        where p.id = leaving.part returning p.batch_id, p.pending into batch, remain;
        if remain = 0 then
            over := over || batch;
        end if;
    end loop;
    insert into queue.batch_ends (batch_id, job_id, organization_id, kind, outcome, result, error)
    select p.batch_id, u.id, u.organization_id, u.kind, u.outcome, u.result::json, u.error
    from unnest(ids, organizations, parts, kinds, outcomes, results, errors) u(id, organization_id, part, kind, outcome, result, error)
         join queue.batch_parts p on p.id = u.part
    where u.outcome <> 'done' or u.result is not null
    on conflict on constraint batch_ends_pkey do nothing;
    perform queue.end_batches(over);
    if tenant <> '' then
        perform set_config('app.organization_id', tenant, true);
    end if;
end
$$;

-- Dead letters of batches that do not wait for them: they are members no more.
create function queue.die_in_batches(dead uuid[]) returns void
    language plpgsql volatile as $$
declare
    died record;
begin
    with going as (
        select j.id, j.part from queue.jobs j
             join queue.batch_parts p on p.id = j.part join queue.batches b on b.id = p.batch_id
        where j.id = any(dead) and j.state = 'dead' and b.on_death = 'go_on'),
    gone as (
        update queue.jobs j set part = null from going where j.id = going.id
        returning j.id, j.organization_id, going.part, j.kind, j.last_error)
    select array_agg(id) as ids, array_agg(organization_id) as organizations, array_agg(part) as parts, array_agg(kind) as kinds,
           array_agg('dead'::text) as outcomes, array_agg(null::text) as results, array_agg(last_error) as errors
    into died from gone;
    if died.ids is not null then
        perform queue.leave_batches(died.ids, died.organizations, died.parts, died.kinds, died.outcomes, died.results, died.errors);
    end if;
end
$$;

-- Of batches that are about to be abandoned, and of those that their jobs wait for in turn: locks all jobs but those that are suspended. All at
-- once and first, as those who end jobs lock: jobs, parts, batches, and then who waited for them. Somebody who ends a job meanwhile, or adds
-- some, is waited for, and what he has left is looked for again: afterwards nothing comes and nothing goes.
create function queue.hold_batches(abandoned uuid[]) returns void
    language plpgsql volatile as $$
declare
    tree uuid[];
    parts bigint[];
    held bigint;
    there bigint;
begin
    loop
        with recursive t(batch) as (
            select unnest(abandoned)
            union
            select j.awaits from t join queue.batch_parts p on p.batch_id = t.batch join queue.jobs j on j.part = p.id
            where j.state = 'suspended')
        select array_agg(batch) into tree from t;
        parts := array(select p.id from queue.batch_parts p where p.batch_id = any(tree));
        perform from queue.jobs j where j.part = any(parts) and j.state <> 'suspended' order by j.id for update;
        get diagnostics held = row_count;
        perform from queue.batches b where b.id = any(tree) and b.open order by b.id for update;
        with recursive t(batch) as (
            select unnest(abandoned)
            union
            select j.awaits from t join queue.batch_parts p on p.batch_id = t.batch join queue.jobs j on j.part = p.id
            where j.state = 'suspended')
        select count(*) into there
        from t join queue.batch_parts p on p.batch_id = t.batch join queue.jobs j on j.part = p.id where j.state <> 'suspended';
        -- What is held is still there, so as many are the same.
        exit when there = held;
    end loop;
end
$$;

-- Ends jobs that do not run, without a run: cancelled, or dead letters that are discarded. Only those in the given states. A suspended one takes
-- the jobs with it that it waits for, and first: from the inner batch to the outer one, as those who end jobs lock them.
create function queue.put_away(ids uuid[], states text[], verdict text, why text) returns setof uuid
    language plpgsql volatile as $$
declare
    awaited uuid[] := array(
        select j.awaits from queue.jobs j where j.id = any(ids) and j.state = 'suspended' and 'suspended' = any(states) order by 1);
    batch uuid;
    away record;
begin
    if awaited <> '{}' then
        perform queue.hold_batches(awaited);
        foreach batch in array awaited loop
            perform queue.abandon_batch(batch);
        end loop;
    end if;
    with gone as (
        delete from queue.jobs j where j.id = any(ids) and j.worker is null and j.state::text = any(states) returning *),
    kept as (
        insert into queue.history (id, organization_id, finished_at, due_at, worker, priority, attempt, max_attempts, retention, outcome, lane,
                                   kind, trace_parent, error, progress, args, args_key)
        select id, organization_id, clock_timestamp(), due_at, worker, priority, attempt, max_attempts,
               greatest(queue.retention_of(kind), 1::smallint), verdict, lane, kind, trace_parent,
               coalesce(why, last_error), progress, args, args_key
        from gone)
    select array_agg(id) as ids, array_agg(organization_id) as organizations, array_agg(part) as parts, array_agg(kind) as kinds,
           array_agg(verdict) as outcomes, array_agg(null::text) as results, array_agg(coalesce(why, last_error)) as errors,
           count(part) as members
    into away from gone;
    if away.members > 0 then
        perform queue.leave_batches(away.ids, away.organizations, away.parts, away.kinds, away.outcomes, away.results, away.errors);
    end if;
    return query select unnest(away.ids);
end
$$;

-- Nobody waits for the batch any more: its waiting jobs are cancelled, its running ones told to stop. Its dead letters stay. The caller has
-- locked its jobs (hold_batches).
create function queue.abandon_batch(batch uuid) returns void
    language plpgsql volatile as $$
declare
    parts bigint[] := array(select p.id from queue.batch_parts p where p.batch_id = batch);
begin
    update queue.jobs j set cancel_requested = true where j.part = any(parts) and j.worker is not null;
    if found then
        perform pg_notify('relaydesk_jobs', '!cancel');
    end if;
    perform from queue.put_away(
        array(select j.id from queue.jobs j where j.part = any(parts) and j.worker is null and j.state <> 'dead' order by j.id),
        array['scheduled', 'ready', 'limited', 'suspended'], 'cancelled', 'what waited for it was cancelled');
    update queue.batches b set ended_at = clock_timestamp(), open = false where b.id = batch and b.ended_at is null;
end
$$;

-- Parts whose count is not that of their jobs, which there should be none of: somebody deleted rows. What is gone counts as discarded, so
-- that nothing waits for it. First the look at all in one snapshot, then one after the other: who ends a job holds the part until its commit.
create function queue.mend_batches() returns bigint
    language plpgsql volatile as $$
declare
    mended bigint := 0;
    off record;
    there integer;
begin
    for off in
        select p.id, p.batch_id from queue.batch_parts p join queue.batches b on b.id = p.batch_id
        where b.ended_at is null and p.pending <> (select count(*) from queue.jobs j where j.part = p.id) order by p.id
    loop
        perform from queue.batch_parts p where p.id = off.id for no key update;
        select count(*) into there from queue.jobs j where j.part = off.id;
        update queue.batch_parts p set discarded = p.discarded + greatest(p.pending - there, 0), pending = there
        where p.id = off.id and p.pending <> there;
        if found then
            mended := mended + 1;
            perform queue.end_batches(array[off.batch_id]);
        end if;
    end loop;
    return mended;
end
$$;
