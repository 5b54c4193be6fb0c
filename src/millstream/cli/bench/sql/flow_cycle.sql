-- One round of a client: three transactions for ten jobs.
begin;
select 1 from millstream_bench_flow.submit_job(gen_random_uuid()::text, 'bench', 'busy');
select 1 from millstream_bench_flow.submit_job(gen_random_uuid()::text, 'bench', 'busy');
select 1 from millstream_bench_flow.submit_job(gen_random_uuid()::text, 'bench', 'busy');
select 1 from millstream_bench_flow.submit_job(gen_random_uuid()::text, 'bench', 'busy');
select 1 from millstream_bench_flow.submit_job(gen_random_uuid()::text, 'bench', 'busy');
select 1 from millstream_bench_flow.submit_job(gen_random_uuid()::text, 'bench', 'busy');
select 1 from millstream_bench_flow.submit_job(gen_random_uuid()::text, 'bench', 'busy');
select 1 from millstream_bench_flow.submit_job(gen_random_uuid()::text, 'bench', 'busy');
select 1 from millstream_bench_flow.submit_job(gen_random_uuid()::text, 'bench', 'busy');
select 1 from millstream_bench_flow.submit_job(gen_random_uuid()::text, 'bench', 'busy');
end;
select string_agg(work.job_id, ',') as job_ids, string_agg(work.lease_id, ',') as lease_ids
from millstream_bench_flow.get_work('bench', array['busy'], 300, 10) as work \gset
-- In one statement: less than ten may have been left over by the others.
select millstream_bench_flow.complete_job(taken.job_id, taken.lease_id, 'bench')
from unnest(string_to_array(:job_ids, ','), string_to_array(:lease_ids, ',')) as taken (job_id, lease_id);
