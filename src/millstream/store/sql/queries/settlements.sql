-- How batches reach `jobs` is said in jobs.sql.

-- name: complete_jobs :one
-- Moves running jobs whose lease still holds to jobs_done and lets go what waited for them. The rows must come in
-- the order of their keys.
with batch as materialized (
    select pg_advisory_xact_lock(:batch_id::bigint)
),
given as materialized (
    select g.*
    from batch
    cross join unnest(
        :tenant_ids::text::int[], :ids::text::uuid[], :worker_ids::text::text[], :lease_ids::text::uuid[], :check_ends::text::boolean[],
        :results::text::text[]
    ) with ordinality as g (tenant_id, id, worker_id, lease_id, check_end, result, place)
),
finished as (
    -- The rows come in the order of their keys and are locked as they go.
    delete from millstream.jobs as j
    using given as g
    where
        j.tenant_id = any(array[g.tenant_id])
        and j.id = any(array[g.id])
        -- The sum keeps the partial indexes of running jobs out of this: there is one way to a row, its key.
        and j.state + 0 = 5
        and j.worker_id = g.worker_id
        and (g.lease_id is null or j.lease_id = g.lease_id)
        and (
            (g.lease_id is null and not g.check_end)
            or j.lease_expires_at > coalesce(:now::timestamptz, now())
        )
    returning j.*, g.result, g.place
),
kept as (
    insert into millstream.jobs_done (
        tenant_id, id, queue, state, priority, retry_count, max_retries, timeout_seconds, created_at, updated_at,
        run_at, expires_at, started_at, finished_at, lease_expires_at, lease_id, parent_job_id, workflow_id, unmet,
        dependency_mode, worker_id, job_type, payload, result, tags, last_error, idempotency_key,
        completion_webhook
    )
    select
        f.tenant_id, f.id, f.queue, 7, f.priority, f.retry_count, f.max_retries, f.timeout_seconds, f.created_at,
        coalesce(:now::timestamptz, now()), f.run_at, f.expires_at, f.started_at, coalesce(:now::timestamptz, now()),
        f.lease_expires_at, f.lease_id, f.parent_job_id, f.workflow_id, f.unmet, f.dependency_mode, f.worker_id,
        f.job_type, f.payload, f.result, f.tags, f.last_error, f.idempotency_key, f.completion_webhook
    from finished as f
),
called_back as (
    insert into millstream.outgoing_deliveries (
        tenant_id, id, receiver, event, url, secret, data, created_at, next_attempt_at
    )
    select
        f.tenant_id, millstream.new_id_at(coalesce(:now::timestamptz, now())),
        md5(millstream.host_of(f.completion_webhook))::uuid, 3, f.completion_webhook, f.completion_webhook_secret,
        millstream.completion_body(
            'job.completed', f.id, f.queue, 'completed', f.result, null, f.retry_count, f.created_at,
            coalesce(:now::timestamptz, now())
        ),
        coalesce(:now::timestamptz, now()), coalesce(:now::timestamptz, now())
    from finished as f
    where f.completion_webhook is not null
),
released as materialized (
    select p.tenant_id, r.id, r.queue, r.state
    from (
        select
            f.tenant_id,
            array_agg(f.id order by f.id) as ids,
            array_agg(distinct f.workflow_id) filter (where f.workflow_id is not null) as workflow_ids
        from finished as f
        where f.has_dependents
        group by f.tenant_id
        order by f.tenant_id
    ) as p
    cross join lateral millstream.release_dependents(
        p.tenant_id, p.ids, p.workflow_ids, coalesce(:now::timestamptz, now())
    ) as r
),
counted as (
    insert into millstream.counter_deltas (tenant_id, kind, subject, day, amount)
    select f.tenant_id, 2, '', (coalesce(:now::timestamptz, now()) at time zone 'UTC')::date, count(*)
    from finished as f
    group by f.tenant_id
    union all
    -- Only registered workers have totals: claims need no registration, and a row per job would be one too many.
    select b.tenant_id, 4, b.worker_id, (coalesce(:now::timestamptz, now()) at time zone 'UTC')::date, b.jobs
    from (
        select f.tenant_id, f.worker_id, count(*) as jobs
        from finished as f
        group by f.tenant_id, f.worker_id
    ) as b
    inner join millstream.workers as w on w.tenant_id = b.tenant_id and w.id = b.worker_id
)
-- One row of arrays: a row for every job would be made, sent and read one by one.
select
    f.places, f.seconds, f.queues, u.tenant_ids as unblocked_tenant_ids, u.ids as unblocked_ids, u.queues as unblocked_queues,
    u.workflows_changed
