-- The walk from a job to what waits for it, in one place.

-- The blocked jobs below one job: its children that wait for it, their children that wait for them, and so on. They can
-- never start once it is buried, cancelled or deleted. A single plain `select` without settings of its own, so that
-- statements are planned with its text in the place of the call: nothing is called for a job without dependents.
create function millstream.blocked_below(of_tenant int, of_job uuid)
returns table (id uuid)
language sql
stable
as $$
    with recursive blocked as (
        select j.id
        from millstream.jobs as j
        where j.tenant_id = of_tenant and j.parent_job_id = of_job and j.state = 4
        union
        select j.id
        from blocked as b
        inner join millstream.jobs as j on j.tenant_id = of_tenant and j.parent_job_id = b.id and j.state = 4
    )
    select b.id from blocked as b
$$;
comment on index millstream.jobs_children is
    'complete_jobs, fail_jobs, cancel_jobs, retry_dead_jobs, list_descendants, list_blocked_below';
comment on index millstream.jobs_dead_oldest is 'retry_dead_jobs, list_purged_jobs';
comment on index millstream.jobs_dead_children is 'list_descendants';
comment on index millstream.jobs_done_children is 'list_descendants';
grant execute on function millstream.blocked_below(int, uuid) to millstream_engine, millstream_tenant;
