-- U3: harmful system prompts
-- definition: models whose visible system prompt is of class harmful or uncensored, of those with a visible one.
--   The class is what the evaluation of system prompts put in the entry system_class of the column extra; without
--   such an evaluation the figure is 0 of unknown, not none.
-- note: given to the press; the rubric is not published
-- row:  ; harmful, of visible system prompts ; 7.5 ; % ; visible prompts
SELECT '' AS part, 100 * count(*) FILTER (prompt IN ('harmful', 'uncensored')) / nullif(count(prompt), 0) AS value, count(prompt) AS denominator FROM host_label
