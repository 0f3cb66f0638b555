"""Families: what a model's name and metadata say, and what the files of data/ may not say."""

from __future__ import annotations

import csv
import json
import re
import shutil
import tomllib
from datetime import date, datetime, timedelta
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from census import resources
from census.errors import DataError
from census.families import TOLD_TEXT, Families
from census.model import Lineage, Model
from census.names import MAX_NAME, Phrase, parse_size, read_name, stated_size
from census.taxonomy import quant_bits
from tests.benchmarks import accuracy

ROOT = Path(__file__).resolve().parents[1]
FILES = [resources.data("families.toml"), *sorted(resources.data("families").glob("*.toml"))]
DOC = (ROOT / "docs" / "add-a-family.md").read_text(encoding="utf-8")

FAMILIES = Families.load()


def judge(name: str, observed_at: datetime | None = None, **metadata: object) -> Lineage:
    return FAMILIES.classify(Model(name, **metadata), observed_at=observed_at)  # type: ignore[arg-type]


# The shipped files.


def test_the_shipped_files_pass_their_own_check() -> None:
    assert FAMILIES.check() == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_keeps_its_schema(path: Path) -> None:
    schema = json.loads(resources.schemas("families.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(tomllib.loads(path.read_text(encoding="utf-8")))


# The matching language.


def documented() -> list[tuple[str, str, bool]]:
    rows = re.findall(r"^\| `([^`]+)` \| (.+?) \| (.*?) \|$", DOC, re.MULTILINE)
    held = [(phrase, name, True) for phrase, names, _ in rows for name in re.findall("`([^`]+)`", names)]
    return held + [(phrase, name, False) for phrase, _, names in rows for name in re.findall("`([^`]+)`", names)]


@pytest.mark.parametrize(("phrase", "name", "holds"), documented())
def test_the_documented_phrases_hold_where_the_page_says(phrase: str, name: str, holds: bool) -> None:
    assert (Phrase.parse(phrase).find(FAMILIES.read(name)) >= 0) is holds


def test_the_page_shows_every_kind_of_phrase() -> None:
    shown = {phrase for phrase, _, _ in documented()}
    assert len(shown) >= 9 and len(documented()) > 30


@pytest.mark.parametrize("text", ["x", "a*", "phi-*"])
def test_a_phrase_that_would_hold_too_often_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Phrase.parse(text)


@pytest.mark.parametrize(
    ("text", "folders", "model", "tag", "remote"),
    [
        ("llama3.2:3b-instruct-q4_K_M", (), "llama3.2", "3b-instruct-q4_K_M", False),
        ("hf.co/bartowski/Qwen_Qwen3-8B-GGUF:Q4_0", ("bartowski",), "Qwen_Qwen3-8B", "Q4_0", False),
        ("/root-of/models--Qwen--Qwen2.5-7B/snapshots/0a", ("Qwen",), "Qwen2.5-7B", "", False),
        ("C:\\models\\phi-4.Q4_K_M.gguf", ("C:", "models"), "phi-4.Q4_K_M", "", False),
        ("deepseek-v3.1:671b-cloud", (), "deepseek-v3.1", "671b", True),
        ("kimi-k2.5:cloud", (), "kimi-k2.5", "", True),
        ("my-cloud-model:latest", (), "my-cloud-model", "latest", False),
        ("a/b-00001-of-00004.gguf", ("a",), "b", "", False),
    ],
)
def test_names_are_taken_apart(text: str, folders: tuple[str, ...], model: str, tag: str, remote: bool) -> None:
    name = read_name(text, frozenset({"hf.co"}))
    assert (name.folders, name.model, name.tag, name.remote) == (folders, model, tag, remote)


# Sizes and quantizations.


@pytest.mark.parametrize(
    ("text", "billions"),
    [
        *(("8.0B", 8.0), ("494.03M", 0.49403), ("119K", 0.000119), ("1.04T", 1040.0), (" 7b ", 7.0)),
        *(("116829156672", 116.829156672), ("8000000000", 8.0), ("", None), (None, None), ("0", None), ("0B", None)),
        *(("large", None), ("8.0X", None), ("-8B", None), ("9" * 17, None), ("99999T", None), ("1e9", None)),
    ],
)
def test_display_sizes(text: str | None, billions: float | None) -> None:
    assert parse_size(text) == billions


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        *(("Qwen3-30B-A3B", 30), ("qwen2-1_5b-instruct", 1.5), ("DeepSeek-R1-Distill-Qwen-1___5B", 1.5)),
        *(("gemma-4-E4B-it", 4), ("kimi-k2:1t", 1000), ("smollm2:135m", 0.135), ("bloom-7b1", 7.1)),
        *(("openhermes-2p5-mistral-7b", 7), ("Qwen2.5-14B-Instruct-1M", 14), ("aya32b", 32)),
        *(("llama-3-gradient-1048k", None), ("phi3:medium-128k", None), ("A3B", None), ("qwen2.5", None)),
        *(("gemma-3-4bit", None), ("deepseek-r1-1.58bit", None), ("deepseek-r1-1.58bit:671b", 671), ("x-4b-it", 4)),
    ],
)
def test_sizes_that_names_state(name: str, billions: float | None) -> None:
    assert stated_size(name) == billions


