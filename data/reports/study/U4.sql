-- U4: uncensored by name
-- definition: hosts on which a model was ever listed whose name or line says that it is uncensored or abliterated.
-- row:  ; hosts with an uncensored model by its name ; - ; hosts ; hosts
SELECT '' AS part, count(*) FILTER (uncensored) AS value, (SELECT count(*) FROM host_life) AS denominator FROM host_trait
