-- S10: hosts a day
-- definition: observations divided by days of scanning: what to compare a single snapshot with.
-- note: published is the quotient of two published figures
-- row:  ; observations a scan day ; 24676 ; observations ; scan days
-- row: hosts ; hosts a scan day ; - ; hosts ; scan days
SELECT '' AS part, sum(observations) / (SELECT count(*) FROM scan_day) AS value, (SELECT count(*) FROM scan_day) AS denominator FROM host_life
UNION ALL SELECT 'hosts', sum(n_days) / (SELECT count(*) FROM scan_day), (SELECT count(*) FROM scan_day) FROM host_life
