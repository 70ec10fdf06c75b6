"""The context is a mapping whose values are copies."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping, MutableMapping

import cloaca
import pytest


@pytest.fixture
def context() -> cloaca.Context:
    return cloaca.Context({"a": 1, "b": [1, 2], "none": None})


def test_it_is_a_mutable_mapping(context: cloaca.Context) -> None:
    assert isinstance(context, MutableMapping)
    assert dict(context) == {"a": 1, "b": [1, 2], "none": None}
    assert {**context}["a"] == 1
    assert list(context) == ["a", "b", "none"] == list(context.keys())
    assert list(context.values()) == [1, [1, 2], None]
    assert next(iter(context.items())) == ("a", 1)
    assert ("a", 1) in context.items()
    assert len(context) == 3
    match context:
        case {"a": number}:
            assert number == 1
        case _:
            pytest.fail("a context can be matched as a mapping")


def test_get_gives_the_value_or_the_default(context: cloaca.Context) -> None:
    assert context.get("a") == 1
    assert context.get("x") is None
    assert context.get("x", 7) == 7
    assert context.get("none", 7) is None


def test_a_key_whose_value_is_none_exists(context: cloaca.Context) -> None:
    assert "none" in context
    assert context["none"] is None


def test_a_missing_key_is_a_key_error(context: cloaca.Context) -> None:
    with pytest.raises(KeyError, match="'x'"):
        context["x"]
    with pytest.raises(KeyError, match="'x'"):
        del context["x"]
    assert "x" not in context
    assert 1 not in context


def test_a_read_value_is_a_copy(context: cloaca.Context) -> None:
    value = context["b"]
    value.append(3)
    assert context["b"] == [1, 2]
    context["b"] = value
    value.append(4)
    assert context["b"] == [1, 2, 3]


def test_insert_takes_a_new_key_only(context: cloaca.Context) -> None:
    context.insert("c", 1)
    with pytest.raises(ValueError, match="'none' already exists"):
        context.insert("none", 1)
    assert context["none"] is None


def test_update_takes_an_existing_key_only(context: cloaca.Context) -> None:
    context.update("none", 1)
    assert context["none"] == 1
    with pytest.raises(KeyError, match="'x'"):
        context.update("x", 1)
    assert "x" not in context


def test_remove_and_delete_give_the_value_or_none(context: cloaca.Context) -> None:
    assert context.remove("a") == 1
    assert context.delete("b") == [1, 2]
    assert context.remove("a") is None
    assert list(context) == ["none"]


def test_the_other_methods_of_a_mutable_mapping(context: cloaca.Context) -> None:
    assert context.pop("a") == 1
    assert context.pop("a", 5) == 5
    with pytest.raises(KeyError):
        context.pop("a")
    assert context.setdefault("b", 0) == [1, 2]
    assert context.setdefault("new", 0) == 0
    assert context.popitem() == ("none", None)
    context.clear()
    assert len(context) == 0
    with pytest.raises(KeyError):
        context.popitem()


def test_update_from_dict_sets_all_or_nothing(context: cloaca.Context) -> None:
    context.update_from_dict({"a": 2, "c": 3})
    assert (context["a"], context["c"]) == (2, 3)
    with pytest.raises(TypeError, match="context key 'd': set is not a JSON value"):
        context.update_from_dict({"a": 9, "d": set()})
    assert context["a"] == 2
    context.update_from_dict(cloaca.Context({"e": 1}))
    assert context["e"] == 1


def test_it_is_made_from_any_mapping() -> None:
    class Ones(Mapping[str, int]):
        def __getitem__(self, key: str) -> int:
            return 1

        def __iter__(self):  # type: ignore[no-untyped-def]
            return iter("ab")

        def __len__(self) -> int:
            return 2

    assert cloaca.Context(Ones()) == {"a": 1, "b": 1}
    with pytest.raises(TypeError, match="a context is made from a dict, not from list"):
        cloaca.Context([("a", 1)])  # type: ignore[arg-type]


def test_keys_are_texts() -> None:
    with pytest.raises(TypeError, match="a context key must be a str, not int"):
        cloaca.Context({1: 2})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="a context key must be a str, not NoneType"):
        cloaca.Context().set(None, 1)  # type: ignore[arg-type]


def test_it_shows_its_values() -> None:
    assert repr(cloaca.Context({"a": 1})) == 'Context({"a":1})'
    assert repr(cloaca.Context()) == "Context({})"


def test_equal_values_make_equal_contexts(context: cloaca.Context) -> None:
    assert context == cloaca.Context(context)
    assert context == {"a": 1, "b": [1, 2], "none": None}
    assert context != cloaca.Context({"a": 1})
    assert cloaca.Context({"n": 1}) == cloaca.Context({"n": 1.0})
    assert context != 3
    with pytest.raises(TypeError, match="unhashable"):
        hash(context)


@pytest.mark.parametrize(
    "way", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it)), lambda it: it.copy()]
)
def test_a_copy_is_equal_and_its_own(context: cloaca.Context, way) -> None:  # type: ignore[no-untyped-def]
    context["ordered"] = {"z": 1, "a": 2}
    twin = way(context)
    assert twin == context
    assert list(twin["ordered"]) == ["z", "a"]
    twin["a"] = 2
    assert context["a"] == 1


def test_json_there_and_back(context: cloaca.Context) -> None:
    assert context.to_json() == '{"a":1,"b":[1,2],"none":null}'
    assert cloaca.Context.from_json(context.to_json()) == context
