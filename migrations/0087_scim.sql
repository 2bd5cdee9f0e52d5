-- Teams that an identity provider keeps (SCIM) are known by its name for them, as people are.
alter table teams
    add column external_id text,
    add constraint teams_external_id_check check (length(external_id) between 1 and 200);
create unique index teams_external_id_key on teams (organization_id, external_id) where deleted_at is null;
