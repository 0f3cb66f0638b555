-- S9: observations of hosts seen once
-- definition: observations of hosts with exactly one, of all observations.
-- weighting: observations
-- note: published as less than 1 %; 0.87 follows from 36 % of 175,108 hosts and 7.23 million observations
-- row:  ; observations of hosts seen once ; 0.87 ; % ; observations
SELECT '' AS part, 100 * count(*) FILTER (observations = 1) / sum(observations) AS value, sum(observations) AS denominator FROM host_life
