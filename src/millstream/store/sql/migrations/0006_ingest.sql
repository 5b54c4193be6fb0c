-- The log of incoming webhooks: one small row for each that was accepted. Neither payloads nor signatures are kept,
-- and a refused request leaves nothing.

create table millstream.ingest_deliveries (
    tenant_id int not null,
    id uuid not null,
    provider smallint not null,
    outcome smallint not null,
    event_type text not null,
    queue text not null,
    job_id uuid not null,
    created_at timestamptz not null,
    primary key (tenant_id, id),
    constraint ingest_deliveries_provider_known check (provider between 1 and 3),
    constraint ingest_deliveries_outcome_known check (outcome in (1, 2))
);

select millstream.protect_table('millstream.ingest_deliveries');
