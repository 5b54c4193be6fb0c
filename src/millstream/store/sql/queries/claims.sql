-- How batches reach `jobs` is said in jobs.sql.

-- name: promote_due_jobs :many
-- Makes jobs claimable whose time has come, the longest due first.
with due as materialized (
    select j.tenant_id, j.id
    from millstream.jobs as j
    where
        j.state in (2, 3)
        and j.run_at <= coalesce(:now::timestamptz, now())
        and j.run_at > coalesce(:now::timestamptz, now()) - :lookback_seconds::int * interval '1 second'
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
where j.state in (2, 3) and j.run_at > coalesce(:now::timestamptz, now()) - :lookback_seconds::int * interval '1 second'
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
        c.row,
        w.slot_first + c.number as slot
    from wanted as w
    cross join lateral (
        -- Numbered in the order in which they come: a window with an order of its own would sort them again.
        select r.tenant_id, r.row, row_number() over () as number
        from (
            select j.tenant_id, j.ctid as row
            from millstream.jobs as j
            where
                j.tenant_id = w.tenant_id
                and j.queue = w.queue
                and j.state = 1
                and (j.expires_at is null or j.expires_at > coalesce(:now::timestamptz, now()))
            order by j.priority desc, j.created_at, j.id
            limit case when w.enabled then w.want else 0 end
            for update skip locked
        ) as r
    ) as c
)
-- A slot finds its seat by subscript: a join of places with ranges of seats would look at every pair.
-- The sub-selects make an array of each literal once, not once for every row. The rows are locked, so they stay where
-- they are: one that had moved between snapshot and lock is left for the next claim.
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
where j.ctid = p.row and j.tenant_id = p.tenant_id
returning
    p.slot, j.id, j.queue, j.payload, j.priority, j.retry_count, j.max_retries, j.timeout_seconds, j.created_at,
    j.lease_id, j.lease_expires_at;

-- name: claim_jobs_onward :many
-- Does what claim_jobs does, from a position in each queue: a statement of its own, as this plan takes half as long again to
-- set up.
with batch as materialized (
    select pg_advisory_xact_lock(:batch_id::bigint)
),
wanted as materialized (
    select
        w.tenant_id, w.queue, w.slot_first, w.level, w.since, w.number,
        case when coalesce(q.enabled, true) then w.want else 0 end as want
    from batch
    cross join unnest(
        :tenant_ids::int[], :queues::text[], :wants::int[], :slot_firsts::int[], :levels::smallint[], :sinces::timestamptz[]
    ) with ordinality as w (tenant_id, queue, want, slot_first, level, since, number)
    left join millstream.queues as q on q.tenant_id = w.tenant_id and q.name = w.queue
),
-- While an old transaction keeps dead rows from being removed, the way to the best ready job leads past the index entries
-- of all that were claimed before. So a queue comes with a position, (level, since): whatever was created before
-- `since` at priority `level` is gone but for what came back, and that has a small index of its own. The four
-- stages together are the order of claims; each takes what the ones before it left of the number wanted. A queue without
-- a position lies below the level as a whole.
above as materialized (
    select w.number, w.slot_first, r.tenant_id, r.row, row_number() over () as place, 1 as stage
    from wanted as w
    cross join lateral (
        select j.tenant_id, j.ctid as row
        from millstream.jobs as j
        where
            j.tenant_id = w.tenant_id
            and j.queue = w.queue
            and j.state = 1
            and j.priority > w.level
            and (j.expires_at is null or j.expires_at > coalesce(:now::timestamptz, now()))
        order by j.priority desc, j.created_at, j.id
        limit w.want
        for update skip locked
    ) as r
),
back as materialized (
    select w.number, w.slot_first, r.tenant_id, r.row, row_number() over () as place, 2 as stage
    from wanted as w
    cross join lateral (
        select j.tenant_id, j.ctid as row
        from millstream.jobs as j
        where
            j.tenant_id = w.tenant_id
            and j.queue = w.queue
            -- The sum leaves only the index of returned jobs.
            and j.state + 0 = 1
            and j.returned
            and j.priority = w.level
            and j.created_at < w.since
            and (j.expires_at is null or j.expires_at > coalesce(:now::timestamptz, now()))
        order by j.priority desc, j.created_at, j.id
        limit w.want - (select count(*) from above as t where t.number = w.number)
        for update skip locked
    ) as r
),
onward as materialized (
    select w.number, w.slot_first, r.tenant_id, r.row, row_number() over () as place, 3 as stage
    from wanted as w
    cross join lateral (
        select j.tenant_id, j.ctid as row
        from millstream.jobs as j
        where
            j.tenant_id = w.tenant_id
            and j.queue = w.queue
            and j.state = 1
            and j.priority = w.level
            and j.created_at >= w.since
            and (j.expires_at is null or j.expires_at > coalesce(:now::timestamptz, now()))
        order by j.priority desc, j.created_at, j.id
        limit w.want
        - (select count(*) from above as t where t.number = w.number)
        - (select count(*) from back as t where t.number = w.number)
        for update skip locked
    ) as r
),
below as materialized (
    select w.number, w.slot_first, r.tenant_id, r.row, row_number() over () as place, 4 as stage
    from wanted as w
    cross join lateral (
        select j.tenant_id, j.ctid as row
        from millstream.jobs as j
        where
            j.tenant_id = w.tenant_id
            and j.queue = w.queue
            and j.state = 1
            and j.priority < w.level
            and (j.expires_at is null or j.expires_at > coalesce(:now::timestamptz, now()))
        order by j.priority desc, j.created_at, j.id
        limit w.want
        - (select count(*) from above as t where t.number = w.number)
        - (select count(*) from back as t where t.number = w.number)
        - (select count(*) from onward as t where t.number = w.number)
        for update skip locked
    ) as r
),
picked as materialized (
    select
        c.tenant_id,
        c.row,
        c.slot_first + row_number() over (partition by c.number order by c.stage, c.place) as slot
    from (
        select a.number, a.slot_first, a.tenant_id, a.row, a.stage, a.place from above as a
        union all
        select b.number, b.slot_first, b.tenant_id, b.row, b.stage, b.place from back as b
        union all
        select o.number, o.slot_first, o.tenant_id, o.row, o.stage, o.place from onward as o
        union all
        select l.number, l.slot_first, l.tenant_id, l.row, l.stage, l.place from below as l
    ) as c
)
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
where j.ctid = p.row and j.tenant_id = p.tenant_id
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
