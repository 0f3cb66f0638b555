-- One row per run, endpoint and model with an installation mark: a file of a model on a disk, known by name, digest and the
-- nanosecond it was written. `installation` is the mark of the endpoint's whole inventory.
SELECT o.run_id, o.ip, o.asn, CAST(o.observed_at AS DATE) AS day, o.installation, m.installation_mark AS mark
FROM observed o JOIN models m USING (run_id, ip, port, domain)
WHERE m.installation_mark IS NOT NULL
