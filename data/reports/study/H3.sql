-- H3: their running models
-- definition: mean over hosts of the mean number of models loaded, of observations that tell. Hosts with more than
--   100 observations and a model that can call tools, seen on at least 70 % of the scan days, that had a model
--   loaded in at least half of the observations that tell.
-- row:  ; mean models running ; 1.8 ; models ; hosts
SELECT '' AS part, avg(running) AS value, count(*) AS denominator FROM available_host
