-- name: hold_tenant :one
-- Holds the row of a tenant until the transaction ends.
select t.id
from millstream.tenants as t
where t.public_id = :public_id::text
for update;

-- name: count_active_resources :one
-- Counts what keeps a tenant from being deleted by itself, jobs up to a bound.
select
    (
        select count(*)
        from (
            select from millstream.jobs as j where j.tenant_id = :tenant_id::int limit :counted_max::int
        ) as a
    ) as jobs,
    (
        select count(*) from millstream.workers as w where w.tenant_id = :tenant_id::int and w.status < 4
    ) as workers,
    (
        select count(*) from millstream.schedules as s where s.tenant_id = :tenant_id::int and s.is_active
    ) as schedules;

-- name: remove_tenant :one
-- Removes a tenant with its keys at once, and notes that its other rows are to go.
with keys as (
    delete from millstream.api_keys as k where k.tenant_id = :tenant_id::int
),
noted as (
    insert into millstream.removed_tenants (id, removed_at)
    select t.id, coalesce(:now::timestamptz, now())
    from millstream.tenants as t
    where t.id = :tenant_id::int
    on conflict do nothing
)
delete from millstream.tenants as t
where t.id = :tenant_id::int
returning t.id;

-- name: list_removed_tenants :many
-- Reads which tenants are gone whose rows may not all be.
select r.id from millstream.removed_tenants as r order by r.id limit :limit::int;

-- name: remove_tenant_rows :one
-- Deletes rows of a removed tenant, wherever they are; tells how many.
select millstream.remove_tenant_rows(:tenant_id::int, :limit::int) as removed;

-- name: forget_removed_tenant :exec
-- Ends the search for rows of a removed tenant; what was under way when it was removed has ended long since.
delete from millstream.removed_tenants as r
where
    r.id = :tenant_id::int
    and r.removed_at < coalesce(:now::timestamptz, now()) - :seconds::int * interval '1 second';
