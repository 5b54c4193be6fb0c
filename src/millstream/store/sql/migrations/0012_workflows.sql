-- Workflows: jobs that wait for one another, and how a set of them stands as a whole.
--
-- The previous version of the server neither reads nor writes any of this; what it completes meanwhile are no jobs of
-- workflows.

create table millstream.workflows (
    tenant_id int not null,
    id uuid not null,
    name text not null,
    description text,
    metadata text,
    queues text[] not null,
    status smallint not null default 1,
    total_jobs int not null,
    completed_jobs int not null default 0,
    failed_jobs int not null default 0,
    created_at timestamptz not null,
    started_at timestamptz,
    completed_at timestamptz,
    primary key (tenant_id, id),
    constraint workflows_status_known check (status between 1 and 5),
    constraint workflows_finished_has_time check ((status > 2) = (completed_at is not null))
);
create index workflows_active on millstream.workflows (tenant_id) where status < 3;
comment on index millstream.workflows_active is 'count_active_workflows, count_usage';

-- The jobs of a workflow in the order of its definition. `final_state` is the state of a job that is deleted since: 7 or 8 for
-- one that was completed or cancelled, 0 for any other.
create table millstream.workflow_jobs (
    tenant_id int not null,
    workflow_id uuid not null,
    place int not null,
    key text not null,
    job_id uuid not null,
    final_state smallint,
    primary key (tenant_id, workflow_id, place),
    constraint workflow_jobs_job_unique unique (tenant_id, job_id),
    constraint workflow_jobs_final_state_known check (final_state in (0, 7, 8))
);

-- Which job waits for which. `jobs.unmet` counts what is left to wait for; of a job with mode `any` it is 1 until the
-- first one completes.
create table millstream.job_dependencies (
    tenant_id int not null,
    job_id uuid not null,
    depends_on uuid not null,
    primary key (tenant_id, job_id, depends_on)
);
create index job_dependencies_dependents on millstream.job_dependencies (tenant_id, depends_on, job_id);
comment on index millstream.job_dependencies_dependents is
    'complete_jobs, fail_jobs, cancel_jobs, forget_jobs, list_dependency_edges';

-- Workflows with a job that has ended or come back since they were last looked at: appended by the transaction that did it,
-- as a row of the workflow that they all update would make the jobs of a workflow wait for each other.
create table millstream.workflow_changes (
    tenant_id int not null,
    workflow_id uuid not null
) with (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 50000,
    autovacuum_vacuum_cost_delay = 0
);
create index workflow_changes_workflow on millstream.workflow_changes (tenant_id, workflow_id);
comment on index millstream.workflow_changes_workflow is 'list_changed_workflows, take_workflow_changes';

select millstream.protect_table('millstream.workflows');
select millstream.protect_table('millstream.workflow_jobs');
select millstream.protect_table('millstream.job_dependencies');
select millstream.protect_table('millstream.workflow_changes');

comment on column millstream.jobs.has_dependents is
    'Something hangs on its end: jobs that wait for it, or a workflow. Nothing is looked for otherwise.';

-- The statements that end jobs call the functions below for jobs that something hangs on, and only for those. Each query in
-- them has a snapshot of its own, which is what they are functions for: it is taken after the ended jobs were locked, so that
-- it shows whatever was made to wait for them until then. `offset 0` keeps each look-up one by its whole key: joined
-- plainly, it might begin with all that the tenant has.

