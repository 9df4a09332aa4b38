"""The recipes that come with the package."""

import json
from pathlib import Path

import pytest

from distillkit import shipped
from distillkit.check import check
from distillkit.errors import MissingError, RecipeError
from distillkit.recipe import Recipe, load


def test_every_recipe_is_listed_with_what_it_is_for() -> None:
    lines = shipped.listing()
    assert [line.split()[0] for line in lines] == sorted(p.stem for p in shipped.folder().glob("*.yaml"))
    assert all(len(line.split()) > 4 for line in lines)


def test_a_copy_is_the_same_text(tmp_path: Path) -> None:
    target = shipped.copy("quickstart", tmp_path / "deep" / "mine.yaml")
    assert target.read_text("utf-8") == (shipped.folder() / "quickstart.yaml").read_text("utf-8")


def test_the_data_of_a_recipe_come_along(tmp_path: Path) -> None:
    target = shipped.copy("curate_local", tmp_path / "mine.yaml")
    assert check(load(target), tmp_path).warnings == []
    names = sorted(path.name for path in (tmp_path / "data").iterdir())
    assert names == ["curation.jsonl", "curation_heldout.jsonl"]
    shipped.copy("curate_local", tmp_path / "again.yaml")
    (tmp_path / "data" / "curation.jsonl").write_text("mine")
    with pytest.raises(RecipeError, match=r"curation\.jsonl: is there already, and is not what"):
        shipped.copy("curate_local", tmp_path / "third.yaml")
    assert not (tmp_path / "third.yaml").exists()


def test_what_cannot_be_copied(tmp_path: Path) -> None:
    (tmp_path / "there.yaml").write_text("")
    with pytest.raises(RecipeError, match="is there already"):
        shipped.copy("quickstart", tmp_path / "there.yaml")
    with pytest.raises(MissingError, match=r"no recipe 'nothing' ships; there are .*quickstart"):
        shipped.copy("nothing", None)
    with pytest.raises(MissingError, match="cannot be written"):
        shipped.copy("quickstart", tmp_path / "there.yaml" / "below.yaml")


def test_editors_find_the_schema_of_today_beside_a_recipe(tmp_path: Path) -> None:
    schema = json.dumps(Recipe.model_json_schema(), indent=1) + "\n"
    assert (shipped.folder() / shipped.SCHEMA).read_text("utf-8") == schema, (
        "distillkit schema > recipes/recipe.schema.json"
    )
    for recipe in shipped.folder().glob("*.yaml"):
        assert (
            recipe.read_text("utf-8").splitlines()[0] == f"# yaml-language-server: $schema={shipped.SCHEMA}"
        )
    shipped.copy("quickstart", tmp_path / "mine.yaml")
    assert (tmp_path / shipped.SCHEMA).read_text("utf-8") == schema
