-- Jobs and messages that callers create inside transactions of their own, through functions whose names carry a version. They may
-- be executed by the role for inline calls: `grant millstream_inline to some_role`.
--
-- Nothing that others write is touched by them, whatever the caller's transaction does and however long it stays open: a job is
-- inserted, its labels, totals and webhooks are left to the server; a message waits in `staged_messages` until the server appends
-- it. What a caller publishes after another's commit has a higher number, so the order of numbers keeps causes before effects.
--
-- The previous version of the server neither reads nor writes any of this.

create table millstream.inline_jobs (
    tenant_id int not null,
    id uuid not null,
    queue text not null,
    job_type text not null,
    created_at timestamptz not null,
    run_at timestamptz,
    primary key (tenant_id, id)
) with (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0
);

create table millstream.staged_messages (
    tenant_id int not null,
    id bigint generated always as identity,
    topic_id int not null,
    value text not null,
    key text,
    headers text,
    partition int,
    priority smallint not null,
    deliver_at timestamptz,
    primary key (id)
) with (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0
);

select millstream.protect_table('millstream.inline_jobs');
select millstream.protect_table('millstream.staged_messages');

-- The tenant that an organization's id or slug names; without one, the organization of the first start.
create function millstream.tenant_named(organization text)
returns int
language plpgsql
stable
set search_path = ''
as $$
declare
    found_id int;
begin
    if organization is null then
        select t.id into found_id
        from millstream.tenants as t
        where t.is_active and t.deleted_at is null
        order by t.id
        limit 1;
    else
        select t.id into found_id
        from millstream.tenants as t
        where (t.public_id = organization or t.slug = organization) and t.is_active and t.deleted_at is null;
    end if;
    if found_id is null then
        raise exception 'unknown organization: %', coalesce(organization, 'none was created yet') using errcode = 'MS404';
    end if;
    return found_id;
end
$$;

create function millstream.enqueue_v1(
    queue text,
    payload json,
    job_type text default null,
    priority int default 0,
    max_retries int default null,
    timeout_seconds int default null,
    run_at timestamptz default null,
    expires_at timestamptz default null,
    idempotency_key text default null,
    tags json default null,
    organization text default null
)
returns uuid
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
    tenant int := millstream.tenant_named(organization);
    job uuid := millstream.new_id_at(clock_timestamp());
    holder uuid;
    kind text;
    settings record;
begin
    if queue is null or queue !~ '^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$' then
        raise exception 'queue: 1 to 100 letters, digits, ''.'', ''_'' or ''-'', not beginning with ''.'' or ''-''' using errcode = 'MS400';
    end if;
    if payload is null then
        raise exception 'payload is required; JSON null is ''null''' using errcode = 'MS400';
    end if;
    if octet_length(payload::text) > 1048576 then
        raise exception 'payload is larger than 1048576 bytes' using errcode = 'MS413';
    end if;
    if octet_length(tags::text) > 65536 then
        raise exception 'tags are larger than 65536 bytes' using errcode = 'MS413';
    end if;
    if json_typeof(tags) not in ('object', 'array') then
        raise exception 'tags: an object or an array' using errcode = 'MS400';
    end if;
    -- What clients cannot read back (characters that PostgreSQL has no text for) is refused here.
    perform payload::jsonb, tags::jsonb;
    if coalesce(priority, 0) not between -100 and 100 then
        raise exception 'priority: -100 to 100' using errcode = 'MS400';
    end if;
    if max_retries not between 0 and 100 then
        raise exception 'max_retries: 0 to 100' using errcode = 'MS400';
    end if;
    if timeout_seconds not between 1 and 86400 then
        raise exception 'timeout_seconds: 1 to 86400' using errcode = 'MS400';
    end if;
    if length(idempotency_key) not between 1 and 255 then
        raise exception 'idempotency_key: 1 to 255 characters' using errcode = 'MS400';
    end if;
    -- As everywhere: unless it is said apart, it is what the payload says.
    kind := left(coalesce(job_type, case when json_typeof(payload->'job_type') = 'string' then payload->>'job_type' end, ''), 255);
    if idempotency_key is not null then
        insert into millstream.idempotency_keys as k (tenant_id, key, job_id)
        values (tenant, idempotency_key, job)
        on conflict (tenant_id, key) do update set job_id = k.job_id
        returning k.job_id into holder;
        if holder <> job then
            return holder;
        end if;
    end if;
    select q.max_retries as retries, q.default_timeout_seconds as timeout into settings
    from millstream.queues as q
    where q.tenant_id = tenant and q.name = queue;
    -- It may be committed long after it was created: claims must not look for it among the new ones only.
    insert into millstream.jobs (
        tenant_id, id, queue, state, priority, max_retries, timeout_seconds, created_at, updated_at, run_at, expires_at,
        returned, job_type, payload, tags, idempotency_key
    )
    values (
        tenant, job, queue, case when run_at > now() then 2 else 1 end, coalesce(priority, 0),
        coalesce(max_retries, settings.retries, 3), coalesce(timeout_seconds, settings.timeout, 300), now(), now(), run_at,
        expires_at, true, kind, payload::text, tags::text, idempotency_key
    );
    insert into millstream.inline_jobs (tenant_id, id, queue, job_type, created_at, run_at)
    values (tenant, job, queue, kind, now(), run_at);
    -- Told once for a transaction, when it commits.
    perform pg_notify('millstream_inline', '');
    return job;
