-- pgwf: leased jobs with dependencies, called inside the caller's own transactions. PostgreSQL 15 or newer, no
-- extensions; pg_cron is used when it is there. Running the script again upgrades in place and keeps the data.
--
-- The name of the schema is the only word of its kind in this file: to install under another name, replace it
-- everywhere. It is also the prefix of channels, of the cron job and of lock keys, so that several installations
-- live side by side.
--
-- In order: tables, indexes, trigger, settings, views, small parts, then one section for each thing that callers do.
begin;
set local client_min_messages = warning;

-- Two installations at once would trip over each other's catalog rows.
do $$ begin perform pg_advisory_xact_lock(hashtextextended('pgwf.install', 0)); end $$;

-- A role that was given the schema need not be able to create one.
do $$
begin
    if to_regnamespace('pgwf') is null then
        create schema pgwf;
    end if;
end
$$;

-- ---------------------------------------------------------------------------------------------------------- tables

create sequence if not exists pgwf.jobs_trace_id_seq;

create table if not exists pgwf.jobs (
    job_id text primary key,
    next_need text not null,
    wait_for text[] not null default '{}',
    payload jsonb not null default '{}',
    singleton_key text,
    available_at timestamptz not null default clock_timestamp(),
    expires_at timestamptz not null default 'infinity',
    lease_id text,
    lease_expires_at timestamptz not null default '-infinity',
    lease_expiration_count bigint not null default 0,
    consecutive_expirations bigint not null default 0,
    created_at timestamptz not null default clock_timestamp(),
    cancel_requested boolean not null default false,
    cancel_requested_by text,
    cancel_requested_at timestamptz,
    -- When get_work has to look at the row again, at the latest; a trigger keeps it. '-infinity': it may be taken
    -- now. 'infinity': never, unless somebody changes it.
    wake_at timestamptz not null default '-infinity'
);

create table if not exists pgwf.jobs_archive (
    archived_at timestamptz not null default clock_timestamp(),
    job_id text primary key,
    next_need text not null,
    wait_for text[] not null default '{}',
    payload jsonb not null default '{}',
    singleton_key text,
    created_at timestamptz not null,
    expires_at timestamptz not null default 'infinity',
    lease_id text,
    lease_expiration_count bigint not null default 0,
    consecutive_expirations bigint not null default 0,
    cancel_requested boolean not null default false,
    cancel_requested_by text,
    cancel_requested_at timestamptz
);

create table if not exists pgwf.jobs_trace (
    trace_id bigint primary key default nextval('pgwf.jobs_trace_id_seq'),
    job_id text not null,
    event_type text not null,
    worker_id text not null,
    event_at timestamptz not null default clock_timestamp(),
    input_data jsonb not null,
    output_data jsonb
);

-- An installation that has no settings was made by another script. Its tables get the columns they lack, and what
-- stands in the way of the definitions below goes: functions with other defaults or result columns, views, and
-- indexes that would make every extension of a lease move its row.
do $$
declare
    v_trace boolean;
    v_notify boolean;
    v_threshold bigint;
    v_routine regprocedure;
    v_index regclass;
begin
    if to_regclass('pgwf.settings') is not null then
        return;
    end if;

    create table pgwf.settings (
        only_row boolean primary key default true,
        trace_enabled boolean not null default true,
        notify_enabled boolean not null default false,
        crash_concern_threshold integer not null default 5,
        constraint settings_only_row check (only_row),
        constraint settings_threshold_is_positive check (crash_concern_threshold > 0)
    );
    insert into pgwf.settings default values;
    -- Grants that name the three tables of jobs are enough for a worker.
    grant select on pgwf.settings to public;

    if to_regprocedure('pgwf.is_trace_enabled()') is not null then
        execute 'select pgwf.is_trace_enabled()' into v_trace;
    end if;
    if to_regprocedure('pgwf.is_notify_enabled()') is not null then
        execute 'select pgwf.is_notify_enabled()' into v_notify;
    end if;
    if to_regprocedure('pgwf.crash_concern_threshold()') is not null then
        execute 'select pgwf.crash_concern_threshold()' into v_threshold;
    end if;
    update pgwf.settings
    set trace_enabled = coalesce(v_trace, true),
        notify_enabled = coalesce(v_notify, false),
        crash_concern_threshold = coalesce(v_threshold, 5);

    -- Functions that mention the row of a view go before it, those that it calls after it.
    for v_routine in
        select r.oid::regprocedure
        from pg_catalog.pg_proc as r
        where r.pronamespace = 'pgwf'::regnamespace
            and r.prokind = 'f'
            and (
                r.proname like '\_%'
                or r.proname in (
                    'submit_job', 'get_work', 'extend_lease', 'reschedule_job', 'reschedule_unheld_job',
                    'complete_job', 'complete_unheld_job', 'cancel_job', 'archive_cancelled_jobs',
                    'clear_crash_concern', 'normalize_wait_for', 'need_channel', 'set_trace', 'set_notify',
                    'set_crash_concern_threshold'
                )
            )
    loop
        execute format('drop function %s', v_routine);
    end loop;
    drop view if exists pgwf.jobs_friendly_status;
    drop view if exists pgwf.jobs_with_status;
    drop function if exists pgwf.is_trace_enabled();
    drop function if exists pgwf.is_notify_enabled();
    drop function if exists pgwf.crash_concern_threshold();
    for v_index in
        select i.indexrelid::regclass
        from pg_catalog.pg_index as i
        where i.indrelid = 'pgwf.jobs'::regclass
            and not i.indisprimary
            and pg_get_indexdef(i.indexrelid) like '%lease_expires_at%'
    loop
        execute format('drop index %s', v_index);
    end loop;

    alter table pgwf.jobs
        add column if not exists payload jsonb not null default '{}',
        add column if not exists singleton_key text,
        add column if not exists expires_at timestamptz not null default 'infinity',
        add column if not exists lease_expiration_count bigint not null default 0,
        add column if not exists consecutive_expirations bigint not null default 0,
        add column if not exists cancel_requested boolean not null default false,
        add column if not exists cancel_requested_by text,
        add column if not exists cancel_requested_at timestamptz,
        add column if not exists wake_at timestamptz not null default '-infinity';
    update pgwf.jobs
    set wait_for = coalesce(wait_for, '{}'),
        available_at = coalesce(available_at, created_at, clock_timestamp()),
        lease_expires_at = coalesce(lease_expires_at, '-infinity'),
        wake_at = case
            when cancel_requested or wait_for <> '{}' then 'infinity'
            when greatest(available_at, lease_expires_at) <= clock_timestamp() then '-infinity'
            else greatest(available_at, lease_expires_at)
        end;
    alter table pgwf.jobs
        alter column wait_for set default '{}',
        alter column wait_for set not null,
        alter column available_at set default clock_timestamp(),
        alter column available_at set not null,
        alter column lease_expires_at set default '-infinity',
        alter column lease_expires_at set not null;

    alter table pgwf.jobs_archive
        add column if not exists payload jsonb not null default '{}',
        add column if not exists singleton_key text,
        add column if not exists expires_at timestamptz not null default 'infinity',
        add column if not exists lease_id text,
        add column if not exists lease_expiration_count bigint not null default 0,
        add column if not exists consecutive_expirations bigint not null default 0,
        add column if not exists cancel_requested boolean not null default false,
        add column if not exists cancel_requested_by text,
        add column if not exists cancel_requested_at timestamptz;
end
$$;

-- Without its row nothing would be leased.
insert into pgwf.settings (only_row)
values (true)
on conflict do nothing;

do $$
declare
    v_table text;
begin
    foreach v_table in array array['jobs', 'jobs_archive'] loop
        if not exists (
            select from pg_catalog.pg_constraint
            where conrelid = format('pgwf.%I', v_table)::regclass and conname = v_table || '_payload_is_object'
        ) then
            execute format(
                'alter table pgwf.%I add constraint %I check (jsonb_typeof(payload) = %L)',
                v_table, v_table || '_payload_is_object', 'object'
            );
        end if;
        if not exists (
            select from pg_catalog.pg_constraint
            where conrelid = format('pgwf.%I', v_table)::regclass and conname = v_table || '_payload_size_limit'
        ) then
            execute format(
                'alter table pgwf.%I add constraint %I check (pg_column_size(payload) <= 512)',
                v_table, v_table || '_payload_size_limit'
            );
        end if;
    end loop;
