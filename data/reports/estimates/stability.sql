-- How stable are the ranks of families from month to month?
-- method: Kendall's tau-b (1945) of the families by hosts in a month and in the month before, over families of both
--   (scipy.stats.kendalltau); 95 % percentile intervals of 100 Poisson bootstraps over hosts.
-- rows: membership
SELECT dense_rank() OVER (ORDER BY ip) - 1 AS host, month, family
FROM host_family_month
ORDER BY month, host, family
