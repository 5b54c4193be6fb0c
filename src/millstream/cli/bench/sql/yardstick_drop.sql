drop schema if exists millstream_bench cascade;