end
$$;

comment on table pgwf.jobs is 'Live jobs. See the view jobs_with_status for what each of them is waiting for.';
comment on table pgwf.jobs_archive is 'Completed jobs, and cancelled ones that were archived. Their ids are taken.';
comment on table pgwf.jobs_trace is 'What happened to jobs, while tracing is on. Old rows may be deleted at any time.';
comment on table pgwf.settings is 'One row: the switches of this installation. Functions change it.';

-- Every lease and every completion leaves a dead version of its row at the head of the queue. Room on the page lets
-- extensions stay where they are; vacuum counts dead rows, whatever the size of the table.
alter table pgwf.jobs set (
    fillfactor = 80,
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0
);

-- --------------------------------------------------------------------------------------------------------- indexes

-- None may mention lease_expires_at: extending a lease would stop being a heap-only update.
create index if not exists jobs_due on pgwf.jobs (next_need, created_at, job_id)
where wake_at = '-infinity';
comment on index pgwf.jobs_due is 'get_work: the next jobs of a capability.';

create index if not exists jobs_sleeping on pgwf.jobs (next_need, wake_at, created_at, job_id)
where wake_at > '-infinity' and wake_at < 'infinity';
comment on index pgwf.jobs_sleeping is 'get_work: jobs of a capability whose time has come, or whose lease ran out.';

create index if not exists jobs_waiting on pgwf.jobs using gin (wait_for)
with (fastupdate = off)
where wait_for <> '{}';
comment on index pgwf.jobs_waiting is 'Completion and archival: who waits for a job.';

create index if not exists jobs_leased_singletons on pgwf.jobs (singleton_key)
where singleton_key is not null and lease_id is not null;
comment on index pgwf.jobs_leased_singletons is 'get_work: who holds a singleton key.';

create index if not exists jobs_cancelled on pgwf.jobs (created_at, job_id)
where cancel_requested;
comment on index pgwf.jobs_cancelled is 'archive_cancelled_jobs.';

create index if not exists jobs_trace_by_job on pgwf.jobs_trace (job_id, trace_id);
comment on index pgwf.jobs_trace_by_job is 'Reading what happened to one job.';

create index if not exists jobs_trace_by_time on pgwf.jobs_trace using brin (event_at);
comment on index pgwf.jobs_trace_by_time is 'Deleting old trace rows.';

-- --------------------------------------------------------------------------------------------------------- trigger

-- Keeps wake_at at or before the moment from which the job may be taken. A trigger, because operators change rows too.
create or replace function pgwf._keep_wake_at() returns trigger
language plpgsql
as $$
declare
    v_now constant timestamptz := clock_timestamp();
    v_wake_at timestamptz;
begin
    if new.cancel_requested or new.wait_for <> '{}' then
        new.wake_at := 'infinity';
        return new;
    end if;
    v_wake_at := greatest(new.available_at, new.lease_expires_at);
    if v_wake_at <= v_now then
        new.wake_at := '-infinity';
        return new;
    end if;
    -- Extending a lease leaves an earlier wake_at alone while it has half of the lease to go: too early is harmless
    -- (the job is looked at and left), and a row whose indexed columns stay the same need not move.
    if tg_op = 'UPDATE' and v_wake_at < 'infinity' then
        if old.wake_at <= v_wake_at and old.wake_at >= v_now + (v_wake_at - v_now) / 2 then
            v_wake_at := old.wake_at;
        end if;
    end if;
    new.wake_at := v_wake_at;
    return new;
end
$$;

create or replace trigger jobs_wake_at_on_insert
before insert on pgwf.jobs
for each row execute function pgwf._keep_wake_at();

create or replace trigger jobs_wake_at_on_update
before update of wait_for, available_at, expires_at, lease_expires_at, cancel_requested, consecutive_expirations
on pgwf.jobs
for each row execute function pgwf._keep_wake_at();

-- -------------------------------------------------------------------------------------------------------- settings

create or replace function pgwf.is_trace_enabled() returns boolean
language sql stable
as $$ select coalesce((select s.trace_enabled from pgwf.settings as s where s.only_row), true) $$;

create or replace function pgwf.is_notify_enabled() returns boolean
language sql stable
as $$ select coalesce((select s.notify_enabled from pgwf.settings as s where s.only_row), false) $$;

create or replace function pgwf.crash_concern_threshold() returns integer
language sql stable
as $$ select coalesce((select s.crash_concern_threshold from pgwf.settings as s where s.only_row), 5) $$;

create or replace function pgwf.set_trace(enabled boolean) returns boolean
language plpgsql
as $$
begin
    if enabled is null then
        raise exception 'enabled cannot be NULL' using constraint = 'ms_invalid_argument';
    end if;
    update pgwf.settings set trace_enabled = enabled where only_row;
    return enabled;
end
$$;

create or replace function pgwf.set_notify(enabled boolean) returns boolean
language plpgsql
as $$
begin
    if enabled is null then
        raise exception 'enabled cannot be NULL' using constraint = 'ms_invalid_argument';
    end if;
    update pgwf.settings set notify_enabled = enabled where only_row;
    return enabled;
end
$$;

create or replace function pgwf.set_crash_concern_threshold(p_threshold integer) returns integer
language plpgsql
as $$
declare
    v_before integer;
begin
    if p_threshold is null or p_threshold <= 0 then
        raise exception 'threshold must be positive' using constraint = 'ms_invalid_argument';
    end if;
    -- Whoever is setting jobs aside by the old threshold ends first; see _set_aside.
    perform pg_advisory_xact_lock(hashtextextended('pgwf.threshold', 0));
    select s.crash_concern_threshold into v_before from pgwf.settings as s where s.only_row for update;
    update pgwf.settings set crash_concern_threshold = p_threshold where only_row;
    if p_threshold > v_before then
        -- What was set aside and is below the threshold now may be taken again.
        with below as (
            select j.job_id
            from pgwf.jobs as j
            where j.wake_at = 'infinity'
                and not j.cancel_requested
                and j.wait_for = '{}'
                and j.consecutive_expirations >= v_before
                and j.consecutive_expirations < p_threshold
            order by j.job_id
            for no key update
        )
        update pgwf.jobs as j
        set wake_at = greatest(j.available_at, j.lease_expires_at)
        from below
        where j.job_id = below.job_id;
    end if;
    return p_threshold;
end
$$;

-- ----------------------------------------------------------------------------------------------------------- views

create or replace view pgwf.jobs_with_status as
select
    j.job_id,
    j.next_need,
    j.wait_for,
    j.payload,
    j.singleton_key,
    j.available_at,
    j.expires_at,
    j.lease_id,
    j.lease_expires_at,
    j.lease_expiration_count,
    j.consecutive_expirations,
    j.created_at,
    j.cancel_requested,
    j.cancel_requested_by,
    j.cancel_requested_at,
    case
        when j.lease_expires_at > moment.clock then 'ACTIVE'
        when j.cancel_requested then 'CANCELLED'
        when j.available_at > moment.clock then 'AWAITING_FUTURE'
        when j.wait_for <> '{}' then 'PENDING_JOBS'
        when j.consecutive_expirations >= moment.threshold then 'CRASH_CONCERN'
        when j.expires_at <= moment.clock then 'EXPIRED'
        else 'READY'
    end as status
from pgwf.jobs as j
cross join (select clock_timestamp() as clock, pgwf.crash_concern_threshold() as threshold) as moment;
comment on view pgwf.jobs_with_status is 'Live jobs and what each of them is waiting for, by the wall clock.';

