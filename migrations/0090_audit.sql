-- The audit log: one entry for each row that is made, changed or taken away, and for each security event. Written by triggers with their
-- owner's rights: the application role reads it and can neither add, change nor remove an entry. docs/audit.md, docs/adr/0110 to 0113.
create schema audit;
grant usage on schema audit to relaydesk_app;

create table audit_entries (
    organization_id uuid        not null, -- no foreign key: what was done outlives whom it was done to
    seq             bigint      generated always as identity,
    at              timestamptz not null,
    category        text        not null constraint audit_entries_category_check check (category in ('change', 'security')),
    noun            text        not null, -- the table; of a security event what it is about: 'auth', 'audit' …
    verb            text        not null, -- 'create', 'update', 'delete'; of a security event what happened: 'login' …
    object_id       uuid,
    parent_id       uuid,                 -- what the object is part of: the ticket of a comment
    actor_kind      text        not null, -- 'user', 'system', or 'database' for who works on the database without Relaydesk
    actor_id        uuid,                 -- whose rights were used
    real_actor_id   uuid,                 -- who acted with them, when that is somebody else
    actor_label     text,                 -- which part of Relaydesk (a kind of job), or the database role; never a person's name
    address         text,
    request_id      text,
    trace_id        text,
    job_id          uuid,
    changes         jsonb,                -- values after 'create', values before 'delete', [before, after] of an 'update'; null: erased
    salt            uuid,                 -- so that nobody can guess erased values from their digest; goes with them
    erased_digest   bytea,
    constraint audit_entries_pkey primary key (organization_id, seq),
    constraint audit_entries_erased_check check ((changes is null) = (salt is null) and (changes is null) = (erased_digest is not null))
);
-- What is asked for besides the newest: security events by a small tree, the rest by which blocks may hold it, which costs writers nothing.
create index audit_entries_security_idx on audit_entries (organization_id, seq) where category = 'security';
create index audit_entries_blocks_idx on audit_entries using brin (at, object_id uuid_bloom_ops, parent_id uuid_bloom_ops, actor_id uuid_bloom_ops)
    with (pages_per_range = 32, autosummarize = on);

-- The chain, behind the writers: each seal covers what was written since the one before it.
create table audit_seals (
    organization_id uuid        not null,
    position        bigint      not null constraint audit_seals_position_check check (position > 0),
    seqs            bigint[]    not null, -- the entries, in order
    digests         bytea       not null, -- 32 bytes for each
    first_seq       bigint      not null,
    last_seq        bigint      not null,
    newest_at       timestamptz not null,
    previous        bytea       not null, -- hash of the seal before; zeros for the first
    hash            bytea       not null,
    sealed_at       timestamptz not null,
    constraint audit_seals_pkey primary key (organization_id, position)
);

-- Where the chain begins after its oldest part was pruned.
create table audit_anchors (
    organization_id uuid        not null,
    position        bigint      not null,
    last_seq        bigint      not null,
    hash            bytea       not null,
    entries         bigint      not null, -- that were taken away with it
    pruned_at       timestamptz not null,
    constraint audit_anchors_pkey primary key (organization_id, position)
);

-- How long an organization keeps its audit log. Without a row: as the installation says.
create table audit_policies (
    organization_id uuid        not null constraint audit_policies_pkey primary key
                                constraint audit_policies_organization_fkey references organizations on delete cascade,
    keep_days       integer     constraint audit_policies_keep_days_check check (keep_days between 90 and 36500), -- null: as the installation says
    legal_hold      boolean     not null default false,
    hold_reason     text        constraint audit_policies_hold_reason_check check (length(hold_reason) between 1 and 500),
    updated_at      timestamptz not null,
    version         bigint      not null default 1,
    constraint audit_policies_hold_check check (legal_hold = (hold_reason is not null))
);

call tenant_table('audit_entries', '(select is_system())');
call tenant_table('audit_seals', '(select is_system())');
call tenant_table('audit_anchors', '(select is_system())');
call tenant_table('audit_policies');
revoke all on audit_entries, audit_seals, audit_anchors from relaydesk_app;
grant select on audit_entries, audit_seals, audit_anchors to relaydesk_app;
-- An organization is made before its transaction is in it. Only triggers insert, and they know whose row it is.
create policy written on audit_entries for insert with check (true);

