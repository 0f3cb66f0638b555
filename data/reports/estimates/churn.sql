-- How many hosts come and go each week?
-- method: hosts seen in a week (from Monday): never before, back after a week or more of silence, and never again; 95 % intervals
--   of the shares by Wilson (1927). Nobody can be seen before the first week or after the last, so the first weeks have too
--   many new hosts, and the last too many that are not seen again.
-- rows: weeks
WITH seen AS (
       SELECT DISTINCT ip, date_trunc('week', month + to_days(first_bit))::DATE AS week
       FROM (SELECT ip, month, bit_or(days_seen) AS days FROM sightings SEMI JOIN studied USING (ip) WHERE server = $server GROUP BY ip, month),
            (SELECT unnest(range(31))::INTEGER AS first_bit) AS bits
       WHERE days & (1 << first_bit)::INTEGER <> 0
     ),
     around AS (
       SELECT week, lag(week) OVER mine AS previous, lead(week) OVER mine AS following
       FROM seen WINDOW mine AS (PARTITION BY ip ORDER BY week)
     )
SELECT week, count(*) AS hosts,
       count(*) FILTER (previous IS NULL) AS new_hosts,
       count(*) FILTER (week - previous > 7) AS back_hosts,
       count(*) FILTER (following IS NULL AND week < (SELECT max(week) FROM seen)) AS last_seen_hosts
FROM around GROUP BY week ORDER BY week
