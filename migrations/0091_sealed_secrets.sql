-- Secrets that others gave us, to be shown to them again: tokens and addresses of chat channels, headers of inventories. Where there are keys they
-- are sealed, with the id of their row, and where they stood is a word that stands for them (docs/adr/0161-secrets-of-others-are-sealed.md).
-- `key_name`: of the key that it is sealed with; null: it stands as it came.
alter table notification_channels
    add column key_name      text,
    add column sealed_secret bytea,
    add constraint notification_channels_sealed_check check ((key_name is null) = (sealed_secret is null));
alter table discovery_sources
    add column key_name      text,
    add column sealed_secret bytea,
    add constraint discovery_sources_sealed_check check ((key_name is null) = (sealed_secret is null));

call audited('notification_channels', redact => '{config}', leave => '{key_name}');
call audited('discovery_sources', redact => '{auth_header_value}', leave => '{key_name}');
