-- hosts_asked_for, from the summaries: the same rows.
SELECT ip
FROM endpoint_latest
GROUP BY ip
HAVING CASE $suspects WHEN 'exclude' THEN max(most_suspect) < 2 WHEN 'only' THEN max(most_suspect) >= 2 ELSE true END
