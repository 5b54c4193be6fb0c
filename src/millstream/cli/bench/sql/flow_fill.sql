-- Adds jobs of the busy capability that cannot run: `waiting` ones that wait for a job nobody takes, and `sleeping` ones
-- whose time comes tomorrow.
insert into millstream_bench_flow.jobs (job_id, next_need)
values ('parent', 'nobody')
on conflict do nothing;
insert into millstream_bench_flow.jobs (job_id, next_need, wait_for)
select 'waiting-' || gen_random_uuid(), 'busy', array['parent']
from generate_series(1, :waiting);
insert into millstream_bench_flow.jobs (job_id, next_need, available_at)
select 'sleeping-' || gen_random_uuid(), 'busy', clock_timestamp() + interval '1 day'
from generate_series(1, :sleeping);
vacuum (analyze) millstream_bench_flow.jobs;
