-- Addresses the study's figures speak of: hosts with an endpoint of the server program, suspects in or out as asked.
SELECT ip
FROM endpoint_latest
GROUP BY ip
HAVING bool_or(server = $server)
   AND CASE $suspects WHEN 'exclude' THEN max(most_suspect) < 2 WHEN 'only' THEN max(most_suspect) >= 2 ELSE true END