def test_experts_share_layers() -> None:
    assert stated_size("mixtral:8x7b") == pytest.approx(46.7, rel=0.02)
    assert stated_size("mixtral:8x22b") == pytest.approx(141, rel=0.03)


@pytest.mark.parametrize(
    ("label", "bits"),
    [
        *(("Q4_K_M", 4), ("q4_k_m", 4), ("F16", 16), ("BF16", 16), ("F32", 32), ("IQ2_XXS", 2), ("MXFP4", 4)),
        *(("FP8_E4M3", 8), ("GPTQ-Int4", 4), ("w4a16", 4), ("W8A8", 8), ("UD-Q4_K_XL", 4), ("AWQ", 4), ("8bit", 8)),
        *(("GPTQ", None), ("APEX", None), ("unknown", None), ("", None), (None, None), ("128k", None)),
    ],
)
def test_bits_of_a_label(label: str | None, bits: int | None) -> None:
    assert quant_bits(label) == bits


@pytest.mark.parametrize(
    ("name", "quant"),
    [
        ("hf.co/unsloth/Qwen3.8-27B-GGUF:UD-Q4_K_XL", "Q4_K_XL"),
        ("Qwen3-VLTO-32B-Instruct.i1-Q4_K_S.gguf", "Q4_K_S"),
        ("qwen/Qwen1.5-4B-Chat-GPTQ-Int4", "GPTQ-INT4"),
        ("cpatonn/Qwen3-Omni-30B-A3B-Instruct-AWQ-4bit", "AWQ-INT4"),
        ("okwinds/DeepSeek-R1-0528-Qwen3-8B-Int8-W8A16", "W8A16"),
        ("deepseek-r1:32b-qwen-distill-fp16", "F16"),
        *(("eramax/nxcode-cq-7b-orpo:q6", "Q6"), ("deepseek-r1-q3:70b", "Q3"), ("DeepSeek-R1:671b_Q2", "Q2")),
        *(("gemma-2-27b-it-Q5_K_L:latest", "Q5_K_L"), ("hf.co/bartowski/Qwen_Qwen3-32B-GGUF:Q4_K_L", "Q4_K_L")),
        *((f"hf.co/unsloth/Qwen3-14B-GGUF:UD-Q{bits}_K_XL", f"Q{bits}_K_XL") for bits in (2, 3, 4, 5, 6, 8)),
        *(("dsqwen7bfp16:latest", "F16"), ("x/deepseek-r1-671b-2.51bit", "2.51BIT"), ("r1-2.22bit", "2.22BIT")),
        *(("hf.co/AngelSlim/Hy-MT1.5-1.8B-1.25bit-GGUF:latest", "1.25BIT"), ("x-bfloat16", "BF16")),
        *(("Qwen3.8-27B-UD-Q6_K_M.gguf", "Q6_K_M"), ("rscr/ruadapt_qwen2.5_32b:Q2_K_M", "Q2_K_M")),
        ("Q2.5-Something-14B", None),
        *((name, None) for name in ("google/gemma-3-4b-it", "gemma-2-2b-it", "gemma-3-1b-it", "some-8b-it", "x_4B.it")),
        *(("gemma3:4b-it-q8_0", "Q8_0"), ("unsloth/gemma-3-4b-it-GGUF:Q8_0", "Q8_0"), ("gemma-2-2b-it-Q6_K", "Q6_K")),
        *(("gemma-3n-E2B-it-Q8_0.gguf", "Q8_0"), ("mlx-community/gemma-3-4b-it-4bit", "4BIT")),
        *(("x-8B-bnb-4bit-GGUF:Q8_0", "Q8_0"), ("x-AWQ-INT4-Q8_0.gguf", "Q8_0"), ("x-AWQ-INT4:latest", "AWQ-INT4")),
        ("qwen3-8b-128k-16e", None),
    ],
)
def test_quantizations_that_names_state(name: str, quant: str | None) -> None:
    assert judge(name).quant == quant


