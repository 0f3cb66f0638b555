-- F3: twenty families by hosts
-- definition: hosts on which a declared family was ever listed, of all hosts; rows 1 to 20 by rank. The headline
--   is the share of hosts with any of them. Models of a cloud and projectors do not count.
-- note: published as a chart without figures
-- row:  ; hosts with one of the first twenty families ; - ; % ; hosts
-- row: 1 ; family of rank 1 ; - ; % ; hosts
-- row: 2 ; family of rank 2 ; - ; % ; hosts
-- row: 3 ; family of rank 3 ; - ; % ; hosts
-- row: 4 ; family of rank 4 ; - ; % ; hosts
-- row: 5 ; family of rank 5 ; - ; % ; hosts
-- row: 6 ; family of rank 6 ; - ; % ; hosts
-- row: 7 ; family of rank 7 ; - ; % ; hosts
-- row: 8 ; family of rank 8 ; - ; % ; hosts
-- row: 9 ; family of rank 9 ; - ; % ; hosts
-- row: 10 ; family of rank 10 ; - ; % ; hosts
-- row: 11 ; family of rank 11 ; - ; % ; hosts
-- row: 12 ; family of rank 12 ; - ; % ; hosts
-- row: 13 ; family of rank 13 ; - ; % ; hosts
-- row: 14 ; family of rank 14 ; - ; % ; hosts
-- row: 15 ; family of rank 15 ; - ; % ; hosts
-- row: 16 ; family of rank 16 ; - ; % ; hosts
-- row: 17 ; family of rank 17 ; - ; % ; hosts
-- row: 18 ; family of rank 18 ; - ; % ; hosts
-- row: 19 ; family of rank 19 ; - ; % ; hosts
-- row: 20 ; family of rank 20 ; - ; % ; hosts
WITH counted AS (
       SELECT family, count(*) AS hosts, row_number() OVER (ORDER BY count(*) DESC, family) AS place
       FROM host_architecture GROUP BY family QUALIFY place <= 20
     ),
     everyone AS (SELECT count(*) AS hosts FROM host_life)
SELECT '' AS part, 100 * count(DISTINCT ip) / any_value(everyone.hosts) AS value, any_value(everyone.hosts) AS denominator, NULL AS note
FROM host_architecture SEMI JOIN counted USING (family), everyone
UNION ALL
SELECT place::VARCHAR, 100 * counted.hosts / everyone.hosts, everyone.hosts, family FROM counted, everyone
