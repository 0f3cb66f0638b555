"""Target lists, exclusions, the packed set and its permutation, each held against a naive version of itself."""

from __future__ import annotations

import gzip
import io
import ipaddress
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from census import resources, target_lines, targets
from census.errors import SnapshotError, TargetError, UsageError
from census.exclusions import Exclusions, is_private
from census.model import Target
from census.permutation import Permutation
from census.targets import TargetSet, parse_ports, read, sample_size

OPEN = Exclusions.load(allow_private=True, allow_simulated=True)
STRICT = Exclusions.load()
NOTHING = Exclusions([])
PINNED_12 = [4, 6, 3, 7, 2, 5, 10, 8, 9, 11, 0, 1]
PINNED_BILLION = [852251971, 881801004, 379439955, 55395862]
"""The order of a seed is a promise to every saved run; these lists are never edited."""


def read_text(
    text: str | bytes, *, ports: Sequence[int] = (11434,), exclusions: Exclusions = OPEN, skip_invalid: bool = False
) -> TargetSet:
    raw = text if isinstance(text, bytes) else text.encode()
    return read(["-"], ports=ports, exclusions=exclusions, skip_invalid=skip_invalid, stdin=io.BytesIO(raw))


def endpoints(found: TargetSet) -> list[str]:
    return sorted(target.endpoint for target in found)


# ---- what a line may say ----


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.7", [Target("192.0.2.7", 11434)]),
        ("192.0.2.7:8000", [Target("192.0.2.7", 8000)]),
        ("2001:db8::7", [Target("2001:db8::7", 11434)]),
        ("2001:DB8:0::7", [Target("2001:db8::7", 11434)]),
        ("[2001:db8::7]", [Target("2001:db8::7", 11434)]),
        ("[2001:db8::7]:8000", [Target("2001:db8::7", 8000)]),
        ("192.0.2.6/31", [Target("192.0.2.6", 11434), Target("192.0.2.7", 11434)]),
        ("192.0.2.6/31:80", [Target("192.0.2.6", 80), Target("192.0.2.7", 80)]),
        ("[2001:db8::6]/127:80", [Target("2001:db8::6", 80), Target("2001:db8::7", 80)]),
        ("2001:db8::6/127:80", [Target("2001:db8::6", 80), Target("2001:db8::7", 80)]),
        ("http://192.0.2.7", [Target("192.0.2.7", 80, scheme="http")]),
        ("HTTPS://[2001:db8::7]/", [Target("2001:db8::7", 443, scheme="https")]),
        ("https://192.0.2.7:8000/v1?x=1", [Target("192.0.2.7", 8000, scheme="https")]),
        ("192.0.2.7, Example.org., a tag, 8000", [Target("192.0.2.7", 8000, "example.org", tag="a tag")]),
        ("192.0.2.7,example.org", [Target("192.0.2.7", 11434, "example.org")]),
        ("2001:db8::7, example.org,,8000", [Target("2001:db8::7", 8000, "example.org")]),
        ("192.0.2.7,,http,9002", [Target("192.0.2.7", 9002, tag="http")]),
        ("192.0.2.6/31,,t,90", [Target("192.0.2.6", 90, tag="t"), Target("192.0.2.7", 90, tag="t")]),
        ("192.0.2.6/31,a.example", [Target(f"192.0.2.{n}", 11434, "a.example") for n in (6, 7)]),
        ("\n  \n# all of it\n\t192.0.2.7 \t# a note\n", [Target("192.0.2.7", 11434)]),
        ("\ufeffsaddr\r\n192.0.2.7\r\n192.0.2.8:80\r\n", [Target("192.0.2.8", 80), Target("192.0.2.7", 11434)]),
        ("ip\n192.0.2.7", [Target("192.0.2.7", 11434)]),
        ("", []),
    ],
)
def test_every_form_of_line(text: str, expected: list[Target]) -> None:
    assert list(read_text(text)) == expected


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "10.0.0.300",
            "'10.0.0.300' is neither an address nor a network; each number is 0 to 255: did you mean 10.0.0.30?",
        ),
        ("10.0.0.300:80", "did you mean 10.0.0.30?"),
        ("010.0.0.1", "leading zeros are octal to some programs: did you mean 10.0.0.1?"),
        ("10.0.0", "did you mean 10.0.0.0/24?"),
        ("10.0.0.5/24", "did you mean 10.0.0.0/24 or 10.0.0.5?"),
        ("2001:db8::5/64", "did you mean 2001:db8::/64 or 2001:db8::5?"),
        ("10.0.0.0/33", "a length is 0 to 32"),
        ("10.0.0.0/255.255.255.0", "did you mean 10.0.0.0/24?"),
        ("10.0.0.1-10.0.0.2", "one a line: 10.0.0.1/32, 10.0.0.2/32"),
        ("10.0.0.0-3", "one a line: 10.0.0.0/30"),
        ("10.0.0.1 8000", "did you mean 10.0.0.1:8000?"),
        ("open tcp 11434 192.0.2.7 1700000000", "did you mean 192.0.2.7:11434?"),
        ("10.0.0.1:99999", "'99999' is not a port; ports are 1 to 65535"),
        ("10.0.0.1:0", "'0' is not a port"),
        ("10.0.0.1:", "'' is not a port"),
        ("10.0.0.1:８０", "is not a port"),
        ("2001:db8:0:0:0:0:0:1:11434", "did you mean [2001:db8::1]:11434?"),
        ("[2001:db8::1", "write [2001:db8::7]:11434"),
        ("::ffff:192.0.2.1", "write 192.0.2.1"),
        ("fe80::1%eth0", "write fe80::1"),
        ("example.org", "write `ADDRESS, example.org`"),
        (", example.org", "write `ADDRESS, example.org`"),
        ("http://example.org/x", "write `ADDRESS, example.org`"),
        ("http://me:secret@192.0.2.1/", "'http://…@192.0.2.1/' carries credentials"),
        ("ftp://192.0.2.1", "is not an http or https URL"),
        ("192.0.2.1,a.example,b,80,d", "more than the four fields"),
        ("192.0.2.1:80,,,80", "states a port twice"),
        ("192.0.2.1,a b", "'a b' is not a host name"),
        ("192.0.2.1,192.0.2.1", "is not a host name"),
        ("192.0.2.1,bücher.example", "write its `xn--` form"),
        ("192.0.2.1,,\x1b[31m", r"'192.0.2.1,,\x1b[31m' holds characters that do not print"),
        ("192.0.2.1,,\u202e", r"\u202e' holds characters that do not print"),
        ("9" * 4000, "9…' is longer than 1024 characters"),
    ],
)
def test_a_bad_line_says_where_what_and_what_now(line: str, said: str) -> None:
    with pytest.raises(TargetError) as caught:
        read_text(f"192.0.2.1\n\n{line}\n")
    message = str(caught.value)
    assert message.startswith("standard input:3: ") and said in message
    assert len(message) < 400 and message.isprintable()


