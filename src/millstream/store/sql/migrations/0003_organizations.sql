-- The administration of tenants: what is known of them beside their plan, whether they are served, and how everything
-- of one is removed.

alter table millstream.tenants
    add column description text,
    add column is_active boolean not null default true,
    add column deleted_at timestamptz,
    add column stripe_customer_id text,
    add column stripe_subscription_id text,
    add column stripe_subscription_status text,
    add column stripe_current_period_end timestamptz,
    add column stripe_cancel_at_period_end boolean,
    add constraint tenants_deleted_has_tier check ((plan_tier = 'deleted') = (deleted_at is not null));

-- Tenants that are gone already while rows of theirs may be left; their numbers are never used again.
create table millstream.removed_tenants (
    id int primary key,
    removed_at timestamptz not null
);
grant select, insert, delete on millstream.removed_tenants to millstream_engine;

create index worker_ids_tenant on millstream.worker_ids (tenant_id);
comment on index millstream.worker_ids_tenant is 'remove_tenant_rows';

-- Deletes up to `rows_max` rows of a tenant, whatever tables there are: it goes by the catalogue, so that a table
-- that is added later is not forgotten. Returns how many it deleted; 0 once there are none.
create function millstream.remove_tenant_rows(removed_id int, rows_max int)
returns int
language plpgsql
set search_path = ''
as $$
declare
    relation regclass;
    step int;
    removed int := 0;
begin
    for relation in
        select c.oid::regclass
        from pg_catalog.pg_class as c
        inner join pg_catalog.pg_attribute as a
            on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
        where c.relnamespace = 'millstream'::regnamespace and c.relkind = 'r'
        order by c.relname
    loop
        exit when removed >= rows_max;
        execute format(
            'delete from %1$s as t where t.tenant_id = $1'
            ' and t.ctid = any(array(select r.ctid from %1$s as r where r.tenant_id = $1 limit $2))',
            relation
        ) using removed_id, rows_max - removed;
        get diagnostics step = row_count;
        removed := removed + step;
    end loop;
    return removed;
end
$$;
revoke execute on function millstream.remove_tenant_rows(int, int) from public;
grant execute on function millstream.remove_tenant_rows(int, int) to millstream_engine;
