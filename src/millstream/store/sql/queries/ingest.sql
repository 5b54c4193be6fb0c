-- name: find_webhook_tenant :one
-- Finds whom an incoming webhook is for, by the public id in its path, and tells the time. A deleted one is unknown.
select t.id, t.public_id, t.plan_tier, t.custom_limits, t.webhook_token, coalesce(:now::timestamptz, now()) as at
from millstream.tenants as t
where t.public_id = :public_id::text and t.is_active and t.deleted_at is null;

-- name: insert_ingest_delivery :exec
-- Notes an accepted webhook.
insert into millstream.ingest_deliveries (
    tenant_id, id, provider, outcome, event_type, queue, job_id, created_at
)
values (
    :tenant_id::int, :id::uuid, :provider::smallint, :outcome::smallint, :event_type::text, :queue::text,
    :job_id::uuid, coalesce(:now::timestamptz, now())
);

-- name: trim_ingest_deliveries :one
-- Deletes, the oldest first, what a tenant's log holds beyond the newest; tells how many.
-- What another transaction is deleting already is left to it.
with edge as materialized (
    select d.id
    from millstream.ingest_deliveries as d
    where d.tenant_id = :tenant_id::int
    order by d.id desc
    limit 1
    offset :kept::int
),
stale as materialized (
    select d.tenant_id, d.id
    from millstream.ingest_deliveries as d
    where d.tenant_id = :tenant_id::int and d.id <= (select e.id from edge as e)
    order by d.id
    limit :limit::int
    for update skip locked
),
removed as (
    delete from millstream.ingest_deliveries as d
    using stale as s
    where d.tenant_id = s.tenant_id and d.id = s.id
    returning 1
)
select count(*) as trimmed from removed;

-- name: list_ingest_deliveries :many
-- Reads a page of a tenant's log, the newest first: by id, which begins with the time of acceptance.
select d.id, d.provider, d.outcome, d.event_type, d.queue, d.job_id, d.created_at
from millstream.ingest_deliveries as d
where
    d.tenant_id = :tenant_id::int
    and (:outcome::smallint is null or d.outcome = :outcome::smallint)
    and (:queue::text is null or d.queue = :queue::text)
    and (:since::timestamptz is null or d.created_at >= :since::timestamptz)
order by d.id desc
limit :limit::int
offset :offset::int;

-- name: prune_ingest_deliveries :one
-- Deletes what logs of incoming webhooks hold past their tenants' retention; tells how much.
with stale as materialized (
    select h.tenant_id, h.id
    from unnest(:tenant_ids::int[], :befores::timestamptz[]) as r (tenant_id, before)
    cross join lateral (
        select d.tenant_id, d.id
        from millstream.ingest_deliveries as d
        where
            d.tenant_id = r.tenant_id
            and d.id < millstream.first_id_at(r.before + interval '1 hour')
            and d.created_at < r.before
        order by d.id
        limit :limit::int
    ) as h
    limit :limit::int
),
removed as (
    delete from millstream.ingest_deliveries as d
    using stale as s
    where d.tenant_id = s.tenant_id and d.id = s.id
    returning 1
)
select count(*) as pruned from removed;
