-- The provider asks people again when it is told to (OpenID Connect Core, 3.1.2.1: `prompt=login`, `max_age=0`), though its tokens do not say when it
-- did (`auth_time`). Without it such a login counts as fresh for nothing.
alter table identity_providers add column trusts_reauthentication boolean not null default false;

call audited('identity_providers', leave => '{key_name}', security => '{*}');
