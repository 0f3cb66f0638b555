-- Hosts in doubt: one row per host with suspect = 2 at any of its endpoints in any run at hand.
SELECT DISTINCT ip FROM hosts WHERE suspect >= 2
