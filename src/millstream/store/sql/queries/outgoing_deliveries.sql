-- name: note_job_events :one
-- Adds a delivery for each enabled webhook that wants what happened to a job, telling the job as it is now.
-- Runs in the transaction of the statement that changed the jobs.
with given as materialized (
    select g.*
    from unnest(
        :tenant_ids::text::int[], :job_ids::text::uuid[], :events::text::smallint[], :statuses::text::text[],
        :worker_ids::text::text[]
    ) as g (tenant_id, job_id, event, status, worker_id)
),
wanted as materialized (
    select g.*, w.id as webhook_id
    from given as g
    cross join lateral (
        select w.id
        from millstream.outgoing_webhooks as w
        where w.tenant_id = g.tenant_id and w.enabled and g.event = any(w.events)
        limit :webhooks_max::int
    ) as w
),
told as materialized (
    select
        w.tenant_id,
        w.webhook_id,
        w.event,
        json_strip_nulls(json_build_object(
            'job_id', w.job_id, 'queue_name', j.queue, 'status', w.status, 'retry_count', j.retry_count,
            'max_retries', j.max_retries, 'worker_id', coalesce(w.worker_id, j.worker_id),
            -- An earlier attempt's error says nothing of a job that was just created, claimed or completed.
            'error', case when w.event in (4, 5, 6) then j.last_error end,
            'created_at', millstream.json_time(j.created_at), 'completed_at', millstream.json_time(j.finished_at)
        ))::text as data,
        case when w.event = 3 and octet_length(j.result) <= :result_bytes_max::int then j.result end as result
    from wanted as w
    cross join lateral (
        select
            j.queue, j.retry_count, j.max_retries, j.worker_id, j.last_error, null::text as result, j.created_at,
            null::timestamptz as finished_at
        from millstream.jobs as j
        where j.tenant_id = w.tenant_id and j.id = w.job_id
        union all
        select j.queue, j.retry_count, j.max_retries, null, j.last_error, null, j.created_at, null
        from millstream.jobs_dead as j
        where j.tenant_id = w.tenant_id and j.id = w.job_id
        union all
        -- The limit keeps this a plan of its own: within the union PostgreSQL 15 would open every partition.
        (
            select
                j.queue, j.retry_count, j.max_retries, j.worker_id, j.last_error, j.result, j.created_at,
                j.finished_at
            from millstream.jobs_done as j
            where j.tenant_id = w.tenant_id and j.id = w.job_id
            limit 1
        )
    ) as j
),
noted as (
    insert into millstream.outgoing_deliveries (
        tenant_id, id, webhook_id, receiver, event, data, created_at, next_attempt_at
    )
    select
        t.tenant_id, millstream.new_id_at(coalesce(:now::timestamptz, now())), t.webhook_id, t.webhook_id, t.event,
        case when t.result is null then t.data else left(t.data, -1) || ',"result":' || t.result || '}' end,
        coalesce(:now::timestamptz, now()), coalesce(:now::timestamptz, now())
    from told as t
    returning 1
)
select count(*) as noted from noted;

-- name: note_event :one
-- Adds a delivery for each enabled webhook of a tenant that wants an event which is not a job's.
with noted as (
    insert into millstream.outgoing_deliveries (
        tenant_id, id, webhook_id, receiver, event, data, created_at, next_attempt_at
    )
    select
        w.tenant_id, millstream.new_id_at(coalesce(:now::timestamptz, now())), w.id, w.id, :event::smallint,
        :data::text, coalesce(:now::timestamptz, now()), coalesce(:now::timestamptz, now())
    from millstream.outgoing_webhooks as w
    where w.tenant_id = :tenant_id::int and w.enabled and :event::smallint = any(w.events)
    returning 1
)
select count(*) as noted from noted;

-- name: note_events :one
-- Adds deliveries of one event of many tenants, as note_event does of one.
with noted as (
    insert into millstream.outgoing_deliveries (
        tenant_id, id, webhook_id, receiver, event, data, created_at, next_attempt_at
    )
    select
        g.tenant_id, millstream.new_id_at(coalesce(:now::timestamptz, now())), w.id, w.id, :event::smallint, g.data,
        coalesce(:now::timestamptz, now()), coalesce(:now::timestamptz, now())
    from unnest(:tenant_ids::text::int[], :datas::text::text[]) as g (tenant_id, data)
    inner join millstream.outgoing_webhooks as w
        on w.tenant_id = g.tenant_id and w.enabled and :event::smallint = any(w.events)
    returning 1
)
select count(*) as noted from noted;

