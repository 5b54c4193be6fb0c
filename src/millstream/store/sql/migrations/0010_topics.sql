-- Topics: partitioned logs of record batches, consumer groups, and what was delivered of them.
--
-- A message lies in a lane of its partition: 1 to 5 for the priorities from critical to background, 6 for messages that were
-- published with a delay. Lane arrays are subscripted by it. Offsets are dense over all lanes of a partition; a lane sequence is
-- dense within its lane, so that lag and the cut of a poll are arithmetic.
--
-- The previous version of the server neither reads nor writes any of this.

-- A deleted topic keeps its row, without its name, until a loop has removed what belonged to it: its successor has another id.
create table millstream.topics (
    tenant_id int not null,
    id int generated always as identity,
    name text not null,
    partitions int not null,
    retention_hours int not null,
    created_at timestamptz not null,
    deleted_at timestamptz,
    primary key (tenant_id, id),
    constraint topics_has_partitions check (partitions >= 1),
    constraint topics_retention_positive check (retention_hours >= 1)
);
create unique index topics_name on millstream.topics (tenant_id, name) where deleted_at is null;
comment on index millstream.topics_name is 'create_topic, find_topics, list_topics';
create index topics_deleted on millstream.topics (deleted_at) where deleted_at is not null;
comment on index millstream.topics_deleted is 'list_deleted_topics';

-- The row of a partition is advanced by every append, in the transaction that appends: its lock gives offsets their order.
-- `stable_offset` is the first offset of a transaction that is still open; readers stop there.
create table millstream.partitions (
    tenant_id int not null,
    topic_id int not null,
    partition int not null,
    log_start bigint not null default 0,
    next_offset bigint not null default 0,
    stable_offset bigint,
    lane_starts bigint[] not null default '{0,0,0,0,0,0}',
    lane_nexts bigint[] not null default '{0,0,0,0,0,0}',
    -- How many of lane 6 the log holds of each priority, without cancelled ones.
    delayed_counts bigint[] not null default '{0,0,0,0,0}',
    -- How many of them wait to be delivered, as far as a loop has counted.
    delayed_pending int not null default 0,
    -- What the log takes up as it is stored.
    size_bytes bigint not null default 0,
    last_published_at timestamptz,
    primary key (tenant_id, topic_id, partition)
) with (
    fillfactor = 30,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0
);

-- The messages of one lane of one partition that were appended together: all have the time of their append. Offsets are
-- `base_offset` and on; where other lanes lie between them, `offsets` holds each one's distance from it as 4 bytes, big-endian.
-- `lane_first` is the lane sequence of the first. `records` is what the codec made of them; a message that compaction took is
-- nil there, so that numbers stay. `size_bytes` is what a reader has to hold of it: `records` may be compressed.
-- `transaction_state`: 1 open, 2 committed, 3 aborted. `batch_id` tells a publisher that lost its connection what became of it.
create table millstream.record_batches (
    tenant_id int not null,
    topic_id int not null,
    partition int not null,
    lane smallint not null,
    base_offset bigint not null,
    last_offset bigint not null,
    lane_first bigint not null,
    record_count int not null,
    published_at timestamptz not null,
    -- Of lane 6: when the last of them is delivered, which retention waits for.
    last_deliver_at timestamptz,
    -- Of lane 6: how many of each priority.
    priority_counts bigint[],
    batch_id bigint,
    transaction_id bigint,
    transaction_state smallint,
    codec smallint not null,
    size_bytes int not null,
    offsets bytea,
    records bytea not null,
    primary key (tenant_id, topic_id, partition, lane, base_offset),
    constraint record_batches_lane_known check (lane between 1 and 6),
    constraint record_batches_codec_known check (codec in (0, 1)),
    constraint record_batches_transaction_state_known check (transaction_state between 1 and 3)
) with (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 50000,
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 20000,
    autovacuum_vacuum_cost_delay = 0
);
-- Batches are compressed before they come here.
alter table millstream.record_batches alter column records set storage external;