# The order of evidence.


def test_a_cloud_stub_is_what_its_remote_model_is() -> None:
    found = judge("alias:latest", remote_model="gpt-oss:120b", parameter_size="116829156672", quantization="MXFP4")
    assert (found.brand_family, found.resolved_by, found.remote) == ("gpt-oss", "remote", True)
    assert (found.params_b, found.quant_bits) == (116.829156672, 4)


def test_a_digest_names_the_model_behind_an_alias_and_beats_its_name() -> None:
    digest = "6995872bfe4c" + "0" * 52
    for alias in ("mario:latest", "llama3:8b"):
        found = judge(alias, digest=f"sha256:{digest}")
        assert (found.brand_family, found.base_family, found.weights_family) == ("DeepSeek", "Qwen", "Qwen")
        assert (found.resolved_by, found.confidence, found.params_b) == ("digest", 1.0, 8.0)
        assert found.rules[0] == "digest:6995872bfe4c"


def test_a_tag_means_what_it_meant_when_it_was_pulled() -> None:
    spring, autumn = datetime(2025, 3, 1), datetime(2025, 9, 1)
    assert judge("deepseek-r1:8b", spring).base_family == "Llama"
    assert judge("deepseek-r1:8b", autumn).base_family == "Qwen"
    assert judge("deepseek-r1:8b", autumn, modified_at=spring).base_family == "Llama"
    assert judge("deepseek-r1:8b", spring, family_raw="qwen3").weights_family == "Qwen"
    moved, fixed = judge("deepseek-r1:8b"), judge("smollm2:135m")
    assert (moved.confidence or 0) < (fixed.confidence or 0)


def test_latest_has_the_size_of_the_tag_with_the_same_digest() -> None:
    assert judge("command-r-plus:latest").params_b == 104.0
    assert judge("somebody/command-r-plus:latest").resolved_by == "registry"


def test_the_architecture_decides_what_the_name_leaves_open() -> None:
    unsaid = judge("deepseek-r1-8b:latest")
    assert (unsaid.brand_family, unsaid.base_family, unsaid.weights_family) == ("DeepSeek", None, None)
    assert judge("deepseek-r1-8b:latest", family_raw="llama").weights_family == "Llama"
    assert judge("deepseek-r1-8b:latest", family_raw="qwen3").weights_family == "Qwen"
    assert judge("cogito-x:8b", family_raw="qwen2").weights_family == "Qwen"


def test_a_foreign_architecture_takes_the_brand_but_not_the_weights() -> None:
    found = judge("llama-2-7b", family_raw="qwen2")
    assert (found.brand_family, found.weights_family, found.developer) == (None, "Qwen", None)
    assert "conflict" in found.rules and found.confidence == 0.4


@pytest.mark.parametrize("name", ["deepseek-v3", "nezahatkorkmaz/deepseek-v3:latest"])
def test_a_name_too_big_for_what_is_served_is_not_believed(name: str) -> None:
    found = judge(name, family_raw="llama", parameter_size="3.2B")
    assert (found.brand_family, found.weights_family, found.base_family, found.developer) == (
        None,
        "Llama",
        "Llama",
        None,
    )
    assert "conflict" in found.rules and found.confidence == 0.4
    assert judge(name, parameter_size="3.2B").brand_family is None
    assert judge(name, family_raw="deepseek2", parameter_size="671.0B").weights_family == "DeepSeek"


