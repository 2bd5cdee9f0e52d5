-- Configuration items that may hold the words of a search, reached by an index as tickets are (0088, docs/adr/0145-search-reaches-its-index.md).
create table search.items (
    organization_id uuid     not null,
    item_id         uuid     not null,
    words           tsvector not null, -- by `search.words`, without places and weights
    constraint items_pkey primary key (organization_id, item_id),
    constraint items_item_fkey foreign key (organization_id, item_id) references public.configuration_items (organization_id, id) on delete cascade
);

-- Of all organizations: the owner of a table is held to its policies, too, until they are not forced.
alter table configuration_items no force row level security;
insert into search.items (organization_id, item_id, words)
select organization_id, id, search.words(organization_id, search) from configuration_items;
alter table configuration_items force row level security;
create index items_words_idx on search.items using gin (words) with (gin_pending_list_limit = 256);

-- The same as `search.tickets_with`.
create function search.items_with(query tsquery, most integer) returns uuid[]
    language plpgsql stable security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
declare
    organization uuid := public.current_organization();
    narrowed tsquery;
    found uuid[];
    is_over boolean;
begin
    if organization is null or numnode(query) = 0 then
        return '{}';
    end if;
    narrowed := search.narrowed(organization, query);
    if narrowed is null then
        return null;
    end if;
    with holding as materialized (select i.organization_id, i.item_id from search.items i where i.words @@ narrowed limit most + 1)
    select coalesce(array_agg(h.item_id) filter (where h.organization_id = organization), '{}'), count(*) > most
      into found, is_over from holding h;
    return case when is_over then null else found end;
end
$$;

create function search.keep_item() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    insert into search.items (organization_id, item_id, words)
    values (new.organization_id, new.id, search.words(new.organization_id, new.search))
    on conflict on constraint items_pkey do update set words = excluded.words;
    return null;
end
$$;
create trigger search_insert after insert on configuration_items for each row execute function search.keep_item();
-- Discovery writes items again that say what they said.
create trigger search_update after update on configuration_items for each row
    when (old.search is distinct from new.search) execute function search.keep_item();

revoke execute on function search.items_with, search.keep_item from public;
grant execute on function search.items_with to relaydesk_app;

-- Under row level security it was never reached.
drop index configuration_items_search_idx;
