"""The tables and views keep the rules of `schemas/`, and the docs say what is there."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import jsonschema
import pyarrow as pa
import pytest

from census import resources, schema
from census.errors import DataError

ROOT = Path(__file__).parent.parent


@pytest.fixture
def own_schemas(tmp_path, monkeypatch):
    """A copy of `schemas/` to break."""
    copy = shutil.copytree(resources.schemas(), tmp_path / "schemas")
    monkeypatch.setattr(resources, "schemas", lambda *parts: copy.joinpath(*parts))
    schema.tables.cache_clear()
    schema.views.cache_clear()
    yield copy
    schema.tables.cache_clear()
    schema.views.cache_clear()


def test_the_files_of_schemas_are_sound():
    assert schema.check() == []
    assert tuple(schema.tables()) == schema.TABLES


@pytest.mark.parametrize("name", schema.TABLES)
def test_table_files_fit_their_json_schema(name):
    contract = json.loads(resources.schemas("table.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(contract)
    jsonschema.validate(tomllib.loads(resources.schemas("tables", f"{name}.toml").read_text()), contract)


def test_required_columns_are_not_nullable_in_arrow():
    hosts = schema.tables()["hosts"].arrow
    assert not hosts.field("server").nullable
    assert hosts.field("server_version").nullable


def test_no_type_is_unsigned_or_zoned():
    kinds = {str(field.type) for table in schema.tables().values() for field in table.arrow}
    assert not [kind for kind in kinds if "uint" in kind or "tz=" in kind]


def test_nested_types():
    assert schema.parse_type("list<struct<name:string,n:int64>>") == (
        pa.list_(pa.struct([("name", pa.string()), ("n", pa.int64())])),
        'STRUCT("name" VARCHAR, "n" BIGINT)[]',
    )


@pytest.mark.parametrize(
    "text", ["", "uint8", "list", "list<>", "list<string", "struct<a>", "struct<a:string", "string>", "str ing", "a-b"]
)
def test_what_is_no_type(text):
    with pytest.raises(ValueError):
        schema.parse_type(text)


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ('type = "int32"', 'type = "uint32"', "'uint32' is no type"),
        ("null = false", 'null = "no"', "null is true or false"),
        ('name = "tag"', 'name = "Tag"', "lower-case"),
        ('name = "tag"', 'name = "port"', "'port' is there twice"),
        ('name = "tag"', 'name = "tag"\ncolour = "red"', "unknown key colour"),
        ('sort = ["ip", "port", "domain"]', 'sort = ["ip", "port"]', "sort leaves ties"),
        ('sort = ["ip", "port", "domain"]', 'sort = ["ip", "port", "domain", "x"]', "sort names unknown columns: x"),
        ('key = ["run_id",', 'key = ["tag", "run_id",', "never null"),
        ("about = ", "above = ", "exactly the keys"),
    ],
)
def test_a_broken_table_file_is_named_with_its_problem(own_schemas, before, after, problem):
    path = own_schemas / "tables" / "probes.toml"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))
    found = schema.check()
    assert any(line.startswith("probes.toml: ") and problem in line for line in found), found
    with pytest.raises(DataError):
        schema.tables()


def test_a_view_without_a_contract_is_a_problem(own_schemas):
    (own_schemas / "views" / "bare.sql").write_text("SELECT 1")
    assert [line for line in schema.check() if line.startswith("bare.sql: ")]


def test_a_table_file_that_nothing_reads_is_a_problem(own_schemas):
    (own_schemas / "tables" / "extra.toml").write_text("")
    assert [line for line in schema.check() if line.startswith("extra.toml: ")]


def test_a_fingerprint_changes_with_a_type():
    probes, hosts = schema.tables()["probes"], schema.tables()["hosts"]
    assert probes.fingerprint != hosts.fingerprint
    assert probes.fingerprint == schema.tables()["probes"].fingerprint


def test_the_page_of_the_tables_is_up_to_date():
    page = (ROOT / "docs" / "tables.md").read_text(encoding="utf-8")
    assert page == schema.tables_page(), "write docs/tables.md again: it is census.schema.tables_page()"
