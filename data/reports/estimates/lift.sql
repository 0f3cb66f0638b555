-- Which families are deployed together more often than chance would have it?
-- method: lift: P(ab) / (P(a) P(b)) over hosts with a family, 95 % interval by the delta method on its logarithm. same sizes:
--   expected under the maximum-entropy model that keeps the expected number of families of hosts and of hosts of families
--   (Saracco et al. 2015, Scientific Reports 5:10595); chance_low to chance_high is where 95 % of its lifts lie. Families are
--   declared architectures over a host's whole life. Models of a cloud and projectors do not count.
-- rows: membership
SELECT dense_rank() OVER (ORDER BY ip) - 1 AS host, family FROM host_architecture ORDER BY host, family
