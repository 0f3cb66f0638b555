"""What can go wrong for the user, each with its exit code. Nothing else lives here.

An error says where, what, and what to do now. It goes to stderr; data goes to stdout.
"""

from __future__ import annotations


class CensusError(Exception):
    """An error the user can act on. Raised by any stage, shown by `cli` without a traceback."""

    exit_code = 1


class UsageError(CensusError):
    """The command line or a settings file asks for something that cannot be done."""

    exit_code = 2


class TargetError(CensusError):
    """A target list or blocklist cannot be read."""

    exit_code = 3


class ContactError(CensusError):
    """A scan beyond loopback and private networks without saying who is asking."""

    exit_code = 4


class DataError(CensusError):
    """A file of `data/` or `schemas/` breaks its contract."""

    exit_code = 5


class SnapshotError(CensusError):
    """A run is missing, unfinished, damaged, or not what the caller said it is."""

    exit_code = 6


class QueryError(CensusError):
    """SQL that DuckDB refuses, or a report that does not exist."""

    exit_code = 7


class GeoError(CensusError):
    """A geolocation database is missing, damaged, or of no known shape."""

    exit_code = 8


class ScanStopped(CensusError):
    """A scan that stopped before its last target; it can be resumed."""

    exit_code = 9


class ScannerFault(CensusError):
    """This machine, not the host asked, is at its limit: out of file descriptors, ports or memory for sockets."""

    exit_code = 10
