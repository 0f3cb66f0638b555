-- S5: autonomous systems
-- definition: distinct autonomous systems of hosts, each host at its latest observation; unknown ones are left out.
-- row:  ; autonomous systems ; 4032 ; systems ; -
SELECT '' AS part, count(DISTINCT asn) AS value, NULL::BIGINT AS denominator FROM host_life