create or replace view pgwf.jobs_friendly_status as
select
    s.job_id,
    s.status,
    s.created_at as creation_dt,
    case when s.status = 'PENDING_JOBS' then s.wait_for end as pending_jobs,
    case when s.status = 'AWAITING_FUTURE' then s.available_at end as sleep_until,
    case when s.status = 'ACTIVE' then s.lease_id end as worker_id,
    case when s.status = 'CANCELLED' then s.cancel_requested_at end as cancelled_at,
    case when s.status = 'CANCELLED' then s.cancel_requested_by end as cancelled_by,
    s.expires_at,
    s.payload
from pgwf.jobs_with_status as s;
comment on view pgwf.jobs_friendly_status is 'Live jobs for people: only the columns that belong to a status have a value.';

-- ------------------------------------------------------------------------------------------------------ small parts

create or replace function pgwf.need_channel(capability text) returns text
language sql immutable
-- A channel has 63 bytes at most. The hash is short enough for the longest schema name that is accepted.
as $$
    select case
        when octet_length('pgwf.need.' || capability) <= 63 then 'pgwf.need.' || capability
        else 'pgwf.need.' || left(encode(sha256(convert_to(capability, 'UTF8')), 'hex'), 16)
    end
$$;
comment on function pgwf.need_channel(text) is 'The channel on which jobs of a capability are announced, while set_notify is on.';

create or replace function pgwf._announce(p_next_need text, p_job_id text) returns void
language sql
-- A notification has less than 8000 bytes; a longer id must not fail the job, and whoever wakes up polls anyway.
as $$
    select pg_notify(
        pgwf.need_channel(p_next_need),
        case when octet_length(p_job_id) < 8000 then p_job_id else left(p_job_id, 1900) end
    )
$$;

create or replace function pgwf._require_worker(p_worker_id text) returns void
language plpgsql
as $$
begin
    if p_worker_id is null then
        raise exception 'worker_id cannot be NULL' using constraint = 'ms_invalid_argument';
    end if;
end
$$;

create or replace function pgwf._require_job(p_job_id text) returns void
language plpgsql
as $$
begin
    if p_job_id is null then
        raise exception 'job_id cannot be NULL' using constraint = 'ms_invalid_argument';
    end if;
end
$$;

create or replace function pgwf._require_payload(p_payload jsonb) returns void
language plpgsql
as $$
begin
    if jsonb_typeof(p_payload) <> 'object' then
        raise exception 'payload must be a JSON object' using constraint = 'ms_payload_invalid';
    end if;
    if pg_column_size(p_payload) > 512 then
        raise exception 'payload exceeds 512 bytes' using constraint = 'ms_payload_too_large';
    end if;
end
$$;

-- The dependencies among p_wait_for that are still live, in order. Each is locked against completion until the caller's
-- transaction ends, so that whoever completes it sees the job that is about to wait for it.
create or replace function pgwf.normalize_wait_for(p_wait_for text[]) returns text[]
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    v_given constant text[] := array_remove(p_wait_for, null);
    v_live text[];
    v_unknown text[];
begin
    if coalesce(cardinality(v_given), 0) = 0 then
        return '{}';
    end if;
    select coalesce(array_agg(locked.job_id), '{}')
    into v_live
    from (
        select j.job_id
        from pgwf.jobs as j
        where j.job_id = any(v_given)
        order by j.job_id
        for key share
    ) as locked;
    -- A statement of its own: it sees the completions that the locks above have waited for.
    select array_agg(given.job_id order by given.place)
    into v_unknown
    from unnest(v_given) with ordinality as given (job_id, place)
    where given.job_id <> all(v_live)
        and not exists (select from pgwf.jobs_archive as a where a.job_id = given.job_id);
    if v_unknown is not null then
        raise exception 'wait_for references unknown jobs: %', v_unknown using constraint = 'ms_unknown_dependency';
    end if;
    return array(
        select given.job_id
        from unnest(v_given) with ordinality as given (job_id, place)
        where given.job_id = any(v_live)
        order by given.place
    );
end
$$;

-- Moves jobs that the caller has locked to the archive and returns what is there now. An id may be in both tables when
-- it comes from an installation that let it be used twice; it must not block the way for ever.
create or replace function pgwf._archive(p_job_ids text[], p_completed boolean) returns setof pgwf.jobs_archive
language plpgsql
as $$
begin
    return query
    with gone as (
        delete from pgwf.jobs as j
        where j.job_id = any(p_job_ids)
        returning j.*
    )
    insert into pgwf.jobs_archive (
        job_id, next_need, wait_for, payload, singleton_key, created_at, expires_at, lease_id,
        lease_expiration_count, consecutive_expirations,
        cancel_requested, cancel_requested_by, cancel_requested_at
    )
    select
        g.job_id, g.next_need, g.wait_for, g.payload, g.singleton_key, g.created_at, g.expires_at, g.lease_id,
        g.lease_expiration_count, case when p_completed then 0 else g.consecutive_expirations end,
        g.cancel_requested, g.cancel_requested_by, g.cancel_requested_at
    from gone as g
    order by g.created_at, g.job_id
    on conflict (job_id) do update set archived_at = jobs_archive.archived_at
    returning *;
end
$$;

-- Takes archived jobs out of every wait_for and announces what nothing blocks any more. Waits for the rows in the order
-- of their ids, like everybody who waits for more than one.
create or replace function pgwf._release_dependents(p_job_ids text[], p_now timestamptz, p_notify boolean) returns void
language plpgsql
as $$
declare
    v_released record;
begin
    for v_released in
        with dependents as (
            select j.job_id
            from pgwf.jobs as j
            where j.wait_for && p_job_ids
                and j.wait_for <> '{}'
            order by j.job_id
            for no key update
        )
        update pgwf.jobs as j
        set wait_for = array(
            select w.job_id
            from unnest(j.wait_for) with ordinality as w (job_id, place)
            where w.job_id <> all(p_job_ids)
            order by w.place
        )
        from dependents as d
        where j.job_id = d.job_id
        returning
            j.job_id,
            j.next_need,
            j.wait_for = '{}' and j.available_at <= p_now and not j.cancel_requested and j.expires_at > p_now as runnable
    loop
        if p_notify and v_released.runnable then
            perform pgwf._announce(v_released.next_need, v_released.job_id);
        end if;
    end loop;
end
$$;

-- ---------------------------------------------------------------------------------------------------------- submit

create or replace function pgwf.submit_job(
    p_job_id text,
    p_worker_id text,
    p_next_need text,
    p_wait_for text[] default '{}',
    p_payload jsonb default '{}',
    p_singleton_key text default null,
    p_available_at timestamptz default clock_timestamp(),
    p_expires_at timestamptz default null
)
returns table (job_id text, next_need text, wait_for text[], payload jsonb, available_at timestamptz)
language plpgsql
as $$
#variable_conflict use_column
declare
    v_now constant timestamptz := clock_timestamp();
    v_payload constant jsonb := coalesce(p_payload, '{}');
    v_available_at constant timestamptz := coalesce(p_available_at, v_now);
    v_expires_at constant timestamptz := coalesce(p_expires_at, 'infinity');
    v_wait_for text[] := '{}';
    v_trace boolean;
    v_notify boolean;
