-- Schedules, and the log of their runs.
--
-- The previous version of the server neither reads nor writes any of this.

create table millstream.schedules (
    tenant_id int not null,
    id uuid not null,
    name text not null,
    description text,
    cron text not null,
    timezone text not null,
    queue text not null,
    payload text not null,
    job_type text not null,
    priority smallint not null,
    max_retries smallint not null,
    timeout_seconds int not null,
    tags text,
    metadata text,
    -- Of the template, so that whoever reads many of them can stop in time.
    size_bytes int not null,
    is_active boolean not null default true,
    last_run_at timestamptz,
    next_run_at timestamptz not null,
    run_count bigint not null default 0,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    primary key (tenant_id, id),
    constraint schedules_priority_range check (priority between -100 and 100)
) with (
    -- By count: one that runs each second leaves a dead row each second, however few there are.
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 20000,
    autovacuum_vacuum_cost_delay = 0
);
create index schedules_due on millstream.schedules (next_run_at) where is_active;
comment on index millstream.schedules_due is 'claim_due_schedules, seconds_to_next_schedule';

create table millstream.schedule_runs (
    tenant_id int not null,
    id uuid not null,
    schedule_id uuid not null,
    status smallint not null,
    job_id uuid,
    error text,
    started_at timestamptz not null,
    finished_at timestamptz not null,
    primary key (tenant_id, id),
    constraint schedule_runs_status_known check (status in (3, 4)),
    constraint schedule_runs_completed_has_job check ((status = 3) = (job_id is not null))
) with (
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 50000
);
create index schedule_runs_newest on millstream.schedule_runs (tenant_id, schedule_id, id);
comment on index millstream.schedule_runs_newest is 'list_schedule_runs, forget_schedule_runs';

select millstream.protect_table('millstream.schedules');
select millstream.protect_table('millstream.schedule_runs');
