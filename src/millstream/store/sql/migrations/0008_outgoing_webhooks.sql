-- Outgoing webhooks: who wants to be told of what, and what is still to be told.
--
-- The previous version of the server neither reads nor writes any of this.

create table millstream.outgoing_webhooks (
    tenant_id int not null,
    id uuid not null,
    name text not null,
    url text not null,
    secret text,
    events smallint[] not null,
    format smallint not null,
    enabled boolean not null,
    failure_count int not null default 0,
    last_status smallint,
    last_triggered_at timestamptz,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    primary key (tenant_id, id),
    constraint outgoing_webhooks_format_known check (format between 1 and 4),
    constraint outgoing_webhooks_last_status_known check (last_status between 1 and 3)
);
create index outgoing_webhooks_enabled on millstream.outgoing_webhooks (tenant_id) where enabled;
comment on index millstream.outgoing_webhooks_enabled is
    'list_webhook_interests, note_job_events, note_event, count_outgoing_webhooks';

-- What is told to a webhook, or to the address that a job was created with (then `url` and `secret` are the job's).
-- `receiver` is the webhook's id or stands for the job's host: what waits is handed out in turn by it.
create table millstream.outgoing_deliveries (
    tenant_id int not null,
    id uuid not null,
    webhook_id uuid,
    receiver uuid not null,
    event smallint not null,
    status smallint not null default 1,
    attempts smallint not null default 0,
    next_attempt_at timestamptz,
    claim_id uuid,
    url text,
    secret text,
    data text not null,
    status_code int,
    response_body text,
    error text,
    created_at timestamptz not null,
    delivered_at timestamptz,
    primary key (tenant_id, id),
    constraint outgoing_deliveries_status_known check (status between 1 and 3),
    constraint outgoing_deliveries_pending_has_time check ((status = 1) = (next_attempt_at is not null)),
    constraint outgoing_deliveries_has_address check ((webhook_id is null) = (url is not null))
) with (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 50000,
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 20000,
    autovacuum_vacuum_cost_delay = 0
);
create index outgoing_deliveries_due on millstream.outgoing_deliveries (tenant_id, receiver, next_attempt_at)
where status = 1;
comment on index millstream.outgoing_deliveries_due is 'claim_outgoing_deliveries';
create index outgoing_deliveries_newest on millstream.outgoing_deliveries (tenant_id, webhook_id, id)
where webhook_id is not null;
comment on index millstream.outgoing_deliveries_newest is 'list_outgoing_deliveries, forget_outgoing_deliveries';

-- A fresh version 7 id of `moment`: made here where a statement does not know beforehand how many rows it inserts.
create function millstream.new_id_at(moment timestamptz)
returns uuid
language sql
volatile
parallel safe
set search_path = ''
as $$
    select (
        lpad(to_hex((extract(epoch from moment) * 1000)::bigint), 12, '0')
        || '7' || substr(replace(gen_random_uuid()::text, '-', ''), 14)
    )::uuid
$$;

-- The host and port of an address that was checked when it was stored.
create function millstream.host_of(url text)
returns text
language sql
immutable
parallel safe
set search_path = ''
as $$
    select lower(substring(url from '^[A-Za-z]+://([^/?#]*)'))
$$;

create function millstream.json_time(moment timestamptz)
returns text
language sql
stable
parallel safe
set search_path = ''
as $$
    select to_char(moment at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
$$;

-- The body that the completion webhook of a job receives. `result` is JSON already and is not parsed here.
create function millstream.completion_body(
    event text, job_id uuid, queue text, status text, result text, error text, retry_count int,
    created_at timestamptz, completed_at timestamptz
)
returns text
language sql
stable
parallel safe
set search_path = ''
as $$
    select left(
        json_build_object(
            'event', event, 'job_id', job_id, 'queue_name', queue, 'status', status, 'error', error,
            'retry_count', retry_count, 'created_at', millstream.json_time(created_at),
            'completed_at', millstream.json_time(completed_at)
        )::text,
        -1
    ) || ', "result" : ' || coalesce(result, 'null') || '}'
$$;

select millstream.protect_table('millstream.outgoing_webhooks');
select millstream.protect_table('millstream.outgoing_deliveries');

grant execute on function
millstream.new_id_at(timestamptz), millstream.host_of(text), millstream.json_time(timestamptz),
millstream.completion_body(text, uuid, text, text, text, text, int, timestamptz, timestamptz)
to millstream_engine, millstream_tenant;
