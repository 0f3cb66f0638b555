-- One row per host and family: the union over the runs covered, of models the host itself serves.
-- Models served by a cloud and projectors (clip, mmproj: parts of a vision model) give a host no family.
WITH named AS (
  SELECT ip, CASE $by WHEN 'lineage' THEN brand_family WHEN 'weights' THEN weights_family ELSE declared_family END AS family
  FROM listed
  WHERE NOT remote
    AND declared_family IS DISTINCT FROM 'clip' AND declared_family IS DISTINCT FROM 'mmproj'
    AND ($embeddings = 'include' OR NOT embeds)
)
SELECT DISTINCT ip, family FROM named WHERE family <> ''
