-- The hosts that an answer speaks of, those in doubt in or out as asked: one row per host.
SELECT DISTINCT ip FROM observed
