-- A person with all that they may, for the one look-up of each request: beside what the request shows of them (a token, a login), in the same
-- statement. Plain enough that PostgreSQL writes it into the statement that calls it; row level security is that of the caller.
create function holder(person uuid)
    returns table (name text, role text, may_enter boolean, credential_is_shared boolean, suspended_for text, roles jsonb,
                   teams uuid[], departments uuid[])
    language sql stable rows 1 as $$
    select u.name, u.role, u.is_active and u.locked_at is null, u.credential_is_shared, o.suspended_for, held.roles,
           array(select m.team_id from team_members m join teams t on t.id = m.team_id and t.deleted_at is null
                  where m.user_id = u.id),
           case when u.department_id is not null and held.roles @? '$[*].permissions.* ? (@ == "department")'
                then array(with recursive below (id) as (
                             select u.department_id
                             union select d.id from departments d join below on d.parent_id = below.id)
                           select id from below) end
      from users u join organizations o on o.id = u.organization_id
      left join lateral (
           select jsonb_agg(jsonb_build_object('id', r.id, 'name', r.name, 'team', g.team_id,
                                               'permissions', r.permissions) order by r.name, g.team_id nulls first) as roles
             from (select role_id, null::uuid as team_id from role_grants where user_id = person
                   union all
                   select g.role_id, g.team_id from team_members m join role_grants g on g.team_id = m.team_id
                     join teams t on t.id = m.team_id and t.deleted_at is null
                    where m.user_id = person) g
             join roles r on r.id = g.role_id) held on true
     where u.id = person
$$;
