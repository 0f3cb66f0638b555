-- X2: concentration of observations
-- definition: Gini coefficient of the observations of hosts: 0 when all have equally many.
-- row:  ; Gini coefficient of observations ; - ; index ; hosts
-- row: top1 ; observations of the busiest 1 % of hosts ; - ; % ; observations
WITH ordered AS (
       SELECT observations, row_number() OVER (ORDER BY observations) AS i, count(*) OVER () AS n, sum(observations) OVER () AS total FROM host_life
     )
SELECT '' AS part, sum((2 * i - n - 1) * observations) / (any_value(n) * any_value(total)) AS value, any_value(n) AS denominator FROM ordered
UNION ALL SELECT 'top1', 100 * sum(observations) FILTER (i > n * 0.99) / any_value(total), any_value(total) FROM ordered
