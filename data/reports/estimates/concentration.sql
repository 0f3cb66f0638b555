-- How concentrated are families and observations?
-- method: Herfindahl-Hirschman index of the shares of families in pairs of host and family, its inverse (the number of equal
--   families that would be as concentrated), and the Gini coefficient of the observations of hosts; 95 % percentile intervals
--   of 200 Poisson bootstraps over hosts (Chamandy et al. 2012). Models of a cloud and projectors do not count.
-- rows: membership
SELECT dense_rank() OVER (ORDER BY ip) - 1 AS host, family FROM host_architecture ORDER BY host, family;

-- rows: activity
SELECT observations FROM host_life ORDER BY observations
