-- name: get_pending_counts :many
-- Reads how many messages of each partition wait to be delivered, as far as they are counted, and the time.
select p.partition, p.delayed_pending, coalesce(:now::timestamptz, now()) as at
from millstream.partitions as p
where p.tenant_id = :tenant_id::int and p.topic_id = :topic_id::int;
