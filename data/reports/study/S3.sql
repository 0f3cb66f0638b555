-- S3: scan days
-- definition: days (UTC) on which a run began; a day without a run is no day of scanning and in no denominator.
-- row:  ; days of scanning ; 293 ; days ; -
-- row: span ; days from the first to the last ; - ; days ; -
-- row: missing ; days without a run in between ; - ; days ; -
SELECT '' AS part, count(*) AS value, NULL::BIGINT AS denominator FROM scan_day
UNION ALL SELECT 'span', max(scanned) - min(scanned) + 1, NULL FROM scan_day
UNION ALL SELECT 'missing', max(scanned) - min(scanned) + 1 - count(*), NULL FROM scan_day
