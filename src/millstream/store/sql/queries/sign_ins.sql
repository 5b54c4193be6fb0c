-- name: put_sign_in_code :exec
-- Makes a code the one that counts for its address.
insert into millstream.sign_in_codes as c (email, digest, expires_at)
values (
    :email::text, :digest::bytea, coalesce(:now::timestamptz, now()) + :seconds::int * interval '1 second'
)
on conflict (email) do update set
    digest = excluded.digest, tries = 0, is_sign_up = false, expires_at = excluded.expires_at;

-- name: try_sign_in_code :one
-- Counts a try of an address's code and returns what it is compared with; nothing when none counts any more.
update millstream.sign_in_codes as c
set tries = c.tries + 1
where
    c.email = :email::text
    and not c.is_sign_up
    and c.tries < :tries_max::int
    and c.expires_at > coalesce(:now::timestamptz, now())
returning c.digest;

-- name: drop_sign_in_code :exec
-- Forgets the code of an address: it was used.
delete from millstream.sign_in_codes as c where c.email = :email::text;

-- name: offer_sign_up :exec
-- Replaces an address's code, which was right, by what completes its sign-up.
update millstream.sign_in_codes as c
set
    digest = :digest::bytea,
    is_sign_up = true,
    expires_at = coalesce(:now::timestamptz, now()) + :seconds::int * interval '1 second'
where c.email = :email::text;

-- name: take_sign_up :one
-- Uses up an offered sign-up and returns the address that it was offered to.
delete from millstream.sign_in_codes as c
where c.digest = :digest::bytea and c.is_sign_up and c.expires_at > coalesce(:now::timestamptz, now())
returning c.email;

-- name: find_tenants_by_email :many
-- Finds the tenants whose bills go to an address (in lower case), the oldest first.
select t.id, t.public_id
from millstream.tenants as t
where lower(t.billing_email) = :email::text and t.is_active and t.deleted_at is null
order by t.id
limit :limit::int;

-- name: open_session_key :one
-- Finds or makes the hidden key of a tenant that tokens of sign-ins by e-mail are made from.
with opened as (
    insert into millstream.api_keys as k (
        tenant_id, id, name, key_prefix, digest, hash, queues, is_session, created_at, updated_at
    )
    values (
        :tenant_id::int, :id::uuid, :name::text, '', :digest::bytea, '', array['*'], true,
        coalesce(:now::timestamptz, now()), coalesce(:now::timestamptz, now())
    )
    on conflict (tenant_id) where is_session and is_active do update set updated_at = excluded.updated_at
    returning k.tenant_id, k.id, k.queues, k.rate_limit, k.is_active
)
select
    o.tenant_id, o.id, o.queues, o.rate_limit, o.is_active, t.public_id, t.plan_tier, t.custom_limits,
    null::float8 as expires_in_seconds, false as use_is_due
from opened as o
inner join millstream.tenants as t on t.id = o.tenant_id;

-- name: prune_sign_in_codes :one
-- Forgets codes that have ended; tells how many.
with ended as materialized (
    select c.email
    from millstream.sign_in_codes as c
    where c.expires_at < coalesce(:now::timestamptz, now())
    order by c.expires_at
    limit :limit::int
    for update skip locked
),
removed as (
    delete from millstream.sign_in_codes as c
    using ended as e
    where c.email = e.email
    returning c.email
)
select count(*) as pruned from removed;
