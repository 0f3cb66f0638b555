-- Hosts of high capability and availability: those of capable_host that were seen on at least 70 % of the scan days and had
-- a model loaded in at least half of the observations that tell. The study gives how many they are; the cuts are ours.
SELECT * FROM capable_host WHERE uptime >= 0.7 AND running_share >= 0.5
