-- The newest run.
--
-- Unit: one row at most, with all columns of runs: the measured run that began last; where there is none, the simulated one.
-- Promise: never a simulated run beside measured ones. A shard of a census is a run of its own: its siblings are not in it.
SELECT * FROM runs ORDER BY is_simulated, started_at DESC, run_id DESC LIMIT 1
