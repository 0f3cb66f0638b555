-- U2: visible system prompts
-- definition: models (host, name and digest) whose system prompt is visible. The class is what the evaluation of
--   system prompts put in the entry system_class of the column extra; without such an evaluation the figure is 0 of
--   unknown, not none.
-- note: given to the press: roughly a quarter of the LLMs; defaults of models are in it
-- row:  ; models with a visible system prompt ; 25 ; % ; models
-- row: hosts ; hosts with one ; - ; % ; hosts ; variant
-- row: own ; models whose prompt is not the default of its publisher ; - ; % ; models
SELECT '' AS part, 100 * count(prompt) / nullif(count(*), 0) AS value, count(*) AS denominator FROM host_label
UNION ALL SELECT 'hosts', 100 * count(DISTINCT ip) FILTER (prompt IS NOT NULL) / (SELECT count(*) FROM host_life), (SELECT count(*) FROM host_life) FROM host_label
UNION ALL SELECT 'own', 100 * count(*) FILTER (prompt <> 'default') / nullif(count(*), 0), count(*) FROM host_label
