-- The job engine: tenants and keys, queues, workers, jobs in three tables by life stage.
--
-- Roles are named here by their default names; the installer writes the chosen ones in their place.

create table millstream.settings (
    key text primary key,
    value text not null
);
comment on table millstream.settings is
    'Facts about this installation: role names, the pepper of the API key digests.';

-- Protects one tenant table: forced row-level security, and who may see what.
create function millstream.protect_table(relation regclass, tenant_column text default 'tenant_id')
returns void
language plpgsql
set search_path = ''
as $$
begin
    execute format('alter table %s enable row level security', relation);
    execute format('alter table %s force row level security', relation);
    execute format('create policy owner_all on %s to millstream_owner using (true) with check (true)', relation);
    execute format('create policy engine_all on %s to millstream_engine using (true) with check (true)', relation);
    execute format(
        'create policy tenant_own on %s to millstream_tenant'
        ' using (%I = nullif(current_setting(''millstream.tenant_id'', true), '''')::int)'
        ' with check (%I = nullif(current_setting(''millstream.tenant_id'', true), '''')::int)',
        relation, tenant_column, tenant_column
    );
    execute format('grant select, insert, update, delete on %s to millstream_engine, millstream_tenant', relation);
end
$$;

create table millstream.tenants (
    id int generated always as identity primary key,
    public_id text not null,
    slug text not null,
    name text not null,
    plan_tier text not null default 'free',
    billing_email text,
    settings text not null default '{}',
    custom_limits text,
    webhook_token text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint tenants_public_id_unique unique (public_id),
    constraint tenants_slug_unique unique (slug)
);

create table millstream.api_keys (
    tenant_id int not null,
    id uuid not null,
    name text not null,
    key_prefix text not null,
    digest bytea not null,
    hash text not null,
    queues text[] not null default '{}',
    rate_limit int,
    is_active boolean not null default true,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    last_used_at timestamptz,
    expires_at timestamptz,
    primary key (tenant_id, id),
    constraint api_keys_digest_unique unique (digest),
    constraint api_keys_rate_limit_range check (rate_limit between 1 and 10000)
);

create table millstream.queues (
    tenant_id int not null,
    name text not null,
    id uuid not null,
    max_retries smallint not null default 3,
    default_timeout_seconds int not null default 300,
    rate_limit int,
    enabled boolean not null default true,
    settings text not null default '{}',
    paused_at timestamptz,
    paused_reason text,
    retry_initial_seconds int,
    retry_factor double precision,
    retry_max_seconds int,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    primary key (tenant_id, name),
    constraint queues_max_retries_range check (max_retries between 0 and 100),
    constraint queues_timeout_range check (default_timeout_seconds between 1 and 86400),
    constraint queues_retry_initial_range check (retry_initial_seconds between 0 and 86400),
    constraint queues_retry_factor_range check (retry_factor between 1 and 100),
    constraint queues_retry_max_range check (retry_max_seconds between 0 and 86400)
);

-- Worker ids are chosen by clients and unique over all tenants: the only key that begins without one.
create table millstream.worker_ids (
    id text primary key,
    tenant_id int not null
);

create table millstream.workers (
    tenant_id int not null,
    id text not null,
    queue text not null,
    hostname text not null,
    worker_type text,
    max_concurrency int not null default 5,
    current_jobs int not null default 0,
    status smallint not null default 1,
    metadata text not null default '{}',
    version text,
    last_heartbeat_at timestamptz not null,
    registered_at timestamptz not null,
    updated_at timestamptz not null,
    primary key (tenant_id, id),
    constraint workers_status_known check (status between 1 and 4)
);
create index workers_stale on millstream.workers (last_heartbeat_at) where status < 4;
comment on index millstream.workers_stale is 'retire_stale_workers';

