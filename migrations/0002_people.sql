create table departments (
    id              uuid        not null constraint departments_pkey primary key,
    organization_id uuid        not null constraint departments_organization_fkey references organizations on delete cascade,
    name            text        not null,
    parent_id       uuid,
    manager_id      uuid,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),
    constraint departments_name_key unique (organization_id, name),
    constraint departments_tenant_key unique (organization_id, id),
    constraint departments_parent_fkey foreign key (organization_id, parent_id) references departments (organization_id, id),
    constraint departments_name_check check (length(name) between 1 and 200)
);

create table users (
    id              uuid        not null constraint users_pkey primary key,
    organization_id uuid        not null constraint users_organization_fkey references organizations on delete cascade,
    email           text        not null, -- lower case; compared as written by `domain::EmailAddress`
    name            text        not null,
    role            text        not null constraint users_role_check check (role in ('admin', 'manager', 'agent', 'end_user')),
    password_hash   text,                 -- PHC string (argon2id); null: cannot log in with a password
    credential_is_shared boolean not null default false, -- somebody else knows the password: a login with it changes it first
    is_active       boolean     not null default true,
    department_id   uuid,
    manager_id      uuid,
    time_zone       text,
    locale          text,
    phone           text,
    -- A service is an account of a program: it has an owner and API tokens, and never logs in.
    kind            text        not null default 'person' constraint users_kind_check check (kind in ('person', 'service')),
    owner_id        uuid,
    locked_at       timestamptz,          -- by an admin, until unlocked: neither logins nor API tokens work
    last_login_at   timestamptz,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),
    constraint users_email_key unique (organization_id, email),
    constraint users_tenant_key unique (organization_id, id),
    constraint users_email_check check (email = lower(email) and email ~ '^[^@\s]+@[^@\s]+$' and length(email) <= 320),
    constraint users_name_check check (length(name) between 1 and 200),
    constraint users_department_fkey foreign key (organization_id, department_id) references departments (organization_id, id),
    constraint users_manager_fkey foreign key (organization_id, manager_id) references users (organization_id, id),
    constraint users_owner_fkey foreign key (organization_id, owner_id) references users (organization_id, id),
    constraint users_service_check check (kind = 'person' or (password_hash is null and owner_id is not null))
);
create index users_email_idx on users (email);
alter table departments add constraint departments_manager_fkey
    foreign key (organization_id, manager_id) references users (organization_id, id);

create table teams (
    id              uuid        not null constraint teams_pkey primary key,
    organization_id uuid        not null constraint teams_organization_fkey references organizations on delete cascade,
    name            text        not null,
    email           text,
    manager_id      uuid,
    department_id   uuid,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),
    constraint teams_name_key unique (organization_id, name),
    constraint teams_tenant_key unique (organization_id, id),
    constraint teams_manager_fkey foreign key (organization_id, manager_id) references users (organization_id, id),
    constraint teams_department_fkey foreign key (organization_id, department_id) references departments (organization_id, id),
    constraint teams_name_check check (length(name) between 1 and 200)
);

create table team_members (
    organization_id uuid        not null,
    team_id         uuid        not null,
    user_id         uuid        not null,
    created_at      timestamptz not null default now(),
    constraint team_members_pkey primary key (team_id, user_id),
    constraint team_members_team_fkey foreign key (organization_id, team_id) references teams (organization_id, id) on delete cascade,
    constraint team_members_user_fkey foreign key (organization_id, user_id) references users (organization_id, id) on delete cascade
);

-- One row per login. A refresh token is used once: using it again revokes the whole family (RFC 9700, 4.14.2).
create table sessions (
    id              uuid        not null constraint sessions_pkey primary key,
    organization_id uuid        not null,
    user_id         uuid        not null,
    refresh_hash    text        not null constraint sessions_refresh_hash_key unique, -- hex SHA-256
    family_id       uuid        not null,
    login_at        timestamptz not null default now(), -- when the family began
    created_at      timestamptz not null default now(),
    last_used_at    timestamptz not null default now(), -- of the family's access tokens, to the minute
    expires_at      timestamptz not null,
    rotated_at      timestamptz,
    revoked_at      timestamptz,
    user_agent      text,
    ip              text,
    constraint sessions_user_fkey foreign key (organization_id, user_id) references users (organization_id, id) on delete cascade
);
create index sessions_family_idx on sessions (family_id);
create index sessions_user_idx on sessions (organization_id, user_id);
create index sessions_expires_idx on sessions (organization_id, expires_at);

create table api_tokens (
    id              uuid        not null constraint api_tokens_pkey primary key,
    organization_id uuid        not null,
    user_id         uuid        not null,
    name            text        not null,
    token_hash      text        not null constraint api_tokens_token_hash_key unique, -- hex SHA-256; the token itself is shown once
    token_prefix    text        not null,
    scopes          text[],               -- permissions that the token is for; null: all of its user
    created_at      timestamptz not null default now(),
    expires_at      timestamptz,
    last_used_at    timestamptz,
    revoked_at      timestamptz,
    constraint api_tokens_user_fkey foreign key (organization_id, user_id) references users (organization_id, id) on delete cascade,
    constraint api_tokens_name_check check (length(name) between 1 and 200)
);

call tenant_table('departments');
call tenant_table('users', 'email = (select presented_key())');
call tenant_table('teams');
call tenant_table('team_members');
call tenant_table('sessions', 'refresh_hash = (select presented_key())');
call tenant_table('api_tokens', 'token_hash = (select presented_key())');
