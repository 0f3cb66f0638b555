-- Endpoints of the runs covered, those of suspect hosts in or out as asked: one row per run and endpoint.
-- A host is suspect in all runs or in none, so the hosts included and the hosts left out always add up.
SELECT *
FROM hosts
WHERE CASE $suspects
        WHEN 'exclude' THEN ip NOT IN (SELECT ip FROM suspect_host)
        WHEN 'only' THEN ip IN (SELECT ip FROM suspect_host)
        ELSE true
      END
