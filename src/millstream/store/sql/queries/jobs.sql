-- How batches reach `jobs`: rows are changed, or locked first, in the order of their keys; through `= any(array[...])`,
-- or through a lateral sub-query whose limit keeps conditions on the state out of it. Both leave the planner one way, a look-up by primary key for each
-- row. A plain equality lets it begin with the table instead, along whatever partial index its statistics call empty:
-- a claim or completion of 500 rows then looked at 250,000 pairs.

-- name: create_jobs :many
-- Inserts new jobs, or finds the ones that hold their idempotency keys already.
with batch as materialized (
    select pg_advisory_xact_lock(:batch_id::bigint)
),
given as materialized (
    select
        g.*,
        coalesce(g.max_retries, q.max_retries, :default_max_retries::smallint) as retries,
        coalesce(g.timeout_seconds, q.default_timeout_seconds, :default_timeout_seconds::int) as timeout,
        k.job_id as known_id,
        coalesce(:now::timestamptz, now()) as at
    from batch
    cross join unnest(
        :tenant_ids::text::int[],
        :ids::text::uuid[],
        :queues::text::text[],
        :payloads::text::text[],
        :job_types::text::text[],
        :priorities::text::smallint[],
        :max_retries::text::smallint[],
        :timeouts::text::int[],
        :run_ats::text::timestamptz[],
        :expires_ats::text::timestamptz[],
        :idempotency_keys::text::text[],
        :tags::text::text[],
        :parent_job_ids::text::uuid[],
        :webhooks::text::text[],
        :webhook_secrets::text::text[]
    ) with ordinality as g (
        tenant_id, id, queue, payload, job_type, priority, max_retries, timeout_seconds, run_at, expires_at,
        idempotency_key, tags, parent_job_id, completion_webhook, completion_webhook_secret, place
    )
    left join millstream.queues as q on q.tenant_id = g.tenant_id and q.name = g.queue
    left join millstream.idempotency_keys as k on k.tenant_id = g.tenant_id and k.key = g.idempotency_key
),
keyed as (
    insert into millstream.idempotency_keys as k (tenant_id, key, job_id)
    select g.tenant_id, g.idempotency_key, g.id
    from given as g
    where g.idempotency_key is not null and g.known_id is null
    order by g.tenant_id, g.idempotency_key
    -- An update, not `do nothing`: only that returns the row of a concurrent winner, and its xmax tells it.
    on conflict (tenant_id, key) do update set job_id = k.job_id
    returning k.tenant_id, k.key, k.job_id, k.xmax <> 0 as lost
),
-- Rarely more than none, so that joining it costs nothing however large the batch is.
lost as materialized (
    select k.tenant_id, k.key, k.job_id
    from keyed as k
    where k.lost
),
fresh as materialized (
    select g.*
    from given as g
    left join lost as l on l.tenant_id = g.tenant_id and l.key = g.idempotency_key
    where g.known_id is null and l.job_id is null
),
inserted as (
    insert into millstream.jobs (
        tenant_id, id, queue, state, priority, max_retries, timeout_seconds, created_at, updated_at, run_at,
        expires_at, parent_job_id, job_type, payload, tags, idempotency_key, completion_webhook,
        completion_webhook_secret
    )
    select
        f.tenant_id, f.id, f.queue, case when f.run_at > f.at then 2 else 1 end, f.priority, f.retries, f.timeout,
        f.at, f.at, f.run_at, f.expires_at, f.parent_job_id, f.job_type, f.payload, f.tags, f.idempotency_key,
        f.completion_webhook, f.completion_webhook_secret
    from fresh as f
    order by f.place
),
labelled as (
    insert into millstream.job_labels (tenant_id, kind, label)
    select l.tenant_id, l.kind, l.label
    from unnest(:label_tenant_ids::text::int[], :label_kinds::text::smallint[], :labels::text::text[]) as l (tenant_id, kind, label)
    order by l.tenant_id, l.kind, l.label
    on conflict do nothing
),
counted as (
    insert into millstream.counter_deltas (tenant_id, kind, subject, day, amount)
    select f.tenant_id, 1, '', (f.at at time zone 'UTC')::date, count(*)
    from fresh as f
    group by f.tenant_id, (f.at at time zone 'UTC')::date
)
select
    coalesce(g.known_id, l.job_id, g.id) as id,
    g.known_id is null and l.job_id is null as created,
    coalesce(g.run_at > g.at, false) as delayed
