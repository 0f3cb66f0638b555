-- F1: first three families
-- definition: declared families (architectures) ranked by hosts, by observations and by host-days; the headline is
--   their order where all three weightings agree, else the three orders. Models of a cloud and projectors do not
--   count.
-- weighting: hosts, observations, host-days
-- row:  ; first three families, by all weightings ; llama qwen2 gemma2 ; families ; -
-- row: hosts ; first three by hosts ; llama qwen2 gemma2 ; families ; -
-- row: observations ; first three by observations ; llama qwen2 gemma2 ; families ; -
-- row: host_days ; first three by host-days ; llama qwen2 gemma2 ; families ; -
-- row: volatility ; standard deviation of the rank over the weightings, largest of the three ; 0 ; ranks ;
--   weightings
WITH counted AS (
       SELECT family, count(*) AS hosts, sum(observations) AS observations, sum(n_days) AS host_days
       FROM host_architecture GROUP BY family
     ),
     weighted AS (UNPIVOT counted ON hosts, observations, host_days INTO NAME weighting VALUE n),
     ranked AS (SELECT *, row_number() OVER (PARTITION BY weighting ORDER BY n DESC, family) AS place FROM weighted),
     first_three AS (
       SELECT weighting AS part, string_agg(family, ' ' ORDER BY place) AS value FROM ranked WHERE place <= 3 GROUP BY weighting
     ),
     moved AS (
       SELECT max(moves) AS value
       FROM (SELECT family, stddev_pop(place) AS moves, min(place) AS best FROM ranked GROUP BY family) WHERE best <= 3
     )
SELECT '' AS part, string_agg(DISTINCT value, ' / ' ORDER BY value) AS value, NULL::BIGINT AS denominator FROM first_three
UNION ALL SELECT part, value, NULL FROM first_three
UNION ALL SELECT 'volatility', round(value, 3)::VARCHAR, 3 FROM moved
