-- suspect_host, from the summaries: the same rows.
SELECT DISTINCT ip FROM endpoint_latest WHERE most_suspect >= 2