-- Which tables are recorded, how, and why the others are not: held against the catalogue by a test.
create table audit.tables (
    name     text   not null constraint audit_tables_pkey primary key,
    recorded text[] not null default '{}',
    redacted text[] not null default '{}',
    left_out text[] not null default '{}',
    reason   text   -- of a table that is not recorded
);
grant select on audit.tables to relaydesk_app;

-- Long texts are told by length, digest and beginning: the log shows that they changed, not a copy of each mail.
create function audit.shown(value text) returns jsonb language sql stable parallel safe as $$
    select case when length(value) <= 1000 then to_jsonb(value)
                when value is not null then jsonb_build_object('length', length(value), 'begins', left(value, 200),
                                                               'sha256', encode(sha256(convert_to(value, 'UTF8')), 'hex')) end
$$;
create function audit.shown(value jsonb) returns jsonb language sql stable parallel safe as $$
    select case when length(value::text) <= 4000 then value else audit.shown(value::text) end
$$;
create function audit.shown(value bytea) returns jsonb language sql stable parallel safe as $$
    select case when value is not null then jsonb_build_object('bytes', octet_length(value), 'sha256', encode(sha256(value), 'hex')) end
$$;

-- Who acts stands in `app.audit`, set by `store::Db` with each transaction: kind, id, real id, label, address, request, trace, job, with
-- U+001F between them. Called by the functions below alone, which have set the search path: setting it costs as much as the rest.
create function audit.append(organization uuid, category text, noun text, verb text, object uuid, parent uuid, changes jsonb,
                             by_kind text default null, by_id uuid default null, by_label text default null) returns void
    language plpgsql as $$
declare
    said text[] := string_to_array(current_setting('app.audit', true), E'\x1f', '');
begin
    if by_kind is not null then
        said := array[by_kind, by_id::text, null, by_label] || said[5:8];
    elsif said[1] is null then
        said := array['database', null, null, session_user::text];
    end if;
    insert into public.audit_entries (organization_id, at, category, noun, verb, object_id, parent_id, actor_kind, actor_id, real_actor_id,
                                      actor_label, address, request_id, trace_id, job_id, changes, salt)
    values (organization, now(), category, noun, verb, object, parent, said[1], said[2]::uuid, said[3]::uuid,
            said[4], said[5], said[6], said[7], said[8]::uuid, changes, gen_random_uuid());
end
$$;

-- Records every row of a table. `redact`: columns whose values are secret, besides those whose names say so. `leave`: columns that are no
-- change by themselves. `security`: columns whose change is a security event ('*': any). `parent`: the column with what a row is part of.
-- To be called anew after a column was added.
create procedure audited(tbl regclass, redact text[] default '{}', leave text[] default '{}', security text[] default '{}',
                         parent text default null, tenant text default 'organization_id')
    language plpgsql as $$
declare
    title text := tbl::text;
    leave_all text[] := leave || array['id', 'organization_id', 'created_at', 'updated_at', 'version'];
    col record;
    shown text;
    object text;
    fixed text := '';
    after_values text := '';
    before_values text := '';
    before_fixed text := '';
    compared text := '';
    differs text := '';
    keys text := '';
    recorded text[] := '{}';
    redacted text[] := '{}';
    left_out text[] := '{}';
    kind_of text;
