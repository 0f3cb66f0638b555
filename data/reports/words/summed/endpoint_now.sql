-- endpoint_now, from the summaries: the same rows.
SELECT unnest(latest)
FROM endpoint_latest
WHERE ($server = 'any' OR server = $server)
  AND CASE $suspects
        WHEN 'exclude' THEN ip NOT IN (SELECT s.ip FROM endpoint_latest s WHERE s.most_suspect >= 2)
        WHEN 'only' THEN ip IN (SELECT s.ip FROM endpoint_latest s WHERE s.most_suspect >= 2)
        ELSE true
      END
QUALIFY row_number() OVER (PARTITION BY ip, port, domain ORDER BY last_run DESC) = 1