-- name: find_orphaned_jobs :many
-- Finds the jobs that this transaction cancelled because a job above them was buried.
with recursive buried as materialized (
    select g.tenant_id, g.id
    from unnest(:tenant_ids::int[], :ids::uuid[]) as g (tenant_id, id)
),
orphaned as (
    select b.tenant_id, b.id, false as found
    from buried as b
    union
    select j.tenant_id, j.id, true
    from orphaned as o
    cross join lateral (
        select d.tenant_id, d.id
        from millstream.jobs_done as d
        where
            d.tenant_id = o.tenant_id
            and d.parent_job_id = o.id
            and d.state = 8
            and d.finished_at = coalesce(:now::timestamptz, now())
        union all
        select d.tenant_id, d.id
        from millstream.job_dependencies as e
        inner join millstream.jobs_done as d on d.tenant_id = e.tenant_id and d.id = e.job_id
        where
            -- What waits for a buried job goes on waiting.
            o.found
            and e.tenant_id = o.tenant_id
            and e.depends_on = o.id
            and d.state = 8
            and d.finished_at = coalesce(:now::timestamptz, now())
    ) as j
)
select o.tenant_id, o.id
from orphaned as o
where o.found;

-- name: claim_outgoing_deliveries :many
-- Hands out due deliveries under a claim that runs out, receiver by receiver in turn, so that none starves another.
-- The first column of every row, there at least once, says how far the round of receivers has come.
with recursive receivers as (
    (
        select d.tenant_id, d.receiver
        from millstream.outgoing_deliveries as d
        where d.status = 1 and (d.tenant_id, d.receiver) > (:after_tenant_id::int, :after_receiver::uuid)
        order by d.tenant_id, d.receiver
        limit 1
    )
    union all
    select n.tenant_id, n.receiver
    from receivers as r
    cross join lateral (
        select d.tenant_id, d.receiver
        from millstream.outgoing_deliveries as d
        where d.status = 1 and (d.tenant_id, d.receiver) > (r.tenant_id, r.receiver)
        order by d.tenant_id, d.receiver
        limit 1
    ) as n
),
visited as materialized (
    select r.tenant_id, r.receiver
    from receivers as r
    limit :receivers_max::int
),
due as materialized (
    select d.*
    from visited as v
    -- Nothing is sent for a tenant that is switched off or deleted.
    inner join millstream.tenants as t on t.id = v.tenant_id and t.is_active and t.deleted_at is null
    left join unnest(:busy_tenant_ids::int[], :busy_receivers::uuid[], :receiver_rooms::int[])
    as b (tenant_id, receiver, room) on b.tenant_id = v.tenant_id and b.receiver = v.receiver
    cross join lateral (
        select d.tenant_id, d.id, d.webhook_id, d.url, d.secret, d.next_attempt_at
        from millstream.outgoing_deliveries as d
        where
            d.status = 1
            and d.tenant_id = v.tenant_id
            and d.receiver = v.receiver
            and d.next_attempt_at <= coalesce(:now::timestamptz, now())
        order by d.next_attempt_at
        limit coalesce(b.room, :receiver_room::int)
        for update skip locked
    ) as d
),
addressed as materialized (
    select
        d.tenant_id, d.id, d.webhook_id, d.next_attempt_at, w.id as found_id, coalesce(w.enabled, true) as enabled,
        coalesce(w.url, d.url) as url, coalesce(w.secret, d.secret) as secret, w.format
    from due as d
    left join millstream.outgoing_webhooks as w on w.tenant_id = d.tenant_id and w.id = d.webhook_id
),
dropped as (
    delete from millstream.outgoing_deliveries as d
    using addressed as a
    where d.tenant_id = a.tenant_id and d.id = a.id and a.webhook_id is not null and a.found_id is null
),
given_up as (
    update millstream.outgoing_deliveries as d
    set status = 3, next_attempt_at = null, claim_id = null, error = :disabled_error::text
    from addressed as a
    where d.tenant_id = a.tenant_id and d.id = a.id and not a.enabled
),
hosted as materialized (
    select
        a.*,
        millstream.host_of(a.url) as host,
        row_number() over (partition by millstream.host_of(a.url) order by a.next_attempt_at) as place
    from addressed as a
    where a.enabled and a.url is not null
),
chosen as materialized (
    select h.*
    from hosted as h
    left join unnest(:busy_hosts::text[], :host_rooms::int[]) as b (host, room) on b.host = h.host
    where h.place <= coalesce(b.room, :host_room::int)
    order by h.next_attempt_at
    limit :limit::int
),
claimed as (
    update millstream.outgoing_deliveries as d
    set
        claim_id = :claim_id::uuid,
        next_attempt_at = coalesce(:now::timestamptz, now()) + :claim_seconds::int * interval '1 second'
    from chosen as c
    where d.tenant_id = c.tenant_id and d.id = c.id
    returning
        d.tenant_id, d.id, d.webhook_id, d.receiver, d.event, d.attempts, d.data, d.created_at, c.url, c.secret,
        c.format, c.host
)
select
    r.visited, r.last_tenant_id, r.last_receiver, c.tenant_id, c.id, c.webhook_id, c.receiver, c.event, c.attempts,
    c.data, c.created_at, c.url, c.secret, c.format, c.host
