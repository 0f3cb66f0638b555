-- Whether each run accounts for each of its targets.
--
-- Unit: one row for each run.
-- Columns: run_id; n_targets (targets of the run, as the scan counted them); n_probes (rows of probes); balance (n_targets - n_probes:
--   0 when each target has exactly one outcome); outcomes (a map from outcome to rows of probes, counted anew); n_excluded,
--   n_invalid and n_duplicates as in runs: targets, lines and targets that were never asked.
-- Promise: one row even for a run that asked nobody.
SELECT
    r.run_id, r.n_targets, coalesce(p.n_probes, 0) AS n_probes, r.n_targets - coalesce(p.n_probes, 0) AS balance,
    coalesce(p.outcomes, MAP {}) AS outcomes, r.n_excluded, r.n_invalid, r.n_duplicates
FROM runs AS r
LEFT JOIN (
    SELECT run_id, sum(n)::BIGINT AS n_probes, map_from_entries(list((outcome, n) ORDER BY outcome)) AS outcomes
    FROM (SELECT run_id, outcome, count(*) AS n FROM probes GROUP BY run_id, outcome)
    GROUP BY run_id
) AS p USING (run_id)
