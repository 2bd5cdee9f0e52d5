-- Roles that an organization makes for itself, beside the four that are shipped (`users.role`). What they grant is one document,
-- {"tickets.view": "team"}, for it is only ever read and written as a whole; `domain::permission` knows the words.
create table roles (
    id              uuid        not null constraint roles_pkey primary key,
    organization_id uuid        not null constraint roles_organization_fkey references organizations on delete cascade,
    name            text        not null,
    description     text        not null default '',
    permissions     jsonb       not null,
    created_at      timestamptz not null,
    updated_at      timestamptz not null,
    constraint roles_name_key unique (organization_id, name),
    constraint roles_tenant_key unique (organization_id, id),
    constraint roles_name_check check (length(name) between 1 and 200 and lower(name) not in ('admin', 'manager', 'agent', 'end_user')),
    constraint roles_permissions_check check (jsonb_typeof(permissions) = 'object')
);

-- Who has a role: a person, or everybody in a team.
create table role_grants (
    id              uuid        not null constraint role_grants_pkey primary key,
    organization_id uuid        not null,
    role_id         uuid        not null,
    user_id         uuid,
    team_id         uuid,
    granted_by      uuid,
    created_at      timestamptz not null,
    constraint role_grants_user_key unique (role_id, user_id),
    constraint role_grants_team_key unique (role_id, team_id),
    constraint role_grants_one_check check (num_nonnulls(user_id, team_id) = 1),
    constraint role_grants_role_fkey foreign key (organization_id, role_id) references roles (organization_id, id) on delete cascade,
    constraint role_grants_user_fkey foreign key (organization_id, user_id) references users (organization_id, id) on delete cascade,
    constraint role_grants_team_fkey foreign key (organization_id, team_id) references teams (organization_id, id) on delete cascade,
    constraint role_grants_granted_by_fkey foreign key (organization_id, granted_by) references users (organization_id, id)
);
create index role_grants_user_idx on role_grants (user_id) where user_id is not null;
create index role_grants_team_idx on role_grants (team_id) where team_id is not null;

-- Every request asks for the teams of its user, and in some roles for what lies below a department.
create index team_members_user_idx on team_members (user_id);
create index departments_parent_idx on departments (parent_id);

-- Only who has a part in it sees a confidential ticket, and who may see such tickets.
alter table tickets add column is_confidential boolean not null default false;
-- As its ticket was then: the live stream's poller sees no tickets.
alter table events add column is_confidential boolean not null default false;

-- Who runs the installation has stopped it: nobody gets in, and what arrives is kept until it goes on. A deleted one is suspended for good.
alter table organizations
    add column suspended_at timestamptz,
    add column suspended_for text,
    add column deleted_at timestamptz,
    add constraint organizations_suspended_check check ((suspended_at is null) = (suspended_for is null)),
    add constraint organizations_deleted_check check (deleted_at is null or suspended_at is not null);

call tenant_table('roles');
call tenant_table('role_grants');
