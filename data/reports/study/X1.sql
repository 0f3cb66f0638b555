-- X1: concentration of families
-- definition: Herfindahl-Hirschman index of the shares of declared families in all pairs of host and family; its
--   inverse is the number of equal families that would be as concentrated; Shannon: exp of the entropy. Models of
--   a cloud and projectors do not count.
-- weighting: hosts, observations, host-days
-- row:  ; Herfindahl-Hirschman index of families, by hosts ; - ; index ; pairs of host and family
-- row: effective ; effective number of families ; - ; families ; pairs of host and family
-- row: shannon ; effective number of families (Shannon) ; - ; families ; pairs of host and family
-- row: top3 ; share of the first three ; - ; % ; pairs of host and family
-- row: observations ; Herfindahl-Hirschman index, by observations ; - ; index ; pairs of observation and family ; variant
-- row: host_days ; Herfindahl-Hirschman index, by host-days ; - ; index ; pairs of host-day and family ; variant
WITH counted AS (SELECT family, count(*) AS hosts, sum(observations) AS observations, sum(n_days) AS host_days FROM host_architecture GROUP BY family),
     weighted AS (UNPIVOT counted ON hosts, observations, host_days INTO NAME weighting VALUE n),
     shares AS (SELECT weighting, n / sum(n) OVER (PARTITION BY weighting) AS p, sum(n) OVER (PARTITION BY weighting) AS total FROM weighted),
     top AS (SELECT weighting, 100 * sum(p) AS value FROM (SELECT * FROM shares QUALIFY row_number() OVER (PARTITION BY weighting ORDER BY p DESC) <= 3) GROUP BY weighting),
     summed AS (SELECT weighting, sum(p * p) AS hhi, exp(-sum(p * ln(p))) AS shannon, any_value(total) AS total FROM shares GROUP BY weighting)
SELECT CASE weighting WHEN 'hosts' THEN '' ELSE weighting END AS part, hhi AS value, total AS denominator FROM summed
UNION ALL SELECT 'effective', 1 / hhi, total FROM summed WHERE weighting = 'hosts'
UNION ALL SELECT 'shannon', shannon, total FROM summed WHERE weighting = 'hosts'
UNION ALL SELECT 'top3', value, total FROM top JOIN summed USING (weighting) WHERE weighting = 'hosts'
