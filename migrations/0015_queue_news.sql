-- Jobs of which there is something new to be told to whoever follows them live: how far they are, or how they ended. A row says
-- only that, and when; what is new stands in the job itself. Written by the engine a few times a second for all jobs together, and only for
-- kinds that say something (docs/adr/0087-progress-is-told-by-looking.md).
create table queue.news (
    job_id           uuid        not null constraint news_pkey primary key,
    organization_id  uuid,
    lane             text        not null,
    kind             text        not null,
    -- Until somebody has seen that the job does not run any more.
    running          boolean     not null default true,
    changed_at       timestamptz not null default clock_timestamp()
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
create index news_changed_at on queue.news (changed_at);
create index news_running on queue.news (job_id) where running;

alter table queue.news enable row level security;
alter table queue.news force row level security;
create policy tenant on queue.news using ((select current_organization()) is null or organization_id = (select current_organization()));
grant select, insert, update, delete on queue.news to relaydesk_app;
