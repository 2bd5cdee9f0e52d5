-- Which tickets may hold the words of a search, reached by an index. Under row level security PostgreSQL takes only leakproof operators to an
-- index, and `@@` is none: so the words stand a second time where no policy is, in a schema from which the application may call one function
-- and read nothing (docs/adr/0145-search-reaches-its-index.md).
create schema search;
grant usage on schema search to relaydesk_app;

create table search.tickets (
    organization_id uuid     not null,
    ticket_id       uuid     not null,
    words           tsvector not null, -- by `search.words`, without places and weights
    constraint tickets_pkey primary key (organization_id, ticket_id),
    constraint tickets_ticket_fkey foreign key (organization_id, ticket_id) references public.tickets (organization_id, id) on delete cascade
);
-- What waits to be sorted in is read by every search, and is everybody's: so it is little (kilobytes).
create index tickets_words_idx on search.tickets using gin (words) with (gin_pending_list_limit = 256);

-- A word as it stands in the index: behind four letters of its organization, so that a search does not touch the words of others. That two
-- organizations share them costs time only. Four, because a place in a text, which is left out here, takes as many bytes: what fits there fits here.
create function search.key(organization uuid, word text) returns text
    language sql immutable parallel safe
    return left(encode(decode(md5(organization::text), 'hex'), 'base64'), 4) || left(word, 60);

create function search.words(organization uuid, words tsvector) returns tsvector
    language sql immutable parallel safe
    return array_to_tsvector(array(select search.key(organization, word) from unnest(tsvector_to_array(words)) word));

-- What every ticket holds that this query matches, in words of the index: without exclusions, with "and" for "followed by". Null: that says nothing.
create function search.narrowed(organization uuid, query tsquery) returns tsquery
    language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp as $$
declare
    positive text := querytree(query);
begin
    if positive in ('T', '') then
        return null;
    end if;
    -- The text of a query: words in quotes ('' and \\ stand for one of them), maybe with :* or :A, and operators.
    return (select string_agg(case
                       when part[1] is not null then
                           '''' || replace(replace(search.key(organization, replace(replace(part[1], '''''', ''''), '\\', '\')),
                                                   '\', '\\'), '''', '''''') || ''''
                           || case when strpos(part[2], '*') > 0 then ':*' else '' end
                       when part[3] like '<%' then '&'
                       else part[3] end, ' ' order by place)::tsquery
              from regexp_matches(positive, $r$'((?:[^']|'')*)'(:[*A-D]+)?|(<(?:-|\d+)>|[&|()])$r$, 'g') with ordinality as m (part, place));
end
$$;

-- The tickets of the transaction's organization that may match; null when there are more than `most`, or when the query does not say.
-- Who may see them, and whether they match, is for who asks to find out from the tickets themselves.
create function search.tickets_with(query tsquery, most integer) returns uuid[]
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
    -- Beside the words nothing is asked of the rows, so that no other index is taken for them.
    with holding as materialized (select t.organization_id, t.ticket_id from search.tickets t where t.words @@ narrowed limit most + 1)
    select coalesce(array_agg(h.ticket_id) filter (where h.organization_id = organization), '{}'), count(*) > most
      into found, is_over from holding h;
    return case when is_over then null else found end;
end
$$;

create function search.keep_ticket() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    insert into search.tickets (organization_id, ticket_id, words)
    values (new.organization_id, new.id, search.words(new.organization_id, new.search))
    on conflict on constraint tickets_pkey do update set words = excluded.words;
    return null;
end
$$;
create trigger search_insert after insert on tickets for each row execute function search.keep_ticket();
create trigger search_update after update of number, title, description on tickets for each row execute function search.keep_ticket();

revoke execute on all functions in schema search from public;
grant execute on function search.tickets_with to relaydesk_app;
