-- What a provider says of when somebody showed there who they are (OpenID Connect Core, 2: `auth_time`), which may be long before they log in here.
-- Null: it does not say.
alter table sign_ins
    add column asks_again boolean not null default false, -- the provider was asked to ask the person again
    add column auth_time  timestamptz;
-- Of the first step, for who makes a second factor at once: that proves nothing of them.
alter table login_challenges add column proven_at timestamptz;
-- Since when a login counts as fresh, if not since it began.
alter table sessions add column proven_at timestamptz;
