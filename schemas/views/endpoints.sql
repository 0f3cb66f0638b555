-- Every endpoint asked, with what was found there.
--
-- Unit: one row for each run and target, which is (ip, port, domain); the rows of probes, none lost and none added.
-- Columns: run_id; host (the IP address); endpoint (ip:port, an IPv6 address in brackets); ip, port, domain, tag, scheme, outcome,
--   asked_at and latency_ms as in probes; is_server; and, null where no server was identified, server, server_version, auth, suspect,
--   country, asn, network_type, tier, n_models and families as in hosts.
-- Promise: absence counts only here. An endpoint without a row was not asked in that run, and nothing is known of it.
SELECT
    p.run_id, p.ip AS host,
    CASE WHEN contains(p.ip, ':') THEN '[' || p.ip || ']:' || p.port ELSE p.ip || ':' || p.port END AS endpoint,
    p.ip, p.port, p.domain, p.tag, p.scheme, p.outcome, p.asked_at, p.latency_ms,
    h.server IS NOT NULL AS is_server,
    h.server, h.server_version, h.auth, h.suspect, h.country, h.asn, h.network_type, h.tier, h.n_models, h.families
FROM probes AS p
LEFT JOIN hosts AS h USING (run_id, ip, port, domain)