from given as g
left join lost as l on l.tenant_id = g.tenant_id and l.key = g.idempotency_key
order by g.place;

-- name: touch_jobs :exec
-- Moves updated_at of jobs that an idempotency key was answered with, wherever they live.
with given as materialized (
    select g.tenant_id, g.id
    from unnest(:tenant_ids::int[], :ids::uuid[]) as g (tenant_id, id)
),
alive as (
    update millstream.jobs as j
    set updated_at = coalesce(:now::timestamptz, now())
    from given as g
    where j.tenant_id = any(array[g.tenant_id]) and j.id = any(array[g.id])
),
dead as (
    update millstream.jobs_dead as j
    set updated_at = coalesce(:now::timestamptz, now())
    from given as g
    where j.tenant_id = g.tenant_id and j.id = g.id
)
update millstream.jobs_done as j
set updated_at = coalesce(:now::timestamptz, now())
from given as g
where j.tenant_id = g.tenant_id and j.id = g.id;

-- name: find_known_jobs :many
-- Tells which of the given ids belong to jobs of their tenant, in any state.
select g.id
from unnest(:tenant_ids::int[], :ids::uuid[]) as g (tenant_id, id)
cross join lateral (
    select from millstream.jobs as j where j.tenant_id = g.tenant_id and j.id = g.id
    union all
    select from millstream.jobs_dead as j where j.tenant_id = g.tenant_id and j.id = g.id
    union all
    -- The limit keeps this a plan of its own: within the union PostgreSQL 15 would open every partition.
    (select from millstream.jobs_done as j where j.tenant_id = g.tenant_id and j.id = g.id limit 1)
) as known;

-- name: promote_due_jobs :many
-- Makes jobs claimable whose time has come, the longest due first.
with due as materialized (
    select j.tenant_id, j.id
    from millstream.jobs as j
    where
        j.state in (2, 3)
        and j.run_at <= coalesce(:now::timestamptz, now())
        and j.run_at > :after::timestamptz
    order by j.run_at
    limit :limit::int
    for update skip locked
)
update millstream.jobs as j
set state = 1, returned = true, updated_at = case when j.state = 2 then coalesce(:now::timestamptz, now()) else j.updated_at end
from due as d
where j.tenant_id = any(array[d.tenant_id]) and j.id = any(array[d.id])
returning j.tenant_id, j.id, j.queue, j.run_at;

-- name: next_run_at :one
-- Tells when the next waiting job is due, and how many seconds from now that is.
select j.run_at, extract(epoch from j.run_at - coalesce(:now::timestamptz, now()))::float8 as in_seconds
from millstream.jobs as j
where j.state in (2, 3) and j.run_at > :after::timestamptz
order by j.run_at
limit 1;

-- name: claim_jobs :many
-- Hands the best ready jobs of each wanted queue to the seats that asked, each under a new lease.
with batch as materialized (
    select pg_advisory_xact_lock(:batch_id::bigint)
),
wanted as materialized (
    select w.*, coalesce(q.enabled, true) as enabled
    from batch
    cross join unnest(:tenant_ids::int[], :queues::text[], :wants::int[], :slot_firsts::int[])
    with ordinality as w (tenant_id, queue, want, slot_first, number)
    left join millstream.queues as q on q.tenant_id = w.tenant_id and q.name = w.queue
),
-- `skip locked` does not skip this statement's own locks, so one row of `wanted` is one queue and the jobs
-- are handed out by their number.
picked as materialized (
    select
        c.tenant_id,
        c.id,
        w.slot_first
        + row_number() over (partition by w.number order by c.priority desc, c.created_at, c.id) as slot
    from wanted as w
    cross join lateral (
        select j.tenant_id, j.id, j.priority, j.created_at
        from millstream.jobs as j
        where
            j.tenant_id = w.tenant_id
            and j.queue = w.queue
            and j.state = 1
            and (j.expires_at is null or j.expires_at > coalesce(:now::timestamptz, now()))
        order by j.priority desc, j.created_at, j.id
        limit case when w.enabled then w.want else 0 end
        for update skip locked
    ) as c
)
-- A slot finds its seat by subscript: a join of places with ranges of seats would look at every pair.
-- The sub-selects make an array of each literal once, not once for every row.
update millstream.jobs as j
set
    state = 5,
    returned = false,
    worker_id = (:worker_ids::text[])[((select :slot_seats::text::int[]))[p.slot]],
    lease_id = ((select :lease_ids::text::uuid[]))[p.slot],
    lease_expires_at = coalesce(:now::timestamptz, now())
    + (:lease_seconds::int[])[((select :slot_seats::text::int[]))[p.slot]] * interval '1 second',
    started_at = coalesce(:now::timestamptz, now()),
    updated_at = coalesce(:now::timestamptz, now())