begin
    perform pgwf._require_worker(p_worker_id);
    if exists (select from pgwf.jobs_archive as a where a.job_id = p_job_id) then
        raise exception 'job % is already completed', p_job_id using constraint = 'ms_job_completed';
    end if;
    if cardinality(p_wait_for) > 0 then
        v_wait_for := pgwf.normalize_wait_for(p_wait_for);
    end if;
    perform pgwf._require_payload(v_payload);

    insert into pgwf.jobs (job_id, next_need, wait_for, payload, singleton_key, available_at, expires_at)
    values (p_job_id, p_next_need, v_wait_for, v_payload, p_singleton_key, v_available_at, v_expires_at);
    -- The insert may have waited for the completion of the same id; only a later statement sees its archive row.
    if exists (select from pgwf.jobs_archive as a where a.job_id = p_job_id) then
        raise exception 'job % is already completed', p_job_id using constraint = 'ms_job_completed';
    end if;

    select s.trace_enabled, s.notify_enabled into v_trace, v_notify from pgwf.settings as s where s.only_row;
    if v_trace then
        insert into pgwf.jobs_trace (job_id, event_type, worker_id, input_data, output_data)
        values (
            p_job_id, 'job_submitted', p_worker_id,
            jsonb_build_object(
                'job_id', p_job_id, 'worker_id', p_worker_id, 'next_need', p_next_need, 'wait_for', v_wait_for,
                'singleton_key', p_singleton_key, 'available_at', v_available_at, 'expires_at', v_expires_at
            ),
            jsonb_build_object(
                'job_id', p_job_id, 'next_need', p_next_need, 'wait_for', v_wait_for,
                'available_at', v_available_at, 'expires_at', v_expires_at
            )
        );
    end if;
    if v_notify and v_expires_at > v_now then
        perform pgwf._announce(p_next_need, p_job_id);
    end if;
    return query select p_job_id, p_next_need, v_wait_for, v_payload, v_available_at;
end
$$;
comment on function pgwf.submit_job(text, text, text, text[], jsonb, text, timestamptz, timestamptz) is
    'Adds a job, in the caller''s transaction.';

-- ------------------------------------------------------------------------------------------------------------ work

-- Takes a job that has a singleton key, or returns why not: 'row' when somebody else has the job, 'key' when somebody
-- has, or is just getting, another job of the key. Whatever was locked is let go again when the key is not to be had.
create or replace function pgwf._lock_singleton(
    p_job_id text, p_singleton_key text, p_worker_caps text[], p_now timestamptz, p_threshold bigint
)
returns text
language plpgsql
as $$
declare
    v_lapsed bigint;
    v_live boolean;
    v_holders bigint;
begin
    perform 1
    from pgwf.jobs as j
    where j.job_id = p_job_id
        and j.next_need = any(p_worker_caps)
        and not j.cancel_requested
        and j.wait_for = '{}'
        and j.available_at <= p_now
        and j.lease_expires_at <= p_now
        and j.expires_at > p_now
        and j.consecutive_expirations < p_threshold
    for no key update skip locked;
    if not found then
        return 'row';
    end if;
    -- Tried, never awaited: nobody waits for a key while holding rows.
    if not pg_try_advisory_xact_lock(hashtextextended('pgwf.singleton.' || p_singleton_key, 0)) then
        raise exception using errcode = 'MS001';
    end if;
    -- Statements of their own, later than the lock: they see who had the key before us. A lapsed lease whose row is
    -- locked may be in the act of being extended; one that we lock cannot be any more.
    select count(*), coalesce(bool_or(h.lease_expires_at > p_now), false)
    into v_lapsed, v_live
    from (
        select j.lease_expires_at
        from pgwf.jobs as j
        where j.singleton_key = p_singleton_key
            and j.singleton_key is not null
            and j.lease_id is not null
            and j.job_id <> p_job_id
        for share skip locked
    ) as h;
    select count(*)
    into v_holders
    from pgwf.jobs as j
    where j.singleton_key = p_singleton_key
        and j.singleton_key is not null
        and j.lease_id is not null
        and j.job_id <> p_job_id;
    if v_live or v_holders > v_lapsed then
        raise exception using errcode = 'MS001';
    end if;
    return 'taken';
exception
    when sqlstate 'MS001' then
        return 'key';
end
$$;

-- Locks up to p_limit of the given jobs, in the given order, without waiting; at most one of each singleton key.
create or replace function pgwf._lock_ready(
    p_job_ids text[],
    p_singleton_keys text[],
    p_worker_caps text[],
    p_limit integer,
    p_now timestamptz,
    p_threshold bigint,
    p_chosen text[]
)
returns text[]
language plpgsql
as $$
declare
    v_count constant integer := cardinality(p_job_ids);
    v_chosen text[] := '{}';
    v_locked text[];
    v_keys text[] := '{}';
    v_first integer := 1;
    v_last integer;
begin
    if p_chosen <> '{}' then
        select coalesce(array_agg(j.singleton_key), '{}')
        into v_keys
        from pgwf.jobs as j
        where j.job_id = any(p_chosen) and j.singleton_key is not null;
    end if;
    while v_first <= v_count and cardinality(v_chosen) < p_limit loop
        v_last := v_first;
        if p_singleton_keys[v_first] is null then
            -- A run of jobs without keys goes in one statement.
            while v_last < v_count and p_singleton_keys[v_last + 1] is null loop
                v_last := v_last + 1;
            end loop;
            select coalesce(array_agg(locked.job_id), '{}')
            into v_locked
            from (
                select j.job_id
                from pgwf.jobs as j
                where j.job_id = any(p_job_ids[v_first : v_last])
                    and j.next_need = any(p_worker_caps)
                    and not j.cancel_requested
                    and j.wait_for = '{}'
                    and j.available_at <= p_now
                    and j.lease_expires_at <= p_now
                    and j.expires_at > p_now
                    and j.consecutive_expirations < p_threshold
                order by j.created_at, j.job_id
                limit p_limit - cardinality(v_chosen)
                for no key update skip locked
            ) as locked;
            v_chosen := v_chosen || v_locked;
        elsif p_singleton_keys[v_first] <> all(v_keys) then
            case pgwf._lock_singleton(
                p_job_ids[v_first], p_singleton_keys[v_first], p_worker_caps, p_now, p_threshold
            )
                when 'taken' then
                    v_chosen := v_chosen || p_job_ids[v_first];
                    v_keys := v_keys || p_singleton_keys[v_first];
                when 'key' then
                    v_keys := v_keys || p_singleton_keys[v_first];
                else
                    null;
            end case;
        end if;
        v_first := v_last + 1;
    end loop;
    return v_chosen;
end
$$;

-- Takes expired and crashed jobs out of the way of get_work, which would step over them again and again.
create or replace function pgwf._set_aside(p_job_ids text[], p_now timestamptz) returns void
language plpgsql
as $$
begin
    -- The threshold that is judged by must be the one that will be in force: raising it brings back what was set aside.
    if not pg_try_advisory_xact_lock_shared(hashtextextended('pgwf.threshold', 0)) then
        return;
    end if;
    with dead as (
        select j.job_id
        from pgwf.jobs as j
        where j.job_id = any(p_job_ids)
            and j.lease_expires_at <= p_now
            and j.wake_at < 'infinity'
            and (j.expires_at <= p_now or j.consecutive_expirations >= pgwf.crash_concern_threshold())
        for no key update skip locked
    )
    update pgwf.jobs as j
    set wake_at = 'infinity'
    from dead
    where j.job_id = dead.job_id;
end
$$;

create or replace function pgwf.get_work(
    p_worker_id text,
    p_worker_caps text[],
    p_lease_seconds integer default 60,
    p_limit_jobs integer default 1
)
returns table (
    job_id text,
    lease_id text,
    next_need text,
    singleton_key text,
    wait_for text[],
    payload jsonb,
    available_at timestamptz,
    lease_expires_at timestamptz
)
language plpgsql
-- One plan for the session, whatever was in the tables when it was made: planning costs more than all the rest, and
-- the only good plan walks the indexes in their order.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
#variable_conflict use_column
declare
    v_now constant timestamptz := clock_timestamp();
    v_set_aside_max constant integer := 1000;
    v_trace boolean;
    v_notify boolean;
    v_threshold bigint;
    v_window bigint;
    v_ready text[];
    v_keys text[];
    v_dead text[];
    v_newly_busy text[];
    v_busy text[] := '{}';
    v_seen bigint;
    v_set_aside integer := 0;
    v_defeats integer := 0;
    v_chosen text[] := '{}';
    v_capability text;
