-- doubt, from the summaries: the same rows.
SELECT ip, max(most_suspect) AS score FROM endpoint_latest SEMI JOIN hosts_asked_for USING (ip) GROUP BY ip
