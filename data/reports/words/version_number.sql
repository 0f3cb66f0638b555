-- The versions that were stated, each as numbers that compare: one row per version.
SELECT server_version, list_transform(string_split(server_version, '.'), lambda x: try_cast(x AS INTEGER)) AS version
FROM (SELECT DISTINCT server_version FROM version_sightings WHERE server = $server AND server_version IS NOT NULL)