end
$$;

create function millstream.publish_v1(
    topic text,
    value text,
    key text default null,
    headers json default null,
    partition int default null,
    priority text default 'normal',
    delay interval default null,
    deliver_at timestamptz default null,
    organization text default null
)
returns void
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
    tenant int := millstream.tenant_named(organization);
    found_topic record;
    level int := array_position(array['critical', 'high', 'normal', 'low', 'background'], lower(coalesce(priority, 'normal')));
begin
    select t.id, t.partitions into found_topic
    from millstream.topics as t
    where t.tenant_id = tenant and t.name = topic and t.deleted_at is null;
    if found_topic.id is null then
        raise exception 'topic not found: %', topic using errcode = 'MS404';
    end if;
    if value is null then
        raise exception 'value is required' using errcode = 'MS400';
    end if;
    if octet_length(value) > 16777216 then
        raise exception 'value is larger than 16777216 bytes' using errcode = 'MS413';
    end if;
    if octet_length(key) > 65535 then
        raise exception 'key is larger than 65535 bytes' using errcode = 'MS413';
    end if;
    if octet_length(headers::text) > 65535 then
        raise exception 'headers are larger than 65535 bytes' using errcode = 'MS413';
    end if;
    if headers is not null and json_typeof(headers) <> 'object'
        or exists (select from json_each(headers) as h where json_typeof(h.value) <> 'string') then
        raise exception 'headers: an object whose values are strings' using errcode = 'MS400';
    end if;
    perform headers::jsonb;
    if partition < 0 or partition >= found_topic.partitions then
        raise exception 'invalid partition % (topic has % partitions)', partition, found_topic.partitions
            using errcode = 'MS400';
    end if;
    if level is null then
        raise exception 'invalid priority: must be one of critical, high, normal, low, background' using errcode = 'MS400';
    end if;
    if coalesce(now() + delay, deliver_at) > now() + interval '671088.64 seconds' then
        raise exception 'delay exceeds maximum 186h24m48.64s' using errcode = 'MS400';
    end if;
    insert into millstream.staged_messages (
        tenant_id, topic_id, value, key, headers, partition, priority, deliver_at
    )
    values (
        tenant, found_topic.id, value, nullif(key, ''), headers::text, partition, level - 1, coalesce(now() + delay, deliver_at)
    );
    perform pg_notify('millstream_inline', '');
end
$$;

revoke execute on function millstream.tenant_named(text) from public;
revoke execute on function
millstream.enqueue_v1(text, json, text, int, int, int, timestamptz, timestamptz, text, json, text),
millstream.publish_v1(text, text, text, json, int, text, interval, timestamptz, text)
from public;
grant execute on function
millstream.enqueue_v1(text, json, text, int, int, int, timestamptz, timestamptz, text, json, text),
millstream.publish_v1(text, text, text, json, int, text, interval, timestamptz, text)
to millstream_inline, millstream_owner;
