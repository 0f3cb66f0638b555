-- One row per host (distinct IP), with the place its latest observation gave it and what it was seen to list.
-- n_models is the longest model list read from one of its endpoints: 0 is an empty server, null a list never read.
SELECT ip,
       arg_max({'country': country, 'network_type': network_type, 'tier': tier}, (observed_at, run_id, port, domain)) AS place,
       max(n_models) AS n_models
FROM endpoint
GROUP BY ip