def test_credentials_are_not_repeated() -> None:
    with pytest.raises(TargetError) as caught:
        read_text("http://me:secret@192.0.2.1/")
    assert "secret" not in str(caught.value)


def test_bytes_that_are_not_utf8_are_refused_outside_comments() -> None:
    assert read_text(b"192.0.2.1 # caf\xe9").size == 1
    with pytest.raises(TargetError, match="plain UTF-8"):
        read_text(b"192.0.2.1,,caf\xe9")


def test_bad_lines_can_be_counted_instead() -> None:
    found = read_text("192.0.2.1\nexample.org\n10.0.0.5/24\n192.0.2.2\n", skip_invalid=True)
    assert (found.size, found.n_invalid) == (2, 2)


def test_a_header_is_only_the_first_line() -> None:
    with pytest.raises(TargetError, match=":2: 'saddr'"):
        read_text("192.0.2.1\nsaddr\n")


def test_paths_of_urls_are_counted_not_asked() -> None:
    found = read_text("http://192.0.2.1/\nhttp://192.0.2.2/a\nhttp://192.0.2.3?b\nhttp://192.0.2.4\n")
    assert (found.size, found.n_urls_with_path) == (4, 2)


def test_one_endpoint_is_asked_once_and_the_line_that_says_most_wins() -> None:
    lines = ["192.0.2.1:80", "192.0.2.0/31:80", "192.0.2.1,,b,80", "192.0.2.1,,a,80", "https://192.0.2.1:80"]
    for seed in range(10):
        random.Random(seed).shuffle(lines)
        found = read_text("\n".join(lines))
        assert list(found) == [Target("192.0.2.1", 80, scheme="https"), Target("192.0.2.0", 80)]
        assert found.n_duplicates == 4


