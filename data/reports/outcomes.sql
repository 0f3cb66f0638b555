-- What became of every target?
-- definition: the ledger. asked: targets by how the conversation ended, counted from the rows of probes, beside the
--   count the run itself recorded. excluded: targets never asked, by the exclusion that covers them. invalid: lines of the
--   target list that could not be read. duplicates: targets named more than once, asked once. The ledger balances when
--   every target of a run has exactly one row in probes: unbalanced_runs is 0. Without suspect hosts, or of these alone,
--   only targets asked can be told apart, and recorded is empty.
-- unit: target (an endpoint of the target list) of one run
-- denominator: share_of_asked: the rows of probes that are counted; in all {targets} targets asked, {probes} rows of probes
-- weighting: a target counts once in each run that covers it
SELECT (SELECT coalesce(sum(n_targets), 0)::BIGINT FROM runs) AS targets,
       (SELECT count(*) FROM probes) AS probes,
       (SELECT count(*) FROM runs
        WHERE n_targets <> (SELECT count(*) FROM probes WHERE probes.run_id = runs.run_id)) AS unbalanced_runs;

WITH recorded AS (
       SELECT item.name, sum(item.n)::BIGINT AS n FROM (SELECT unnest(outcomes) AS item FROM runs) GROUP BY ALL
     ),
     wanted AS (
       SELECT outcome FROM probes
       WHERE CASE $suspects
               WHEN 'exclude' THEN ip NOT IN (SELECT ip FROM suspect_host)
               WHEN 'only' THEN ip IN (SELECT ip FROM suspect_host)
               ELSE true
             END
     ),
     counted AS (SELECT outcome AS name, count(*) AS n FROM wanted GROUP BY outcome),
     ledger AS (
       SELECT 1 AS part, 'asked' AS entry, name, coalesce(counted.n, 0) AS targets, CASE WHEN $suspects = 'include' THEN coalesce(recorded.n, 0) END AS recorded
       FROM counted FULL JOIN (FROM recorded WHERE $suspects = 'include') AS recorded USING (name)
       UNION ALL
       SELECT 2, 'excluded', item.name, sum(item.n)::BIGINT, NULL
       FROM (SELECT unnest(exclusions) AS item FROM runs) GROUP BY ALL
       UNION ALL
       SELECT 3, 'invalid', 'lines not read', sum(n_invalid)::BIGINT, NULL FROM runs
       UNION ALL
       SELECT 4, 'duplicates', 'asked once', sum(n_duplicates)::BIGINT, NULL FROM runs
     )
SELECT entry,
       name,
       targets,
       recorded,
       CASE WHEN entry = 'asked' THEN targets / (SELECT nullif(count(*), 0) FROM wanted) END AS share_of_asked
FROM ledger
WHERE targets IS NOT NULL
ORDER BY part, targets DESC, name