def test_each_part_of_a_line_reports_its_own_architectures() -> None:
    assert judge("deepseek-coder:6.7b", family_raw="llama").weights_family == "DeepSeek"
    assert judge("deepseek-coder-v2:16b", family_raw="llama").brand_family is None
    assert judge("deepseek-r1:70b", family_raw="llama").weights_family == "Llama"
    assert judge("deepseek-r1:671b", family_raw="llama").brand_family is None
    assert judge("deepseek-v3-distill:7b", family_raw="qwen2").weights_family == "Qwen"


def test_an_architecture_nobody_knows_vetoes_nothing() -> None:
    assert judge("llama-2-7b", family_raw="brand-new").brand_family == "Llama"


def test_a_fine_tuned_line_may_sit_on_any_architecture() -> None:
    found = judge("dolphin-next:8b", family_raw="gemma3")
    assert (found.brand_family, found.base_family, found.weights_family) == ("Dolphin", "Gemma", "Gemma")


def test_a_hosted_brand_is_a_claim() -> None:
    plain = judge("gpt-4:latest")
    assert (plain.brand_family, plain.claimed_brand, plain.confidence) == ("GPT", "GPT", 0.3)
    found = judge("gpt-4o-mini", family_raw="llama", parameter_size="3.2B")
    assert (found.brand_family, found.claimed_brand, found.weights_family) == (None, "GPT", "Llama")
    assert judge("gpt-oss:20b").claimed_brand is None
    assert judge("gemini-3-flash-preview:cloud").claimed_brand is None


@pytest.mark.parametrize(
    "name", ["mario:latest", "my-model", "test", "hermes:latest", "nova:latest", "spark", "", "///"]
)
def test_a_persona_says_nothing(name: str) -> None:
    found = judge(name)
    assert (found.brand_family, found.weights_family, found.resolved_by, found.confidence) == (None, None, None, None)
    assert found.is_distill is None and found.uncensored is None


@pytest.mark.parametrize(
    ("architecture", "size", "weights"),
    [
        *(("gemma3", None, "Gemma"), ("qwen3moe", "30.5B", "Qwen"), ("gptoss", None, "gpt-oss"), ("llama", None, None)),
        *(("llama", "134.52M", "SmolLM"), ("llama", "7.2B", "Mistral"), ("llama", "6.7B", "Llama")),
        *(("llama", "8.0B", "Llama"), ("llama", "23.6B", "Mistral"), ("llama", "9.0B", None), ("bert", "109M", None)),
    ],
)
def test_metadata_alone_tell_weights_only_where_one_family_reports_them(
    architecture: str, size: str | None, weights: str | None
) -> None:
    found = judge("mario:latest", family_raw=architecture, parameter_size=size)
    assert (found.brand_family, found.weights_family) == (None, weights)
    assert found.resolved_by == ("metadata" if weights else None)


def test_a_name_that_tells_nothing_has_the_usual_role_of_the_reported_weights() -> None:
    assert judge("mario:latest", family_raw="qwen2").role == "chat"
    assert judge("my-embed", family_raw="qwen3").role == "embedding"
    assert judge("mario:latest").role is None and judge("mario:latest", family_raw="starcoder2").role == "code"


def test_the_vocabulary_tells_weights() -> None:
    found = judge("mario", n_vocab=128256)
    assert (found.weights_family, found.rules) == ("Llama", ("vocabulary:128256",))


def test_the_model_behind_an_alias_is_asked() -> None:
    assert judge("prod", extra=(("root", "/models/Qwen2.5-7B-Instruct"),)).brand_family == "Qwen"
    assert judge("my-adapter", parent="meta-llama/Llama-3.1-8B-Instruct").generation == "Llama 3.1"


def test_what_the_server_counts_beats_what_the_name_states() -> None:
    assert judge("llama3.1:8b", parameter_size="70.6B").params_b == 70.6
    assert judge("llama3.1:8b", n_params=8_030_000_000).params_b == 8.03
    assert judge("llama3.1:8b-q8_0", quantization="Q4_K_M").quant == "Q4_K_M"
    assert judge("llama3.1:8b-q8_0", quantization="unknown").quant == "Q8_0"


