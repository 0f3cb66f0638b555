-- F4: rank stability by month
-- definition: Kendall rank correlation (tau-b without ties) of the families by hosts in one month and the next,
--   over the families of both; the mean over pairs of months. Models of a cloud and projectors do not count.
-- row:  ; mean Kendall tau of the ranks of successive months ; - ; tau ; pairs of months
-- row: lowest ; lowest Kendall tau ; - ; tau ; pairs of months
WITH counted AS (
       SELECT month, family, count(*) AS hosts FROM host_family_month GROUP BY month, family
     ),
     months AS (SELECT month, lead(month) OVER (ORDER BY month) AS following FROM (SELECT DISTINCT month FROM counted)),
     both_months AS (
       SELECT a.month, a.family, a.hosts AS n, b.hosts AS m
       FROM months JOIN counted a USING (month) JOIN counted b ON b.month = months.following AND b.family = a.family
     ),
     agreed AS (
       SELECT a.month, sum(sign(a.n - b.n) * sign(a.m - b.m))
                / nullif(sqrt(sum(abs(sign(a.n - b.n)))::DOUBLE * sum(abs(sign(a.m - b.m)))), 0) AS tau
       FROM both_months a JOIN both_months b ON a.month = b.month AND a.family < b.family GROUP BY a.month
     )
SELECT '' AS part, avg(tau) AS value, count(*) AS denominator FROM agreed
UNION ALL SELECT 'lowest', min(tau), count(*) FROM agreed