create table millstream.jobs (
    tenant_id int not null,
    id uuid not null,
    queue text not null,
    state smallint not null,
    priority smallint not null,
    retry_count int not null default 0,
    max_retries smallint not null,
    timeout_seconds int not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    run_at timestamptz,
    expires_at timestamptz,
    started_at timestamptz,
    lease_expires_at timestamptz,
    lease_id uuid,
    parent_job_id uuid,
    workflow_id uuid,
    unmet smallint not null default 0,
    dependency_mode smallint not null default 1,
    has_dependents boolean not null default false,
    returned boolean not null default false,
    worker_id text,
    job_type text not null default '',
    payload text not null,
    tags text,
    last_error text,
    idempotency_key text,
    completion_webhook text,
    completion_webhook_secret text,
    primary key (tenant_id, id),
    constraint jobs_state_alive check (state between 1 and 5),
    constraint jobs_priority_range check (priority between -100 and 100),
    constraint jobs_waiting_has_time check (state not in (2, 3) or run_at is not null),
    constraint jobs_running_has_lease check (
        (state = 5) = (lease_id is not null) and (state = 5) = (lease_expires_at is not null)
    ),
    constraint jobs_blocked_has_unmet check ((state = 4) = (unmet > 0))
) with (
    -- By count, not by share of the table: a queue's table churns whatever its size.
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 50000,
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 20000,
    autovacuum_vacuum_cost_delay = 0
);
create index jobs_ready on millstream.jobs (tenant_id, queue, priority desc, created_at, id) where state = 1;
comment on index millstream.jobs_ready is 'claim_jobs';
create index jobs_waiting on millstream.jobs (run_at) where state in (2, 3);
comment on index millstream.jobs_waiting is 'promote_due_jobs, next_run_at';
create index jobs_leases on millstream.jobs (lease_expires_at) where state = 5;
comment on index millstream.jobs_leases is 'fail_jobs (lease expiry)';
create index jobs_expiring on millstream.jobs (expires_at) where expires_at is not null and state < 5;
comment on index millstream.jobs_expiring is 'expire_jobs';
create index jobs_children on millstream.jobs (tenant_id, parent_job_id) where parent_job_id is not null;
comment on index millstream.jobs_children is 'complete_jobs, fail_jobs, retry_dead_jobs, purge_dead_jobs';

create table millstream.jobs_dead (
    tenant_id int not null,
    id uuid not null,
    queue text not null,
    priority smallint not null,
    retry_count int not null,
    max_retries smallint not null,
    timeout_seconds int not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    run_at timestamptz,
    expires_at timestamptz,
    started_at timestamptz,
    parent_job_id uuid,
    workflow_id uuid,
    dependency_mode smallint not null,
    has_dependents boolean not null,
    job_type text not null,
    payload text not null,
    tags text,
    last_error text,
    idempotency_key text,
    completion_webhook text,
    completion_webhook_secret text,
    primary key (tenant_id, id)
);
create index jobs_dead_oldest on millstream.jobs_dead (tenant_id, created_at, id);
comment on index millstream.jobs_dead_oldest is 'retry_dead_jobs, purge_dead_jobs';
create index jobs_dead_children on millstream.jobs_dead (tenant_id, parent_job_id) where parent_job_id is not null;
comment on index millstream.jobs_dead_children is 'purge_dead_jobs';

-- Completed and cancelled jobs, by week of creation (version 7 ids begin with their creation time).
create table millstream.jobs_done (
    tenant_id int not null,
    id uuid not null,
    queue text not null,
    state smallint not null,
    priority smallint not null,
    retry_count int not null,
    max_retries smallint not null,
    timeout_seconds int not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    run_at timestamptz,
    expires_at timestamptz,
    started_at timestamptz,
    finished_at timestamptz not null,
    lease_expires_at timestamptz,
    lease_id uuid,
    parent_job_id uuid,
    workflow_id uuid,
    unmet smallint not null,
    dependency_mode smallint not null,
    worker_id text,
    job_type text not null,
    payload text not null,
    result text,
    tags text,
    last_error text,
    idempotency_key text,
    completion_webhook text,
    primary key (tenant_id, id),
    constraint jobs_done_state_finished check (state in (7, 8))
) partition by range (id);

