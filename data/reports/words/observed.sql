-- Endpoints of the runs covered, those of suspect hosts in or out as asked: one row per run and endpoint.
-- A host is suspect when any of its endpoints in any run at hand has suspect = 2; so the hosts included
-- and the hosts left out always add up.
SELECT *
FROM hosts
WHERE CASE $suspects
        WHEN 'exclude' THEN ip NOT IN (SELECT s.ip FROM hosts s WHERE s.suspect >= 2)
        WHEN 'only' THEN ip IN (SELECT s.ip FROM hosts s WHERE s.suspect >= 2)
        ELSE true
      END