-- Lets go what waited for jobs that are completed. Returns the jobs that wait for one thing less, and a row without an id
-- when a workflow has changed.
create function millstream.release_dependents(
    of_tenant int, of_jobs uuid[], of_workflows uuid[], at timestamptz
)
returns table (id uuid, queue text, state smallint)
language plpgsql
as $$
#variable_conflict use_column
begin
    return query
    with waiting as materialized (
        select e.job_id, count(*) as met
        from unnest(of_jobs) as g (id)
        cross join lateral (
            select d.job_id
            from millstream.job_dependencies as d
            where d.tenant_id = of_tenant and d.depends_on = g.id
            offset 0
        ) as e
        group by e.job_id
        union all
        -- A child waits for its parent when it is blocked and waits for nothing else.
        select j.id, 1
        from unnest(of_jobs) as g (id)
        cross join lateral (
            select c.id
            from millstream.jobs as c
            where c.tenant_id = of_tenant and c.parent_job_id = g.id and c.state = 4
            offset 0
        ) as j
        where (
            select e.job_id
            from millstream.job_dependencies as e
            where e.tenant_id = of_tenant and e.job_id = j.id
            limit 1
        ) is null
    ),
    held as materialized (
        -- With the tenant, so that rows are reached by their whole keys and in no other way.
        select of_tenant as tenant_id, j.id, w.met
        from (select o.job_id, o.met from waiting as o order by o.job_id) as w
        cross join lateral (
            select h.id, h.state
            from millstream.jobs as h
            where h.tenant_id = of_tenant and h.id = w.job_id
            limit 1
            for update
        ) as j
        where j.state = 4
    )
    update millstream.jobs as j
    set
        unmet = case when j.dependency_mode = 2 then 0 else j.unmet - h.met end,
        returned = true,
        state = case
            when j.dependency_mode = 1 and j.unmet > h.met then 4
            when j.run_at > at then case when j.retry_count = 0 then 2 else 3 end
            else 1
        end,
        updated_at = at
    from held as h
    where j.tenant_id = any(array[h.tenant_id]) and j.id = any(array[h.id])
    returning j.id, j.queue, j.state;
    if of_workflows is not null then
        insert into millstream.workflow_changes (tenant_id, workflow_id)
        select of_tenant, w.id from unnest(of_workflows) as w (id);
        return query select null::uuid, null::text, null::smallint;
    end if;
end
$$;

-- Finds and locks the blocked jobs that can never start now that the given ones are cancelled, what waits for them in turn,
-- and so on. What waits for a job that is `buried` goes on waiting, as it may be retried, unless it is its child.
create function millstream.lock_hopeless(of_tenant int, of_jobs uuid[], buried boolean)
returns table (id uuid)
language plpgsql
as $$
#variable_conflict use_column
declare
    gone uuid[] := of_jobs;
    step uuid[] := of_jobs;
    children_only boolean := buried;
begin
    loop
        select array_agg(c.id order by c.id)
        into step
        from (
            (
                select j.id
                from unnest(step) as g (id)
                cross join lateral (
                    select c.id
                    from millstream.jobs as c
                    where c.tenant_id = of_tenant and c.parent_job_id = g.id and c.state = 4
                    offset 0
                ) as j
                union
                select e.job_id
                from unnest(step) as g (id)
                cross join lateral (
                    select d.job_id
                    from millstream.job_dependencies as d
                    where d.tenant_id = of_tenant and d.depends_on = g.id
                    offset 0
                ) as e
                where not children_only
            )
            except
            select g.id from unnest(gone) as g (id)
        ) as c;
        exit when step is null;
        -- Locked before it is judged: of two that cancel the last two jobs that it waits for, one sees both gone.
        select array_agg(j.id order by j.id)
        into step
        from unnest(step) as g (id)
        cross join lateral (
            select h.id, h.state
            from millstream.jobs as h
            where h.tenant_id = of_tenant and h.id = g.id
            limit 1
            for update
        ) as j
        where j.state = 4;
        select array_agg(j.id order by j.id)
        into step
        from unnest(step) as g (id)
        cross join lateral (
            select h.id, h.parent_job_id, h.dependency_mode
            from millstream.jobs as h
            where h.tenant_id = of_tenant and h.id = g.id
            offset 0
        ) as j
        where
            j.dependency_mode = 1
            or j.parent_job_id in (select o.id from unnest(gone) as o (id))
            or not exists (
                select
                from millstream.job_dependencies as e
                where
                    e.tenant_id = of_tenant
                    and e.job_id = j.id
                    and e.depends_on not in (select o.id from unnest(gone) as o (id))
                    and not exists (
                        select from millstream.jobs_done as d
                        where d.tenant_id = of_tenant and d.id = e.depends_on and d.state = 8
                    )
            );
        exit when step is null;
        gone := gone || step;
        children_only := false;
        return query select s.id from unnest(step) as s (id);
    end loop;
end
$$;