from picked as p
where j.tenant_id = any(array[p.tenant_id]) and j.id = any(array[p.id])
returning
    p.slot, j.id, j.queue, j.payload, j.priority, j.retry_count, j.max_retries, j.timeout_seconds, j.created_at,
    j.lease_id, j.lease_expires_at;

-- name: find_claimed_jobs :many
-- Looks up, after a lost connection, which leases of a batch were written: their ids have a head in common.
select j.tenant_id, j.id, j.lease_id
from millstream.jobs as j
where
    j.tenant_id = any(:tenant_ids::int[])
    and j.state = 5
    and j.lease_id between :first_lease_id::uuid and :last_lease_id::uuid;

-- name: release_jobs :many
-- Gives leases back whose caller left before it was answered; the attempt does not count.
update millstream.jobs as j
set
    state = 1,
    returned = true,
    worker_id = null,
    lease_id = null,
    lease_expires_at = null,
    updated_at = coalesce(:now::timestamptz, now())
from unnest(:tenant_ids::int[], :ids::uuid[], :lease_ids::uuid[]) as g (tenant_id, id, lease_id)
where
    j.tenant_id = any(array[g.tenant_id])
    and j.id = any(array[g.id])
    and j.state = 5
    and j.lease_id = g.lease_id
returning j.tenant_id, j.id, j.queue;

