-- S2: observations
-- definition: successful observations: one for each run and endpoint at which the server program was identified.
--   Host-days count a host once a day.
-- row:  ; observations ; 7230000 ; observations ; -
-- row: host_days ; host-days ; - ; host-days ; -
SELECT '' AS part, sum(observations) AS value, NULL::BIGINT AS denominator FROM host_life
UNION ALL SELECT 'host_days', sum(n_days), NULL FROM host_life
