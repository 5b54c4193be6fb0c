-- name: find_token_keys :many
-- Finds the keys that tokens were made from, by what the tokens say, and whether a token was revoked. A key of another
-- tenant than the token names is not found.
select
    g.place, k.tenant_id, k.id, k.queues, k.rate_limit, k.is_active, t.public_id, t.plan_tier, t.custom_limits,
    extract(epoch from k.expires_at - coalesce(:now::timestamptz, now()))::float8 as expires_in_seconds,
    coalesce(
        k.last_used_at < coalesce(:now::timestamptz, now()) - :use_noted_seconds::int * interval '1 second', true
    ) as use_is_due,
    exists (
        select from millstream.revoked_tokens as r where r.tenant_id = k.tenant_id and r.jti = g.jti
    ) as is_revoked
from unnest(:organization_ids::text[], :key_ids::uuid[], :jtis::uuid[]) with ordinality as g (
    organization_id, key_id, jti, place
)
inner join millstream.tenants as t on t.public_id = g.organization_id and t.is_active and t.deleted_at is null
inner join millstream.api_keys as k on k.tenant_id = t.id and k.id = g.key_id;

-- name: find_signed_in :one
-- Reads the tenant and the key that an access token stands for.
select t.name, t.slug, t.plan_tier, t.billing_email, k.queues
from millstream.tenants as t
inner join millstream.api_keys as k on k.tenant_id = t.id
where t.id = :tenant_id::int and k.id = :key_id::uuid;

-- name: revoke_tokens :exec
-- Ends tokens before their time; each is remembered until it would have ended anyway.
insert into millstream.revoked_tokens (tenant_id, jti, expires_at)
select :tenant_id::int, g.jti, g.expires_at
from unnest(:jtis::uuid[], :expires_ats::timestamptz[]) as g (jti, expires_at)
order by g.jti
on conflict do nothing;

-- name: prune_revoked_tokens :one
-- Forgets revoked tokens that have ended by themselves; tells how many.
with ended as materialized (
    select r.tenant_id, r.jti
    from millstream.revoked_tokens as r
    where r.expires_at < coalesce(:now::timestamptz, now())
    order by r.expires_at
    limit :limit::int
    for update skip locked
),
removed as (
    delete from millstream.revoked_tokens as r
    using ended as e
    where r.tenant_id = e.tenant_id and r.jti = e.jti
    returning r.jti
)
select count(*) as pruned from removed;
