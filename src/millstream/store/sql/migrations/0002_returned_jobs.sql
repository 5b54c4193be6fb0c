-- The jobs that came back with an old time of creation: retried, unblocked, given back, or of another priority now.
-- A claim that begins at a position looks for them here.
create index jobs_returned on millstream.jobs (tenant_id, queue, priority desc, created_at, id) where returned;
comment on index millstream.jobs_returned is 'claim_jobs';
