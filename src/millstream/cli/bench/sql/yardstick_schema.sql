-- The yardstick's own table: the shape of a small job row, one index, nothing shared with the server's tables.
drop schema if exists millstream_bench cascade;
create schema millstream_bench;
create table millstream_bench.yardstick (
    tenant_id integer not null,
    id uuid not null,
    payload text not null,
    created_at timestamptz not null default now(),
    primary key (tenant_id, id)
);
