-- Totals as they stand: what is folded, and what is appended and waits to be. Reads of one total add up a few rows of each.
create view millstream.all_counters with (security_invoker = true) as
select c.tenant_id, c.kind, c.subject, c.day, c.amount from millstream.counters as c
union all
select d.tenant_id, d.kind, d.subject, d.day, d.amount from millstream.counter_deltas as d;
grant select on millstream.all_counters to millstream_engine, millstream_tenant;
