-- Which inventory each endpoint showed: one row per run and endpoint that listed a model of its own. inventory is the hash of
-- the models that are files of its own, each by name, digest and time of change as sent, and of their marks.
WITH files AS (
       SELECT run_id, ip, port, domain, list_sort(list(hash(name, digest, modified_at_raw, installation_mark))) AS files
       FROM models
       WHERE is_remote IS NOT TRUE
       GROUP BY run_id, ip, port, domain
     )
SELECT h.run_id, h.ip, h.port, h.domain, h.server, h.asn, h.country, h.suspect, h.observed_at, h.installation,
       hash(files.files, h.installation) AS inventory
FROM hosts h JOIN files USING (run_id, ip, port, domain)
