-- F7: twenty models or more
-- definition: hosts by the length of the latest list of models that was read from them; hosts with an empty list,
--   or none that could be read, stay in the denominator.
-- note: the study does not say which list it means
-- row:  ; hosts with twenty models or more, last list ; 1.46 ; % ; hosts
-- row: most ; … longest list ; 1.46 ; % ; hosts ; variant
-- row: read ; … last list, of hosts whose list was read ; - ; % ; hosts with a list ; variant
-- row: filled ; … last list, of hosts with a model ; - ; % ; hosts with a model ; variant
-- row: instances ; their share of the models in last lists ; - ; % ; models in last lists
SELECT '' AS part, 100 * count(*) FILTER (last_models >= 20) / count(*) AS value, count(*) AS denominator FROM host_life
UNION ALL SELECT 'most', 100 * count(*) FILTER (most_models >= 20) / count(*), count(*) FROM host_life
UNION ALL SELECT 'read', 100 * count(*) FILTER (last_models >= 20) / nullif(count(last_models), 0), count(last_models) FROM host_life
UNION ALL SELECT 'filled', 100 * count(*) FILTER (last_models >= 20) / nullif(count(*) FILTER (last_models > 0), 0), count(*) FILTER (last_models > 0) FROM host_life
UNION ALL SELECT 'instances', 100 * sum(last_models) FILTER (last_models >= 20) / nullif(sum(last_models), 0), sum(last_models) FROM host_life
