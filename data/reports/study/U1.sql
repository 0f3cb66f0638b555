-- U1: prompts that remove guardrails
-- definition: hosts with a model whose system prompt is of class uncensored. The class is what the evaluation of
--   system prompts put in the entry system_class of the column extra; without such an evaluation the figure is 0 of
--   unknown, not none.
-- note: published as a lower bound
-- row:  ; hosts with an uncensored system prompt ; 201 ; hosts ; hosts
SELECT '' AS part, count(*) FILTER (unguarded) AS value, (SELECT count(*) FROM host_life) AS denominator FROM host_trait