-- The id that a version 7 UUID made at `moment` is not below.
create function millstream.first_id_at(moment timestamptz)
returns uuid
language sql
immutable
parallel safe
set search_path = ''
as $$
    select (
        lpad(to_hex((extract(epoch from moment) * 1000)::bigint), 12, '0') || '00000000000000000000'
    )::uuid
$$;

-- Makes the partition of jobs_done that holds ids from `starts_at` for a week; returns whether it was missing.
create function millstream.add_done_partition(starts_at timestamptz)
returns boolean
language plpgsql
set search_path = ''
as $$
declare
    week timestamptz := date_trunc('week', starts_at at time zone 'UTC') at time zone 'UTC';
    name text := 'jobs_done_' || to_char(week at time zone 'UTC', 'YYYYMMDD');
begin
    if to_regclass('millstream.' || quote_ident(name)) is not null then
        return false;
    end if;
    execute format(
        'create table millstream.%I partition of millstream.jobs_done for values from (%L) to (%L)'
        ' with (autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 200000)',
        name, millstream.first_id_at(week), millstream.first_id_at(week + interval '7 days')
    );
    perform millstream.protect_table(format('millstream.%I', name)::regclass);
    return true;
end
$$;

-- Drops the partitions of jobs_done that end before `ends_before` and hold nothing any more; returns how many.
create function millstream.drop_empty_done_partitions(ends_before timestamptz)
returns int
language plpgsql
set search_path = ''
as $$
declare
    name text;
    holds boolean;
    dropped int := 0;
begin
    for name in
        select c.relname
        from pg_catalog.pg_inherits as i
        inner join pg_catalog.pg_class as c on c.oid = i.inhrelid
        where
            i.inhparent = 'millstream.jobs_done'::regclass
            and c.relname ~ '^jobs_done_[0-9]{8}$'
            and to_date(right(c.relname, 8), 'YYYYMMDD') + 7 <= (ends_before at time zone 'UTC')::date
        order by c.relname
    loop
        -- Old ids do finish late: nothing may arrive between the look and the drop.
        execute format('lock table millstream.%I in access exclusive mode', name);
        execute format('select exists (select from millstream.%I)', name) into holds;
        if not holds then
            execute format('alter table millstream.jobs_done detach partition millstream.%I', name);
            execute format('drop table millstream.%I', name);
            dropped := dropped + 1;
        end if;
    end loop;
    return dropped;
end
$$;

create table millstream.jobs_done_rest partition of millstream.jobs_done default;
create index jobs_done_children on millstream.jobs_done (tenant_id, parent_job_id) where parent_job_id is not null;
comment on index millstream.jobs_done_children is 'purge_dead_jobs';
-- Rows arrive in the order of their finish, which is what BRIN is for: it costs next to nothing to write.
create index jobs_done_finished on millstream.jobs_done using brin (finished_at)
with (pages_per_range = 32, autosummarize = on);
comment on index millstream.jobs_done_finished is 'get_queue_stats';

-- Every job of a tenant wherever it lives, for reads that must not miss one that moves meanwhile.
-- The reader's own row-level security applies.
create view millstream.all_jobs with (security_invoker = true) as
select
    j.tenant_id, j.id, j.queue, j.state, j.job_type, j.payload, null::text as result, j.retry_count, j.max_retries, j.last_error,
    j.created_at, j.updated_at, j.run_at, j.started_at, null::timestamptz as finished_at, j.expires_at, j.priority, j.tags,
    j.timeout_seconds, j.parent_job_id, j.completion_webhook, j.idempotency_key, j.workflow_id, j.worker_id, j.lease_id,
    j.lease_expires_at, j.dependency_mode, j.unmet