from (
    select
        array_agg(f.place) as places,
        array_agg(extract(epoch from coalesce(:now::timestamptz, now()) - f.started_at)::float8) as seconds,
        array_agg(f.queue) filter (where :tell::boolean) as queues
    from finished as f
) as f
cross join (
    select
        array_agg(r.tenant_id) filter (where r.state = 1) as tenant_ids,
        array_agg(r.id) filter (where r.state = 1) as ids,
        array_agg(r.queue) filter (where r.state = 1) as queues,
        bool_or(r.id is null) as workflows_changed
    from released as r
) as u;

-- name: fail_jobs :many
-- Ends running attempts, reported failed or past their lease: retried while retries are left, else buried.
-- With `reap` = 0 only the given ones, else also up to that many whose lease has run out.
with batch as materialized (
    select pg_advisory_xact_lock(:batch_id::bigint)
),
given as materialized (
    select g.*
    from batch
    cross join unnest(
        :tenant_ids::text::int[], :ids::text::uuid[], :worker_ids::text::text[], :lease_ids::text::uuid[], :check_ends::text::boolean[],
        :errors::text::text[], :delays::text::int[], :event_ids::text::uuid[]
    ) with ordinality as g (tenant_id, id, worker_id, lease_id, check_end, error, delay, event_id, place)
),
-- What happens next is decided by the locked version of the row, not by the snapshot's.
held as materialized (
    select
        j.tenant_id, j.id, j.queue, j.retry_count, j.max_retries, j.worker_id, j.lease_id, j.started_at, g.error,
        g.delay, g.event_id, g.place, 4 as kind
    from (select o.* from given as o order by o.tenant_id, o.id) as g
    cross join lateral (
        select j.*
        from millstream.jobs as j
        where j.tenant_id = g.tenant_id and j.id = g.id
        limit 1
        for update
    ) as j
    where
        j.state = 5
        and j.worker_id = g.worker_id
        and (g.lease_id is null or j.lease_id = g.lease_id)
        and (
            (g.lease_id is null and not g.check_end)
            or j.lease_expires_at > coalesce(:now::timestamptz, now())
        )
),
lapsed as materialized (
    select
        j.tenant_id, j.id, j.queue, j.retry_count, j.max_retries, j.worker_id, j.lease_id, j.started_at,
        'lease expired before the worker reported back' as error, 0 as delay, gen_random_uuid() as event_id,
        null::bigint as place, 5 as kind
    from millstream.jobs as j
    where
        j.state = 5
        and j.lease_expires_at < coalesce(:now::timestamptz, now())
        and j.lease_expires_at > coalesce(:now::timestamptz, now()) - :lookback_seconds::int * interval '1 second'
    order by j.lease_expires_at
    limit :reap::int
    for update skip locked
),
ended as materialized (
    select
        e.*,
        e.retry_count < e.max_retries as again,
        case
            when e.delay is not null then e.delay
            -- 150: no power up to the largest factor overflows, and every growing one is past its maximum.
            when q.retry_initial_seconds is not null then floor(least(
                q.retry_initial_seconds * power(coalesce(q.retry_factor, 2), least(e.retry_count, 150)),
                coalesce(q.retry_max_seconds, 86400)
            ))::int
            else least(power(2, least(e.retry_count, 6)), 60)::int
        end as wait
    from (
        select h.* from held as h
        union all
        select l.* from lapsed as l
    ) as e
    left join millstream.queues as q on q.tenant_id = e.tenant_id and q.name = e.queue
),
retried as (
    update millstream.jobs as j
    set
        state = case when e.wait = 0 then 1 else 3 end,
        returned = true,
        retry_count = j.retry_count + 1,
        run_at = case
            when e.kind = 5 then j.run_at
            else coalesce(:now::timestamptz, now()) + e.wait * interval '1 second'
        end,
        last_error = e.error,
        worker_id = null,
        lease_id = null,
        lease_expires_at = null,
        updated_at = coalesce(:now::timestamptz, now())
    from ended as e
    where e.again and j.tenant_id = any(array[e.tenant_id]) and j.id = any(array[e.id])
    returning j.tenant_id, j.id, j.queue, j.state, j.run_at
),
removed as (
    delete from millstream.jobs as j
    using ended as e
    where not e.again and j.tenant_id = any(array[e.tenant_id]) and j.id = any(array[e.id])
    returning j.*, e.error
),
buried as (
    insert into millstream.jobs_dead (
        tenant_id, id, queue, priority, retry_count, max_retries, timeout_seconds, created_at, updated_at, run_at,
        expires_at, started_at, parent_job_id, workflow_id, dependency_mode, has_dependents, job_type, payload, tags,
        last_error, idempotency_key, completion_webhook, completion_webhook_secret
    )
    select
        r.tenant_id, r.id, r.queue, r.priority, r.retry_count, r.max_retries, r.timeout_seconds, r.created_at,
        coalesce(:now::timestamptz, now()), r.run_at, r.expires_at, r.started_at, r.parent_job_id, r.workflow_id,
        r.dependency_mode, r.has_dependents, r.job_type, r.payload, r.tags, r.error, r.idempotency_key,
        r.completion_webhook, r.completion_webhook_secret
    from removed as r
),
called_back as (
    insert into millstream.outgoing_deliveries (
        tenant_id, id, receiver, event, url, secret, data, created_at, next_attempt_at
    )
    select
        r.tenant_id, millstream.new_id_at(coalesce(:now::timestamptz, now())),
        md5(millstream.host_of(r.completion_webhook))::uuid, 6, r.completion_webhook, r.completion_webhook_secret,
        millstream.completion_body(
            'job.deadlettered', r.id, r.queue, 'deadletter', null, r.error, r.retry_count, r.created_at, null
        ),
        coalesce(:now::timestamptz, now()), coalesce(:now::timestamptz, now())
    from removed as r
    where r.completion_webhook is not null
),
-- The children of a buried job can never start, nor what waits for those in turn.
children as materialized (
    select p.tenant_id, h.id
    from (
        select r.tenant_id, array_agg(r.id order by r.id) as ids
        from removed as r
        where r.has_dependents
        group by r.tenant_id
        order by r.tenant_id
    ) as p
    cross join lateral millstream.lock_hopeless(p.tenant_id, p.ids, true) as h
),
orphaned as (
    delete from millstream.jobs as j
    using children as c
    where j.tenant_id = any(array[c.tenant_id]) and j.id = any(array[c.id])
    returning j.*
),
cancelled as (
    insert into millstream.jobs_done (
        tenant_id, id, queue, state, priority, retry_count, max_retries, timeout_seconds, created_at, updated_at,
        run_at, expires_at, started_at, finished_at, parent_job_id, workflow_id, unmet, dependency_mode, job_type,
        payload, tags, last_error, idempotency_key, completion_webhook
    )
    select
        o.tenant_id, o.id, o.queue, 8, o.priority, o.retry_count, o.max_retries, o.timeout_seconds, o.created_at,
        coalesce(:now::timestamptz, now()), o.run_at, o.expires_at, o.started_at,
        coalesce(:now::timestamptz, now()), o.parent_job_id, o.workflow_id, o.unmet, o.dependency_mode, o.job_type,
        o.payload, o.tags, 'parent job failed', o.idempotency_key, o.completion_webhook
    from orphaned as o
),
changed as (
    insert into millstream.workflow_changes (tenant_id, workflow_id)
    select r.tenant_id, r.workflow_id from removed as r where r.workflow_id is not null
    union
    select o.tenant_id, o.workflow_id from orphaned as o where o.workflow_id is not null
),
recorded as (
    insert into millstream.job_events (
        tenant_id, job_id, id, kind, buried, worker_id, lease_id, claimed_at, at, error
    )
    select
        e.tenant_id, e.id, e.event_id, e.kind, not e.again, e.worker_id, e.lease_id, e.started_at,
        coalesce(:now::timestamptz, now()), e.error
    from ended as e
),
counted as (
    insert into millstream.counter_deltas (tenant_id, kind, subject, day, amount)
    select e.tenant_id, 3, '', (coalesce(:now::timestamptz, now()) at time zone 'UTC')::date, count(*)
    from ended as e
    where not e.again
    group by e.tenant_id
    union all
    -- A lapsed lease is not counted against its worker.
    select b.tenant_id, 5, b.worker_id, (coalesce(:now::timestamptz, now()) at time zone 'UTC')::date, b.jobs
    from (
        select e.tenant_id, e.worker_id, count(*) as jobs
        from ended as e
        where e.kind = 4
        group by e.tenant_id, e.worker_id
    ) as b
    inner join millstream.workers as w on w.tenant_id = b.tenant_id and w.id = b.worker_id
)
select
    e.place, e.tenant_id, e.id, e.kind, e.again, e.wait, e.queue,
    extract(epoch from coalesce(:now::timestamptz, now()) - e.started_at)::float8 as seconds