begin
    for col in
        select a.attname::text as name, a.attnotnull as fixed, format_type(a.atttypid, null) as type, t.typcategory = 'A' as many,
               coalesce(a.attnum = any(i.indkey::int2[]), false) as key
          from pg_attribute a join pg_type t on t.oid = a.atttypid
          left join pg_index i on i.indrelid = a.attrelid and i.indisprimary
         where a.attrelid = tbl and a.attnum > 0 and not a.attisdropped
         order by a.attnum
    loop
        if col.name = 'id' or (object is null and col.key and col.type = 'uuid' and col.name <> tenant) then
            object := quote_ident(col.name);
        end if;
        if col.name = any(leave_all) or col.type = 'tsvector' then
            left_out := left_out || col.name;
            continue;
        end if;
        recorded := recorded || col.name;
        shown := case when col.name = any(redact) or col.name ~ '(hash|secret|password|sealed)' then null
                      when col.type in ('text', 'character varying') or col.type in ('jsonb', 'bytea') then format('audit.shown(row_.%I)', col.name)
                      when col.many then format('audit.shown(to_jsonb(row_.%I))', col.name)
                      else format('to_jsonb(row_.%I)', col.name) end;
        if shown is null then
            redacted := redacted || col.name;
            shown := format('case when row_.%I is not null then ''"(secret)"''::jsonb end', col.name);
        end if;
        if col.fixed then
            fixed := fixed || format(', %L, %s', col.name, replace(shown, 'row_', 'new'));
            before_fixed := before_fixed || format(', %L, %s', col.name, replace(shown, 'row_', 'old'));
        else
            after_values := after_values || format(e'        if new.%1$I is not null then told := told || jsonb_build_object(%1$L, %2$s); end if;\n',
                                                   col.name, replace(shown, 'row_', 'new'));
            before_values := before_values || format(e'        if old.%1$I is not null then told := told || jsonb_build_object(%1$L, %2$s); end if;\n',
                                                     col.name, replace(shown, 'row_', 'old'));
        end if;
        compared := compared || format(
            e'        if old.%1$I is distinct from new.%1$I then told := told || jsonb_build_object(%1$L, jsonb_build_array(%2$s, %3$s)); end if;\n',
            col.name, replace(shown, 'row_', 'old'), replace(shown, 'row_', 'new'));
        differs := differs || format(' or old.%1$I is distinct from new.%1$I', col.name);
        if col.key then
            keys := keys || format(', %L, jsonb_build_array(%s, %s)', col.name, replace(shown, 'row_', 'old'), replace(shown, 'row_', 'new'));
        end if;
    end loop;
    kind_of := case when security = '{}' then '''change'''
                    when security = '{*}' then '''security'''
                    else format('case when tg_op <> ''UPDATE'' or told ?| %L then ''security'' else ''change'' end', security) end;
    execute format($function$
create or replace function audit.%1$I() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $body$
declare
    told jsonb;
begin
    if tg_op = 'INSERT' then
        told := jsonb_build_object(%2$s);
%3$s        perform audit.append(new.%4$I, %5$s, %6$L, 'create', %7$s, %8$s, told);
    elsif tg_op = 'UPDATE' then
        told := jsonb_build_object(%9$s);
%10$s        perform audit.append(new.%4$I, %5$s, %6$L, 'update', %7$s, %8$s, told);
    else
        told := jsonb_build_object(%11$s);
%12$s        perform audit.append(old.%4$I, %5$s, %6$L, 'delete', %13$s, %14$s, told);
    end if;
    return null;
end
$body$
$function$,
        'of_' || title, ltrim(fixed, ', '), after_values, tenant, kind_of, title,
        coalesce('new.' || object, 'null'), coalesce('new.' || quote_ident(parent), 'null'),
        ltrim(keys, ', '), compared, ltrim(before_fixed, ', '), before_values,
        coalesce('old.' || object, 'null'), coalesce('old.' || quote_ident(parent), 'null'));
    execute format('revoke execute on function audit.%I() from public', 'of_' || title);
    execute format('create or replace trigger audit_rows after insert or delete on %s for each row execute function audit.%I()', tbl, 'of_' || title);
    execute format('create or replace trigger audit_updates after update on %s for each row when (%s) execute function audit.%I()',
                   tbl, substr(differs, 5), 'of_' || title);
    insert into audit.tables (name, recorded, redacted, left_out) values (title, recorded, redacted, left_out)
    on conflict on constraint audit_tables_pkey do update
       set recorded = excluded.recorded, redacted = excluded.redacted, left_out = excluded.left_out, reason = null;
end
$$;

-- Says why a tenant table is not recorded.
create procedure not_audited(tbl regclass, why text)
    language sql begin atomic
    insert into audit.tables (name, reason) values (tbl::text, why);
end;

-- An event of the application that is one of security, about `subject` in the transaction's organization. Who acts may be named when it is not
-- (yet) the transaction's: at a login.
create function audit.security(kind text, subject uuid, details jsonb, by_kind text, by_id uuid, by_label text) returns void
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if kind !~ '^[a-z_]+\.[a-z_.]+$' or kind ~ '^audit\.' then
        raise exception 'no kind of security event: %', kind using errcode = 'check_violation';
    end if;
    perform audit.append(public.current_organization(), 'security', split_part(kind, '.', 1), substr(kind, strpos(kind, '.') + 1), subject, null,
                         audit.shown(details), by_kind, by_id, by_label);
