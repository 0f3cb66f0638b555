-- The models that are files of an endpoint's own, as one value: one row per run and endpoint that listed any. listed has
-- them in order, each with name, digest and time of change as sent; inventory is the hash of it and of the mark.
WITH files AS (
       SELECT run_id, ip, port, domain,
              list({'name': name, 'digest': digest, 'written': modified_at_raw, 'mark': installation_mark}
                   ORDER BY name, digest, modified_at_raw) AS listed
       FROM models
       WHERE is_remote IS NOT TRUE
       GROUP BY run_id, ip, port, domain
     )
SELECT h.run_id, h.ip, h.port, h.domain, h.server, h.asn, h.country, h.suspect, h.observed_at, h.installation, files.listed,
       hash(files.listed, h.installation) AS inventory
FROM hosts h JOIN files USING (run_id, ip, port, domain)