from (
    select
        (select count(*) from visited) as visited,
        (select v.tenant_id from visited as v order by v.tenant_id desc, v.receiver desc limit 1) as last_tenant_id,
        (select v.receiver from visited as v order by v.tenant_id desc, v.receiver desc limit 1) as last_receiver
) as r
left join claimed as c on true;

-- name: record_outgoing_deliveries :many
-- Notes how attempts went whose claim still holds, and what that says of their webhooks; returns those that were disabled.
-- What told a job's own address is not kept when it arrived: nobody can read it.
with given as materialized (
    select g.*
    from unnest(
        :tenant_ids::text::int[], :ids::text::uuid[], :claim_ids::text::uuid[], :statuses::text::smallint[],
        :counts::text::boolean[], :delays::text::int[], :status_codes::text::int[], :bodies::text::text[],
        :errors::text::text[]
    ) with ordinality as g (tenant_id, id, claim_id, status, counts, delay, status_code, body, error, place)
),
arrived as (
    delete from millstream.outgoing_deliveries as d
    using given as g
    where
        d.tenant_id = g.tenant_id
        and d.id = g.id
        and d.claim_id = g.claim_id
        and d.webhook_id is null
        and g.status = 2
),
recorded as (
    update millstream.outgoing_deliveries as d
    set
        status = g.status,
        attempts = d.attempts + 1,
        claim_id = null,
        next_attempt_at = case
            when g.status = 1 then coalesce(:now::timestamptz, now()) + g.delay * interval '1 second'
        end,
        status_code = g.status_code,
        response_body = g.body,
        error = g.error,
        delivered_at = case when g.status = 2 then coalesce(d.delivered_at, coalesce(:now::timestamptz, now())) end
    from given as g
    where
        d.tenant_id = g.tenant_id
        and d.id = g.id
        and d.claim_id = g.claim_id
        and (d.webhook_id is not null or g.status <> 2)
    returning d.tenant_id, d.webhook_id, g.place, g.status, g.counts
),
placed as materialized (
    select
        r.*,
        min(r.place) filter (where r.status = 2) over same as first_success,
        max(r.place) filter (where r.status = 2) over same as last_success
    from recorded as r
    where r.webhook_id is not null
    window same as (partition by r.tenant_id, r.webhook_id)
),
counted as materialized (
    select
        p.tenant_id,
        p.webhook_id,
        p.last_success is not null as succeeded,
        count(*) filter (where p.counts and p.status = 3 and p.place < coalesce(p.first_success, p.place + 1)) as before,
        count(*) filter (where p.counts and p.status = 3 and p.place > p.last_success) as after
    from placed as p
    group by p.tenant_id, p.webhook_id, p.last_success
),
held as materialized (
    select w.tenant_id, w.id, w.enabled, w.failure_count, w.last_status, c.succeeded, c.before, c.after
    from counted as c
    inner join millstream.outgoing_webhooks as w on w.tenant_id = c.tenant_id and w.id = c.webhook_id
    order by w.tenant_id, w.id
    for update of w
),
judged as materialized (
    select
        h.*,
        case when h.succeeded then h.after else h.failure_count + h.before end as failures,
        h.enabled and h.failure_count + h.before >= :failures_max::int as too_many
    from held as h
),
told as (
    update millstream.outgoing_webhooks as w
    set
        failure_count = j.failures,
        enabled = w.enabled and not j.too_many,
        last_status = case
            when j.too_many or (not j.enabled and j.last_status = 3) then 3
            when j.after > 0 or (not j.succeeded and j.before > 0) then 2
            when j.succeeded then 1
            else w.last_status
        end,
        last_triggered_at = coalesce(:now::timestamptz, now())
    from judged as j
    where w.tenant_id = j.tenant_id and w.id = j.id
    returning w.tenant_id, w.id, j.too_many
)
select t.tenant_id, t.id
from told as t
where t.too_many;