end
$$;

-- Events of logins that the application records as such.
create function audit.of_auth_events() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    subject text := new.payload ->> 'user';
begin
    perform audit.append(new.organization_id, 'security', 'auth', substr(new.kind, 6),
                         case when subject ~ '^[0-9a-f-]{36}$' then subject::uuid else new.actor_id end, null,
                         audit.shown(new.payload), new.actor_kind, new.actor_id);
    return null;
end
$$;
create trigger audit_auth after insert on events for each row when (starts_with(new.kind, 'auth.')) execute function audit.of_auth_events();

-- A text with its length before it, so that no two lists of texts look the same.
create function audit.net(value text) returns text language sql immutable parallel safe as $$
    select case when value is null then '-,' else octet_length(value) || ':' || value || ',' end
$$;

-- What a seal covers of an entry. The values stand in it by a salted digest, which stays when they are erased.
create function audit.values_digest(entry audit_entries) returns bytea language sql stable as $$
    select coalesce(entry.erased_digest,
                    sha256(convert_to(audit.net('relaydesk.audit.values.1') || audit.net(entry.salt::text) || audit.net(entry.changes::text), 'UTF8')))
$$;
create function audit.digest(entry audit_entries) returns bytea language sql stable as $$
    select sha256(convert_to(
        audit.net('relaydesk.audit.entry.1') || audit.net(entry.organization_id::text) || audit.net(entry.seq::text)
        || audit.net((extract(epoch from entry.at) * 1000000)::bigint::text) || audit.net(entry.category) || audit.net(entry.noun)
        || audit.net(entry.verb) || audit.net(entry.object_id::text) || audit.net(entry.parent_id::text) || audit.net(entry.actor_kind)
        || audit.net(entry.actor_id::text) || audit.net(entry.real_actor_id::text) || audit.net(entry.actor_label)
        || audit.net(entry.address) || audit.net(entry.request_id) || audit.net(entry.trace_id) || audit.net(entry.job_id::text)
        || audit.net(encode(audit.values_digest(entry), 'hex')), 'UTF8'))
$$;

-- Seals the next entries of the transaction's organization up to a position below which nothing can appear any more; answers how many.
create function audit.seal(up_to bigint, most integer) returns bigint
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    organization uuid := public.current_organization();
    last public.audit_seals;
    these bigint[];
    digests bytea;
    newest timestamptz;
begin
    select * into last from public.audit_seals s where s.organization_id = organization order by s.position desc limit 1;
    select array_agg(e.seq order by e.seq), string_agg(audit.digest(e), ''::bytea order by e.seq), max(e.at) into these, digests, newest
      from (select * from public.audit_entries e
             where e.organization_id = organization and e.seq > coalesce(last.last_seq, 0) and e.seq <= up_to
             order by e.seq limit most) e;
    if these is null then
        return 0;
    end if;
    last.position := coalesce(last.position, 0) + 1;
    last.hash := coalesce(last.hash, decode(repeat('00', 32), 'hex'));
    insert into public.audit_seals (organization_id, position, seqs, digests, first_seq, last_seq, newest_at, previous, hash, sealed_at)
    values (organization, last.position, these, digests, these[1], these[cardinality(these)], newest, last.hash,
            sha256(convert_to(audit.net('relaydesk.audit.seal.1') || audit.net(organization::text) || audit.net(last.position::text)
                              || audit.net(encode(last.hash, 'hex')) || audit.net(array_to_string(these, ','))
                              || audit.net(encode(sha256(digests), 'hex')), 'UTF8')),
            clock_timestamp())
    on conflict on constraint audit_seals_pkey do nothing; -- somebody else seals
    return case when found then cardinality(these) else 0 end;
end
$$;

-- Takes away the oldest seals with their entries, about `most` entries, that were written before `before` and 90 days ago at least; answers how
-- many entries. Nothing while a legal hold stands. What is left begins at an anchor, which an entry tells of.
create function audit.prune(before timestamptz, most integer) returns bigint
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    organization uuid := public.current_organization();
    seal public.audit_seals;
    last public.audit_seals;
    gone bigint := 0;
    taken bigint;
