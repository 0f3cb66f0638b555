-- S1: hosts
-- definition: distinct IP addresses at which the server program was identified in any run. Addresses change hands:
--   it counts more hosts than there are machines.
-- row:  ; unique hosts ; 175108 ; hosts ; -
-- row: endpoints ; unique endpoints (IP and port) ; - ; endpoints ; -
-- row: read ; hosts whose list of models was read ; - ; hosts ; - ; variant
SELECT '' AS part, count(*) AS value, NULL::BIGINT AS denominator FROM host_life
UNION ALL SELECT 'endpoints', sum(endpoints), NULL FROM host_life
UNION ALL SELECT 'read', count(*) FILTER (lists_read > 0), NULL FROM host_life
