-- Where each host is and what it said last: one row per host. last_models is the latest list that was read, of any of its
-- endpoints. late orders observations by time, of one time by port, as one number, for pairs compare slowly.
WITH latest AS (
       SELECT ip, most_suspect, latest.n_models AS n_models, latest.server_version AS server_version,
              struct_pack(country := latest.country, region := latest.region, asn := latest.asn,
                          network_type := latest.network_type, tier := latest.tier) AS spot,
              epoch_us(latest.observed_at)::HUGEINT * 65536 - port AS late
       FROM endpoint_latest SEMI JOIN studied USING (ip)
       WHERE server = $server
     )
SELECT ip, count(*)::BIGINT AS endpoints, max(most_suspect) AS most_suspect,
       arg_max(n_models, late) FILTER (n_models IS NOT NULL) AS last_models,
       arg_max(server_version, late) AS last_version, unnest(arg_max(spot, late))
FROM latest
GROUP BY ip
