-- X6: suspect hosts
-- definition: hosts with an endpoint of suspect = 2 in any run; weak: suspect = 1.
-- note: every row without suspects has its own value in the rows that end with :clean
-- row:  ; suspect hosts ; - ; % ; hosts
-- row: weak ; hosts with a weak doubt ; - ; % ; hosts
SELECT '' AS part, 100 * count(*) FILTER (most_suspect >= 2) / count(*) AS value, count(*) AS denominator FROM host_life
UNION ALL SELECT 'weak', 100 * count(*) FILTER (most_suspect = 1) / count(*), count(*) FROM host_life
