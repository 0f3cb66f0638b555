-- U2: visible system prompts
-- definition: models (host, name and digest) whose system prompt is visible. The class is what the evaluation of
--   system prompts put in the entry system_class of the column extra; without such an evaluation the figure is 0 of
--   unknown, not none.
-- note: given to the press: roughly a quarter of the LLMs; defaults of models are in it
-- row:  ; models with a visible system prompt ; 25 ; % ; models
-- row: hosts ; hosts with one ; - ; % ; hosts
-- row: own ; models whose prompt is not the default of its publisher ; - ; % ; models
WITH prompted AS (SELECT ip, name, digest, max(system_class) AS class FROM host_inventory WHERE NOT remote GROUP BY ip, name, digest)
SELECT '' AS part, 100 * count(class) / nullif(count(*), 0) AS value, count(*) AS denominator FROM prompted
UNION ALL SELECT 'hosts', 100 * count(DISTINCT ip) FILTER (class IS NOT NULL) / (SELECT count(*) FROM host_life), (SELECT count(*) FROM host_life) FROM prompted
UNION ALL SELECT 'own', 100 * count(*) FILTER (class <> 'default') / nullif(count(*), 0), count(*) FROM prompted
