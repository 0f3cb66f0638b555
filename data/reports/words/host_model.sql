-- One row per host-model pair: distinct (ip, name, digest), described as in its latest listing.
SELECT * FROM listed
QUALIFY row_number() OVER (PARTITION BY ip, name, digest ORDER BY run_id DESC, port, domain, position) = 1
