drop schema if exists millstream_bench_flow cascade;
