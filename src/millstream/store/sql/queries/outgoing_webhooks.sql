-- name: list_webhook_interests :many
-- Reads which tenants have enabled webhooks, and for which events.
select w.tenant_id, w.events
from millstream.outgoing_webhooks as w
where w.enabled
limit :limit::int;

-- name: count_outgoing_webhooks :one
-- Counts a tenant's webhooks, and those among them that are enabled.
select count(*) as total, count(*) filter (where w.enabled) as enabled
from millstream.outgoing_webhooks as w
where w.tenant_id = :tenant_id::int;

-- name: list_outgoing_webhooks :many
-- Reads a tenant's webhooks, the newest first, or one of them.
select
    w.id, w.name, w.url, w.events, w.format, w.enabled, w.failure_count, w.last_status, w.last_triggered_at,
    w.created_at, w.updated_at
from millstream.outgoing_webhooks as w
where w.tenant_id = :tenant_id::int and (:id::uuid is null or w.id = :id::uuid)
order by w.created_at desc, w.id desc
limit :limit::int;

-- name: find_webhook_address :one
-- Reads where a webhook is reached and what signs its deliveries.
select w.url, w.secret, w.format
from millstream.outgoing_webhooks as w
where w.tenant_id = :tenant_id::int and w.id = :id::uuid;

-- name: lock_outgoing_webhook :one
-- Holds a webhook that is about to be changed.
select w.enabled
from millstream.outgoing_webhooks as w
where w.tenant_id = :tenant_id::int and w.id = :id::uuid
for update;

-- name: create_outgoing_webhook :one
-- Creates a webhook. The tenant's row is locked and its room checked before.
insert into millstream.outgoing_webhooks as w (
    tenant_id, id, name, url, secret, events, format, enabled, created_at, updated_at
)
values (
    :tenant_id::int, :id::uuid, :name::text, :url::text, :secret::text, :events::smallint[], :format::smallint,
    :enabled::boolean, coalesce(:now::timestamptz, now()), coalesce(:now::timestamptz, now())
)
returning
    w.id, w.name, w.url, w.events, w.format, w.enabled, w.failure_count, w.last_status, w.last_triggered_at,
    w.created_at, w.updated_at;

-- name: update_outgoing_webhook :one
-- Changes what is given of a webhook; one that is enabled again begins without its failures.
update millstream.outgoing_webhooks as w
set
    name = coalesce(:name::text, w.name),
    url = coalesce(:url::text, w.url),
    secret = case when :set_secret::boolean then :secret::text else w.secret end,
    events = coalesce(:events::smallint[], w.events),
    format = coalesce(:format::smallint, w.format),
    enabled = coalesce(:enabled::boolean, w.enabled),
    failure_count = case when :enabled::boolean and not w.enabled then 0 else w.failure_count end,
    last_status = case when :enabled::boolean and not w.enabled then null else w.last_status end,
    updated_at = coalesce(:now::timestamptz, now())
where w.tenant_id = :tenant_id::int and w.id = :id::uuid
returning
    w.id, w.name, w.url, w.events, w.format, w.enabled, w.failure_count, w.last_status, w.last_triggered_at,
    w.created_at, w.updated_at;

-- name: forget_outgoing_deliveries :exec
-- Deletes the newest deliveries of a webhook that is about to be deleted. Before the webhook itself, because whoever
-- records how deliveries went locks them in this order too. What is left nobody can read, nor is it ever sent.
with told as materialized (
    select d.tenant_id, d.id
    from millstream.outgoing_deliveries as d
    where d.tenant_id = :tenant_id::int and d.webhook_id = :id::uuid
    order by d.id desc
    limit :limit::int
    for update
)
delete from millstream.outgoing_deliveries as d
using told as t
where d.tenant_id = t.tenant_id and d.id = t.id;

-- name: delete_outgoing_webhook :one
-- Deletes a webhook.
delete from millstream.outgoing_webhooks as w
where w.tenant_id = :tenant_id::int and w.id = :id::uuid
returning w.id;