-- name: release_outgoing_deliveries :exec
-- Gives claims back whose attempt was cut off: they are due at once, the attempt does not count.
update millstream.outgoing_deliveries as d
set claim_id = null, next_attempt_at = coalesce(:now::timestamptz, now())
from unnest(:tenant_ids::int[], :ids::uuid[], :claim_ids::uuid[]) as g (tenant_id, id, claim_id)
where d.tenant_id = g.tenant_id and d.id = g.id and d.claim_id = g.claim_id and d.status = 1;

-- name: claim_outgoing_delivery :one
-- Takes one delivery of a webhook for an attempt out of turn, whatever became of it before.
with held as materialized (
    select d.tenant_id, d.id, d.status
    from millstream.outgoing_deliveries as d
    where d.tenant_id = :tenant_id::int and d.id = :id::uuid and d.webhook_id = :webhook_id::uuid
    for update
)
update millstream.outgoing_deliveries as d
set
    claim_id = :claim_id::uuid,
    next_attempt_at = case
        when d.status = 1 then coalesce(:now::timestamptz, now()) + :claim_seconds::int * interval '1 second'
    end
from held as h
inner join millstream.outgoing_webhooks as w on w.tenant_id = h.tenant_id and w.id = :webhook_id::uuid
where d.tenant_id = h.tenant_id and d.id = h.id
returning
    h.status, d.tenant_id, d.id, d.webhook_id, d.receiver, d.event, d.attempts, d.data, d.created_at, w.url, w.secret,
    w.format, millstream.host_of(w.url) as host;

-- name: list_outgoing_deliveries :many
-- Reads a page of a webhook's newest deliveries.
select
    d.id, d.webhook_id, d.event, d.data, d.status, d.status_code, d.response_body, d.error, d.attempts, d.created_at,
    d.delivered_at
from (
    select
        o.id, o.webhook_id, o.event, o.data, o.status, o.status_code, o.response_body, o.error, o.attempts,
        o.created_at, o.delivered_at
    from millstream.outgoing_deliveries as o
    where o.tenant_id = :tenant_id::int and o.webhook_id = :webhook_id::uuid
    order by o.id desc
    limit :readable_max::int
) as d
where :status::smallint is null or d.status = :status::smallint
order by d.created_at desc, d.id desc
limit :limit::int
offset :offset::int;

-- name: prune_outgoing_deliveries :one
-- Deletes deliveries past their tenant's retention; tells how many.
with stale as materialized (
    select d.tenant_id, d.id
    from unnest(:tenant_ids::int[], :befores::timestamptz[]) as r (tenant_id, before)
    cross join lateral (
        select o.tenant_id, o.id
        from millstream.outgoing_deliveries as o
        where
            o.tenant_id = r.tenant_id
            and o.id < millstream.first_id_at(r.before)
        order by o.id
        limit :limit::int
    ) as d
    limit :limit::int
),
removed as (
    delete from millstream.outgoing_deliveries as d
    using stale as s
    where d.tenant_id = s.tenant_id and d.id = s.id
    returning 1
)
select count(*) as pruned from removed;
