-- Every model a host ever listed: one row per endpoint and kind, with everything declared and concluded of it.
SELECT * FROM host_listing JOIN described USING (kind)