from ended as e;

-- name: renew_leases :many
-- Moves the end of leases that still hold, earlier or later. The rows must come in the order of their keys.
update millstream.jobs as j
set
    lease_expires_at = coalesce(:now::timestamptz, now()) + g.lease_seconds * interval '1 second',
    updated_at = coalesce(:now::timestamptz, now())
from unnest(
    :tenant_ids::text::int[], :ids::text::uuid[], :worker_ids::text::text[], :lease_ids::text::uuid[], :check_ends::text::boolean[],
    :lease_seconds::text::int[]
) with ordinality as g (tenant_id, id, worker_id, lease_id, check_end, lease_seconds, place)
where
    j.tenant_id = any(array[g.tenant_id])
    and j.id = any(array[g.id])
    and j.state + 0 = 5
    and j.worker_id = g.worker_id
    and (g.lease_id is null or j.lease_id = g.lease_id)
    and (
        (g.lease_id is null and not g.check_end)
        or j.lease_expires_at > coalesce(:now::timestamptz, now())
    )
returning g.place, j.lease_expires_at;

-- name: judge_jobs :many
-- Tells, on a fresh snapshot, how the jobs stand whose settlement was refused.
select
    g.place,
    h.state,
    h.worker_id,
    h.lease_id,
    h.lease_expires_at <= coalesce(:now::timestamptz, now()) as lease_ended
