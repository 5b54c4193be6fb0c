-- The relay between processes: which of them live, and what happened for those who listen in another one.
--
-- Unlogged: a crash empties both tables, and the processes fill them again. Commits that touch nothing else
-- do not wait for the disk.
create unlogged table millstream.processes (
    id uuid primary key,
    started_at timestamptz not null,
    beat_at timestamptz not null,
    listens_to int[] not null default '{}',
    written bigint not null default 0
) with (fillfactor = 50);
comment on table millstream.processes is
    'Server processes that live: when each last said so, whose events it listens to, how many it wrote.';

create unlogged table millstream.event_log (
    tenant_id int not null,
    process_id uuid not null,
    number bigint not null,
    at timestamptz not null,
    event text not null,
    primary key (tenant_id, process_id, number)
) with (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 5000
);
comment on table millstream.event_log is
    'Events of the last minute that a subscriber in another process waits for; numbered by each writer.';
create index event_log_at on millstream.event_log (at);
comment on index millstream.event_log_at is 'prune_events';

select millstream.protect_table('millstream.event_log');
grant select, insert, update, delete on millstream.processes to millstream_engine;

-- Names the installation to what it shares with others, such as a Redis.
insert into millstream.settings (key, value) values ('installation_id', gen_random_uuid()::text);
