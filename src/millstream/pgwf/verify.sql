-- What an installation lacks, one name a row. Changes nothing; an empty schema lacks everything.
select expected.name
from (
    values
    (1, 'table', 'pgwf.jobs'),
    (2, 'table', 'pgwf.jobs_archive'),
    (3, 'table', 'pgwf.jobs_trace'),
    (4, 'table', 'pgwf.settings'),
    (5, 'table', 'pgwf.jobs_with_status'),
    (6, 'table', 'pgwf.jobs_friendly_status'),
    (7, 'table', 'pgwf.jobs_trace_id_seq'),
    (8, 'table', 'pgwf.jobs_due'),
    (9, 'table', 'pgwf.jobs_sleeping'),
    (10, 'table', 'pgwf.jobs_waiting'),
    (11, 'table', 'pgwf.jobs_leased_singletons'),
    (12, 'table', 'pgwf.jobs_cancelled'),
    (13, 'table', 'pgwf.jobs_trace_by_job'),
    (14, 'table', 'pgwf.jobs_trace_by_time'),
    (20, 'function', 'pgwf.submit_job(text,text,text,text[],jsonb,text,timestamp with time zone,timestamp with time zone)'),
    (21, 'function', 'pgwf.submit_job(text,text,text,text[],text,timestamp with time zone)'),
    (22, 'function', 'pgwf.submit_job(text,text,text,text[],text,text)'),
    (23, 'function', 'pgwf.get_work(text,text[],integer,integer)'),
    (24, 'function', 'pgwf.extend_lease(text,text,text,integer)'),
    (25, 'function', 'pgwf.reschedule_job(text,text,text,text,text[],timestamp with time zone,jsonb)'),
    (26, 'function', 'pgwf.reschedule_job(text,text,text,text,text[],text,timestamp with time zone)'),
    (27, 'function', 'pgwf.reschedule_job(text,text,text,text,text[],text,text)'),
    (28, 'function', 'pgwf.reschedule_unheld_job(text,text,text,text[],timestamp with time zone,jsonb)'),
    (29, 'function', 'pgwf.reschedule_unheld_job(text,text,text,text[],text,timestamp with time zone)'),
    (30, 'function', 'pgwf.reschedule_unheld_job(text,text,text,text[],text,text)'),
    (31, 'function', 'pgwf.complete_job(text,text,text)'),
    (32, 'function', 'pgwf.complete_unheld_job(text,text)'),
    (33, 'function', 'pgwf.cancel_job(text,text,text)'),
    (34, 'function', 'pgwf.archive_cancelled_jobs(text,integer)'),
    (35, 'function', 'pgwf.clear_crash_concern(text,text,text)'),
    (36, 'function', 'pgwf.normalize_wait_for(text[])'),
    (37, 'function', 'pgwf.need_channel(text)'),
    (38, 'function', 'pgwf.set_trace(boolean)'),
    (39, 'function', 'pgwf.set_notify(boolean)'),
    (40, 'function', 'pgwf.is_trace_enabled()'),
    (41, 'function', 'pgwf.is_notify_enabled()'),
    (42, 'function', 'pgwf.set_crash_concern_threshold(integer)'),
    (43, 'function', 'pgwf.crash_concern_threshold()'),
    (50, 'trigger', 'jobs_wake_at_on_insert'),
    (51, 'trigger', 'jobs_wake_at_on_update')
) as expected (place, kind, name)
where case expected.kind
    when 'table' then to_regclass(expected.name) is null
    when 'function' then to_regprocedure(expected.name) is null
    else not exists (
        select
        from pg_catalog.pg_trigger as t
        where t.tgrelid = to_regclass('pgwf.jobs') and t.tgname = expected.name
    )
end
order by expected.place;