-- Messages that are not due yet, and cancelled ones for as long as the log holds them. A loop counts and removes what was delivered.
create table millstream.delayed_messages (
    tenant_id int not null,
    topic_id int not null,
    partition int not null,
    "offset" bigint not null,
    priority smallint not null,
    published_at timestamptz not null,
    deliver_at timestamptz not null,
    cancelled_at timestamptz,
    primary key (tenant_id, topic_id, partition, "offset"),
    constraint delayed_messages_priority_known check (priority between 0 and 4)
);
create index delayed_messages_pending on millstream.delayed_messages (tenant_id, topic_id, deliver_at, partition, "offset")
where cancelled_at is null;
comment on index millstream.delayed_messages_pending is 'list_delayed_messages, count_delayed_messages';
create index delayed_messages_due on millstream.delayed_messages (deliver_at) where cancelled_at is null;
comment on index millstream.delayed_messages_due is 'fold_delivered_messages, next_deliver_at';

-- A group exists from its first member or position on. `protocol`: 1 eager, 2 cooperative. Until `gathering_until` joins are
-- gathered, to be answered together; until `revoking_until` members of a cooperative group may keep what they are to give up.
create table millstream.consumer_groups (
    tenant_id int not null,
    id int generated always as identity,
    name text not null,
    protocol smallint not null default 1,
    generation int not null default 0,
    gathering_until timestamptz,
    revoking_until timestamptz,
    rebalance jsonb,
    statistics jsonb,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    primary key (tenant_id, id),
    constraint consumer_groups_protocol_known check (protocol in (1, 2)),
    constraint consumer_groups_name_unique unique (tenant_id, name)
);

create index consumer_groups_due on millstream.consumer_groups ((least(gathering_until, revoking_until)))
where gathering_until is not null or revoking_until is not null;
comment on index millstream.consumer_groups_due is 'list_groups_to_tend';

-- Deleted groups whose redeliveries and finished deliveries a loop has yet to remove.
create table millstream.removed_groups (
    tenant_id int not null,
    group_id int not null,
    removed_at timestamptz not null,
    primary key (tenant_id, group_id)
);

-- `generation` is the last one that the member has confirmed (cooperative). `changes` says what it was assigned from which
-- generation on, as digests, the latest last: [[7, "5f1d..."], ...].
create table millstream.group_members (
    tenant_id int not null,
    group_id int not null,
    member_id text not null,
    client_id text not null,
    topic_ids int[] not null,
    starts_latest boolean not null default false,
    session_timeout_ms int not null,
    joined_at timestamptz not null,
    seen_at timestamptz not null,
    generation int not null default 0,
    changes jsonb not null default '[]',
    primary key (tenant_id, group_id, member_id)
) with (fillfactor = 50);

