-- How long do hosts stay?
-- method: Kaplan and Meier (1958), days from the first to the last day seen; gone is a host asked in vain for 7 days or more
--   after its last answer, all others are censored. As that cannot be told of the last 7 days, lives are followed until then
--   and hosts first seen later are left out. 95 % intervals by Greenwood on the log-log scale (scipy.stats.ecdf). Hosts that
--   were there on the first scan day began earlier: their stay is counted from that day, so the curve is too low. It
--   ends with the longest life followed; nothing is said of days beyond.
-- rows: lives
WITH last_asked AS (
       SELECT ip, max((month + to_days((bit_length(ltrim(days_asked::BIT::VARCHAR, '0')) // 8 - 1)::INTEGER))::DATE) AS asked
       FROM askings SEMI JOIN studied USING (ip) GROUP BY ip
     ),
     horizon AS (SELECT max(scanned) - 7 AS until FROM scan_day)
SELECT coalesce(tier, 'unknown') AS tier, (least(last_day, until) - first_day + 1)::DOUBLE AS days,
       last_day <= until AND asked - last_day >= 7 AS gone
FROM host_life JOIN last_asked USING (ip), horizon
WHERE first_day <= until