-- Counts anew what jobs that nobody works on wait for, and lets go or holds back accordingly. Returns how they stand now.
create function millstream.recount_dependencies(of_tenant int, of_jobs uuid[], at timestamptz)
returns table (id uuid, queue text, state smallint)
language plpgsql
as $$
#variable_conflict use_column
begin
    perform h.id
    from (select o.id from unnest(of_jobs) as o (id) order by o.id) as g
    cross join lateral (
        select j.id
        from millstream.jobs as j
        where j.tenant_id = of_tenant and j.id = g.id
        limit 1
        for update
    ) as h;
    return query
    with counted as materialized (
        select
            of_tenant as tenant_id,
            j.id,
            case
                when j.dependency_mode = 1 then c.unfinished
                when c.unfinished = c.edges and c.edges > 0 then 1
                else 0
            end as unmet
        from unnest(of_jobs) as g (id)
        cross join lateral (
            select h.id, h.dependency_mode, h.state
            from millstream.jobs as h
            where h.tenant_id = of_tenant and h.id = g.id
            offset 0
        ) as j
        cross join lateral (
            select
                count(*) as edges,
                count(*) filter (
                    where not exists (
                        select from millstream.jobs_done as d
                        where d.tenant_id = of_tenant and d.id = e.depends_on and d.state = 7
                    )
                ) as unfinished
            from millstream.job_dependencies as e
            where e.tenant_id = of_tenant and e.job_id = j.id
        ) as c
        where j.state < 5
    )
    update millstream.jobs as j
    set
        unmet = c.unmet,
        returned = true,
        state = case
            when c.unmet > 0 then 4
            when j.run_at > at then case when j.retry_count = 0 then 2 else 3 end
            else 1
        end,
        updated_at = at
    from counted as c
    where j.tenant_id = any(array[c.tenant_id]) and j.id = any(array[c.id])
    returning j.id, j.queue, j.state;
end
$$;

-- Forgets what hangs on jobs that are about to be deleted: what waited for them waits for one thing less, their workflows
-- keep how they ended. Returns how the jobs stand that waited.
create function millstream.forget_jobs(of_tenant int, of_jobs uuid[], at timestamptz)
returns table (id uuid, queue text, state smallint)
language plpgsql
as $$
#variable_conflict use_column
declare
    waiting uuid[];
begin
    with given as materialized (
        select of_tenant as tenant_id, g.id from unnest(of_jobs) as g (id)
    ),
    removed as (
        delete from millstream.job_dependencies as e
        using given as g
        where e.tenant_id = any(array[g.tenant_id]) and e.depends_on = any(array[g.id])
        returning e.job_id
    )
    select array_agg(r.job_id)
    into waiting
    from (
        select r.job_id from removed as r
        except
        select g.id from unnest(of_jobs) as g (id)
    ) as r;
    with given as materialized (
        select of_tenant as tenant_id, g.id from unnest(of_jobs) as g (id)
    )
    delete from millstream.job_dependencies as e
    using given as g
    where e.tenant_id = any(array[g.tenant_id]) and e.job_id = any(array[g.id]);
    with given as materialized (
        select of_tenant as tenant_id, g.id from unnest(of_jobs) as g (id)
    ),
    members as (
        update millstream.workflow_jobs as m
        set final_state = coalesce(
            (
                select d.state
                from millstream.jobs_done as d
                where d.tenant_id = of_tenant and d.id = g.id
            ),
            0
        )
        from given as g
        where m.tenant_id = any(array[g.tenant_id]) and m.job_id = any(array[g.id])
        returning m.workflow_id
    )
    insert into millstream.workflow_changes (tenant_id, workflow_id)
    select distinct of_tenant, m.workflow_id from members as m;
    if waiting is not null then
        return query select r.id, r.queue, r.state from millstream.recount_dependencies(of_tenant, waiting, at) as r;
    end if;
end
$$;

grant execute on function
millstream.release_dependents(int, uuid[], uuid[], timestamptz),
millstream.lock_hopeless(int, uuid[], boolean),
millstream.recount_dependencies(int, uuid[], timestamptz),
millstream.forget_jobs(int, uuid[], timestamptz)
to millstream_engine, millstream_tenant;

-- The dashboard: how many jobs there are is what was created (kind 1) less what was deleted (kind 6,
-- on whatever day).
create index jobs_dead_recent on millstream.jobs_dead (tenant_id, updated_at);
comment on index millstream.jobs_dead_recent is 'read_dashboard';
insert into millstream.counter_deltas (tenant_id, kind, subject, day, amount)
select c.tenant_id, 6, '', date '1970-01-01', sum(c.amount) - max(e.jobs)
from millstream.all_counters as c
cross join lateral (select count(*) as jobs from millstream.all_jobs as j where j.tenant_id = c.tenant_id) as e
where c.kind = 1 and c.subject = ''
group by c.tenant_id
having sum(c.amount) > max(e.jobs);
