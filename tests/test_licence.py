"""Licences are read, declared, or not known; never invented, and never guessed where they differ."""

from typing import Any

import pytest

from distillkit.errors import RecipeError
from distillkit.licence import IDENTIFIERS, add_licences, chosen, header_of, licence_in


@pytest.mark.parametrize(
    ("card", "found"),
    [
        ("---\nlicense: mit\n---\n# x", "mit"),
        ("---\nlicense: other\nlicense_name: qwen\n---\n", "qwen"),
        ("---\nlicense:\n- mit\n- cc-by-4.0\n---\n", "mit and cc-by-4.0"),
        ("---\ntags: [x]\n---\nlicense: mit", None),
        ("# x\nlicense: mit", None),
        ("---\nlicense: [mit\n---\n", None),
        ("---\n- mit\n---\n", None),
        ("", None),
    ],
)
def test_a_card_states_it_in_its_header_or_not_at_all(card: str, found: str | None) -> None:
    assert licence_in(card) == found


def facts(**licences: str | None) -> dict[str, Any]:
    teachers = [{"name": name, "licence": value} for name, value in licences.items()]
    return {"teachers": teachers, "sources": []}


def test_where_all_agree_it_is_theirs() -> None:
    assert chosen(None, facts(a="mit", b="mit")) == "mit"
    assert chosen(None, facts(a="mit", b=None)) is None
    assert chosen(None, facts()) is None
    assert chosen("cc0-1.0", facts(a="mit", b="gpl")) == "cc0-1.0"


def test_where_they_differ_the_recipe_must_choose() -> None:
    with pytest.raises(
        RecipeError, match=r"^licences differ \(a: mit; b: gpl\); read them and declare `license:`$"
    ):
        chosen(None, facts(a="mit", b="gpl", c=None))


def test_a_model_is_bound_by_its_first_base_only() -> None:
    steps = [{"base": "org/base", "licence": "mit"}, {"base": "cold", "licence": None}]
    assert chosen(None, {"trainings": steps}) == "mit"


def test_the_recipe_declares_those_of_what_has_no_card() -> None:
    found: dict[str, Any] = {
        "sources": [{"source": "file: p.jsonl"}, {"source": "toy: chain"}, {"source": "python: f.py"}],
        "teachers": [{"name": "served", "revision": "", "trainings": []}, {"name": "toy:base", "revision": "", "trainings": []}],
        "trainings": [{"base": "./own", "revision": ""}],
    }  # fmt: skip
    add_licences(found, {"p.jsonl": "cc0-1.0", "served": "llama3"}, online=False)
    assert [each["licence"] for each in found["sources"]] == ["cc0-1.0", "apache-2.0", None]
    assert [each["licence"] for each in found["teachers"]] == ["llama3", "apache-2.0"]
    assert [each["licence"] for each in found["trainings"]] == [None]


def test_a_teacher_that_the_recipe_trained_has_that_of_its_base() -> None:
    steps = [{"base": "toy:base", "revision": ""}, {"base": "cold", "revision": ""}]
    found: dict[str, Any] = {"teachers": [{"name": "zero", "revision": "", "trainings": steps}]}
    add_licences(found, {}, online=False)
    assert found["teachers"][0]["licence"] == "apache-2.0"


def test_the_header_has_an_identifier_of_the_hub_or_a_name() -> None:
    assert header_of("MIT") == {"license": "mit"}
    assert header_of(None) == {"license": None}
    assert header_of("Our Licence, 2.0") == {"license": "other", "license_name": "our-licence-2.0"}
    assert {"apache-2.0", "mit", "llama3.1", "other"} <= IDENTIFIERS
