-- F6: two or three models
-- definition: hosts by the length of the latest list of models that was read from them; hosts with an empty list,
--   or none that could be read, stay in the denominator.
-- note: the study does not say which list it means
-- row:  ; hosts with two or three models, last list ; 41 ; % ; hosts
-- row: most ; … longest list ; 41 ; % ; hosts ; variant
-- row: read ; … last list, of hosts whose list was read ; - ; % ; hosts with a list ; variant
-- row: filled ; … last list, of hosts with a model ; - ; % ; hosts with a model ; variant
SELECT '' AS part, 100 * count(*) FILTER (last_models BETWEEN 2 AND 3) / count(*) AS value, count(*) AS denominator FROM host_life
UNION ALL SELECT 'most', 100 * count(*) FILTER (most_models BETWEEN 2 AND 3) / count(*), count(*) FROM host_life
UNION ALL SELECT 'read', 100 * count(*) FILTER (last_models BETWEEN 2 AND 3) / nullif(count(last_models), 0), count(last_models) FROM host_life
UNION ALL SELECT 'filled', 100 * count(*) FILTER (last_models BETWEEN 2 AND 3) / nullif(count(*) FILTER (last_models > 0), 0), count(*) FILTER (last_models > 0) FROM host_life
