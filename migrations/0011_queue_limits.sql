-- Limits of the job engine: how many jobs run at once, and how fast they start, over all processes.
-- docs/adr/0015-limits-are-permits.md says why they look like this. Nothing here is touched for jobs without limits.

-- What the kinds declare, and what an operator has set instead. Exactly one of at_once and per_second is given.
create table queue.limits (
    name             text             not null constraint limits_pkey primary key,
    at_once          integer          constraint limits_at_once_check check (at_once >= 0),
    per_second       double precision constraint limits_per_second_check check (per_second > 0),
    burst            integer          not null default 1 constraint limits_burst_check check (burst > 0),
    set_at_once      integer          constraint limits_set_at_once_check check (set_at_once >= 0),
    set_per_second   double precision constraint limits_set_per_second_check check (set_per_second > 0),
    set_burst        integer          constraint limits_set_burst_check check (set_burst > 0),
    changed_at       timestamptz      not null default now(),
    constraint limits_bound_check check ((at_once is null) <> (per_second is null))
);

-- One row for each thing that is limited: the limit itself, or the limit for one tenant or key. Locking it decides who is next;
-- what it bounds is counted elsewhere, so that the end of a job never waits for it.
create table queue.slots (
    name             text        not null constraint slots_pkey primary key,
    limit_name       text        not null,
    tokens_until     timestamptz,           -- of a rate: the time up to which tokens are handed out
    turn             uuid        not null default '00000000-0000-0000-0000-000000000000', -- tenant that was called last
    credit           integer     not null default 0                                       -- and how often it still may be
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- One row for each place that a running job holds. It goes in the transaction that ends the claim, so it cannot leak.
create table queue.permits (
    slot             text        not null,
    job_id           uuid        not null,
    run              bigint      not null,
    constraint permits_pkey primary key (slot, job_id)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
create index permits_job on queue.permits (job_id);

-- Those that wait for a slot, a line for each tenant.
create index jobs_waits_for on queue.jobs
    (waits_for, (case when organization_id is null then '00000000-0000-0000-0000-000000000000' else organization_id end), rank)
    where state = 'limited';
-- Those that will find it full.
create index jobs_limit_key on queue.jobs
    (kind, limit_key, (case when organization_id is null then '00000000-0000-0000-0000-000000000000' else organization_id end), rank)
    where state = 'ready' and limit_key is not null;

grant select, insert, update, delete on queue.limits, queue.slots, queue.permits to relaydesk_app;

-- The bounds of slots as they are in force.
create function queue.slot_bounds(
    names text[], out name text, out at_once integer, out gap interval, out burst integer, out tokens_until timestamptz
) returns setof record language sql stable as $$
    select s.name,
           case when s.limit_name like 'lane:%' then coalesce(n.set_at_once, n.at_once)
                else coalesce(l.set_at_once, l.at_once) end,
           make_interval(secs => 1 / coalesce(l.set_per_second, l.per_second)),
           coalesce(l.set_burst, l.burst, 1), s.tokens_until
    from queue.slots s
         left join queue.limits l on l.name = s.limit_name
         left join queue.lanes n on s.limit_name like 'lane:%' and n.name = substr(s.limit_name, 6)
    where s.name = any(names)
$$;

-- Whether claimed jobs may run. slot_names (sorted) and limit_names say what is limited; job n of job_ids needs slot need_slot[i]
-- wherever need_job[i] = n, places first, rates last; need_pass[i]: it was called and need not queue up, or has paid for this rate.
-- Those that may run hold their permits afterwards. The others are not claimed any more: they wait for the slot that was full
-- (together with those behind them that would find the same), have a time for their token, or are ready again (the lane is full).
-- Volatile, so each statement sees what was committed before it began: first the locks, then the look.
create function queue.admit(
    slot_names text[], limit_names text[], job_ids uuid[], job_runs bigint[], need_job integer[], need_slot integer[], need_pass boolean[],
    shift interval, ahead interval
) returns table (job uuid, verdict text, limit_name text, jobs_count integer)
    language plpgsql volatile as $$
#variable_conflict use_column
declare
    moment timestamptz := clock_timestamp() + shift;
    room integer[];
    gaps interval[];
    bursts integer[];
    used timestamptz[];
    queued boolean[];
    returns_it boolean[]; -- of a lane on Postgres: a claim takes only as many as have room, so this is a race that was lost
    wanted integer := cardinality(need_job);
    n integer := 1;
    first integer;
    i integer;
    s integer;
    blocked integer;
    token timestamptz;
    later timestamptz;
    pays text[];
    granted_job uuid[] := '{}';
    granted_run bigint[] := '{}';
    granted_slot text[] := '{}';
    started uuid[] := '{}';
    parked_job uuid[] := '{}';
    parked_run bigint[] := '{}';
    parked_slot text[] := '{}';
    call text[] := '{}';
    back_job uuid[] := '{}';
    back_run bigint[] := '{}';
    bulk record;
    moved integer;
begin
    loop
        insert into queue.slots (name, limit_name) select * from unnest(slot_names, limit_names) on conflict do nothing;
        perform from queue.slots where name = any(slot_names) order by name for update;
        get diagnostics moved = row_count;
        exit when moved = cardinality(slot_names); -- else one was swept away in between
    end loop;
    select array_agg(case when b.at_once is null then 1000000
                          else b.at_once - (select count(*)::integer from queue.permits p where p.slot = u.name) end order by u.n),
           array_agg(b.gap order by u.n), array_agg(b.burst order by u.n),
           array_agg(greatest(b.tokens_until, moment) order by u.n),
           array_agg(exists (select from queue.jobs j where j.waits_for = u.name and j.state = 'limited') order by u.n),
           array_agg(u.name like 'lane:%' and exists (
                         select from queue.lanes l where l.name = substr(u.name, 6) and l.transport = 'postgres') order by u.n)
    into room, gaps, bursts, used, queued, returns_it
    from unnest(slot_names) with ordinality u(name, n) join queue.slot_bounds(slot_names) b on b.name = u.name;

    i := 1;
    while i <= wanted loop
        n := need_job[i];
        first := i;
        blocked := null;
        later := null;
        pays := null;
        while i <= wanted and need_job[i] = n loop
            s := need_slot[i];
            if blocked is null then
                if gaps[s] is null then
                    if room[s] <= 0 or (queued[s] and not need_pass[i]) then
                        blocked := s;
                    end if;
                elsif not need_pass[i] then
                    token := used[s] - (bursts[s] - 1) * gaps[s];
                    if queued[s] or token > moment + ahead then
                        blocked := s;
                    elsif token > moment then
                        later := greatest(later, token);
                    end if;
                end if;
            end if;
            i := i + 1;
        end loop;
        if blocked is not null then
            if returns_it[blocked] then
                back_job := back_job || job_ids[n];
                back_run := back_run || job_runs[n];
                job := job_ids[n]; verdict := 'back'; limit_name := limit_names[blocked]; jobs_count := 1;
                return next;
                continue;
            end if;
            queued[blocked] := true;
            parked_job := parked_job || job_ids[n];
            parked_run := parked_run || job_runs[n];
            parked_slot := parked_slot || slot_names[blocked];
            job := job_ids[n]; verdict := 'waits'; limit_name := limit_names[blocked]; jobs_count := 1;
            return next;
            continue;
        end if;
        for m in first .. i - 1 loop
            s := need_slot[m];
            if gaps[s] is not null then
                pays := pays || slot_names[s];
                if not need_pass[m] then
                    used[s] := used[s] + gaps[s];
                end if;
            elsif later is null then
                room[s] := room[s] - 1;
                granted_job := granted_job || job_ids[n];
                granted_run := granted_run || job_runs[n];
                granted_slot := granted_slot || slot_names[s];
            end if;
        end loop;
        if later is null then
            started := started || job_ids[n];
        else
            update queue.jobs j set worker = null, run = j.run + 1, attempt = j.attempt - 1, claimed_at = null,
                state = 'scheduled', due_at = later, waits_for = null, paid = pays
            where j.id = job_ids[n] and j.run = job_runs[n] and j.worker is not null;
            job := job_ids[n]; verdict := 'later'; limit_name := limit_names[need_slot[i - 1]]; jobs_count := 1;
            return next;
        end if;
    end loop;

    -- A claim that was taken away meanwhile gets nothing; its run is refused wherever it writes.
    insert into queue.permits (slot, job_id, run)
    select g.slot, g.id, g.run from unnest(granted_slot, granted_job, granted_run) as g(slot, id, run)
         join queue.jobs j on j.id = g.id and j.run = g.run and j.worker is not null
    for update of j
    on conflict (slot, job_id) do update set run = excluded.run;
    -- As the claim does it for jobs without limits: the key of a job that is unique while it waits.
    update queue.jobs j set unique_held = false
    where j.id = any(started) and j.unique_held and j.unique_while & 2 = 0;
    update queue.slots x set tokens_until = u.used
    from unnest(slot_names, used, gaps) as u(name, used, gap)
    where x.name = u.name and u.gap is not null and x.tokens_until is distinct from u.used and u.used > moment;
    update queue.jobs j set worker = null, run = j.run + 1, attempt = j.attempt - 1, claimed_at = null,
        state = 'limited', waits_for = u.slot
    from unnest(parked_job, parked_run, parked_slot) as u(id, run, slot)
    where j.id = u.id and j.run = u.run and j.worker is not null;
    update queue.jobs j set worker = null, run = j.run + 1, attempt = j.attempt - 1, claimed_at = null
    from unnest(back_job, back_run) as u(id, run)
    where j.id = u.id and j.run = u.run and j.worker is not null;
    if exists (select from queue.jobs j where j.id = any(job_ids) and not j.unique_held and j.worker is null) then
        perform queue.hold_again(job_ids); -- the claim had let go of them
    end if;
    -- Those behind them in the same line, before each of them is claimed in vain.
    for bulk in
        select distinct on (j.kind, j.limit_key, tenant) j.kind, j.limit_key, u.slot, l.limit_name,
               case when j.organization_id is null then '00000000-0000-0000-0000-000000000000'::uuid
                    else j.organization_id end as tenant
        from unnest(parked_job, parked_slot) as u(id, slot) join queue.jobs j on j.id = u.id
             join queue.slots l on l.name = u.slot
        where j.limit_key is not null
    loop
        update queue.jobs j set state = 'limited', waits_for = bulk.slot, published_at = null
        where j.ctid = any(array(
            select q.ctid from queue.jobs q
            where q.state = 'ready' and q.limit_key is not null and q.kind = bulk.kind and q.limit_key = bulk.limit_key
              and case when q.organization_id is null then '00000000-0000-0000-0000-000000000000'
                       else q.organization_id end = bulk.tenant
              and q.worker is null and q.waits_for is null
            order by q.rank limit 2000 for update skip locked)) and j.state = 'ready' and j.worker is null;
        get diagnostics moved = row_count;
        if moved > 0 then
            job := null; verdict := 'waits'; limit_name := bulk.limit_name; jobs_count := moved;
            return next;
        end if;
    end loop;
    -- Places that are left though somebody waits: those who wait go first, and one that was called may have found another slot full.
    for k in 1 .. cardinality(slot_names) loop
        if gaps[k] is null and room[k] > 0 and queued[k] then
            call := call || slot_names[k];
        end if;
    end loop;
    if cardinality(call) > 0 then
        perform queue.call(call, shift, ahead);
    end if;
end
$$;

-- Calls those that wait for the slots: as many as there are places or tokens (of rates those of the time `ahead`, with the
-- moment of each), by turns between tenants. A call for a place is not the place: whoever is claimed takes it. At most 500 for
-- each slot, because every round steps over what the same transaction has moved: answers the slots with more to call, and for how
-- many there is room, so that it is called again.
create function queue.call(names text[], shift interval, ahead interval) returns table (again text, rest integer)
    language plpgsql volatile as $$
#variable_conflict use_variable
declare
    slot text;
    bounds record;
    moment timestamptz;
    used timestamptz;
    token timestamptz;
    places integer;
    whose uuid;
    credits integer;
    place tid;
    place_lane text;
    place_tenant uuid;
    lanes text[] := '{}';
    more integer;
begin
    for slot in
        select distinct n from unnest(names) n
        where n like 'lane:%' or exists (select from queue.jobs j where j.waits_for = n and j.state = 'limited') order by 1
    loop
        if slot like 'lane:%' then
            lanes := lanes || substr(slot, 6);
        end if;
        select s.turn, s.credit into whose, credits from queue.slots s where s.name = slot for update;
        continue when not found;
        moment := clock_timestamp() + shift;
        used := null;
        select * into bounds from queue.slot_bounds(array[slot]);
        if bounds.gap is null then
            select coalesce(bounds.at_once, 1000000) - count(*) into places from queue.permits p where p.slot = slot;
        else
            used := greatest(bounds.tokens_until, moment);
            places := 1000000;
        end if;
        more := places - 500;
        places := least(places, 500);
        while places > 0 loop
            if bounds.gap is not null then
                token := used - (bounds.burst - 1) * bounds.gap;
                exit when token > moment + ahead;
            end if;
            place := null;
            if credits > 0 then
                select j.ctid, j.lane, whose into place, place_lane, place_tenant from queue.jobs j
                where j.waits_for = slot and j.state = 'limited'
                  and case when j.organization_id is null then '00000000-0000-0000-0000-000000000000'
                           else j.organization_id end = whose
                order by j.rank limit 1 for update skip locked;
            end if;
            if place is null then
                select j.ctid, j.lane,
                       case when j.organization_id is null then '00000000-0000-0000-0000-000000000000'
                            else j.organization_id end into place, place_lane, place_tenant from queue.jobs j
                where j.waits_for = slot and j.state = 'limited'
                  and case when j.organization_id is null then '00000000-0000-0000-0000-000000000000'
                           else j.organization_id end > whose
                order by 3, j.rank limit 1 for update skip locked;
                if place is null then
                    select j.ctid, j.lane,
                           case when j.organization_id is null then '00000000-0000-0000-0000-000000000000'
                                else j.organization_id end into place, place_lane, place_tenant from queue.jobs j
                    where j.waits_for = slot and j.state = 'limited'
                    order by 3, j.rank limit 1 for update skip locked;
                end if;
                exit when place is null;
                whose := place_tenant;
                select greatest(1, round(coalesce(max(t.weight), 1)))::integer into credits
                from queue.tenants t where t.organization_id = whose;
            end if;
            credits := credits - 1;
            places := places - 1;
            if bounds.gap is null then
                update queue.jobs j set state = 'ready' where j.ctid = place;
                lanes := lanes || place_lane;
            else
                used := used + bounds.gap;
                update queue.jobs j set paid = j.paid || slot,
                    state = case when token > moment then 'scheduled'::queue.state else 'ready' end,
                    due_at = case when token > moment then token else j.due_at end
                where j.ctid = place;
                if token <= moment then
                    lanes := lanes || place_lane;
                end if;
            end if;
        end loop;
        update queue.slots s set turn = whose, credit = credits, tokens_until = coalesce(used, s.tokens_until)
        where s.name = slot;
        if more > 0 and places = 0 then
            again := slot;
            rest := more;
            return next;
        end if;
    end loop;
    perform pg_notify('relaydesk_jobs', '~' || lane) from (select distinct unnest(lanes) as lane) told;
end
$$;
