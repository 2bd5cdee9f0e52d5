-- How many jobs lanes hold, for people and gauges, at a cost that does not grow with them. Nothing is kept for it: a counter beside the
-- jobs would be written by every enqueue and every end. docs/adr/0082-counts-are-bounded.md says why it looks like this.

-- Each number is exact up to `cap`. Beyond, it is an estimate from 1,000 pages of the table (then `approximate` is true), and `cap` at least.
-- All in all it looks at about 10,000 rows of the lines (500 of each at least), at those pages, and at the heads of 1,000 tenants' lines in each lane.
-- With a tenant only its own jobs are counted; its lines are found by the names of known lanes.
-- The settings keep a plan that was made for an empty table from reading a full one.
create function queue.count_lanes(tenant uuid, cap integer) returns table (
    lane text, ready bigint, unpublished bigint, scheduled bigint, running bigint, limited bigint, suspended bigint, dead bigint,
    oldest timestamptz, approximate boolean
) language plpgsql stable
    set enable_seqscan = off set enable_bitmapscan = off set enable_mergejoin = off set enable_hashjoin = off set jit = off as $$
#variable_conflict use_column
declare
    low uuid := coalesce(tenant, '00000000-0000-0000-0000-000000000000');
    high uuid := coalesce(tenant, 'ffffffff-ffff-ffff-ffff-ffffffffffff');
    budget integer := 10000;
    share real;
    sample jsonb;
    names text[];
    one text;
    shelf "char";
    most integer;
    counted record;
    found bigint;
begin
    select array_agg(name order by name) into names from queue.lanes;
    if tenant is null then
        -- Also lanes that no worker has made known.
        with recursive unknown as (
            (select j.lane from queue.jobs j where j.state = 'ready' order by 1 limit 1)
            union all
            select next.lane from unknown cross join lateral (
                select j.lane from queue.jobs j where j.state = 'ready' and j.lane > unknown.lane order by 1 limit 1) next)
        select array_agg(distinct n order by n) into names
        from (select unnest(names) union select u.lane from unknown u) all_names(n);
        foreach shelf in array array['s', 'l', 'u', 'd']::"char"[] loop
            with recursive unknown as (
                (select j.lane from queue.jobs j where j.aside = shelf order by 1 limit 1)
                union all
                select next.lane from unknown cross join lateral (
                    select j.lane from queue.jobs j where j.aside = shelf and j.lane > unknown.lane order by 1 limit 1) next)
            select array_agg(distinct n order by n) into names
            from (select unnest(names) union select u.lane from unknown u) all_names(n);
        end loop;
    end if;

    foreach one in array coalesce(names, '{}') loop
        lane := one;
        approximate := false;
        most := least(cap, greatest(500, budget));
        select count(*) as n, count(*) filter (where h.worker is null) as waiting,
               count(*) filter (where h.worker is null and h.published_at is null) as unpublished,
               count(*) filter (where h.worker is not null) as running, min(h.due_at) filter (where h.worker is null) as oldest
        into counted from (
            select j.worker, j.published_at, j.due_at from queue.jobs j
            where j.lane = one and j.state = 'ready'
              and case when j.organization_id is null then '00000000-0000-0000-0000-000000000000' else j.organization_id end >= low
              and case when j.organization_id is null then '00000000-0000-0000-0000-000000000000' else j.organization_id end <= high
            order by case when j.organization_id is null then '00000000-0000-0000-0000-000000000000' else j.organization_id end, j.rank
            limit most + 1) h;
        budget := budget - counted.n;
        ready := counted.waiting;
        unpublished := counted.unpublished;
        running := counted.running;
        oldest := counted.oldest;
        if counted.n > most then
            approximate := true;
            sample := coalesce(sample, queue.sample_jobs(low, high));
            ready := greatest(most, (sample ->> (one || '/ready'))::bigint);
            unpublished := least(ready, greatest(counted.unpublished, (sample ->> (one || '/unpublished'))::bigint));
            -- Who runs stands at the heads of the lines; of all tenants together the workers say how many they have.
            if tenant is null then
                select coalesce(sum(w.running[array_position(w.lanes, one)]), 0) into running from queue.workers w;
            end if;
            with recursive head as (
                (select case when j.organization_id is null then '00000000-0000-0000-0000-000000000000' else j.organization_id end as tenant,
                        j.due_at from queue.jobs j
                 where j.lane = one and j.state = 'ready' and j.worker is null
                   and case when j.organization_id is null then '00000000-0000-0000-0000-000000000000' else j.organization_id end >= low
                   and case when j.organization_id is null then '00000000-0000-0000-0000-000000000000' else j.organization_id end <= high
                 order by 1, j.rank limit 1)
                union all
                select next.tenant, next.due_at from head cross join lateral (
                    select case when j.organization_id is null then '00000000-0000-0000-0000-000000000000' else j.organization_id end as tenant,
                           j.due_at from queue.jobs j
                    where j.lane = one and j.state = 'ready' and j.worker is null
                      and case when j.organization_id is null then '00000000-0000-0000-0000-000000000000' else j.organization_id end > head.tenant
                      and case when j.organization_id is null then '00000000-0000-0000-0000-000000000000' else j.organization_id end <= high
                    order by 1, j.rank limit 1) next)
            select min(h.due_at) into oldest from (select due_at from head limit 1000) h;
        end if;
        foreach shelf in array array['s', 'l', 'u', 'd']::"char"[] loop
            most := least(cap, greatest(500, budget));
            select count(*) into found from (
                select from queue.jobs j
                where j.aside = shelf and j.lane = one
                  and case when j.organization_id is null then '00000000-0000-0000-0000-000000000000' else j.organization_id end >= low
                  and case when j.organization_id is null then '00000000-0000-0000-0000-000000000000' else j.organization_id end <= high
                limit most + 1) h;
            budget := budget - found;
            if found > most then
                approximate := true;
                sample := coalesce(sample, queue.sample_jobs(low, high));
                found := greatest(most, (sample ->> (one || '/' || shelf::text))::bigint);
            end if;
            case shelf
                when 's' then scheduled := found;
                when 'l' then limited := found;
                when 'u' then suspended := found;
                else dead := found;
            end case;
        end loop;
        return next;
    end loop;
end
$$;

-- What 1,000 pages of the table hold, extrapolated: {"lane/ready": n, "lane/unpublished": n, "lane/s": n …}. All of the table when it is
-- not larger than that.
create function queue.sample_jobs(low uuid, high uuid) returns jsonb language plpgsql stable set jit = off as $$
declare
    pages bigint := pg_relation_size('queue.jobs') / current_setting('block_size')::integer;
    share double precision := least(1, 1000.0 / greatest(pages, 1));
    answer jsonb;
begin
    select coalesce(jsonb_object_agg(s.name, s.n), '{}') into answer from (
        select h.lane || '/' || h.what as name, round(count(*) / share)::bigint as n
        from queue.jobs j tablesample system (100 * share)
             cross join lateral (
               select j.lane, unnest(case when j.aside is not null then array[j.aside::text] when j.worker is not null then '{}'::text[]
                                          when j.published_at is null then array['ready', 'unpublished'] else array['ready'] end) as what) h
        where case when j.organization_id is null then '00000000-0000-0000-0000-000000000000' else j.organization_id end >= low
          and case when j.organization_id is null then '00000000-0000-0000-0000-000000000000' else j.organization_id end <= high
        group by 1) s;
    return answer;
end
$$;
