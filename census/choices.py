"""The words that options of the command line take, and defaults that a stage knows too. Nothing else lives here.

They are apart from their stages so that `census --help` names them without loading any stage.
"""

from __future__ import annotations

REPORT_FORMATS = ("table", "csv", "json", "markdown", "html", "parquet")
"""How an answer can be written. All but parquet are text."""

SUSPECTS = ("include", "exclude", "only")
"""What to do with hosts that have an endpoint of suspect = 2."""

FAMILIES = ("family_raw", "lineage", "weights")
"""The notions of family that a report may offer as `by`."""

ACCOUNT_FORMATS = ("text", "json")
"""How an account of an endpoint can be written."""

VERDICT_FORMATS = ("text", "jsonl")
"""How verdicts on names of models can be written."""

FULL_HOSTS = 175_108
"""Hosts of the published study, to which the counts in a population's parameter file belong."""

FULL_DAYS = 293
"""Scan days of the published study."""

GEO_VARIABLE = "CENSUS_GEO"
"""The environment variable that names the folder of geolocation databases. It belongs to no option."""