-- What a group knows of a partition: who owns it (and who is to, while a cooperative rebalance goes on), and per lane how far it has handed out. `lane_bases` is where to look for the
-- next batch, `lane_offsets` the first offset not handed out (a lower bound of the next one's), `lane_seqs` its lane sequence.
-- Below `replay_until`, which a commit below it sets, a poll skips `replay_kept`: what was leased or owed at the commit, and goes its own way.
-- Lane sequences of -1 say that the position was set by its offset and has not been looked up in the log yet.
-- `low` is the lowest offset that is not settled (messaging 14.5), null while nothing was settled or committed. `unsettled`
-- counts what was handed out and is not settled; `starved_turn` how many were handed out since a starved message had its turn.
create table millstream.group_partitions (
    tenant_id int not null,
    group_id int not null,
    topic_id int not null,
    partition int not null,
    member_id text,
    target_member_id text,
    start_offset bigint not null,
    low bigint,
    lane_bases bigint[] not null,
    lane_offsets bigint[] not null,
    lane_seqs bigint[] not null,
    replay_until bigint,
    replay_kept int8multirange,
    unsettled int not null default 0,
    starved_turn smallint not null default 0,
    updated_at timestamptz not null,
    primary key (tenant_id, group_id, topic_id, partition)
) with (
    fillfactor = 40,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0
);
create index group_partitions_topic on millstream.group_partitions (tenant_id, topic_id, partition);
comment on index millstream.group_partitions_topic is 'cancel_delayed_message, lock_groups_of_topic';
-- Both columns change with memberships only: moving positions stays a matter of the heap.
create index group_partitions_member on millstream.group_partitions (tenant_id, group_id, member_id, topic_id, partition)
where member_id is not null;
comment on index millstream.group_partitions_member is 'beat_member';

-- What one poll handed out of one lane of a partition, or one message that is delivered again. `outcomes` has a byte for each:
-- 0 leased, 1 acknowledged, 2 rejected, 3 nacked, 4 given back (its lease ended or its member left), 5 dead-lettered when its
-- lease ended, 6 superseded by a reset, 7 settled by a commit. `deadlines` is set when single messages have their own; then
-- `deadline` is the earliest of those that are leased. `results` keeps what calls other than acknowledgements were answered, for those that come twice.
create table millstream.deliveries (
    tenant_id int not null,
    id bigint generated always as identity,
    group_id int not null,
    topic_id int not null,
    partition int not null,
    lane smallint not null,
    member_id text not null,
    secret bigint not null,
    base_offset bigint not null,
    message_count int not null,
    offsets bytea,
    outcomes bytea not null,
    leased int not null,
    lowest_leased bigint,
    attempt smallint not null default 1,
    first_delivered_at timestamptz not null,
    delivered_at timestamptz not null,
    deadline timestamptz not null,
    deadlines timestamptz[],
    last_error text,
    results jsonb,
    finished_at timestamptz,
    primary key (tenant_id, group_id, topic_id, partition, id),
    constraint deliveries_finished_when_nothing_leased check ((finished_at is null) = (leased > 0))
) with (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0
);
-- Without what acknowledgements change, so that their updates need no entries in any index.
create index deliveries_live on millstream.deliveries (tenant_id, group_id, topic_id, partition) where finished_at is null;
comment on index millstream.deliveries_live is 'list_ended_deliveries, advance_lows, next_wakes';
create index deliveries_member on millstream.deliveries (tenant_id, group_id, member_id) where finished_at is null;
comment on index millstream.deliveries_member is 'look_at_partitions, give_back_deliveries, find_polled_deliveries';
create index deliveries_deadline on millstream.deliveries (deadline) where finished_at is null;
comment on index millstream.deliveries_deadline is 'find_ended_partitions, next_deadline';
create index deliveries_finished on millstream.deliveries (finished_at) where finished_at is not null;
comment on index millstream.deliveries_finished is 'prune_deliveries';

-- Messages that a group is owed apart from its positions: nacked, given back, or passed by without a delivery (attempt 0):
-- delayed ones, and ones whose poll was never answered. `lane` is that of their priority, wherever they lie in the log.
-- `delivery_id` is the last delivery of it: unless it was nacked, its receipt still settles it until it is delivered again.
create table millstream.redeliveries (
    tenant_id int not null,
    group_id int not null,
    topic_id int not null,
    partition int not null,
    "offset" bigint not null,
    lane smallint not null,
    visible_at timestamptz not null,
    attempt smallint not null,
    delivery_id bigint,
    first_delivered_at timestamptz,
    last_delivered_at timestamptz,
    last_error text,
    primary key (tenant_id, group_id, topic_id, partition, "offset")
) with (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0
);
create index redeliveries_visible on millstream.redeliveries (tenant_id, group_id, topic_id, partition, lane, visible_at);
comment on index millstream.redeliveries_visible is 'list_due_redeliveries, next_wakes';
create index redeliveries_message on millstream.redeliveries (tenant_id, topic_id, partition, "offset");
comment on index millstream.redeliveries_message is 'cancel_delayed_message, prune_record_batches';

-- Publishes that named an idempotency key, and where their messages went. A row lives for a day.
create table millstream.publish_keys (
    tenant_id int not null,
    topic_id int not null,
    key text not null,
    results bytea not null,
    created_at timestamptz not null,
    primary key (tenant_id, topic_id, key)
);
create index publish_keys_created on millstream.publish_keys (created_at);
comment on index millstream.publish_keys_created is 'prune_publish_keys';

select millstream.protect_table('millstream.topics');
select millstream.protect_table('millstream.partitions');
select millstream.protect_table('millstream.record_batches');
select millstream.protect_table('millstream.delayed_messages');
select millstream.protect_table('millstream.consumer_groups');
select millstream.protect_table('millstream.removed_groups');
select millstream.protect_table('millstream.group_members');
select millstream.protect_table('millstream.group_partitions');
select millstream.protect_table('millstream.deliveries');
select millstream.protect_table('millstream.redeliveries');
select millstream.protect_table('millstream.publish_keys');

-- The offset of the message at `place` (from 0) of a delivery or batch.
create function millstream.offset_at(base_offset bigint, offsets bytea, place int)
returns bigint
language sql
immutable
parallel safe
set search_path = ''
as $$
    select base_offset + case
        when offsets is null then place
        else
            (get_byte(offsets, place * 4)::bigint << 24) + (get_byte(offsets, place * 4 + 1) << 16)
            + (get_byte(offsets, place * 4 + 2) << 8) + get_byte(offsets, place * 4 + 3)
    end
$$;

-- `outcomes` with `outcome` for every message that is still leased.
create function millstream.with_leases_ended(outcomes bytea, outcome int)
returns bytea
language sql
immutable
parallel safe
set search_path = ''
as $$
    select string_agg(
        case when get_byte(outcomes, place) = 0 then set_byte('\x00'::bytea, 0, outcome) else substr(outcomes, place + 1, 1) end,
        ''::bytea order by place
    )
    from generate_series(0, length(outcomes) - 1) as place
$$;

-- The sums of two arrays, place by place.
create function millstream.added(numbers bigint[], others bigint[])
returns bigint[]
language sql
immutable
parallel safe
set search_path = ''
as $$
    select array_agg(n.number + coalesce(n.other, 0) order by n.place)
    from unnest(numbers, others) with ordinality as n (number, other, place)
$$;

-- The first offset of a partition whose message was published at `moment` or later; the next offset when there is none.
-- Messages of a partition are published in the order of their offsets, so that each lane is searched by halves.
create function millstream.first_offset_since(of_tenant int, of_topic int, of_partition int, moment timestamptz)
returns bigint
language plpgsql
stable
parallel safe
set search_path = ''
as $$
declare
    lowest bigint;
    found bigint;
    low bigint;
    high bigint;
    middle bigint;
    base bigint;
    at timestamptz;
begin
    select p.log_start, p.next_offset into lowest, found
    from millstream.partitions as p
    where p.tenant_id = of_tenant and p.topic_id = of_topic and p.partition = of_partition;
    for of_lane in 1..6 loop
        low := lowest;
        high := found;
        while low < high loop
            middle := low + (high - low) / 2;
            select r.base_offset, r.published_at into base, at
            from millstream.record_batches as r
            where
                r.tenant_id = of_tenant
                and r.topic_id = of_topic
                and r.partition = of_partition
                and r.lane = of_lane
                and r.base_offset >= middle
                and r.base_offset < high
            order by r.base_offset
            limit 1;
            if base is null then
                high := middle;
            elsif at >= moment then
                high := middle;
                found := base;
            else
                low := base + 1;
            end if;
        end loop;
    end loop;
    return found;
end
$$;

-- Where the log of a partition begins once messages are gone that were published, or delivered after their delay, before
-- `moment`. Appends are kept or dropped whole, so that no batch lies on both sides of the beginning.
create function millstream.log_start_since(of_tenant int, of_topic int, of_partition int, moment timestamptz)
returns bigint
language plpgsql
stable
parallel safe
set search_path = ''
as $$
declare
    lowest bigint;
    start bigint;
    before bigint;
    first bigint;
begin
    select p.log_start into lowest
    from millstream.partitions as p
    where p.tenant_id = of_tenant and p.topic_id = of_topic and p.partition = of_partition;
    start := millstream.first_offset_since(of_tenant, of_topic, of_partition, moment);
    select r.base_offset into first
    from millstream.record_batches as r
    where
        r.tenant_id = of_tenant
        and r.topic_id = of_topic
        and r.partition = of_partition
        and r.lane = 6
        and r.base_offset >= lowest
        and r.base_offset < start
        and r.last_deliver_at >= moment
    order by r.base_offset
    limit 1;
    start := least(start, first);
    loop
        before := start;
        for of_lane in 1..6 loop
            select r.base_offset into first
            from (
                select b.base_offset, b.last_offset
                from millstream.record_batches as b
                where
                    b.tenant_id = of_tenant
                    and b.topic_id = of_topic
                    and b.partition = of_partition
                    and b.lane = of_lane
                    and b.base_offset < start
                order by b.base_offset desc
                limit 1
            ) as r
            where r.last_offset >= start;
            start := least(start, first);
        end loop;
        exit when start = before;
    end loop;
    return greatest(start, lowest);
end
$$;

grant execute on function
millstream.offset_at(bigint, bytea, int), millstream.with_leases_ended(bytea, int),
millstream.added(bigint[], bigint[]), millstream.first_offset_since(int, int, int, timestamptz),
millstream.log_start_since(int, int, int, timestamptz)
to millstream_engine, millstream_tenant;
