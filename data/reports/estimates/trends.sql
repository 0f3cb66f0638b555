-- Which families gain and lose, and when did that change?
-- method: of each month the share of hosts that list a family, with 95 % intervals by Wilson (1927). change: weeks in which the
--   logit of the weekly share of endpoint-days breaks, its changes weighted by how many there were: a step is an outlier among its weekly changes (Grubbs 1950), a bend a
--   different mean of the changes before and after (largest studentized difference against 999 permutations); both tests together
--   are wrong for 5 % of families that do not change. rules: the census concluded with other rules from then on; world: with the same.
-- rows: months
WITH first_families AS (SELECT family FROM host_architecture GROUP BY family ORDER BY count(*) DESC, family LIMIT 12),
     everyone AS (SELECT month, count(DISTINCT ip) AS hosts FROM sightings SEMI JOIN studied USING (ip) WHERE server = $server GROUP BY month)
SELECT family, month, count(*) AS hosts, any_value(everyone.hosts) AS all_hosts
FROM host_family_month SEMI JOIN first_families USING (family) JOIN everyone USING (month)
GROUP BY family, month ORDER BY family, month;

-- rows: weeks
WITH first_families AS (SELECT family FROM host_architecture GROUP BY family ORDER BY count(*) DESC, family LIMIT 12),
     daily AS (
       SELECT family, month, days_seen FROM family_sightings SEMI JOIN studied USING (ip) SEMI JOIN first_families USING (family) WHERE server = $server
       UNION ALL
       SELECT '', month, days_seen FROM sightings SEMI JOIN studied USING (ip) WHERE server = $server
     )
SELECT family, date_trunc('week', scanned)::DATE AS week, sum((days_seen >> (day(scanned) - 1)) & 1)::BIGINT AS endpoint_days
FROM daily JOIN scan_day ON month = date_trunc('month', scanned)::DATE
GROUP BY family, week ORDER BY family, week;

-- rows: rules
SELECT date_trunc('week', started_at)::DATE AS week,
       coalesce(derived_census_version, census_version) || ' ' || coalesce(derived_data_version, data_version) AS rules
FROM runs ORDER BY started_at