def test_names_that_state_active_parameters() -> None:
    assert judge("meta-llama/Llama-4-Scout-17B-16E-Instruct").params_b == 109.0
    assert judge("Qwen/Qwen1.5-MoE-A2.7B-Chat").params_b == 14.3


def test_roles_from_metadata() -> None:
    assert judge("llama3.1:8b", families_raw=("llama", "clip")).role == "vision"
    assert judge("mario", capabilities=("embedding",)).role == "embedding"
    assert judge("mario", family_raw="bert").role == "embedding"


def test_an_abliterator_changes_neither_brand_nor_developer() -> None:
    found = judge("huihui_ai/qwen3:14b")
    assert (found.brand_family, found.developer, found.uncensored) == ("Qwen", "Alibaba", True)


# Whatever a server sends.


@given(
    st.text(max_size=2 * MAX_NAME),
    st.one_of(st.none(), st.text(max_size=40)),
    st.one_of(st.none(), st.text(max_size=40)),
)
def test_no_text_makes_it_fail(name: str, architecture: str | None, size: str | None) -> None:
    found = judge(name, family_raw=architecture, parameter_size=size, quantization=architecture, digest=size)
    assert found.confidence is None or 0 <= found.confidence <= 1
    assert (found.confidence is None) == (found.resolved_by is None)


def labelled() -> list[dict[str, str]]:
    with accuracy.SHIPPED.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_case_does_not_matter() -> None:
    for row in labelled()[::7]:
        name = row["name"]
        assert judge(name.upper()).brand_family == judge(name.lower()).brand_family, name


def test_verdicts_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Families.load()
    for number in range(50):
        kept.classify(Model(f"model-{number % 5}"))
        kept.classify(Model("model", families_raw=(f"{number}-" + "x" * TOLD_TEXT,)))
    assert len(kept._judged) == 5
    monkeypatch.setattr("census.families.CACHE_SIZE", 8)
    for number in range(50):
        kept.classify(Model(f"model-{number}"))
    assert len(kept._judged) <= 8


# Accuracy on names nobody looked at.

FLOORS = {"brand": 0.97, "country": 0.97, "params": 0.98, "quant": 0.98, "no false brand": 0.97, "weights": 0.95}


def test_held_out_names_are_resolved_as_promised() -> None:
    rows = labelled()
    unseen = accuracy.held_out(row["name"] for row in rows)
    scored = accuracy.score(FAMILIES, [row for row in rows if accuracy.stem(row["name"]) in unseen], True)
    shares = {column: accuracy.share(scored, accuracy.CHECKS[column]) for column in FLOORS}
    low = {column: right / total for column, (right, total) in shares.items() if right / total < FLOORS[column]}
    assert not low
    exposed = [one for one in scored if one.row["source"] == "exposed_hosts"]
    right, total = accuracy.share(exposed, accuracy.CHECKS["brand"])
    assert total > 300 and right / total >= 0.98