begin
    if exists (select from public.audit_policies p where p.organization_id = organization and p.legal_hold) then
        return 0;
    end if;
    before := least(before, now() - interval '90 days');
    for seal in
        select s.* from public.audit_seals s
         where s.organization_id = organization
           and s.position < (select max(position) from public.audit_seals where organization_id = organization)
         order by s.position
    loop
        exit when seal.newest_at >= before or gone >= most;
        delete from public.audit_entries e where e.organization_id = organization and e.seq <= seal.last_seq;
        get diagnostics taken = row_count;
        delete from public.audit_seals s where s.organization_id = organization and s.position = seal.position;
        gone := gone + taken;
        last := seal;
    end loop;
    if last.position is not null then
        insert into public.audit_anchors (organization_id, position, last_seq, hash, entries, pruned_at)
        values (organization, last.position, last.last_seq, last.hash, gone, now());
        perform audit.append(organization, 'security', 'audit', 'pruned', null, null,
                             jsonb_build_object('position', last.position, 'last_seq', last.last_seq, 'hash', encode(last.hash, 'hex'), 'entries', gone));
    end if;
    return gone;
end
$$;

-- Takes the values out of entries, which keep their digests and all else; an entry tells which, and whom it was about. What the log tells of itself
-- stays.
create function audit.erase(entries bigint[], person uuid) returns bigint
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    organization uuid := public.current_organization();
    erased bigint[];
begin
    with gone as (
        update public.audit_entries e
           set erased_digest = audit.values_digest(e), changes = null, salt = null
         where e.organization_id = organization and e.seq = any(entries) and e.changes is not null and e.noun <> 'audit'
        returning e.seq)
    select array_agg(seq order by seq) into erased from gone;
    if erased is null then
        return 0;
    end if;
    perform audit.append(organization, 'security', 'audit', 'erased', person, null, jsonb_build_object('entries', erased));
    return cardinality(erased);
end
$$;