from millstream.jobs as j
union all
select
    j.tenant_id, j.id, j.queue, 6::smallint, j.job_type, j.payload, null::text, j.retry_count, j.max_retries, j.last_error,
    j.created_at, j.updated_at, j.run_at, j.started_at, null::timestamptz, j.expires_at, j.priority, j.tags,
    j.timeout_seconds, j.parent_job_id, j.completion_webhook, j.idempotency_key, j.workflow_id, null::text, null::uuid,
    null::timestamptz, j.dependency_mode, 0::smallint
from millstream.jobs_dead as j
union all
select
    j.tenant_id, j.id, j.queue, j.state, j.job_type, j.payload, j.result, j.retry_count, j.max_retries, j.last_error,
    j.created_at, j.updated_at, j.run_at, j.started_at, j.finished_at, j.expires_at, j.priority, j.tags,
    j.timeout_seconds, j.parent_job_id, j.completion_webhook, j.idempotency_key, j.workflow_id, j.worker_id, j.lease_id,
    j.lease_expires_at, j.dependency_mode, j.unmet
from millstream.jobs_done as j;

-- What a job's row can no longer tell: its failed attempts and manual retries.
create table millstream.job_events (
    tenant_id int not null,
    job_id uuid not null,
    id uuid not null,
    kind smallint not null,
    buried boolean not null default false,
    worker_id text,
    lease_id uuid,
    claimed_at timestamptz,
    at timestamptz not null,
    error text,
    primary key (tenant_id, job_id, id),
    constraint job_events_kind_known check (kind in (4, 5, 7))
);

create table millstream.idempotency_keys (
    tenant_id int not null,
    key text not null,
    job_id uuid not null,
    primary key (tenant_id, key)
);

-- The distinct queue names (kind 1) and job types (kind 2) of a tenant's jobs: lists search these few
-- rows instead of every job's text.
create table millstream.job_labels (
    tenant_id int not null,
    kind smallint not null,
    label text not null,
    primary key (tenant_id, kind, label)
);

-- Totals that every job would touch are appended as deltas and folded by a loop: a row that every
-- statement updates would grow dead versions faster than anything can remove them.
create table millstream.counters (
    tenant_id int not null,
    kind smallint not null,
    subject text not null,
    day date not null,
    amount bigint not null,
    primary key (tenant_id, kind, subject, day)
);
create table millstream.counter_deltas (
    tenant_id int not null,
    kind smallint not null,
    subject text not null,
    day date not null,
    amount bigint not null
) with (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0
);
create index counter_deltas_tenant on millstream.counter_deltas (tenant_id, kind, subject);
comment on index millstream.counter_deltas_tenant is 'list_workers, create_jobs (daily cap)';

-- Which process runs the loops that need only one: an expiring row with a fence.
create table millstream.leaders (
    name text primary key,
    holder uuid not null,
    fence bigint not null default 1,
    expires_at timestamptz not null
);

select millstream.protect_table('millstream.tenants', 'id');
select millstream.protect_table('millstream.api_keys');
select millstream.protect_table('millstream.queues');
select millstream.protect_table('millstream.worker_ids');
select millstream.protect_table('millstream.workers');
select millstream.protect_table('millstream.jobs');
select millstream.protect_table('millstream.jobs_dead');
select millstream.protect_table('millstream.jobs_done');
select millstream.protect_table('millstream.jobs_done_rest');
select millstream.protect_table('millstream.job_events');
select millstream.protect_table('millstream.idempotency_keys');
select millstream.protect_table('millstream.job_labels');
select millstream.protect_table('millstream.counters');
select millstream.protect_table('millstream.counter_deltas');

grant usage on schema millstream to millstream_engine, millstream_tenant, millstream_inline;
grant select on millstream.all_jobs to millstream_engine, millstream_tenant;
grant select on millstream.settings to millstream_engine;
grant select, insert, update, delete on millstream.leaders to millstream_engine;
grant execute on function millstream.first_id_at(timestamptz) to millstream_engine, millstream_tenant;

select millstream.add_done_partition(now() + make_interval(weeks => week)) from generate_series(-1, 3) as week;
