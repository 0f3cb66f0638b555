-- The endpoints of each run as it was first published: one row per run and endpoint. What census derive has
-- replaced since is in it as it was; a run that was never derived again is in it as it is.
SELECT * FROM hosts
