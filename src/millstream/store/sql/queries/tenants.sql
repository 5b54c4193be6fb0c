-- name: create_tenant :one
-- Creates a tenant with its first API key; nothing comes back when the slug is taken.
with created as (
    insert into millstream.tenants (
        public_id, slug, name, plan_tier, billing_email, webhook_token, settings, custom_limits
    )
    values (
        :public_id::text, :slug::text, :name::text, :plan_tier::text, :billing_email::text, :webhook_token::text,
        coalesce(:settings::text, '{}'), :custom_limits::text
    )
    on conflict do nothing
    returning
        id, public_id, name, slug, plan_tier, billing_email, settings, custom_limits, description, is_active,
        stripe_customer_id, stripe_subscription_id, stripe_subscription_status, stripe_current_period_end,
        stripe_cancel_at_period_end, created_at, updated_at
),
keyed as (
    insert into millstream.api_keys (tenant_id, id, name, key_prefix, digest, hash, queues)
    select
        c.id, :key_id::uuid, :key_name::text, :key_prefix::text, :key_digest::bytea, :key_hash::text, array['*']
    from created as c
)
select
    c.id, c.public_id, c.name, c.slug, c.plan_tier, c.billing_email, c.settings, c.custom_limits, c.description,
    c.is_active, c.stripe_customer_id, c.stripe_subscription_id, c.stripe_subscription_status,
    c.stripe_current_period_end, c.stripe_cancel_at_period_end, c.created_at, c.updated_at
from created as c;

-- name: find_tenant :one
-- Finds a tenant by its public id.
select
    t.id, t.public_id, t.name, t.slug, t.plan_tier, t.billing_email, t.settings, t.custom_limits, t.description,
    t.is_active, t.stripe_customer_id, t.stripe_subscription_id, t.stripe_subscription_status,
    t.stripe_current_period_end, t.stripe_cancel_at_period_end, t.created_at, t.updated_at
from millstream.tenants as t
where t.public_id = :public_id::text;

-- name: update_tenant :one
-- Changes what is given of a tenant and empties what is to be cleared; a tenant that is given a plan is deleted no more.
update millstream.tenants as t
set
    name = coalesce(:name::text, t.name),
    billing_email = coalesce(:billing_email::text, t.billing_email),
    settings = coalesce(:settings::text, t.settings),
    description = coalesce(:description::text, t.description),
    plan_tier = coalesce(:plan_tier::text, t.plan_tier),
    deleted_at = case when :plan_tier::text is null then t.deleted_at end,
    custom_limits = case
        when not 'custom_limits' = any(:cleared::text[]) then coalesce(:custom_limits::text, t.custom_limits)
    end,
    is_active = coalesce(:is_active::boolean, t.is_active),
    stripe_customer_id = case
        when not 'stripe_customer_id' = any(:cleared::text[])
            then coalesce(:stripe_customer_id::text, t.stripe_customer_id)
    end,
    stripe_subscription_id = case
        when not 'stripe_subscription_id' = any(:cleared::text[])
            then coalesce(:stripe_subscription_id::text, t.stripe_subscription_id)
    end,
    stripe_subscription_status = case
        when not 'stripe_subscription_status' = any(:cleared::text[])
            then coalesce(:stripe_subscription_status::text, t.stripe_subscription_status)
    end,
    updated_at = coalesce(:now::timestamptz, now())
where t.public_id = :public_id::text
returning
    t.id, t.public_id, t.name, t.slug, t.plan_tier, t.billing_email, t.settings, t.custom_limits, t.description,
    t.is_active, t.stripe_customer_id, t.stripe_subscription_id, t.stripe_subscription_status,
    t.stripe_current_period_end, t.stripe_cancel_at_period_end, t.created_at, t.updated_at;

-- name: get_webhook_token :one
-- Reads the token that a tenant's incoming webhooks present.
select t.webhook_token from millstream.tenants as t where t.id = :tenant_id::int;

-- name: replace_webhook_token :one
-- Gives a tenant another token for its incoming webhooks; the one before opens nothing from then on.
update millstream.tenants as t
set webhook_token = :webhook_token::text, updated_at = coalesce(:now::timestamptz, now())
where t.id = :tenant_id::int
returning t.webhook_token;

-- name: find_free_slug :one
-- Finds the first of some slugs that no tenant has.
select g.slug
from unnest(:slugs::text[]) with ordinality as g (slug, place)
where not exists (select from millstream.tenants as t where t.slug = g.slug)
order by g.place
limit 1;

-- name: count_tenants :one
-- Counts the tenants, to know an empty database.
select count(*) as tenants from millstream.tenants;

-- name: get_setting :one
-- Reads one fact about this installation.
select s.value from millstream.settings as s where s.key = :key::text;

-- name: find_served_tenant :one
-- Finds a tenant by its slug, unless it is switched off or deleted.
select t.id, t.public_id, t.slug, t.plan_tier, t.custom_limits
from millstream.tenants as t
where t.slug = :slug::text and t.is_active and t.deleted_at is null;