begin
    if p_worker_caps is null then
        raise exception 'worker_caps cannot be empty' using constraint = 'ms_invalid_argument';
    end if;
    if p_lease_seconds is null or p_lease_seconds <= 0 then
        raise exception 'lease_seconds must be positive' using constraint = 'ms_invalid_argument';
    end if;
    if p_limit_jobs is null or p_limit_jobs <= 0 then
        raise exception 'limit_jobs must be positive' using constraint = 'ms_invalid_argument';
    end if;
    perform pgwf._require_worker(p_worker_id);
    select s.trace_enabled, s.notify_enabled, s.crash_concern_threshold
    into v_trace, v_notify, v_threshold
    from pgwf.settings as s
    where s.only_row;

    -- More than is asked for, because other workers hold the first ones.
    v_window := p_limit_jobs * 2::bigint + 16;
    loop
        -- Looks without locking: one ordered scan for each capability, and one for what has woken up there. Woken jobs
        -- come by the time at which they woke, so that a few more of them are put into the order of creation.
        select
            coalesce(array_agg(near.job_id order by near.created_at, near.job_id) filter (where near.ready), '{}'),
            coalesce(array_agg(near.singleton_key order by near.created_at, near.job_id) filter (where near.ready), '{}'),
            coalesce(array_agg(near.job_id) filter (where near.dead), '{}'),
            array_agg(distinct near.singleton_key) filter (where near.busy),
            count(*)
        into v_ready, v_keys, v_dead, v_newly_busy, v_seen
        from (
            select
                scanned.job_id,
                scanned.created_at,
                scanned.singleton_key,
                scanned.idle and not scanned.dead and not key.busy and scanned.job_id <> all(v_chosen) as ready,
                scanned.idle and scanned.dead as dead,
                key.busy
            from (select distinct given.name from unnest(p_worker_caps) as given (name)) as capability
            cross join lateral (
                (
                    select
                        j.job_id, j.created_at, j.singleton_key,
                        j.available_at <= v_now and j.lease_expires_at <= v_now as idle,
                        j.expires_at <= v_now or j.consecutive_expirations >= v_threshold as dead
                    from pgwf.jobs as j
                    where j.next_need = capability.name
                        and j.wake_at = '-infinity'
                        and (j.singleton_key is null or j.singleton_key <> all(v_busy))
                    order by j.created_at, j.job_id
                    limit v_window
                )
                union all
                (
                    select
                        j.job_id, j.created_at, j.singleton_key,
                        j.available_at <= v_now and j.lease_expires_at <= v_now as idle,
                        j.expires_at <= v_now or j.consecutive_expirations >= v_threshold as dead
                    from pgwf.jobs as j
                    where j.next_need = capability.name
                        and j.wake_at > '-infinity'
                        and j.wake_at < 'infinity'
                        and j.wake_at <= v_now
                        and (j.singleton_key is null or j.singleton_key <> all(v_busy))
                    order by j.wake_at, j.created_at, j.job_id
                    limit greatest(v_window, 128)
                )
            ) as scanned
            cross join lateral (
                select scanned.singleton_key is not null and exists (
                    select
                    from pgwf.jobs as holder
                    where holder.singleton_key = scanned.singleton_key
                        and holder.singleton_key is not null
                        and holder.lease_id is not null
                        and holder.lease_expires_at > v_now
                ) as busy
            ) as key
        ) as near;
        -- Steps over them the next time, however many jobs they have.
        v_busy := v_busy || v_newly_busy;

        v_chosen := v_chosen || pgwf._lock_ready(
            v_ready, v_keys, p_worker_caps, p_limit_jobs - cardinality(v_chosen), v_now, v_threshold, v_chosen
        );
        if v_dead <> '{}' and v_set_aside < v_set_aside_max then
            v_dead := v_dead[1 : v_set_aside_max - v_set_aside];
            v_set_aside := v_set_aside + cardinality(v_dead);
            perform pgwf._set_aside(v_dead, v_now);
        end if;
        exit when cardinality(v_chosen) >= p_limit_jobs;
        if v_seen < v_window then
            -- All there was has been seen. When others were quicker with all of it, there may be more by now.
            exit when v_chosen <> '{}' or v_ready = '{}' or v_defeats >= 3;
            v_defeats := v_defeats + 1;
        else
            v_window := v_window * 4;
        end if;
    end loop;

    if v_chosen = '{}' then
        if v_notify then
            for v_capability in select distinct given.name from unnest(p_worker_caps) as given (name) where given.name is not null loop
                execute format('listen %I', pgwf.need_channel(v_capability));
            end loop;
        end if;
        return;
    end if;

    return query
    with leased as (
        update pgwf.jobs as j
        set lease_id = gen_random_uuid()::text,
            lease_expires_at = v_now + make_interval(secs => p_lease_seconds),
            lease_expiration_count = j.lease_expiration_count + (previous.lease_id is not null)::integer,
            consecutive_expirations = j.consecutive_expirations + (previous.lease_id is not null)::integer
        from (
            select p.job_id, p.lease_id, p.lease_expires_at from pgwf.jobs as p where p.job_id = any(v_chosen)
        ) as previous
        where j.job_id = previous.job_id
        returning
            j.job_id, j.lease_id, j.next_need, j.singleton_key, j.wait_for, j.payload, j.available_at,
            j.lease_expires_at, j.created_at, j.lease_expiration_count, j.consecutive_expirations,
            previous.lease_id as previous_lease_id, previous.lease_expires_at as previous_lease_expires_at
    ),
    traced as (
        insert into pgwf.jobs_trace (job_id, event_type, worker_id, input_data, output_data)
        select l.job_id, event.name, p_worker_id, event.input, event.output
        from leased as l
        cross join lateral (
            select
                1 as place,
                'lease_expiration_counter_incremented' as name,
                jsonb_build_object(
                    'worker_id', p_worker_id, 'worker_caps', p_worker_caps,
                    'previous_lease_id', l.previous_lease_id,
                    'previous_lease_expires_at', l.previous_lease_expires_at,
                    'lease_expiration_count', l.lease_expiration_count,
                    'consecutive_expirations', l.consecutive_expirations
                ) as input,
                null::jsonb as output
            where l.previous_lease_id is not null
            union all
            select
                2,
                'job_retrieved',
                jsonb_build_object(
                    'worker_id', p_worker_id, 'worker_caps', p_worker_caps,
                    'lease_seconds', p_lease_seconds, 'limit_jobs', p_limit_jobs
                ),
                jsonb_build_object('lease_id', l.lease_id, 'lease_expires_at', l.lease_expires_at)
        ) as event
        where v_trace
        order by l.created_at, l.job_id, event.place
    )
    select
        l.job_id, l.lease_id, l.next_need, l.singleton_key, l.wait_for, l.payload, l.available_at, l.lease_expires_at
    from leased as l
    order by l.created_at, l.job_id;
end
$$;
comment on function pgwf.get_work(text, text[], integer, integer) is
    'Leases up to p_limit_jobs jobs that need one of the capabilities, oldest first. Never waits.';

create or replace function pgwf.extend_lease(
    p_job_id text,
    p_lease_id text,
    p_worker_id text,
    p_additional_seconds integer default 60
)
returns timestamptz
language plpgsql
as $$
declare
    v_now timestamptz;
    v_expires_at timestamptz;
    v_job pgwf.jobs;
begin
    if p_additional_seconds is null or p_additional_seconds <= 0 then
        raise exception 'additional_seconds must be positive' using constraint = 'ms_invalid_argument';
    end if;
    perform pgwf._require_job(p_job_id);
    perform pgwf._require_worker(p_worker_id);
    select j.* into v_job from pgwf.jobs as j where j.job_id = p_job_id for no key update;
    -- Read once the row is ours: a lease that lapsed while we waited for it is lost.
    v_now := clock_timestamp();
    if v_job.job_id is null or v_job.lease_id is distinct from p_lease_id or v_job.lease_id is null
        or v_job.lease_expires_at <= v_now
    then
        raise exception 'active lease not found for job %', p_job_id using constraint = 'ms_lease_mismatch';
    end if;
    if v_job.cancel_requested then
        raise exception 'job % is cancelled', p_job_id using constraint = 'ms_job_cancelled';
    end if;
    v_expires_at := v_now + make_interval(secs => p_additional_seconds);
    update pgwf.jobs set lease_expires_at = v_expires_at where job_id = p_job_id;
    if pgwf.is_trace_enabled() then
        insert into pgwf.jobs_trace (job_id, event_type, worker_id, input_data, output_data)
        values (
            p_job_id, 'lease_extended', p_worker_id,
            jsonb_build_object(
                'job_id', p_job_id, 'lease_id', p_lease_id, 'additional_seconds', p_additional_seconds
            ),
            jsonb_build_object('previous_expires_at', v_job.lease_expires_at, 'new_expires_at', v_expires_at)
        );
    end if;
    return v_expires_at;