def test_a_name_at_an_address_is_a_target_of_its_own() -> None:
    found = read_text("192.0.2.1\n192.0.2.1,a.example\n192.0.2.1,b.example\n192.0.2.1,A.example,tag\n")
    assert sorted((t.domain, t.tag) for t in found) == [("", None), ("a.example", "tag"), ("b.example", None)]
    assert found.n_duplicates == 1


# ---- where lists come from ----


def test_files_gzip_and_standard_input_are_one_set(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("192.0.2.1\n192.0.2.2")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"192.0.2.2\n192.0.2.3\n"))
    sources = [str(tmp_path / "a.txt"), str(tmp_path / "b.txt.gz"), "-"]
    piped = gzip.compress(b"192.0.2.4\n")
    found = read(sources, ports=(80, 81), exclusions=OPEN, stdin=io.BytesIO(piped))
    assert (found.size, found.n_duplicates) == (8, 2)


def test_a_list_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    torn = tmp_path / "torn.gz"
    torn.write_bytes(gzip.compress(b"192.0.2.1\n" * 1000)[:-20])
    for source in (str(tmp_path / "none.txt"), str(tmp_path), str(torn)):
        with pytest.raises(TargetError, match="cannot be read"):
            read([source], ports=(80,), exclusions=OPEN)


def test_a_closed_standard_input_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(TargetError, match="cannot be read: it is closed"):
        read(["-"], ports=(80,), exclusions=OPEN)


def test_standard_input_stays_open() -> None:
    stdin = io.BytesIO(b"192.0.2.1\n")
    read(["-"], ports=(80,), exclusions=OPEN, stdin=stdin)
    assert not stdin.closed


@pytest.mark.parametrize("size", [1, 7, 16, 64])
def test_chunk_borders_do_not_show(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    text = "\ufeff192.0.2.1\r\n# c\r\n192.0.2.2:80\r\n\r\n2001:db8::1\r\nhttp://192.0.2.3/x\r\n192.0.2.300\r\n192.0.2.4"
    whole = read_text(text, skip_invalid=True)
    monkeypatch.setattr(targets, "CHUNK_BYTES", size)
    monkeypatch.setattr(targets, "MAX_CARRY_BYTES", 1 << 16)
    pieces = read_text(text, skip_invalid=True)
    assert pieces.digest == whole.digest and whole.size == 5
    with pytest.raises(TargetError, match=r":7: '192\.0\.2\.300'"):
        read_text(text)


def test_a_line_without_end_is_bounded_and_one_bad_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "MAX_CARRY_BYTES", 2048)
    monkeypatch.setattr(targets, "CHUNK_BYTES", 1024)
    longest = max(map(len, targets._line_chunks(io.BytesIO(b"9" * 100_000 + b"\n192.0.2.1\n"))))
    assert longest < 5000
    found = read_text("9" * 100_000 + "\n192.0.2.1\n", skip_invalid=True)
    assert (found.size, found.n_invalid) == (1, 1)


_SOUP = st.text(alphabet="0123456789.:,/ #\r\t-x", max_size=24)
_NEAR = st.from_regex(r"\A[0-9]{1,4}(\.[0-9]{1,4}){3}(:[0-9]{0,6})?\r?\Z")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(_SOUP, _NEAR), max_size=12))
def test_the_fast_reader_takes_only_what_the_slow_one_would(lines: list[str]) -> None:
    raw = [line.encode() for line in lines]
    bare, ported, others, n_lines = (
        target_lines.read_many(b"".join(line + b"\n" for line in raw)) if raw else ([], [], [], 0)
    )
    assert n_lines == len(raw)
    slow = {index for index, _ in others}
    assert all(raw[index] == text for index, text in others)
    expected_bare, expected_ported = [], []
    for index, line in enumerate(raw):
        if index not in slow:
            read_slowly = target_lines.read_line(line)
            low = int(read_slowly.network.network_address)
            assert read_slowly.network.prefixlen == 32
            if read_slowly.port:
                expected_ported.append(read_slowly.port << 32 | low)
            else:
                expected_bare.append(low)
    assert list(bare) == expected_bare and list(ported) == expected_ported


def test_the_fast_reader_takes_the_common_lines() -> None:
    _, _, others, _ = target_lines.read_many(b"0.0.0.0\n255.255.255.255\n9.9.9.9:1\n9.9.9.9:65535\n")
    assert others == []