from unnest(:tenant_ids::int[], :ids::uuid[]) with ordinality as g (tenant_id, id, place)
cross join lateral (
    select j.state, j.worker_id, j.lease_id, j.lease_expires_at
    from millstream.jobs as j
    where j.tenant_id = g.tenant_id and j.id = g.id
    union all
    select 6::smallint, null, null, null
    from millstream.jobs_dead as j
    where j.tenant_id = g.tenant_id and j.id = g.id
    union all
    -- The limit keeps this a plan of its own: within the union PostgreSQL 15 would open every partition.
    (
        select j.state, j.worker_id, j.lease_id, j.lease_expires_at
        from millstream.jobs_done as j
        where j.tenant_id = g.tenant_id and j.id = g.id
        limit 1
    )
) as h;

-- name: find_completed_jobs :many
-- Looks up, after a lost connection, which of the given jobs are completed, by whom, and how long ago.
select
    g.place,
    d.worker_id,
    d.lease_id,
    -- Not the time at which this transaction began: it may have waited for the one that it looks for.
    extract(epoch from coalesce(:now::timestamptz, clock_timestamp()) - d.finished_at)::float8 as seconds_ago
from unnest(:tenant_ids::int[], :ids::uuid[]) with ordinality as g (tenant_id, id, place)
cross join lateral (
    select j.worker_id, j.lease_id, j.finished_at
    from millstream.jobs_done as j
    where j.tenant_id = g.tenant_id and j.id = g.id and j.state = 7
    limit 1
) as d;

-- name: find_ended_attempts :many
-- Looks up, after a lost connection, which of the given failures were recorded.
select e.id, e.buried, greatest(extract(epoch from j.run_at - e.at), 0)::int as wait
from unnest(:tenant_ids::int[], :job_ids::uuid[], :event_ids::uuid[]) as g (tenant_id, job_id, id)
inner join millstream.job_events as e on e.tenant_id = g.tenant_id and e.job_id = g.job_id and e.id = g.id
left join millstream.jobs as j on j.tenant_id = e.tenant_id and j.id = e.job_id;