-- `value` with the words replaced where people wrote them: in texts. Names of fields, numbers and words of a list (lower case, as in `assigned`) stay.
create function audit.without(value jsonb, words text, nobody text) returns jsonb
    language sql immutable set search_path = pg_catalog, audit, pg_temp as $$
    select case jsonb_typeof(value)
        when 'object' then (select coalesce(jsonb_object_agg(f.key, audit.without(f.value, words, nobody)), '{}') from jsonb_each(value) f)
        when 'array' then (select coalesce(jsonb_agg(audit.without(a.value, words, nobody) order by a.place), '[]')
                             from jsonb_array_elements(value) with ordinality a(value, place))
        when 'string' then case when value #>> '{}' ~ '^[a-z_.]+$' then value
                                else to_jsonb(regexp_replace(value #>> '{}', words, nobody, 'gi')) end
        else value end
$$;

-- Takes a person's name, and words by which they are known, out of what nobody may change: history and events. All else of them stays.
create function audit.forget(person uuid, tickets uuid[], words text, nobody text) returns void
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    organization uuid := public.current_organization();
begin
    if exists (select from public.audit_policies p where p.organization_id = organization and p.legal_hold) then
        raise exception 'a legal hold stands';
    end if;
    update public.ticket_history h
       set actor_label = case when h.actor_id = person then nobody else h.actor_label end,
           changes = audit.without(h.changes, words, nobody)
     where h.organization_id = organization and h.ticket_id = any(tickets) and (h.actor_id = person or h.changes::text ~* words);
    update public.events e set payload = audit.without(e.payload, words, nobody)
     where e.organization_id = organization and (e.ticket_id = any(tickets) or e.ticket_id is null) and e.payload::text ~* words;
    perform audit.append(organization, 'security', 'audit', 'forgotten', person, null, jsonb_build_object('tickets', cardinality(tickets)));
end
$$;

revoke execute on all functions in schema audit from public;
grant execute on function audit.security, audit.seal, audit.prune, audit.erase, audit.forget to relaydesk_app;

-- What is calculated, counted, kept elsewhere as it came, or a log itself.
call not_audited('audit_entries', 'the log itself');
call not_audited('audit_seals', 'the chain over the log');
call not_audited('audit_anchors', 'the beginning of the chain');
call not_audited('events', 'append-only facts about changes that are recorded');
call not_audited('ticket_history', 'append-only, told to those who see the ticket; the changes themselves are recorded');
call not_audited('ticket_counters', 'a counter');
call not_audited('idempotency_keys', 'answers to repeated requests');
call not_audited('sessions', 'logins are security events');
call not_audited('login_challenges', 'half logins; logins are security events');
call not_audited('sign_ins', 'logins that are under way; logins are security events');
call not_audited('password_resets', 'asking for one and using it are security events');
call not_audited('former_passwords', 'a password that is set is recorded with its person');
call not_audited('recovery_codes', 'making and using them are security events');
call not_audited('inbox', 'what came in, kept as it is; what became of it is recorded');
call not_audited('mail_messages', 'an index of Message-IDs');
call not_audited('mail_receipts', 'a counter of receipts');
call not_audited('alert_groups', 'what monitoring says, with each payload; incidents are recorded');
call not_audited('alerts', 'what monitoring says, with each payload; incidents are recorded');
call not_audited('sla_clocks', 'calculated from tickets and policies, which are recorded');
call not_audited('sla_breaches', 'found once and kept for ever');
call not_audited('escalations', 'a log of what was done');
call not_audited('escalation_steps', 'a log of what was done');
call not_audited('deliveries', 'the ledger of what went out');
call not_audited('channel_gates', 'whether a peer can be reached');
call not_audited('webhook_deliveries', 'the ledger of what was told to other systems');
call not_audited('webhook_attempts', 'the ledger of what was told to other systems');
call not_audited('user_imports', 'tables on their way; the people are recorded');
call not_audited('discovery_runs', 'a log of what was read; the items are recorded');

call audited('organizations', tenant => 'id', security => '{suspended_at,deleted_at,mfa_required_roles,login_hours,login_idle_hours,sender_policy,sender_domains}');
call audited('users', leave => '{last_login_at}', security => '{role,is_active,email,password_hash,credential_is_shared,locked_at,deleted_at,external_id}');
call audited('second_factors', leave => '{last_step,key_name}', security => '{*}');
call audited('identity_providers', leave => '{key_name}', security => '{*}');
call audited('identity_provider_groups', security => '{*}', parent => 'provider_id');
call audited('external_identities', redact => '{subject}', leave => '{last_login_at}', security => '{*}', parent => 'user_id');
call audited('api_tokens', leave => '{last_used_at}', security => '{*}');
call audited('roles', security => '{*}');
call audited('role_grants', security => '{*}', parent => 'user_id');
call audited('team_members', security => '{*}', parent => 'user_id'); -- teams have roles
call audited('contact_ways', parent => 'user_id');
call audited('ticket_comments', parent => 'ticket_id');
call audited('attachments', parent => 'ticket_id');
call audited('ticket_watchers', parent => 'ticket_id');
call audited('ticket_tags', parent => 'ticket_id');
call audited('ticket_links', parent => 'from_id');
call audited('ticket_configuration_items', parent => 'ticket_id');
call audited('ci_identifiers', parent => 'ci_id');
call audited('ci_relationships', parent => 'from_id');
call audited('configuration_items', leave => '{last_seen_at}');
call audited('mailboxes', security => '{hook_token_hash}');
call audited('alert_sources', security => '{token_hash}');
call audited('notification_channels', redact => '{config}');
call audited('webhooks', redact => '{url}', leave => '{failing_since,failures,key_name,previous_key_name}', security => '{url,owner_id,scopes,sealed_secret}');
call audited('discovery_sources', redact => '{auth_header_value}');
call audited('report_executions', leave => '{start_key,summary,csv,csv_rows,job_id,download_hash,download_until}');
call audited('audit_policies', security => '{*}');

-- All others as a whole. Tables of later migrations are named there.
do $$
declare
    tbl regclass;
begin
    for tbl in
        select c.oid from pg_class c
         where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
           and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'organization_id' and not a.attisdropped)
           and c.relname not in (select name from audit.tables)
         order by c.relname
    loop
        call audited(tbl);
    end loop;
end
$$;