end
$$;
comment on function pgwf.extend_lease(text, text, text, integer) is
    'Moves the end of a lease to p_additional_seconds from now, which may be earlier than before.';

-- ------------------------------------------------------------------------------------------------------ reschedule

-- p_singleton_key is what a caller of the older dialect believes the key to be; the key cannot change.
create or replace function pgwf._reschedule(
    p_job_id text,
    p_held boolean,
    p_lease_id text,
    p_worker_id text,
    p_next_need text,
    p_wait_for text[],
    p_available_at timestamptz,
    p_payload jsonb,
    p_singleton_key text
)
returns table (job_id text, next_need text, wait_for text[], available_at timestamptz)
language plpgsql
as $$
#variable_conflict use_column
declare
    v_now timestamptz;
    v_wait_for text[] := '{}';
    v_available_at timestamptz;
    v_trace boolean;
    v_notify boolean;
    v_job pgwf.jobs;
begin
    perform pgwf._require_job(p_job_id);
    perform pgwf._require_worker(p_worker_id);
    select j.* into v_job from pgwf.jobs as j where j.job_id = p_job_id for no key update;
    v_now := clock_timestamp();
    select s.trace_enabled, s.notify_enabled into v_trace, v_notify from pgwf.settings as s where s.only_row;
    if p_held then
        if v_job.job_id is null or v_job.lease_id is distinct from p_lease_id or v_job.lease_id is null
            or v_job.lease_expires_at <= v_now
        then
            raise exception 'job % is not currently leased with this lease id', p_job_id
                using constraint = 'ms_lease_mismatch';
        end if;
        if v_job.cancel_requested then
            raise exception 'job % is cancelled', p_job_id using constraint = 'ms_job_cancelled';
        end if;
    else
        perform pgwf._require_unheld(v_job, p_job_id, v_now, 'rescheduling');
    end if;
    if p_singleton_key is distinct from v_job.singleton_key and p_singleton_key is not null then
        raise exception 'the singleton key of job % cannot be changed', p_job_id
            using constraint = 'ms_singleton_immutable';
    end if;
    if cardinality(p_wait_for) > 0 then
        v_wait_for := pgwf.normalize_wait_for(p_wait_for);
    end if;
    if p_payload is not null then
        perform pgwf._require_payload(p_payload);
    end if;
    v_available_at := coalesce(p_available_at, v_now);
    update pgwf.jobs as j
    set next_need = p_next_need,
        wait_for = v_wait_for,
        available_at = v_available_at,
        payload = coalesce(p_payload, j.payload),
        lease_id = null,
        lease_expires_at = '-infinity',
        consecutive_expirations = 0
    where j.job_id = p_job_id;
    if v_trace then
        insert into pgwf.jobs_trace (job_id, event_type, worker_id, input_data, output_data)
        values (
            p_job_id, 'reschedule_job', p_worker_id,
            jsonb_build_object(
                'job_id', p_job_id, 'worker_id', p_worker_id,
                'previous_next_need', v_job.next_need, 'previous_wait_for', v_job.wait_for,
                'previous_available_at', v_job.available_at, 'previous_expires_at', v_job.expires_at,
                'next_need', p_next_need, 'wait_for', v_wait_for,
                'available_at', v_available_at, 'expires_at', v_job.expires_at
            ) || case
                when p_held then jsonb_build_object('lease_id', p_lease_id)
                else jsonb_build_object('rescheduled_without_lease', true)
            end,
            jsonb_build_object(
                'job_id', p_job_id, 'next_need', p_next_need, 'wait_for', v_wait_for,
                'available_at', v_available_at, 'expires_at', v_job.expires_at
            )
        );
    end if;
    if v_notify and v_job.expires_at > v_now then
        perform pgwf._announce(p_next_need, p_job_id);
    end if;
    return query select p_job_id, p_next_need, v_wait_for, v_available_at;
end
$$;

-- Refuses a job that is not READY, CRASH_CONCERN or EXPIRED.
create or replace function pgwf._require_unheld(p_job pgwf.jobs, p_job_id text, p_now timestamptz, p_purpose text)
returns void
language plpgsql
as $$
begin
    if p_job.job_id is null then
        raise exception 'job % is not available for %: not found', p_job_id, p_purpose
            using constraint = 'ms_job_missing';
    end if;
    if p_job.lease_expires_at > p_now or p_job.cancel_requested or p_job.available_at > p_now or p_job.wait_for <> '{}' then
        raise exception 'job % is not available for %', p_job_id, p_purpose using constraint = 'ms_job_unavailable';
    end if;
end
$$;

create or replace function pgwf.reschedule_job(
    p_job_id text,
    p_lease_id text,
    p_worker_id text,
    p_next_need text,
    p_wait_for text[] default '{}',
    p_available_at timestamptz default clock_timestamp(),
    p_payload jsonb default null
)
returns table (job_id text, next_need text, wait_for text[], available_at timestamptz)
language plpgsql
as $$
#variable_conflict use_column
begin
    return query
    select r.job_id, r.next_need, r.wait_for, r.available_at
    from pgwf._reschedule(
        p_job_id, true, p_lease_id, p_worker_id, p_next_need, p_wait_for, p_available_at, p_payload, null
    ) as r;
end
$$;
comment on function pgwf.reschedule_job(text, text, text, text, text[], timestamptz, jsonb) is
    'Gives a leased job back, for another capability, later, or until other jobs are done.';

create or replace function pgwf.reschedule_unheld_job(
    p_job_id text,
    p_worker_id text,
    p_next_need text,
    p_wait_for text[] default '{}',
    p_available_at timestamptz default clock_timestamp(),
    p_payload jsonb default null
)
returns table (job_id text, next_need text, wait_for text[], available_at timestamptz)
language plpgsql
as $$
#variable_conflict use_column
begin
    return query
    select r.job_id, r.next_need, r.wait_for, r.available_at
    from pgwf._reschedule(
        p_job_id, false, null, p_worker_id, p_next_need, p_wait_for, p_available_at, p_payload, null
    ) as r;
end
$$;
comment on function pgwf.reschedule_unheld_job(text, text, text, text[], timestamptz, jsonb) is
    'Changes what a job needs that nobody has leased.';

-- -------------------------------------------------------------------------------------------------------- complete

create or replace function pgwf._complete(p_job_id text, p_held boolean, p_lease_id text, p_worker_id text) returns boolean
language plpgsql
-- For the helpers too, which keep plans of their own.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    v_now timestamptz;
    v_trace boolean;
    v_notify boolean;
    v_job pgwf.jobs;
    v_archived pgwf.jobs_archive;
begin
    perform pgwf._require_job(p_job_id);
    perform pgwf._require_worker(p_worker_id);
    -- For update: waits for whoever is submitting a job that depends on this one.
    select j.* into v_job from pgwf.jobs as j where j.job_id = p_job_id for update;
    v_now := clock_timestamp();
    if not p_held then
        perform pgwf._require_unheld(v_job, p_job_id, v_now, 'completion');
    elsif v_job.job_id is null or v_job.lease_id is distinct from p_lease_id or v_job.lease_id is null
        or v_job.lease_expires_at <= v_now
    then
        raise exception 'job % is not actively leased with this lease id', p_job_id
            using constraint = 'ms_lease_mismatch';
    end if;
    select s.trace_enabled, s.notify_enabled into v_trace, v_notify from pgwf.settings as s where s.only_row;
    select a.* into v_archived from pgwf._archive(array[p_job_id], true) as a;
    perform pgwf._release_dependents(array[p_job_id], v_now, v_notify);
    if v_trace then
        insert into pgwf.jobs_trace (job_id, event_type, worker_id, input_data, output_data)
        values (
            p_job_id, 'job_finished', p_worker_id,
            jsonb_build_object('job_id', p_job_id, 'worker_id', p_worker_id) || case
                when p_held then jsonb_build_object('lease_id', p_lease_id)
                else jsonb_build_object('completed_without_lease', true)
            end,
            jsonb_build_object('archived_row', to_jsonb(v_archived) - 'payload')
        );
    end if;
    return true;
