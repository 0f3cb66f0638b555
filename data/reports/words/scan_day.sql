-- The days (UTC) on which a run began: one row per day.
SELECT DISTINCT started_at::DATE AS scanned FROM runs
