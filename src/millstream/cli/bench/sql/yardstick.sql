insert into millstream_bench.yardstick (tenant_id, id, payload)
values (1, gen_random_uuid(), repeat('0123456789', 10));
