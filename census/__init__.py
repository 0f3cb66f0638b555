"""An open instrument that measures the world's exposed AI servers.

The flow, one file a stage, in this order:

    targets   text -> Targets: parse, expand, exclude; `permutation` is the order they are asked in
    pace      not more than N a second in all, M to one network, K at once
    probe     Target -> Replies; the only stage that talks to a target, over the connections of `wire`
    identify  Replies -> Identity and Models
    families  a model's name and metadata -> Lineage
    suspect   reasons to doubt a host
    locate    address -> Place
    snapshot  findings -> one finished run of Parquet, or nothing: `rows` makes its tables, `blocks` holds them until
              `publishing` sorts and writes them; `verification` says what is wrong with a run
    query     finished runs -> DuckDB
    report    one question -> a table in the reader's format

`identify` rests on `server_files` (the files of `data/servers/`, read with `server_toml`), whose `conditions` judge
`replies`; `families` on `taxonomy` (the files read) and `names` (a name taken apart).
`summaries` keeps what many runs come to, `study` sets their figures beside published ones.
`scan` joins the stages, `derive` concludes again and `rederive` puts that in a run's place, `explain` and `classify`
say why.
`cli` names the options (their words are in `choices`, their other sources in `settings`), `model` holds the nouns.
`simulate` is an internet to try it on.
What we know about the world is in `data/`; what we promise about shape is in `schemas/`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb

__version__ = "0.1.0"


def connect(path: Any = "census-data", **options: Any) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection with tables and views over the finished runs of an output folder (`census.query.connect`)."""
    from census.query import connect as open_runs

    return open_runs(path, **options)