# ---- sets against their naive version ----

_V4 = st.integers(0, 255).map(lambda n: ipaddress.ip_address((198 << 24) + n))
_V6 = st.integers(0, 255).map(lambda n: ipaddress.ip_address((0x20010DB8 << 96) + n))


@st.composite
def _networks(draw: st.DrawFn) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    address = draw(st.one_of(_V4, _V4, _V6))
    return ipaddress.ip_network(
        (address, address.max_prefixlen - draw(st.sampled_from([0, 0, 0, 1, 2, 5]))), strict=False
    )


_PORT = st.one_of(st.none(), st.integers(1, 4))
_ROWS = st.lists(st.tuples(_networks(), _PORT, st.sampled_from(["", "", "a.example", "b.example"])), max_size=25)


def _spelled(rows: Sequence[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, int | None, str]]) -> str:
    lines = []
    for network, port, domain in rows:
        text = str(network.network_address) if network.num_addresses == 1 else str(network)
        if domain:
            lines.append(f"{text},{domain},,{port or ''}")
        elif port is None:
            lines.append(text)
        elif "/" in text or ":" not in text:
            lines.append(f"{text}:{port}")
        else:
            lines.append(f"[{text}]:{port}")
    return "\n".join(lines)


def _naive(
    rows: Sequence[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, int | None, str]], ports: Sequence[int]
) -> Counter[tuple[str, int, str]]:
    return Counter(
        (str(ip), p, domain) for network, port, domain in rows for ip in network for p in ([port] if port else ports)
    )


@settings(max_examples=50, deadline=None)
@given(
    _ROWS,
    st.lists(st.tuples(_networks(), st.sampled_from(["x", "y"])), max_size=4),
    st.sets(st.integers(1, 6), min_size=1),
)
def test_a_set_is_what_a_python_set_would_be(rows, excluded, ports) -> None:  # type: ignore[no-untyped-def]
    exclusions = Exclusions([], excluded)
    found = read_text(_spelled(rows), ports=sorted(ports), exclusions=exclusions)
    named = _naive(rows, sorted(ports))
    left_out = Counter(why for ip, _, _ in named if (why := exclusions.reason(ip)))
    expected = {key for key in named if not exclusions.reason(key[0])}
    got = [(t.ip, t.port, t.domain) for t in found]
    assert len(got) == len(set(got)) == found.size and set(got) == expected
    assert dict(found.n_excluded) == dict(left_out)
    assert found.n_duplicates == named.total() - len(named)
    assert found.n_public == sum(not is_private(ip) for ip, _, _ in expected)
    covered = [network for network, _ in excluded]
    assert not any(ipaddress.ip_address(ip) in network for ip, _, _ in got for network in covered)
    assert [found[index] for index in range(found.size)] == list(found)
    backwards = range(found.size - 1, -1, -1)
    assert found.some([*backwards, *backwards]) == [found[index] for index in [*backwards, *backwards]]


@settings(max_examples=30, deadline=None)
@given(_ROWS, st.randoms(use_true_random=False))
def test_order_and_spelling_do_not_show_in_digest_or_order(rows, chance) -> None:  # type: ignore[no-untyped-def]
    found = read_text(_spelled(rows), ports=(2, 3))
    respelled = [(ipaddress.ip_network(ip), p, domain) for ip, p, domain in _naive(rows, (2, 3))]
    chance.shuffle(respelled)
    again = read_text(_spelled(respelled), ports=(9,))
    assert again.digest == found.digest and list(again) == list(found)
    if rows:
        assert read_text(_spelled(respelled[1:]), ports=(9,)).digest != found.digest


def test_names_of_excluded_targets_do_not_show_in_the_digest() -> None:
    one = read_text("192.0.2.1,b.example\n169.254.0.1,a.example\n192.0.2.0/31,c.example")
    other = read_text("192.0.2.1,b.example\n192.0.2.1,c.example\n192.0.2.0,c.example")
    assert one.digest == other.digest and list(one) == list(other)


def test_a_network_of_each_version_with_one_name_stays_two() -> None:
    found = read_text("::/0,a.example,,1\n0.0.0.0/0,a.example,,2\n", exclusions=NOTHING)
    assert found.size == 2**32 + 2**128
    assert {found[0].port, found[found.size - 1].port} == {1, 2}
    assert found.some([2**130 % found.size, 0]) == [found[2**130 % found.size], found[0]]


