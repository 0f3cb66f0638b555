-- X4: default port
-- definition: endpoints on port 11434.
-- note: another study finds more than a quarter elsewhere
-- row:  ; endpoints on the default port ; - ; % ; endpoints
SELECT '' AS part, 100 * count(*) FILTER (port = 11434) / count(*) AS value, count(*) AS denominator
FROM endpoint_latest SEMI JOIN studied USING (ip) WHERE server = $server