end
$$;

create or replace function pgwf.complete_job(p_job_id text, p_lease_id text, p_worker_id text) returns boolean
language sql
as $$ select pgwf._complete(p_job_id, true, p_lease_id, p_worker_id) $$;
comment on function pgwf.complete_job(text, text, text) is 'Archives a leased job and releases those that wait for it.';

create or replace function pgwf.complete_unheld_job(p_job_id text, p_worker_id text) returns boolean
language sql
as $$ select pgwf._complete(p_job_id, false, null, p_worker_id) $$;
comment on function pgwf.complete_unheld_job(text, text) is
    'Archives a job that nobody has leased, and releases those that wait for it.';

-- ---------------------------------------------------------------------------------------------------------- cancel

create or replace function pgwf.cancel_job(p_job_id text, p_worker_id text, p_reason text default null) returns pgwf.jobs
language plpgsql
as $$
declare
    v_now constant timestamptz := clock_timestamp();
    v_job pgwf.jobs;
    v_already boolean;
begin
    perform pgwf._require_job(p_job_id);
    perform pgwf._require_worker(p_worker_id);
    select j.* into v_job from pgwf.jobs as j where j.job_id = p_job_id for no key update;
    if v_job.job_id is null then
        if exists (select from pgwf.jobs_archive as a where a.job_id = p_job_id) then
            raise exception 'job % is already completed', p_job_id using constraint = 'ms_job_completed';
        end if;
        raise exception 'job % does not exist', p_job_id using constraint = 'ms_job_missing';
    end if;
    v_already := v_job.cancel_requested;
    if not v_already then
        update pgwf.jobs as j
        set cancel_requested = true,
            cancel_requested_by = p_worker_id,
            cancel_requested_at = v_now
        where j.job_id = p_job_id
        returning j.* into v_job;
    end if;
    if pgwf.is_trace_enabled() then
        insert into pgwf.jobs_trace (job_id, event_type, worker_id, input_data, output_data)
        values (
            p_job_id, 'job_cancel_requested', p_worker_id,
            jsonb_build_object(
                'job_id', p_job_id, 'worker_id', p_worker_id, 'reason', p_reason,
                'was_active', v_job.lease_expires_at > clock_timestamp()
            ) || case when v_already then jsonb_build_object('already_cancelled', true) else '{}' end,
            null
        );
    end if;
    return v_job;
end
$$;
comment on function pgwf.cancel_job(text, text, text) is
    'Asks for a job to be cancelled: at once when nobody has leased it, otherwise when the lease ends.';

create or replace function pgwf.archive_cancelled_jobs(p_worker_id text, p_limit integer default 100) returns integer
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    v_now constant timestamptz := clock_timestamp();
    v_trace boolean;
    v_notify boolean;
    v_candidates text[];
    v_dependents text[];
    v_locked text[];
    v_archived integer;
begin
    perform pgwf._require_worker(p_worker_id);
    if p_limit is null or p_limit <= 0 then
        raise exception 'limit must be positive' using constraint = 'ms_invalid_argument';
    end if;
    select s.trace_enabled, s.notify_enabled into v_trace, v_notify from pgwf.settings as s where s.only_row;
    -- Never waits: it holds many rows, and whoever holds one of the others may wait for one of these.
    select array_agg(c.job_id)
    into v_candidates
    from (
        select j.job_id
        from pgwf.jobs as j
        where j.cancel_requested
            and j.lease_expires_at <= v_now
        order by j.created_at, j.job_id
        limit p_limit
        for update skip locked
    ) as c;
    if v_candidates is null then
        return 0;
    end if;
    -- In statements of their own: nobody can begin to wait for a candidate once it is locked.
    select array_agg(j.job_id)
    into v_dependents
    from pgwf.jobs as j
    where j.wait_for && v_candidates
        and j.wait_for <> '{}';
    if v_dependents is not null then
        select coalesce(array_agg(d.job_id), '{}')
        into v_locked
        from (
            select j.job_id
            from pgwf.jobs as j
            where j.job_id = any(v_dependents)
            order by j.job_id
            for no key update skip locked
        ) as d;
        -- Whose dependents are not all ours is left for the next time.
        select coalesce(array_agg(c.job_id), '{}')
        into v_candidates
        from unnest(v_candidates) as c (job_id)
        where not exists (
            select
            from pgwf.jobs as j
            where j.job_id = any(v_dependents)
                and j.job_id <> all(v_locked)
                and j.wait_for @> array[c.job_id]
        );
        if v_candidates = '{}' then
            return 0;
        end if;
    end if;
    with archived as (
        select a.* from pgwf._archive(v_candidates, false) as a
    ),
    traced as (
        insert into pgwf.jobs_trace (job_id, event_type, worker_id, input_data, output_data)
        select
            a.job_id,
            'job_cancel_archived',
            p_worker_id,
            jsonb_build_object(
                'job_id', a.job_id, 'worker_id', p_worker_id, 'cancel_requested_at', a.cancel_requested_at
            ),
            jsonb_build_object('archived_row', to_jsonb(a) - 'payload')
        from archived as a
        where v_trace
    )
    select count(*) into v_archived from archived;
    perform pgwf._release_dependents(v_candidates, v_now, v_notify);
    if v_trace then
        insert into pgwf.jobs_trace (job_id, event_type, worker_id, input_data, output_data)
        values (
            'pgwf.archive_cancelled_jobs', 'job_cancel_archived_run', p_worker_id,
            jsonb_build_object('worker_id', p_worker_id, 'limit', p_limit, 'archived_jobs', v_archived),
            null
        );
    end if;
    return v_archived;
end
$$;
comment on function pgwf.archive_cancelled_jobs(text, integer) is
    'Moves cancelled jobs to the archive, oldest first, and releases those that wait for them. Run it now and then.';

create or replace function pgwf.clear_crash_concern(p_job_id text, p_worker_id text, p_reason text default null)
returns boolean
language plpgsql
as $$
declare
    v_job pgwf.jobs;
begin
    perform pgwf._require_job(p_job_id);
    perform pgwf._require_worker(p_worker_id);
    select j.* into v_job from pgwf.jobs as j where j.job_id = p_job_id for no key update;
    if v_job.job_id is null then
        if exists (select from pgwf.jobs_archive as a where a.job_id = p_job_id) then
            raise exception 'job % is archived', p_job_id using constraint = 'ms_job_completed';
        end if;
        raise exception 'job % does not exist', p_job_id using constraint = 'ms_job_missing';
    end if;
    if v_job.cancel_requested then
        raise exception 'job % is cancelled', p_job_id using constraint = 'ms_job_cancelled';
    end if;
    update pgwf.jobs set consecutive_expirations = 0 where job_id = p_job_id;
    if pgwf.is_trace_enabled() then
        insert into pgwf.jobs_trace (job_id, event_type, worker_id, input_data, output_data)
        values (
            p_job_id, 'crash_concern_cleared', p_worker_id,
            jsonb_build_object(
                'job_id', p_job_id, 'worker_id', p_worker_id,
                'previous_consecutive_expirations', v_job.consecutive_expirations, 'reason', p_reason
            ),
            jsonb_build_object('consecutive_expirations', 0)
        );
    end if;
    return true;
end
$$;
comment on function pgwf.clear_crash_concern(text, text, text) is
    'Lets a job be leased again whose leases ran out too often in a row.';