def test_the_accuracy_page_is_as_measured() -> None:
    page = (ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8")
    assert page == accuracy.report(FAMILIES, labelled()), (
        "write it again: python -m tests.benchmarks.accuracy --write docs/accuracy.md"
    )


# What the files may not say.


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A copy of the shipped files, to be spoilt."""
    shutil.copy(resources.data("families.toml"), tmp_path)
    shutil.copytree(resources.data("families"), tmp_path / "families")
    return tmp_path / "families.toml"


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """The shipped tables with no lineage yet."""
    shutil.copytree(resources.data("families"), tmp_path / "families")
    (tmp_path / "families.toml").touch()
    return tmp_path / "families.toml"


def append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write("\n" + text)


def blocks() -> list[str]:
    return re.findall(r"```toml\n(.*?)```", DOC, re.DOTALL)


def test_the_documented_entry_is_all_it_takes(files: Path) -> None:
    entry, developer, *_ = blocks()
    append(files, entry)
    append(files.with_suffix("") / "developers.toml", developer)
    families = Families.load(files)
    assert families.check() == []
    found = families.classify(Model("yottahmd/tiny-swallow-1.5b-instruct:latest"))
    assert (found.brand_family, found.developer_country, found.weights_country) == ("TinySwallow", "JP", "CN")


ENTRY = '[[lineage]]\nid = "zz"\nbrand = "Zz"\nmatch = ["zzmodel"]\n'


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (ENTRY + 'is = ["zzmodel", "other"]', "'other' is brand_family 'Zz', but comes out None"),
        (ENTRY + 'is = ["zzmodel"]\nis_not = ["my-zzmodel"]', "'my-zzmodel' is not it, but is taken for it"),
        (ENTRY, "no example is it"),
        (ENTRY + 'developer = "Nobody"\nis = ["zzmodel"]', "no developer 'Nobody' in developers.toml"),
        (ENTRY + 'bases = ["Nothing"]\nis = ["zzmodel"]', "no entry has the brand 'Nothing'"),
        (ENTRY + 'architectures = ["zz"]\nis = ["zzmodel"]', "no architecture 'zz' in architectures.toml"),
        (ENTRY + 'is = ["zzmodel"]\n[[lineage.case]]\nsize = [7]\nrole = "code"', "no example needs case 1"),
        (ENTRY + 'is = ["zzmodel"]\ngenerations = { "Zz 2" = ["zzmodel2"] }', "no example needs the generation 'Zz 2'"),
        (
            ENTRY.replace("zzmodel", "zzmodel*") + 'is = ["zzmodel"]\n' + ENTRY + 'is = ["zzmodel"]',
            "two entries have this",
        ),
    ],
)
def test_the_check_finds(empty: Path, text: str, complaint: str) -> None:
    append(empty, text)
    found = Families.load(empty).check()
    assert [line for line in found if complaint in line and "zz" in line], found


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[[lineage]]\nid = "zz"\nbrand = "Zz"\n', "lineage 'zz': 'match' is missing"),
        (ENTRY + 'colour = "red"\n', "lineage 'zz': .*colour"),
        (ENTRY.replace("zzmodel", "z"), "lineage 'zz': 'z' is too short to look for"),
        (ENTRY + "[[lineage.case]]\nsise = [7]\n", "lineage 'zz': a case has no 'sise'"),
        (ENTRY + 'is = [{ name = "zzmodel", parms = 7 }]', "lineage 'zz': .*expects 'parms'"),
        ("= = =", "families.toml: "),
    ],
)
def test_a_broken_file_is_named_with_entry_and_reason(empty: Path, text: str, reason: str) -> None:
    append(empty, text)
    with pytest.raises(DataError, match=reason) as caught:
        Families.load(empty)
    assert str(empty) in str(caught.value)


def test_a_broken_table_beside_it_is_named(files: Path) -> None:
    append(files.with_suffix("") / "library.tsv", "0123\tx\tyesterday\ttoday\tlatest")
    with pytest.raises(DataError, match=r"library\.tsv:\d+: "):
        Families.load(files)


def test_words_are_checked_too(files: Path) -> None:
    words = files.with_suffix("") / "words.toml"
    words.write_text(words.read_text("utf-8").replace('"abl",', '"abl", "neverseen",'), "utf-8")
    assert Families.load(files).check() == ["words 'uncensored': no example needs the phrase 'neverseen'"]


def test_a_day_that_stands_for_others_means_what_they_mean() -> None:
    """Around every day on which a name of the library got a new meaning, and long before and after."""
    turning = {name: turns for name in FAMILIES.library._history if (turns := FAMILIES._turns(name))}
    assert any(len(turns) > 1 for turns in turning.values())
    for name, turns in turning.items():
        days = {turn + timedelta(days=n) for turn in turns for n in (-1, 0, 1)} | {date(1990, 1, 1), date(2090, 1, 1)}
        parsed = FAMILIES.read(name)
        for day in days:
            same = FAMILIES._turn(turns, day)
            assert FAMILIES.library.digest(parsed, same) == FAMILIES.library.digest(parsed, day), (name, day)


def test_a_model_that_differs_in_an_unlisted_digest_or_a_day_of_no_change_is_judged_once() -> None:
    families = Families.load()
    for n in range(50):
        model = Model("llama3.1:8b-instruct-q4_K_M", digest=f"{n:064x}", modified_at=datetime(2026, 1, 1 + n % 20))
        families.classify(model)
    assert len(families._judged) == 1
