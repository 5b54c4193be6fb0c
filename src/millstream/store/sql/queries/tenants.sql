-- name: create_tenant :one
-- Creates a tenant with its first API key; nothing comes back when the slug is taken.
with created as (
    insert into millstream.tenants (public_id, slug, name, plan_tier, billing_email, webhook_token)
    values (
        :public_id::text, :slug::text, :name::text, :plan_tier::text, :billing_email::text, :webhook_token::text
    )
    on conflict do nothing
    returning id, public_id, name, slug, plan_tier, billing_email, settings, custom_limits, created_at, updated_at
),
keyed as (
    insert into millstream.api_keys (tenant_id, id, name, key_prefix, digest, hash, queues)
    select
        c.id, :key_id::uuid, :key_name::text, :key_prefix::text, :key_digest::bytea, :key_hash::text, array['*']
    from created as c
)
select
    c.id, c.public_id, c.name, c.slug, c.plan_tier, c.billing_email, c.settings, c.custom_limits, c.created_at,
    c.updated_at
from created as c;

-- name: count_tenants :one
-- Counts the tenants, to know an empty database.
select count(*) as tenants from millstream.tenants;

-- name: find_api_key :one
-- Finds an active key and its tenant by the digest of the secret.
select
    k.tenant_id, k.id, k.hash, k.queues, k.rate_limit, k.is_active, k.expires_at, t.public_id, t.plan_tier,
    t.custom_limits,
    extract(epoch from k.expires_at - coalesce(:now::timestamptz, now()))::float8 as expires_in_seconds
from millstream.api_keys as k
inner join millstream.tenants as t on t.id = k.tenant_id
where k.digest = :digest::bytea;

-- name: get_setting :one
-- Reads one fact about this installation.
select s.value from millstream.settings as s where s.key = :key::text;