def test_duplicates_dropped_while_reading_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "COMPACT_BYTES", 64)
    monkeypatch.setattr(targets, "CHUNK_BYTES", 128)
    found = read_text("".join(f"192.0.2.{n % 50}\n192.0.2.{n % 60}:80\n" for n in range(600)))
    assert (found.size, found.n_duplicates) == (110, 1090)


def test_common_targets_take_few_bytes() -> None:
    numbers = np.random.default_rng(5).choice(2**28, 200_000, replace=False) + (16 << 24)
    text = "".join(f"{ipaddress.ip_address(int(n))}\n" for n in numbers)
    found = read_text(text, ports=(80, 443, 11434), exclusions=NOTHING)
    held = sum(array.nbytes for part in found._parts for array in (part.space.lone, part.space.lo, part.space.hi))
    assert found.size == 600_000 and held <= 5 * 200_000


@settings(max_examples=20, deadline=None)
@given(_ROWS)
def test_a_saved_set_comes_back(tmp_path_factory: pytest.TempPathFactory, rows) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path_factory.mktemp("set") / "targets.npz"
    found = read_text(
        _spelled(rows) + "\n192.0.2.1,,tag\nhttps://192.0.2.2/x\n10.0.0.1\nbad\n", exclusions=STRICT, skip_invalid=True
    )
    found.save(path)
    again = TargetSet.load(path)
    assert list(again) == list(found) and again.digest == found.digest
    for name in ("n_excluded", "n_invalid", "n_duplicates", "n_public", "n_urls_with_path"):
        assert getattr(again, name) == getattr(found, name)
    assert [entry.name for entry in path.parent.iterdir()] == ["targets.npz"]


