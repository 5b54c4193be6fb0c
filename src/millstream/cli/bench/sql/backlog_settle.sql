-- After a bulk load: statistics for the planner, hint bits and visibility for the scans, as a table has them that
-- grew over days.
vacuum (analyze) millstream.jobs;
