-- Passwords that somebody had before the one in `users`: not to be taken again.
create table former_passwords (
    id              uuid        not null constraint former_passwords_pkey primary key,
    organization_id uuid        not null,
    user_id         uuid        not null,
    password_hash   text        not null, -- PHC string
    replaced_at     timestamptz not null,
    constraint former_passwords_user_fkey foreign key (organization_id, user_id) references users (organization_id, id) on delete cascade
);
create index former_passwords_user_idx on former_passwords (organization_id, user_id, replaced_at);

-- Links of "I forgot my password" mails. A token is made as its mail is sent, so that it lies nowhere in clear text.
create table password_resets (
    id              uuid        not null constraint password_resets_pkey primary key,
    organization_id uuid        not null,
    user_id         uuid        not null,
    token_hash      text        not null constraint password_resets_token_hash_key unique, -- hex SHA-256
    created_at      timestamptz not null,
    expires_at      timestamptz not null,
    used_at         timestamptz,
    constraint password_resets_user_fkey foreign key (organization_id, user_id) references users (organization_id, id) on delete cascade
);
create index password_resets_user_idx on password_resets (organization_id, user_id);

-- The TOTP secret of a person (RFC 6238). Unconfirmed ones are not asked for yet.
create table second_factors (
    organization_id uuid        not null,
    user_id         uuid        not null constraint second_factors_pkey primary key,
    secret_id       uuid        not null, -- new with each secret; it is sealed for this id
    key_name        text        not null, -- of the key that it is sealed with
    sealed_secret   bytea       not null,
    created_at      timestamptz not null,
    confirmed_at    timestamptz,
    last_step       bigint      not null default 0, -- the time step of the last code: earlier ones and this one are used up
    constraint second_factors_user_fkey foreign key (organization_id, user_id) references users (organization_id, id) on delete cascade
);

create table recovery_codes (
    organization_id uuid        not null,
    user_id         uuid        not null,
    code_hash       text        not null, -- hex SHA-256 of the user's id and the code
    used_at         timestamptz,
    constraint recovery_codes_pkey primary key (user_id, code_hash),
    constraint recovery_codes_user_fkey foreign key (organization_id, user_id) references users (organization_id, id) on delete cascade
);

-- The password was right, and a second factor is asked for: what `mfa_token` leads to.
create table login_challenges (
    id              uuid        not null constraint login_challenges_pkey primary key,
    organization_id uuid        not null,
    user_id         uuid        not null,
    token_hash      text        not null constraint login_challenges_token_hash_key unique, -- hex SHA-256
    purpose         text        not null constraint login_challenges_purpose_check check (purpose in ('verify', 'enrol')),
    created_at      timestamptz not null,
    expires_at      timestamptz not null,
    used_at         timestamptz,
    constraint login_challenges_user_fkey foreign key (organization_id, user_id) references users (organization_id, id) on delete cascade
);
create index login_challenges_expires_idx on login_challenges (organization_id, expires_at);

call tenant_table('former_passwords');
call tenant_table('password_resets', 'token_hash = (select presented_key())');
call tenant_table('second_factors');
call tenant_table('recovery_codes');
call tenant_table('login_challenges', 'token_hash = (select presented_key())');

-- How often something was tried, before anybody knows by whom: an account from a network, a network, a second factor. Keys are hashes.
create table throttles (
    key           text             not null constraint throttles_pkey primary key,
    level         double precision not null default 0, -- failures that have not leaked away
    times         timestamptz[]    not null default '{}', -- of a sliding window
    touched_at    timestamptz      not null,
    blocked_until timestamptz      not null
);
create index throttles_touched_idx on throttles (touched_at);
alter table throttles enable row level security;
alter table throttles force row level security;
create policy system on throttles using ((select is_system())) with check ((select is_system()));
