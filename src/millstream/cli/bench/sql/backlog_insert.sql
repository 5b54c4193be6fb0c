-- Adds `count` jobs in `state` (1 ready, 2 scheduled, 3 waiting for a retry) to `queue`, for the tenant that already
-- has a job in it. Ids are version 7, so that their completion lands in the partition of their day.
insert into millstream.jobs (
    tenant_id, id, queue, state, priority, retry_count, max_retries, timeout_seconds,
    created_at, updated_at, run_at, payload
)
select
    known.tenant_id,
    (
        lpad(to_hex((extract(epoch from moment.created_at) * 1000)::bigint), 12, '0')
        || '7' || substr(moment.digits, 1, 3)
        || '8' || substr(moment.digits, 4, 15)
    )::uuid,
    known.queue,
    :state,
    0,
    case when :state = 3 then 1 else 0 end,
    3,
    300,
    moment.created_at,
    moment.created_at,
    case when :state = 1 then null else now() + interval '1 day' + number * interval '1 millisecond' end,
    '"' || repeat('0123456789', 10) || '"'
from
    (select tenant_id, queue from millstream.jobs where queue = :'queue' limit 1) as known,
    generate_series(1, :count) as number,
    lateral (
        select
            now() - interval '1 second' + number * interval '1 microsecond' as created_at,
            md5(gen_random_uuid()::text) as digits
        -- Ties the subquery to the row: without it every job would get the same digits.
        where number > 0
    ) as moment;
