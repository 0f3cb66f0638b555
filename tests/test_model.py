"""The nouns: made quickly, and as frozen as any dataclass."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from datetime import datetime
from typing import Any

import pytest

from census import model

NOUNS = [one for one in vars(model).values() if isinstance(one, type) and dataclasses.is_dataclass(one)]


def _filled(noun: Any) -> dict[str, Any]:
    return {one.name: f"value of {one.name}" for one in dataclasses.fields(noun)}


@pytest.mark.parametrize("noun", NOUNS, ids=lambda noun: noun.__name__)
def test_a_noun_is_what_its_fields_say(noun: Any) -> None:
    """By name and by place, with its defaults, copied, pickled, replaced; of its own class and never changed."""
    values = _filled(noun)
    one = noun(**values)
    assert type(one) is noun and one == noun(*values.values()) and hash(one) == hash(noun(**values))
    assert {name: getattr(one, name) for name in values} == values
    assert pickle.loads(pickle.dumps(one)) == copy.deepcopy(one) == one
    name = next(iter(values))
    assert getattr(dataclasses.replace(one, **{name: "other"}), name) == "other"
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(one, name, "other")
    with pytest.raises(AttributeError):
        object.__setattr__(one, "another", 1)


@pytest.mark.parametrize("noun", NOUNS, ids=lambda noun: noun.__name__)
def test_a_noun_has_its_defaults_and_wants_the_rest(noun: Any) -> None:
    fields = dataclasses.fields(noun)
    missing = dataclasses.MISSING
    needed = {one.name: 1 for one in fields if one.default is missing and one.default_factory is missing}
    one = noun(**needed)
    for each in fields:
        if each.default is not missing:
            assert getattr(one, each.name) == each.default
        elif each.default_factory is not missing:
            assert getattr(one, each.name) == each.default_factory()
    for wrong in ({**needed, "unheard_of": 1}, *({k: 1 for k in needed if k != name} for name in needed)):
        with pytest.raises(TypeError):
            noun(**wrong)
    assert [*inspect.signature(noun).parameters] == [each.name for each in fields]


def test_two_nouns_do_not_share_what_is_made_anew() -> None:
    talk = model.Conversation(model.Target("192.0.2.1", 80), model.Outcome.SUCCESS, datetime(2026, 1, 1))
    assert model.Finding(talk).identity == model.Identity()
    assert model.Finding(talk, doubt=model.Doubt(2, ("a",))).doubt.score == 2