-- --------------------------------------------------------------------------------------------------- older dialect

-- The older dialect passes (..., wait_for, singleton_key, available_at) by position. Two overloads let both dialects be
-- called: one for drivers that send types, one, of text only, for those that leave them to the server; there the
-- category of text wins at each position. Neither has defaults, and no parameter has a name of another overload:
-- otherwise short and named calls would become ambiguous.

create or replace function pgwf._is_timestamp(p_text text) returns boolean
language sql immutable
as $$
    select p_text ~* '^\s*[+-]?\d{4,}-\d\d-\d\d[ t]\d\d:\d\d(:\d\d(\.\d+)?)?\s*(z|[+-]\d\d(:?\d\d(:?\d\d)?)?)(\s*bc)?\s*$'
$$;

create or replace function pgwf._is_json(p_text text) returns boolean
language sql immutable
as $$ select p_text ~ '^\s*[{\[]' $$;

create or replace function pgwf.submit_job(
    legacy_job_id text,
    legacy_worker_id text,
    legacy_next_need text,
    legacy_wait_for text[],
    legacy_singleton_key text,
    legacy_available_at timestamptz
)
returns table (job_id text, next_need text, wait_for text[], payload jsonb, available_at timestamptz)
language plpgsql
as $$
#variable_conflict use_column
begin
    return query
    select s.job_id, s.next_need, s.wait_for, s.payload, s.available_at
    from pgwf.submit_job(
        p_job_id => legacy_job_id, p_worker_id => legacy_worker_id, p_next_need => legacy_next_need,
        p_wait_for => legacy_wait_for, p_singleton_key => legacy_singleton_key, p_available_at => legacy_available_at
    ) as s;
end
$$;

create or replace function pgwf.submit_job(
    untyped_job_id text,
    untyped_worker_id text,
    untyped_next_need text,
    untyped_wait_for text[],
    untyped_fifth text,
    untyped_sixth text
)
returns table (job_id text, next_need text, wait_for text[], payload jsonb, available_at timestamptz)
language plpgsql
as $$
#variable_conflict use_column
declare
    v_payload jsonb;
    v_singleton_key text;
    v_available_at timestamptz;
begin
    if pgwf._is_json(untyped_fifth) then
        v_payload := untyped_fifth::jsonb;
        v_singleton_key := untyped_sixth;
    elsif untyped_fifth is not null then
        v_singleton_key := untyped_fifth;
        v_available_at := untyped_sixth::timestamptz;
    elsif pgwf._is_timestamp(untyped_sixth) then
        v_available_at := untyped_sixth::timestamptz;
    else
        v_singleton_key := untyped_sixth;
    end if;
    return query
    select s.job_id, s.next_need, s.wait_for, s.payload, s.available_at
    from pgwf.submit_job(
        p_job_id => untyped_job_id, p_worker_id => untyped_worker_id, p_next_need => untyped_next_need,
        p_wait_for => untyped_wait_for, p_payload => v_payload, p_singleton_key => v_singleton_key,
        p_available_at => v_available_at
    ) as s;
end
$$;

create or replace function pgwf.reschedule_job(
    legacy_job_id text,
    legacy_lease_id text,
    legacy_worker_id text,
    legacy_next_need text,
    legacy_wait_for text[],
    legacy_singleton_key text,
    legacy_available_at timestamptz
)
returns table (job_id text, next_need text, wait_for text[], available_at timestamptz)
language plpgsql
as $$
#variable_conflict use_column
begin
    return query
    select r.job_id, r.next_need, r.wait_for, r.available_at
    from pgwf._reschedule(
        legacy_job_id, true, legacy_lease_id, legacy_worker_id, legacy_next_need, legacy_wait_for,
        legacy_available_at, null, legacy_singleton_key
    ) as r;
end
$$;

create or replace function pgwf.reschedule_unheld_job(
    legacy_job_id text,
    legacy_worker_id text,
    legacy_next_need text,
    legacy_wait_for text[],
    legacy_singleton_key text,
    legacy_available_at timestamptz
)
returns table (job_id text, next_need text, wait_for text[], available_at timestamptz)
language plpgsql
as $$
#variable_conflict use_column
begin
    return query
    select r.job_id, r.next_need, r.wait_for, r.available_at
    from pgwf._reschedule(
        legacy_job_id, false, null, legacy_worker_id, legacy_next_need, legacy_wait_for,
        legacy_available_at, null, legacy_singleton_key
    ) as r;
end
$$;

create or replace function pgwf._reschedule_untyped(
    p_job_id text,
    p_held boolean,
    p_lease_id text,
    p_worker_id text,
    p_next_need text,
    p_wait_for text[],
    p_first text,
    p_second text
)
returns table (job_id text, next_need text, wait_for text[], available_at timestamptz)
language plpgsql
as $$
#variable_conflict use_column
declare
    v_singleton_key text;
    v_available_at timestamptz;
    v_payload jsonb;
begin
    if pgwf._is_json(p_second) then
        v_available_at := p_first::timestamptz;
        v_payload := p_second::jsonb;
    elsif p_second is not null then
        v_singleton_key := p_first;
        v_available_at := p_second::timestamptz;
    elsif pgwf._is_timestamp(p_first) then
        v_available_at := p_first::timestamptz;
    else
        v_singleton_key := p_first;
    end if;
    return query
    select r.job_id, r.next_need, r.wait_for, r.available_at
    from pgwf._reschedule(
        p_job_id, p_held, p_lease_id, p_worker_id, p_next_need, p_wait_for,
        v_available_at, v_payload, v_singleton_key
    ) as r;
end
$$;

create or replace function pgwf.reschedule_job(
    untyped_job_id text,
    untyped_lease_id text,
    untyped_worker_id text,
    untyped_next_need text,
    untyped_wait_for text[],
    untyped_sixth text,
    untyped_seventh text
)
returns table (job_id text, next_need text, wait_for text[], available_at timestamptz)
language plpgsql
as $$
#variable_conflict use_column
begin
    return query
    select r.job_id, r.next_need, r.wait_for, r.available_at
    from pgwf._reschedule_untyped(
        untyped_job_id, true, untyped_lease_id, untyped_worker_id, untyped_next_need, untyped_wait_for,
        untyped_sixth, untyped_seventh
    ) as r;
end
$$;

create or replace function pgwf.reschedule_unheld_job(
    untyped_job_id text,
    untyped_worker_id text,
    untyped_next_need text,
    untyped_wait_for text[],
    untyped_fifth text,
    untyped_sixth text
)
returns table (job_id text, next_need text, wait_for text[], available_at timestamptz)
language plpgsql
as $$
#variable_conflict use_column
begin
    return query
    select r.job_id, r.next_need, r.wait_for, r.available_at
    from pgwf._reschedule_untyped(
        untyped_job_id, false, null, untyped_worker_id, untyped_next_need, untyped_wait_for,
        untyped_fifth, untyped_sixth
    ) as r;
end
$$;

-- --------------------------------------------------------------------------------------------------------- pg_cron

-- Sweeps cancelled jobs every minute where pg_cron is. Whatever fails here must not fail the installation: the sweep
-- can be called from anywhere.
set local client_min_messages = notice;
do $$
begin
    if exists (select from pg_catalog.pg_available_extensions where name = 'pg_cron') then
        create extension if not exists pg_cron;
    end if;
exception
    when others then
        raise notice 'pgwf: pg_cron cannot be created: %', sqlerrm;
end
$$;
do $$
begin
    if to_regprocedure('cron.schedule(text,text,text)') is not null then
        execute 'select cron.unschedule(jobid) from cron.job where jobname = $1' using 'pgwf_archive_cancelled';
        execute 'select cron.schedule($1, $2, $3)' using
            'pgwf_archive_cancelled',
            '* * * * *',
            'select pgwf.archive_cancelled_jobs(''pgwf-cron'', 500)';
    end if;
exception
    when others then
        raise notice 'pgwf: cancelled jobs are not archived by pg_cron: %', sqlerrm;
end
$$;

commit;
