-- What the scanner said of bytes that came from outside, when they were to be handed out (docs/adr/0169-files-are-judged-as-they-leave.md).
create table file_scans (
    organization_id uuid        not null constraint file_scans_organization_fkey references organizations on delete cascade,
    sha256          text        not null constraint file_scans_sha256_check check (sha256 ~ '^[0-9a-f]{64}$'),
    found           text        constraint file_scans_found_check check (length(found) between 1 and 200), -- null: nothing
    scanned_at      timestamptz not null,
    constraint file_scans_pkey primary key (organization_id, sha256)
);
call tenant_table('file_scans');
call not_audited('file_scans', 'what a scanner said, asked again each day; what it found is a security event');