def test_a_damaged_set_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "targets.npz"
    read_text("192.0.2.1\n192.0.2.9\n192.0.2.17\n").save(path)
    whole = path.read_bytes()
    flipped = whole.replace(bytes([1, 2, 0, 192, 9]), bytes([2, 2, 0, 192, 9]))
    assert flipped != whole
    for damaged in (whole[: len(whole) // 2], b"", flipped):
        path.write_bytes(damaged)
        with pytest.raises(SnapshotError, match="saved target set"):
            TargetSet.load(path)
    with pytest.raises(SnapshotError):
        TargetSet.load(tmp_path / "none.npz")


def test_the_whole_internet_is_read_by_arithmetic() -> None:
    found = read_text("0.0.0.0/0\n::/0\n2001:4860::/32\n", exclusions=STRICT)
    assert found.size + sum(found.n_excluded.values()) == 2**32 + 2**128
    assert found.n_duplicates == 2**96 and found.n_public == found.size
    assert found.n_excluded["RFC 1918 private-use"] == 2**24 + 2**20 + 2**16
    assert found.n_excluded["RFC 5737 documentation"] == 3 * 256
    assert found.n_excluded["RFC 1112 reserved"] == 2**28 - 1
    for index in (0, found.size // 2, found.size - 1):
        assert STRICT.reason(found[index].ip) is None
    with pytest.raises(IndexError):
        found[found.size]


# ---- exclusions ----


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address), st.integers(0, 2**128 - 1).map(ipaddress.IPv6Address)
    )
)
def test_what_the_standard_library_calls_special_is_excluded(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if not address.is_global or address.is_multicast:
        assert STRICT.reason(str(address))


@pytest.mark.parametrize("number", [4, 6])
def test_the_borders_of_every_special_network_are_excluded(number: int) -> None:
    lines = resources.data("exclusions.txt").read_text().splitlines()
    networks = [ipaddress.ip_network(line.split("#")[0].strip()) for line in lines if line.split("#")[0].strip()]
    mine = [network for network in networks if network.version == number]
    assert len(mine) > 20
    for network in mine:
        assert STRICT.reason(str(network[0])) and STRICT.reason(str(network[-1]))


def test_every_line_of_the_data_file_gives_an_rfc_or_a_dated_opt_out() -> None:
    for line in resources.data("exclusions.txt").read_text().splitlines():
        network, _, why = line.partition("#")
        if network.strip():
            kind, value, *rest = why.split()
            assert kind in ("RFC", "opt-out") and rest
            assert value.isdigit() if kind == "RFC" else value.count("-") == 2


@pytest.mark.parametrize(
    ("ip", "why"),
    [
        ("10.1.2.3", "RFC 1918 private-use"),
        ("127.0.0.1", "RFC 1122 loopback"),
        ("192.0.0.8", "RFC 7600 dummy address"),
        ("192.0.0.100", "RFC 6890 protocol assignments"),
        ("255.255.255.255", "RFC 8190 limited broadcast"),
        ("::1", "RFC 4291 loopback"),
        ("::ffff:8.8.8.8", "RFC 4291 IPv4-mapped"),
        ("2001:10::1", "RFC 4843 ORCHID"),
        ("2001:1::9", "RFC 2928 protocol assignments"),
        ("8.8.8.8", None),
        ("2001:4860:4860::8888", None),
        ("223.255.255.255", None),
    ],
)
def test_the_smallest_network_names_the_reason(ip: str, why: str | None) -> None:
    assert STRICT.reason(ip) == why


def test_what_allow_private_lifts_and_what_not() -> None:
    private = Exclusions.load(allow_private=True)
    lifted = ["127.9.9.9", "::1", "10.0.0.1", "172.31.255.255", "192.168.1.1", "fd00::1"]
    assert all(private.reason(ip) is None and STRICT.reason(ip) and is_private(ip) for ip in lifted)
    kept = ["169.254.1.1", "fe80::1", "100.64.0.1", "240.0.0.1", "192.0.2.1", "224.0.0.1"]
    assert all(private.reason(ip) and not is_private(ip) for ip in kept)


def test_what_allow_simulated_lifts_and_what_not() -> None:
    simulated = Exclusions.load(allow_simulated=True)
    lifted = ["240.0.0.1", "255.255.255.254", "192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"]
    assert all(simulated.reason(ip) is None and STRICT.reason(ip) for ip in lifted)
    assert simulated.reason("255.255.255.255") and simulated.reason("127.0.0.1")


def test_a_blocklist_wins_over_what_is_lifted(tmp_path: Path) -> None:
    path = tmp_path / "mine.conf"
    path.write_text("# ours\n10.0.0.0/30\n10.0.0.1 # opt-out 2026-01-31\n2001:db8::/32 # lab\n8.8.8.8\n\n")
    mine = Exclusions.load([path], allow_private=True, allow_simulated=True)
    assert mine.reason("10.0.0.0") == mine.reason("10.0.0.3") == mine.reason("8.8.8.8") == "blocklist mine.conf"
    assert mine.reason("10.0.0.1") == "opt-out 2026-01-31"
    assert mine.reason("2001:db8::1") == "lab" and mine.reason("10.0.0.4") is None
    assert Exclusions.load([path]).reason("10.0.0.4") == "RFC 1918 private-use"
    found = read_text("10.0.0.0/29\n", exclusions=mine)
    assert dict(found.n_excluded) == {"blocklist mine.conf": 3, "opt-out 2026-01-31": 1} and found.size == 4


@pytest.mark.parametrize("body", ["10.0.0.0/33", "example.org", "10.0.0.1:80", "10.0.0.5/24", "http://10.0.0.1"])
def test_an_unreadable_line_of_a_blocklist_is_fatal(tmp_path: Path, body: str) -> None:
    path = tmp_path / "mine.conf"
    path.write_text(f"10.0.0.0/8\n{body}\n")
    with pytest.raises(TargetError, match=r"mine\.conf:2: "):
        Exclusions.load([path])


def test_an_unreadable_blocklist_is_fatal(tmp_path: Path) -> None:
    binary = tmp_path / "b"
    binary.write_bytes(b"\xff\xfe1\x00")
    for path in (tmp_path / "none", tmp_path, binary):
        with pytest.raises(TargetError, match="cannot be read"):
            Exclusions.load([path])


def test_no_text_that_is_not_an_address_passes() -> None:
    for text in ("", "10.1", "0x7f.1", "127.1", "example.org", "8.8.8.8 ", "::1%lo", "010.0.0.1"):
        with pytest.raises(ValueError):
            STRICT.reason(text)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(_networks(), st.sampled_from("abc")), max_size=8),
    st.lists(st.tuples(_networks(), st.just("b!")), max_size=3),
)
def test_nested_exclusions_name_blocklists_first_then_the_smallest_network(builtin, blocked) -> None:  # type: ignore[no-untyped-def]
    exclusions = Exclusions(builtin, blocked)
    for base in ((198 << 24), (0x20010DB8 << 96)):
        for offset in range(-1, 257):
            address = ipaddress.ip_address(base + offset)
            around = [row for row in blocked if address in row[0]] or [row for row in builtin if address in row[0]]
            longest = max((network.prefixlen for network, _ in around), default=0)
            fitting = {why for network, why in around if network.prefixlen == longest}
            assert exclusions.reason(str(address)) in (fitting or {None})


