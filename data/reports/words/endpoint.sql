-- The observed endpoints of one server program, or of all: one row per run and endpoint.
SELECT * FROM observed WHERE $server = 'any' OR server = $server
