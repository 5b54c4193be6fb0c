-- name: claim_publish_key :one
-- Takes an idempotency key for the publish of this transaction, or finds what the one that has it was answered. A second one
-- waits for the first.
insert into millstream.publish_keys as k (tenant_id, topic_id, key, results, created_at)
values (
    :tenant_id::int, :topic_id::int, :key::text, ''::bytea, coalesce(:now::timestamptz, now())
)
on conflict (tenant_id, topic_id, key) do update set
    -- An old key begins anew.
    results = case
        when k.created_at <= excluded.created_at - :seconds::int * interval '1 second' then ''::bytea
        else k.results
    end,
    created_at = case
        when k.created_at <= excluded.created_at - :seconds::int * interval '1 second' then excluded.created_at
        else k.created_at
    end
returning k.results;

-- name: keep_publish_results :exec
-- Keeps what a publish with an idempotency key is answered.
update millstream.publish_keys as k
set results = :results::bytea
where k.tenant_id = :tenant_id::int and k.topic_id = :topic_id::int and k.key = :key::text;

-- name: prune_publish_keys :one
-- Deletes idempotency keys past their time; tells how many.
with stale as materialized (
    select k.tenant_id, k.topic_id, k.key
    from millstream.publish_keys as k
    where k.created_at < coalesce(:now::timestamptz, now()) - :seconds::int * interval '1 second'
    order by k.created_at
    limit :limit::int
    for update skip locked
),
removed as (
    delete from millstream.publish_keys as k
    using stale as s
    where k.tenant_id = s.tenant_id and k.topic_id = s.topic_id and k.key = s.key
    returning 1
)
select count(*) as pruned from removed;
