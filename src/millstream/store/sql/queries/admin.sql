-- name: list_all_tenants :many
-- Lists tenants of any kind with what they use, a page at a time; every row, and one without a tenant if there are
-- none, tells how many match.
with matching as materialized (
    select
        t.id, t.public_id, t.name, t.slug, t.plan_tier, t.billing_email, t.created_at, t.updated_at
    from millstream.tenants as t
    where
        (:plan_tier::text is null or t.plan_tier = :plan_tier::text)
        and (
            :search::text is null
            or strpos(lower(t.name), lower(:search::text)) > 0
            or strpos(t.slug, lower(:search::text)) > 0
        )
),
page as materialized (
    select
        m.*,
        row_number() over (
            order by
                case :ordering::text when 'name asc' then m.name when 'slug asc' then m.slug when 'plan_tier asc' then m.plan_tier end,
                case :ordering::text when 'name desc' then m.name when 'slug desc' then m.slug when 'plan_tier desc' then m.plan_tier end desc,
                case :ordering::text when 'created_at asc' then m.created_at when 'updated_at asc' then m.updated_at end,
                case :ordering::text when 'created_at desc' then m.created_at when 'updated_at desc' then m.updated_at end desc,
                case when :ordering::text like '% asc' then m.id else -m.id end
        ) as place
    from matching as m
    order by place
    limit :limit::int offset :offset::int
)
select
    c.total, p.public_id, p.name, p.slug, p.plan_tier, p.billing_email, p.created_at, p.updated_at,
    u.jobs_today, u.active_jobs, u.queues, u.workers, u.api_keys
from (select count(*) as total from matching) as c
left join page as p on true
left join lateral (
    select
        (
            select coalesce(sum(c.amount), 0)
            from millstream.all_counters as c
            where
                c.tenant_id = p.id
                and c.kind = 1
                and c.subject in ('', 'reset')
                and c.day = (coalesce(:now::timestamptz, now()) at time zone 'UTC')::date
        )::bigint as jobs_today,
        (select count(*) from millstream.jobs as j where j.tenant_id = p.id) as active_jobs,
        (select count(*) from millstream.queues as q where q.tenant_id = p.id) as queues,
        (select count(*) from millstream.workers as w where w.tenant_id = p.id and w.status < 3) as workers,
        (select count(*) from millstream.api_keys as k where k.tenant_id = p.id and k.is_active and not k.is_session) as api_keys
) as u on true
order by p.place;

-- name: get_tenant_totals :one
-- Counts a tenant's keys, revoked ones included, and all jobs that it ever created.
select
    (select count(*) from millstream.api_keys as k where k.tenant_id = :tenant_id::int and not k.is_session) as api_keys,
    (
        select coalesce(sum(c.amount), 0)
        from millstream.all_counters as c
        where c.tenant_id = :tenant_id::int and c.kind = 1 and c.subject = ''
    )::bigint as jobs;

-- name: delete_tenant_softly :one
-- Marks a tenant as deleted, which ends its credentials and keeps its rows.
update millstream.tenants as t
set
    plan_tier = 'deleted',
    deleted_at = coalesce(t.deleted_at, coalesce(:now::timestamptz, now())),
    updated_at = coalesce(:now::timestamptz, now())
where t.public_id = :public_id::text
returning t.id;

-- name: count_tenants_by_plan :many
-- Counts tenants by plan, the most frequent first.
select t.plan_tier, count(*) as tenants
from millstream.tenants as t
group by t.plan_tier
order by tenants desc, t.plan_tier;

-- name: get_platform_stats :one
-- Counts over all tenants what the administrator's overview shows.
select
    t.tenants, t.active_tenants, t.created_today, t.created_this_week, j.pending, j.scheduled, j.processing,
    (select count(*) from millstream.jobs_dead) as dead,
    (
        select count(*) from millstream.jobs_done as d
        where d.state = 7 and d.finished_at > coalesce(:now::timestamptz, now()) - interval '1 day'
    ) as completed_24h,
    (
        select count(*) from millstream.jobs_dead as d
        where d.updated_at > coalesce(:now::timestamptz, now()) - interval '1 day'
    ) as failed_24h,
    c.jobs_today, c.jobs_created, w.seen, w.healthy, w.degraded,
    (select count(*) from millstream.queues) as queues,
    (select count(*) from millstream.api_keys as k where k.is_active and not k.is_session) as api_keys
from (
    select
        count(*) as tenants,
        count(*) filter (where t.is_active and t.deleted_at is null) as active_tenants,
        count(*) filter (
            where (t.created_at at time zone 'UTC')::date = (coalesce(:now::timestamptz, now()) at time zone 'UTC')::date
        ) as created_today,
        count(*) filter (
            where t.created_at > coalesce(:now::timestamptz, now()) - interval '7 days'
        ) as created_this_week
    from millstream.tenants as t
) as t
cross join (
    select
        count(*) filter (where j.state in (1, 3, 4)) as pending,
        count(*) filter (where j.state = 2) as scheduled,
        count(*) filter (where j.state = 5) as processing
    from millstream.jobs as j
) as j
cross join (
    select
        coalesce(sum(a.amount) filter (where a.subject = ''), 0)::bigint as jobs_created,
        coalesce(sum(a.amount) filter (
            where a.day = (coalesce(:now::timestamptz, now()) at time zone 'UTC')::date
        ), 0)::bigint as jobs_today
    from millstream.all_counters as a
    where a.kind = 1 and a.subject in ('', 'reset')
) as c
cross join (
    select
        count(*) as seen,
        count(*) filter (where w.status = 1) as healthy,
        count(*) filter (where w.status = 2) as degraded
    from millstream.workers as w
    where w.status < 4 and w.last_heartbeat_at > coalesce(:now::timestamptz, now()) - interval '1 minute'
) as w;