# ---- order and size ----


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1500), st.integers(-(2**70), 2**70))
def test_the_permutation_is_one(n: int, seed: int) -> None:
    assert sorted(Permutation(n, seed)) == list(range(n))


@given(st.integers(1, 2**160), st.integers(0, 2**64), st.data())
def test_huge_permutations_stay_in_range_and_repeat_themselves(n: int, seed: int, data: st.DataObject) -> None:
    positions = data.draw(st.sets(st.integers(0, n - 1), min_size=1, max_size=20))
    order = Permutation(n, seed)
    values = [order[position] for position in positions]
    assert len(set(values)) == len(positions) and all(0 <= value < n for value in values)
    assert values == [Permutation(n, seed)[position] for position in positions]


@given(st.integers(1, 2**64), st.integers(0, 2**64), st.data())
@example(2**62, 7, None)
@example(2**62 - 1, 7, None)
@example(2**62 + 1, 7, None)
def test_many_positions_at_once_are_each_what_it_is_alone(n: int, seed: int, data: st.DataObject | None) -> None:
    start = data.draw(st.integers(0, n)) if data else n - 99
    stop = min(n, start + (data.draw(st.integers(0, 40)) if data else 99))
    order = Permutation(n, seed)
    assert order.span(start, stop) == [order[position] for position in range(start, stop)]


def test_positions_beyond_the_last_are_refused() -> None:
    for start, stop in ((-1, 3), (3, 2), (0, 13)):
        with pytest.raises(IndexError, match="of 12"):
            Permutation(12, 1).span(start, stop)


def test_the_order_of_a_seed_never_changes() -> None:
    assert list(Permutation(12, 1)) == PINNED_12 == Permutation(12, 1).span(0, 12)
    assert [Permutation(10**9, 2026)[k] for k in range(4)] == PINNED_BILLION == Permutation(10**9, 2026).span(0, 4)


def test_no_network_is_asked_in_bursts() -> None:
    """In 256 consecutive targets of a /16, a random order almost never meets one /24 more than ten times."""
    for seed in range(3):
        networks = [index >> 8 for index in Permutation(2**16, seed)]
        worst = max(max(Counter(networks[k : k + 256]).values()) for k in range(0, 2**16, 256))
        assert worst <= 10


def test_neighbours_and_seeds_are_unrelated() -> None:
    order, other = list(Permutation(10_000, 1)), list(Permutation(10_000, 2))
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.05
    assert abs(np.corrcoef(order, range(10_000))[0, 1]) < 0.05
    assert abs(np.corrcoef(order, other)[0, 1]) < 0.05


@pytest.mark.parametrize(("text", "ports"), [("11434", (11434,)), (" 8080-8082, 80,8081", (80, 8080, 8081, 8082))])
def test_ports(text: str, ports: tuple[int, ...]) -> None:
    assert parse_ports(text) == ports


@pytest.mark.parametrize("text", ["", "0", "65536", "80-", "-80", "90-80", "http", "80,,81", "1-2-3", "８０"])
def test_bad_ports(text: str) -> None:
    with pytest.raises(UsageError, match="--ports"):
        parse_ports(text)


@pytest.mark.parametrize(
    ("text", "n", "size"),
    [
        ("1000", 5000, 1000),
        ("1000", 10, 10),
        ("2.5%", 1000, 25),
        ("100%", 7, 7),
        ("50%", 2**128 + 1, 2**127),
        ("1%", 50, 0),
    ],
)
def test_sample_size(text: str, n: int, size: int) -> None:
    assert sample_size(text, n) == size


@pytest.mark.parametrize("text", ["", "0", "0%", "-5", "101%", "2.5", "ten", "1e3", "%", "nan"])
def test_bad_sample_size(text: str) -> None:
    with pytest.raises(UsageError, match="--max-targets"):
        sample_size(text, 100)
