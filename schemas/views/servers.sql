-- The server programs that answer at each host.
--
-- Unit: one row for each run, host and server program. A host is an IP address: two ports or domains of one address are one host.
-- Columns: run_id; host; server; n_endpoints (endpoints of that host where it answers); versions (distinct, sorted; those that say none
--   are left out); is_open (true when one of the endpoints shows its metadata without credentials); suspect (the strongest doubt among
--   them, 0 to 2); n_models (models listed over those endpoints; null when no list could be read).
-- Promise: hosts in doubt are in; leave them out with suspect < 2.
SELECT
    run_id, ip AS host, server, count(*) AS n_endpoints,
    list_sort(coalesce(list(DISTINCT server_version) FILTER (server_version IS NOT NULL), [])) AS versions,
    coalesce(bool_or(auth = 'open'), false) AS is_open,
    max(suspect) AS suspect,
    sum(n_models)::BIGINT AS n_models
FROM hosts
GROUP BY run_id, ip, server