-- name: complete_jobs :many
-- Moves running jobs whose lease still holds to jobs_done and lets their blocked children go. The rows must come in
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
children as materialized (
    select c.tenant_id, c.id
    from finished as f
    cross join lateral (
        select j.tenant_id, j.id
        from millstream.jobs as j
        where f.has_dependents and j.tenant_id = f.tenant_id and j.parent_job_id = f.id and j.state = 4
        order by j.id
        for update
    ) as c
),
unblocked as (
    update millstream.jobs as j
    set
        unmet = j.unmet - 1,
        returned = true,
        state = case
            when j.unmet > 1 then 4
            when j.run_at > coalesce(:now::timestamptz, now()) then case when j.retry_count = 0 then 2 else 3 end
            else 1
        end,
        updated_at = coalesce(:now::timestamptz, now())
    from children as c
    where j.tenant_id = any(array[c.tenant_id]) and j.id = any(array[c.id])
    returning j.tenant_id, j.id, j.queue, j.state
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
select
    f.place,
    f.queue,
    f.has_dependents,
    extract(epoch from coalesce(:now::timestamptz, now()) - f.started_at)::float8 as seconds,
    null::uuid as unblocked_id,
    f.tenant_id
from finished as f
union all
select null, u.queue, false, null, u.id, u.tenant_id
from unblocked as u
where u.state = 1;

-- name: fail_jobs :many
-- Ends running attempts, reported failed or past their lease: retried while retries are left, else buried.
-- With `reap` = 0 only the given ones, else also up to that many whose lease has run out.
with recursive batch as materialized (
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
        and j.lease_expires_at > :after::timestamptz
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
-- What waited for a buried job can never start, nor what waits for that in turn.
waiting as (
    select j.tenant_id, j.id
    from removed as r
    inner join millstream.jobs as j on j.tenant_id = r.tenant_id and j.parent_job_id = r.id and j.state = 4
    where r.has_dependents
    union
    select j.tenant_id, j.id
    from waiting as w
    inner join millstream.jobs as j on j.tenant_id = w.tenant_id and j.parent_job_id = w.id and j.state = 4
),
children as materialized (
    select j.tenant_id, j.id
    from waiting as w
    inner join millstream.jobs as j on j.tenant_id = w.tenant_id and j.id = w.id
    where j.state = 4
    order by j.tenant_id, j.id
    for update of j
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

-- name: find_ended_attempts :many
-- Looks up, after a lost connection, which of the given failures were recorded.
select e.id, e.buried, greatest(extract(epoch from j.run_at - e.at), 0)::int as wait
from unnest(:tenant_ids::int[], :job_ids::uuid[], :event_ids::uuid[]) as g (tenant_id, job_id, id)
inner join millstream.job_events as e on e.tenant_id = g.tenant_id and e.job_id = g.job_id and e.id = g.id
left join millstream.jobs as j on j.tenant_id = e.tenant_id and j.id = e.job_id;

-- name: cancel_jobs :many
-- Cancels jobs that nobody works on, and the blocked jobs below them that can never start.
with recursive held as materialized (
    select j.tenant_id, j.id
    from unnest(:tenant_ids::int[], :ids::uuid[]) as g (tenant_id, id)
    inner join millstream.jobs as j on j.tenant_id = g.tenant_id and j.id = g.id
    where j.state < 5
    order by j.tenant_id, j.id
    for update of j
),
waiting as (
    select j.tenant_id, j.id
    from held as h
    inner join millstream.jobs as j on j.tenant_id = h.tenant_id and j.parent_job_id = h.id and j.state = 4
    union
    select j.tenant_id, j.id
    from waiting as w
    inner join millstream.jobs as j on j.tenant_id = w.tenant_id and j.parent_job_id = w.id and j.state = 4
),
children as materialized (
    select j.tenant_id, j.id
    from waiting as w
    inner join millstream.jobs as j on j.tenant_id = w.tenant_id and j.id = w.id
    where j.state = 4
    order by j.tenant_id, j.id
    for update of j
),
removed as (
    delete from millstream.jobs as j
    using (
        select h.tenant_id, h.id, :error::text as error from held as h
        union
        select c.tenant_id, c.id, 'parent job was cancelled'
        from children as c
        where not exists (select from held as h where h.tenant_id = c.tenant_id and h.id = c.id)
    ) as r
    where j.tenant_id = r.tenant_id and j.id = r.id
    returning j.*, r.error
),
kept as (
    insert into millstream.jobs_done (
        tenant_id, id, queue, state, priority, retry_count, max_retries, timeout_seconds, created_at, updated_at,
        run_at, expires_at, started_at, finished_at, parent_job_id, workflow_id, unmet, dependency_mode, job_type,
        payload, tags, last_error, idempotency_key, completion_webhook
    )
    select
        r.tenant_id, r.id, r.queue, 8, r.priority, r.retry_count, r.max_retries, r.timeout_seconds, r.created_at,
        coalesce(:now::timestamptz, now()), r.run_at, r.expires_at, r.started_at,
        coalesce(:now::timestamptz, now()), r.parent_job_id, r.workflow_id, r.unmet, r.dependency_mode, r.job_type,
        r.payload, r.tags, coalesce(r.error, r.last_error), r.idempotency_key, r.completion_webhook
    from removed as r
)
select r.tenant_id, r.id, r.queue
from removed as r;

-- name: find_expired_jobs :many
-- Finds jobs that nobody may claim any more, the longest expired first.
select j.tenant_id, j.id
from millstream.jobs as j
where j.state < 5 and j.expires_at <= coalesce(:now::timestamptz, now())
order by j.expires_at
limit :limit::int;

-- name: retry_dead_jobs :many
-- Brings dead letters back, claimable at once: by id, else the oldest of a queue.
-- With `restart` their retry counts begin anew and their waiting children wait for them again.
with chosen as materialized (
    select d.tenant_id, d.id
    from millstream.jobs_dead as d
    where
        d.tenant_id = :tenant_id::int
        and (:ids::uuid[] is null or d.id = any(:ids::uuid[]))
        and (:queue::text is null or d.queue = :queue::text)
        and (:queues::text[] is null or d.queue = any(:queues::text[]))
    order by d.created_at, d.id
    limit :limit::int
    for update
),
removed as (
    delete from millstream.jobs_dead as d
    using chosen as c
    where d.tenant_id = c.tenant_id and d.id = c.id
    returning d.*
),
children as materialized (
    select c.tenant_id, c.id, c.parent_job_id
    from removed as r
    cross join lateral (
        select j.tenant_id, j.id, j.parent_job_id
        from millstream.jobs as j
        where :restart::boolean and j.tenant_id = r.tenant_id and j.parent_job_id = r.id and j.state < 4
        order by j.id
        for update
    ) as c
),
blocked as (
    update millstream.jobs as j
    set state = 4, unmet = 1, updated_at = coalesce(:now::timestamptz, now())
    from children as c
    where j.tenant_id = any(array[c.tenant_id]) and j.id = any(array[c.id])
),
revived as (
    insert into millstream.jobs (
        tenant_id, id, queue, state, priority, retry_count, max_retries, timeout_seconds, created_at, updated_at,
        expires_at, started_at, parent_job_id, workflow_id, dependency_mode, has_dependents, returned, job_type,
        payload, tags, idempotency_key, completion_webhook, completion_webhook_secret
    )
    select
        r.tenant_id, r.id, r.queue, 1, r.priority, case when :restart::boolean then 0 else r.retry_count + 1 end,
        r.max_retries, r.timeout_seconds, r.created_at, coalesce(:now::timestamptz, now()), r.expires_at,
        r.started_at, r.parent_job_id, r.workflow_id, r.dependency_mode,
        r.has_dependents or exists (select from children as c where c.parent_job_id = r.id), true, r.job_type,
        r.payload, r.tags, r.idempotency_key, r.completion_webhook, r.completion_webhook_secret
    from removed as r
),
recorded as (
    insert into millstream.job_events (tenant_id, job_id, id, kind, at)
    select r.tenant_id, r.id, gen_random_uuid(), 7, coalesce(:now::timestamptz, now())
    from removed as r
)
select r.id, r.queue
from removed as r
order by r.created_at, r.id;

-- name: purge_dead_jobs :one
-- Deletes dead letters for good, the oldest first, with their history, keys and children.
with chosen as materialized (
    select d.tenant_id, d.id, d.idempotency_key
    from millstream.jobs_dead as d
    where
        d.tenant_id = :tenant_id::int
        and (:queue::text is null or d.queue = :queue::text)
        and (:queues::text[] is null or d.queue = any(:queues::text[]))
        and (:created_before::timestamptz is null or d.created_at < :created_before::timestamptz)
    order by d.created_at, d.id
    limit :limit::int
    for update
),
dead as (
    delete from millstream.jobs_dead as d
    using chosen as c
    where
        d.tenant_id = :tenant_id::int
        and d.tenant_id = c.tenant_id
        and (d.id = c.id)
    returning d.id, d.idempotency_key
),
alive_children as (
    delete from millstream.jobs as j
    using chosen as c
    where j.tenant_id = c.tenant_id and j.parent_job_id = c.id
    returning j.id, j.idempotency_key
),
dead_children as (
    delete from millstream.jobs_dead as j
    using chosen as c
    where
        j.tenant_id = c.tenant_id
        and j.parent_job_id = c.id
        and not exists (select from chosen as o where o.id = j.id)
    returning j.id, j.idempotency_key
),
done_children as (
    delete from millstream.jobs_done as j
    using chosen as c
    where j.tenant_id = c.tenant_id and j.parent_job_id = c.id
    returning j.id, j.idempotency_key
),
gone as materialized (
    select d.id, d.idempotency_key from dead as d
    union all
    select a.id, a.idempotency_key from alive_children as a
    union all
    select d.id, d.idempotency_key from dead_children as d
    union all
    select d.id, d.idempotency_key from done_children as d
),
events as (
    delete from millstream.job_events as e
    using gone as g
    where e.tenant_id = :tenant_id::int and e.job_id = g.id
),
keys as (
    delete from millstream.idempotency_keys as k
    using gone as g
    where k.tenant_id = :tenant_id::int and k.key = g.idempotency_key and k.job_id = g.id
)
select count(*) as purged from dead;

-- name: set_job_priority :one
-- Changes the priority of a job that nobody works on yet.
with held as materialized (
    select j.tenant_id, j.id, j.priority
    from millstream.jobs as j
    where
        j.tenant_id = :tenant_id::int
        and j.id = :id::uuid
        and j.state < 5
        and (:queues::text[] is null or j.queue = any(:queues::text[]))
    for update
)
update millstream.jobs as j
set priority = :priority::smallint, returned = true, updated_at = coalesce(:now::timestamptz, now())
from held as h
where j.tenant_id = any(array[h.tenant_id]) and j.id = any(array[h.id])
returning h.priority as old_priority;

-- name: find_job :one
-- Reads one job wherever it lives.
select
    a.id, a.queue, a.state, a.job_type, a.payload, a.result, a.retry_count, a.max_retries, a.last_error, a.created_at,
    a.updated_at, a.run_at, a.started_at, a.finished_at, a.expires_at, a.priority, a.tags, a.timeout_seconds,
    a.parent_job_id, a.completion_webhook, a.idempotency_key, a.workflow_id, a.worker_id, a.lease_id,
    a.lease_expires_at, a.dependency_mode, a.unmet
from millstream.all_jobs as a
where
    a.tenant_id = :tenant_id::int
    and a.id = :id::uuid
    and (:queues::text[] is null or a.queue = any(:queues::text[]));

-- name: list_job_statuses :many
-- Reads the few facts of a batch look-up, in the order given.
select s.id, s.queue, s.state, s.retry_count, s.created_at, s.finished_at
from unnest(:ids::uuid[]) with ordinality as g (id, place)
cross join lateral (
    select j.id, j.queue, j.state, j.retry_count, j.created_at, null::timestamptz as finished_at
    from millstream.jobs as j
    where j.tenant_id = :tenant_id::int and j.id = g.id
    union all
    select j.id, j.queue, 6::smallint, j.retry_count, j.created_at, null::timestamptz
    from millstream.jobs_dead as j
    where j.tenant_id = :tenant_id::int and j.id = g.id
    union all
    -- The limit keeps this a plan of its own: within the union PostgreSQL 15 would open every partition.
    (
        select j.id, j.queue, j.state, j.retry_count, j.created_at, j.finished_at
        from millstream.jobs_done as j
        where j.tenant_id = :tenant_id::int and j.id = g.id
        limit 1
    )
) as s
where :queues::text[] is null or s.queue = any(:queues::text[])
order by g.place;

-- name: count_jobs :many
-- Counts a tenant's jobs by state.
select a.state, count(*) as jobs
from millstream.all_jobs as a
where a.tenant_id = :tenant_id::int and (:queues::text[] is null or a.queue = any(:queues::text[]))
group by a.state;

-- name: find_labels :many
-- Finds the queue names (kind 1) and job types (kind 2) that contain a text, in any case.
select l.kind, l.label
from millstream.job_labels as l
where l.tenant_id = :tenant_id::int and l.label ilike :pattern::text;

-- name: list_jobs_newest :many
-- Reads a page of jobs, the newest first: by id, which begins with the time of creation.
select
    a.id, a.queue, a.state, a.job_type, a.payload, a.result, a.retry_count, a.max_retries, a.last_error, a.created_at,
    a.updated_at, a.run_at, a.started_at, a.finished_at, a.expires_at, a.priority, a.tags, a.timeout_seconds,
    a.parent_job_id, a.completion_webhook, a.idempotency_key, a.workflow_id, a.worker_id, a.lease_id,
    a.lease_expires_at, a.dependency_mode, a.unmet
from millstream.all_jobs as a
where
    a.tenant_id = :tenant_id::int
    and (:queues::text[] is null or a.queue = any(:queues::text[]))
    and (:queue::text is null or a.queue = :queue::text)
    and (:states::smallint[] is null or a.state = any(:states::smallint[]))
    and (:job_type::text is null or a.job_type = :job_type::text)
    and (:created_from::timestamptz is null or a.created_at >= :created_from::timestamptz)
    and (:created_before::timestamptz is null or a.created_at < :created_before::timestamptz)
    and (
        :id_from::uuid is null
        or a.id between :id_from::uuid and :id_to::uuid
        or a.queue = any(:queue_matches::text[])
        or a.job_type = any(:type_matches::text[])
    )
    and (:tag::text is null or a.tags::jsonb ? :tag::text)
order by a.id desc
limit :limit::int
offset :offset::int;

-- name: list_jobs_oldest :many
-- Reads a page of jobs, the oldest first: by id, which begins with the time of creation.
select
    a.id, a.queue, a.state, a.job_type, a.payload, a.result, a.retry_count, a.max_retries, a.last_error, a.created_at,
    a.updated_at, a.run_at, a.started_at, a.finished_at, a.expires_at, a.priority, a.tags, a.timeout_seconds,
    a.parent_job_id, a.completion_webhook, a.idempotency_key, a.workflow_id, a.worker_id, a.lease_id,
    a.lease_expires_at, a.dependency_mode, a.unmet
from millstream.all_jobs as a
where
    a.tenant_id = :tenant_id::int
    and (:queues::text[] is null or a.queue = any(:queues::text[]))
    and (:queue::text is null or a.queue = :queue::text)
    and (:states::smallint[] is null or a.state = any(:states::smallint[]))
    and (:job_type::text is null or a.job_type = :job_type::text)
    and (:created_from::timestamptz is null or a.created_at >= :created_from::timestamptz)
    and (:created_before::timestamptz is null or a.created_at < :created_before::timestamptz)
    and (
        :id_from::uuid is null
        or a.id between :id_from::uuid and :id_to::uuid
        or a.queue = any(:queue_matches::text[])
        or a.job_type = any(:type_matches::text[])
    )
    and (:tag::text is null or a.tags::jsonb ? :tag::text)
order by a.id
limit :limit::int
offset :offset::int;

-- name: list_jobs_sorted :many
-- Reads a page of jobs in an order that no index knows.
select
    a.id, a.queue, a.state, a.job_type, a.payload, a.result, a.retry_count, a.max_retries, a.last_error, a.created_at,
    a.updated_at, a.run_at, a.started_at, a.finished_at, a.expires_at, a.priority, a.tags, a.timeout_seconds,
    a.parent_job_id, a.completion_webhook, a.idempotency_key, a.workflow_id, a.worker_id, a.lease_id,
    a.lease_expires_at, a.dependency_mode, a.unmet
from millstream.all_jobs as a
where
    a.tenant_id = :tenant_id::int
    and (:queues::text[] is null or a.queue = any(:queues::text[]))
    and (:queue::text is null or a.queue = :queue::text)
    and (:states::smallint[] is null or a.state = any(:states::smallint[]))
    and (:job_type::text is null or a.job_type = :job_type::text)
    and (:created_from::timestamptz is null or a.created_at >= :created_from::timestamptz)
    and (:created_before::timestamptz is null or a.created_at < :created_before::timestamptz)
    and (
        :id_from::uuid is null
        or a.id between :id_from::uuid and :id_to::uuid
        or a.queue = any(:queue_matches::text[])
        or a.job_type = any(:type_matches::text[])
    )
    and (:tag::text is null or a.tags::jsonb ? :tag::text)
order by
    case when :descending::boolean then case :sort::int when 5 then a.priority when 6 then a.state when 8 then a.retry_count end end desc,
    case when not :descending::boolean then case :sort::int when 5 then a.priority when 6 then a.state when 8 then a.retry_count end end,
    case when :descending::boolean then case :sort::int when 2 then a.updated_at when 3 then a.run_at when 4 then case when a.state = 7 then a.finished_at end end end desc nulls last,
    case when not :descending::boolean then case :sort::int when 2 then a.updated_at when 3 then a.run_at when 4 then case when a.state = 7 then a.finished_at end end end nulls last,
    case when :descending::boolean and :sort::int = 7 then a.queue end desc,
    case when not :descending::boolean and :sort::int = 7 then a.queue end,
    case when :descending::boolean then a.id end desc,
    case when not :descending::boolean then a.id end
limit :limit::int
offset :offset::int;

-- name: list_job_events :many
-- Reads what happened to a job that its row cannot tell.
select e.id, e.kind, e.buried, e.worker_id, e.lease_id, e.claimed_at, e.at, e.error
from millstream.job_events as e
where e.tenant_id = :tenant_id::int and e.job_id = :job_id::uuid
order by e.at, e.id;

-- name: count_job_gauges :one
-- Counts what waits and what runs over all tenants, and the age of the oldest waiting job.
select
    count(*) filter (where j.state < 5) as pending,
    count(*) filter (where j.state = 5) as processing,
    coalesce(
        extract(epoch from coalesce(:now::timestamptz, now()) - min(j.created_at) filter (where j.state < 5)), 0
    )::float8 as oldest_seconds
from millstream.jobs as j;
