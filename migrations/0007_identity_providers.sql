-- Where people of an organization may log in besides here: OpenID Connect providers.
create table identity_providers (
    id              uuid        not null constraint identity_providers_pkey primary key,
    organization_id uuid        not null constraint identity_providers_organization_fkey references organizations on delete cascade,
    name            text        not null, -- on the button
    issuer          text        not null, -- never changes: subjects belong to it
    client_id       text        not null,
    secret_id       uuid,                 -- new with each secret; it is sealed for this id. Null: a public client
    key_name        text,                 -- of the key that it is sealed with
    sealed_secret   bytea,
    scopes          text[]      not null,
    email_domains   text[]      not null, -- whose addresses get in; none: all
    assumes_verified_email boolean not null, -- where the provider does not say whether an address is verified
    links_accounts  boolean     not null, -- to people who are there, by their verified address
    creates_users   boolean     not null,
    default_role    text        not null constraint identity_providers_default_role_check
                                check (default_role in ('admin', 'manager', 'agent', 'end_user')),
    groups_claim    text,                 -- null: roles and teams are not the provider's business
    trusts_mfa      boolean     not null, -- the provider asks for a second factor, so we do not
    login_hours     integer     not null constraint identity_providers_login_hours_check check (login_hours between 1 and 720),
    is_enabled      boolean     not null,
    version         bigint      not null default 1,
    created_at      timestamptz not null,
    updated_at      timestamptz not null,
    constraint identity_providers_tenant_key unique (organization_id, id),
    constraint identity_providers_name_key unique (organization_id, name),
    constraint identity_providers_client_key unique (organization_id, issuer, client_id),
    constraint identity_providers_name_check check (length(name) between 1 and 200),
    constraint identity_providers_secret_check
        check ((secret_id is null) = (sealed_secret is null) and (secret_id is null) = (key_name is null))
);

-- What being in a group of the provider means here: a role, or a place in a team.
create table identity_provider_groups (
    id              uuid        not null constraint identity_provider_groups_pkey primary key,
    organization_id uuid        not null,
    provider_id     uuid        not null,
    position        integer     not null,
    group_name      text        not null, -- as the provider writes it
    role            text        constraint identity_provider_groups_role_check check (role in ('admin', 'manager', 'agent', 'end_user')),
    team_id         uuid,
    constraint identity_provider_groups_provider_fkey
        foreign key (organization_id, provider_id) references identity_providers (organization_id, id) on delete cascade,
    constraint identity_provider_groups_team_fkey
        foreign key (organization_id, team_id) references teams (organization_id, id) on delete cascade,
    constraint identity_provider_groups_meaning_check check (num_nonnulls(role, team_id) = 1)
);
create index identity_provider_groups_provider_idx on identity_provider_groups (organization_id, provider_id, position);
create index identity_provider_groups_team_idx on identity_provider_groups (organization_id, team_id) where team_id is not null;

-- Who somebody is at a provider. The subject alone says it: addresses change hands.
create table external_identities (
    id              uuid        not null constraint external_identities_pkey primary key,
    organization_id uuid        not null,
    provider_id     uuid        not null,
    subject         text        not null,
    user_id         uuid        not null,
    created_at      timestamptz not null,
    last_login_at   timestamptz not null,
    constraint external_identities_subject_key unique (provider_id, subject),
    constraint external_identities_user_key unique (provider_id, user_id),
    constraint external_identities_provider_fkey
        foreign key (organization_id, provider_id) references identity_providers (organization_id, id) on delete cascade,
    constraint external_identities_user_fkey
        foreign key (organization_id, user_id) references users (organization_id, id) on delete cascade
);
create index external_identities_user_idx on external_identities (organization_id, user_id);

-- Logins at a provider that are under way. First the state is used up, which leads back from the provider; then the code, which a page
-- exchanges for tokens. Both are stored as hashes, and both count only in the browser that began.
create table sign_ins (
    id              uuid        not null constraint sign_ins_pkey primary key,
    organization_id uuid        not null,
    provider_id     uuid        not null,
    state_hash      text        not null constraint sign_ins_state_key unique, -- hex SHA-256
    browser_hash    text        not null, -- of the cookie
    half            bytea       not null, -- with the cookie it makes nonce and PKCE verifier
    return_to       text        not null,
    created_at      timestamptz not null,
    expires_at      timestamptz not null,
    used_at         timestamptz,
    user_id         uuid,                 -- who has shown to be who
    code_hash       text        constraint sign_ins_code_key unique, -- hex SHA-256
    code_expires_at timestamptz,
    code_used_at    timestamptz,
    constraint sign_ins_provider_fkey
        foreign key (organization_id, provider_id) references identity_providers (organization_id, id) on delete cascade,
    constraint sign_ins_user_fkey foreign key (organization_id, user_id) references users (organization_id, id) on delete cascade
);
create index sign_ins_expires_idx on sign_ins (organization_id, expires_at);

-- By way of which provider somebody is logged in, and when that ends at the latest, however often it is refreshed.
alter table sessions
    add column provider_id uuid,
    add column ends_at timestamptz,
    add constraint sessions_provider_fkey
        foreign key (organization_id, provider_id) references identity_providers (organization_id, id) on delete set null (provider_id);
create index sessions_provider_idx on sessions (organization_id, provider_id) where provider_id is not null;
alter table login_challenges
    add column provider_id uuid,
    add constraint login_challenges_provider_fkey
        foreign key (organization_id, provider_id) references identity_providers (organization_id, id) on delete cascade;

call tenant_table('identity_providers', 'id::text = (select presented_key())');
call tenant_table('identity_provider_groups');
call tenant_table('external_identities');
call tenant_table('sign_ins', 'state_hash = (select presented_key()) or code_hash = (select presented_key())');
