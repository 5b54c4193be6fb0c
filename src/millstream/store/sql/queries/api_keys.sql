-- name: find_api_keys :many
-- Finds keys and their tenants by the digests of their secrets, active or not; tells whether a use is worth noting.
select
    k.digest, k.tenant_id, k.id, k.hash, k.queues, k.rate_limit, k.is_active, t.public_id, t.plan_tier, t.custom_limits,
    extract(epoch from k.expires_at - coalesce(:now::timestamptz, now()))::float8 as expires_in_seconds,
    coalesce(
        k.last_used_at < coalesce(:now::timestamptz, now()) - :use_noted_seconds::int * interval '1 second', true
    ) as use_is_due
from unnest(:digests::bytea[]) as g (digest)
inner join millstream.api_keys as k on k.digest = g.digest
inner join millstream.tenants as t on t.id = k.tenant_id
where t.is_active and t.deleted_at is null;

-- name: preview_api_key :one
-- Tells what decides whether a key can be made: the tenant's active keys, and whether its end is to come.
select
    count(*) as active,
    coalesce(:expires_at::timestamptz > coalesce(:now::timestamptz, now()), true) as ends_later
from millstream.api_keys as k
where k.tenant_id = :tenant_id::int and k.is_active and not k.is_session;

-- name: create_api_key :one
-- Makes a key unless that is one too many or its end has passed. With a cap, the tenant's row is locked before.
with room as materialized (
    select count(*) as active
    from millstream.api_keys as k
    where k.tenant_id = :tenant_id::int and k.is_active and not k.is_session
),
created as (
    insert into millstream.api_keys as k (
        tenant_id, id, name, key_prefix, digest, hash, queues, rate_limit, expires_at, created_at, updated_at
    )
    select
        :tenant_id::int, :id::uuid, :name::text, :key_prefix::text, :digest::bytea, :hash::text, :queues::text[],
        :rate_limit::int, :expires_at::timestamptz, coalesce(:now::timestamptz, now()), coalesce(:now::timestamptz, now())
    from room as r
    where
        (:keys_max::int is null or r.active < :keys_max::int)
        and (:expires_at::timestamptz is null or :expires_at::timestamptz > coalesce(:now::timestamptz, now()))
    returning k.created_at
)
select
    r.active, c.created_at,
    coalesce(:expires_at::timestamptz > coalesce(:now::timestamptz, now()), true) as ends_later
from room as r
left join created as c on true;

-- name: list_api_keys :many
-- Reads keys, the newest first, or one by id; revoked ones too.
select
    k.id, k.name, k.key_prefix, k.queues, k.rate_limit, k.is_active, k.created_at, k.last_used_at, k.expires_at
from millstream.api_keys as k
where
    k.tenant_id = :tenant_id::int
    and (:id::uuid is null or k.id = :id::uuid)
    and not k.is_session
order by k.created_at desc, k.id desc
limit :limit::int;

-- name: update_api_key :one
-- Changes what is given of a key, unless that makes one active key too many. With a cap, the tenant's row is locked before.
with room as materialized (
    select
        count(*) filter (where k.is_active) as active,
        coalesce(bool_or(k.id = :id::uuid), false) as known
    from millstream.api_keys as k
    where k.tenant_id = :tenant_id::int and not k.is_session
),
changed as (
    update millstream.api_keys as k
    set
        name = coalesce(:name::text, k.name),
        queues = coalesce(:queues::text[], k.queues),
        rate_limit = coalesce(:rate_limit::int, k.rate_limit),
        is_active = coalesce(:is_active::boolean, k.is_active),
        updated_at = coalesce(:now::timestamptz, now())
    from room as r
    where
        k.tenant_id = :tenant_id::int
        and k.id = :id::uuid
        and not k.is_session
        and (
            k.is_active
            or not coalesce(:is_active::boolean, false)
            or :keys_max::int is null
            or r.active < :keys_max::int
        )
    returning
        k.id, k.name, k.key_prefix, k.queues, k.rate_limit, k.is_active, k.created_at, k.last_used_at, k.expires_at
)
select
    r.active, r.known, c.id, c.name, c.key_prefix, c.queues, c.rate_limit, c.is_active, c.created_at, c.last_used_at,
    c.expires_at
from room as r
left join changed as c on true;

-- name: revoke_api_key :one
-- Ends a key for good or until it is activated again; its row stays.
update millstream.api_keys as k
set is_active = false, updated_at = coalesce(:now::timestamptz, now())
where k.tenant_id = :tenant_id::int and k.id = :id::uuid
returning k.id;

-- name: list_members :many
-- Reads the active keys of a tenant, the oldest first, as its members.
select k.id, k.name, k.queues, k.created_at, coalesce(t.billing_email, '') as email
from millstream.api_keys as k
inner join millstream.tenants as t on t.id = k.tenant_id
where k.tenant_id = :tenant_id::int and k.is_active and not k.is_session
order by k.created_at, k.id
limit :limit::int;

-- name: note_key_uses :many
-- Notes that keys are in use, those whose last note is old enough; a key that is being changed is left for later.
with due as materialized (
    select k.tenant_id, k.id
    from unnest(:tenant_ids::int[], :ids::uuid[]) as g (tenant_id, id)
    inner join millstream.api_keys as k on k.tenant_id = g.tenant_id and k.id = g.id
    where
        coalesce(
            k.last_used_at < coalesce(:now::timestamptz, now()) - :use_noted_seconds::int * interval '1 second', true
        )
    order by k.tenant_id, k.id
    for update of k skip locked
)
update millstream.api_keys as k
set last_used_at = coalesce(:now::timestamptz, now())
from due as d
where k.tenant_id = d.tenant_id and k.id = d.id
returning k.tenant_id, k.id;
