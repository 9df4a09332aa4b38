from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillkit.errors import MissingError, RecipeError, StageError
from distillkit.recipe import Recipe, load, located
from distillkit.shipped import folder
from distillkit.spec import identity

GOOD = """\
name: tiny
seed: 3
engine: {kind: transformers}
verifiers: {chain: {kind: exact}}
stages:
  - {name: problems, kind: problems, toy: chain, limit: 10}
  - name: own
    kind: sample
    model: toy:base
    n: 4
    max_tokens: 32
  - {name: judged, kind: verify}
  - name: kept
    kind: filter
    rules:
      - {field: score, min: 1.0, reason: wrong}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "tiny.yaml"
    file.write_text(GOOD)
    return file


def mistake(path: Path, old: str, new: str, *sets: str) -> str:
    """The message for the good recipe with one change."""
    assert old in GOOD
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(RecipeError) as caught:
        load(path, sets)
    return str(caught.value).replace(f"{path}", "tiny.yaml")


def test_a_good_recipe_loads_and_its_dump_is_the_same_recipe(path: Path, tmp_path: Path) -> None:
    recipe = load(path)
    again = tmp_path / "again.yaml"
    again.write_text(recipe.dump())
    assert load(again) == recipe
    assert [stage.name for stage in recipe.stages] == ["problems", "own", "judged", "kept"]


def test_the_engine_of_the_recipe_goes_to_stages_that_name_none(path: Path) -> None:
    own = load(path).stage("own")
    assert own.engine is not None and own.engine.kind == "transformers"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "min: 1.0",
            "min_scroe: 1.0",
            "tiny.yaml:16: stages.kept.rules.0.min_scroe: unknown key; did you mean min?",
        ),
        ("    n: 4", "    nn: 4", "tiny.yaml:10: stages.own.nn: unknown key; did you mean n?"),
        (
            "kind: verify",
            "kind: verfiy",
            "tiny.yaml:12: stages.judged: unknown kind 'verfiy'; did you mean verify?",
        ),
        ("    n: 4", "    n: four", "tiny.yaml:10: stages.own.n: input should be a valid integer"),
        ("seed: 3", "sed: 3", "tiny.yaml:2: sed: unknown key; did you mean seed?"),
        ("name: own", "name: problems", "an earlier stage has that name"),
        ("kind: exact", "kind: exakt", "unknown kind 'exakt'; did you mean exact?"),
        ("    max_tokens: 32", "    temperature: 1", "stages.own.max_tokens: is required"),
        ("seed: 3", "seed: 3\nseed: 4", "tiny.yaml:3: seed: written twice"),
        ("seed: 3", "seed: [3", "not YAML"),
        ("name: own", "name: Own Stage", "stages.Own Stage.name"),
        (
            "kind: transformers",
            "kind: gpt",
            "tiny.yaml:3: engine: unknown kind 'gpt'; there are transformers",
        ),
        ("seed: 3", "? [1]\n: 3", "not YAML: found unhashable key"),
        ("seed: 3", "seed: &a [*a]", "an alias inside of its anchor"),
        ("seed: 3", f"seed: {'[' * 4000}", "nested too deep"),
        ("seed: 3", "seed: !!python/object:os.system {}", "not YAML: could not determine a constructor"),
        ("seed: 3", "seed: -1", "tiny.yaml:2: seed: input should be greater than or equal to 0 (got -1)"),
    ],
)
def test_a_mistake_is_one_line_with_file_line_and_suggestion(
    path: Path, old: str, new: str, says: str
) -> None:
    message = mistake(path, old, new)
    assert says in message
    assert "\n" not in message


def test_every_mistake_is_told_at_once(path: Path) -> None:
    assert len(mistake(path, "    n: 4\n    max_tokens: 32", "    nn: 4").splitlines()) == 2


def test_a_wrong_entry_does_not_make_its_list_too_short() -> None:
    with pytest.raises(RecipeError) as caught:
        load(folder() / "quickstart.yaml", ["stages.measured.measures=[nope]"])
    [line] = str(caught.value).splitlines()
    assert "stages.measured.measures.0: input should be" in line


def test_set_goes_by_stage_name_and_comes_before_validation(path: Path) -> None:
    recipe = load(
        path, ["stages.own.n=2", "seed=9", "verifiers.chain.ignore_case=true", "stages.kept.rules.0.min=0.5"]
    )
    assert (recipe.stage("own").n, recipe.seed) == (2, 9)
    assert recipe.stage("kept").rules[0].min == 0.5


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        ("stages.owm.n=2", "nothing there is called 'owm'; did you mean own?"),
        ("stages.own.n", "write KEY=VALUE"),
        ("stages.own.nn=2", "--set stages.own.nn=2: stages.own.nn: unknown key; did you mean n?"),
        ("stages.own.n=x", "--set stages.own.n=x: stages.own.n: input should be a valid integer"),
        ("seed.below=1", "seed is a value, nothing lies below it"),
        (
            "verifiers.chain.kind=exakt",
            "--set verifiers.chain.kind=exakt: verifiers.chain: unknown kind 'exakt'",
        ),
        ("stages=3", "--set stages=3: stages: input should be a valid list (got 3)"),
    ],
)
def test_a_wrong_set_names_itself(path: Path, assignment: str, says: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load(path, [assignment])
    assert says in str(caught.value)


def test_no_such_file_and_no_text(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no such recipe"):
        load(tmp_path / "none.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="not a text file"):
        load(tmp_path / "bytes.yaml")
    with pytest.raises(MissingError, match="no such recipe"):
        load(tmp_path)
    for nothing in ("- a\n", "", "# a comment\n", "just text"):
        (tmp_path / "list.yaml").write_text(nothing)
        with pytest.raises(RecipeError, match="a recipe is a mapping"):
            load(tmp_path / "list.yaml")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("stages.own.model: is not there", "tiny.yaml:9: stages.own.model: is not there"),
        ("stages.own: cannot run", "tiny.yaml:7: stages.own: cannot run"),
        ("stages.kept.rules.0.min: odd", "tiny.yaml:15: stages.kept.rules.0.min: odd"),
        ("verifiers.chain: runs code", "tiny.yaml:4: verifiers.chain: runs code"),
        ("own: cannot run", "tiny.yaml:7: own: cannot run"),
        ("other: cannot run", "other: cannot run"),
        ("no colon at all", "no colon at all"),
    ],
)
def test_an_error_that_names_its_place_gets_its_line(path: Path, text: str, says: str) -> None:
    with pytest.raises(StageError) as caught, located(path):
        raise StageError(text)
    assert str(caught.value).replace(str(path.parent) + "/", "") == says


def test_merged_keys_are_where_they_are_used(path: Path) -> None:
    text = GOOD.replace("  - name: own\n", "  - <<: &shared {temperature: 0.5}\n    name: own\n")
    path.write_text(text.replace("{name: judged, kind: verify}", "{<<: *shared, name: judged, kind: verify}"))
    with pytest.raises(
        RecipeError, match=r"tiny\.yaml:\d+: stages\.judged\.temperature: unknown key"
    ) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_files_of_a_recipe_are_found_from_its_folder(tmp_path: Path, path: Path) -> None:
    (tmp_path / "grade.py").write_text("def grade(row):\n    return 1.0\n")
    path.write_text(GOOD.replace("{kind: exact}", "{kind: python, file: grade.py}"))
    assert load(path).verifiers["chain"].file == str((tmp_path / "grade.py").resolve())


def test_a_renamed_stage_and_more_workers_are_the_same_identity(path: Path) -> None:
    one = load(path)
    path.write_text(
        GOOD.replace("name: own", "name: mine").replace("seed: 3", "seed: 3\nexecution: {workers: 4}")
    )
    two = load(path)
    assert [identity(stage) for stage in one.stages] == [identity(stage) for stage in two.stages]


def test_limited_is_a_smaller_recipe(path: Path) -> None:
    assert load(path).limited(3).stage("problems").limit == 3


def test_the_schema_is_for_editors() -> None:
    schema = Recipe.model_json_schema()
    assert "stages" in schema["properties"] and len(schema["$defs"]) > 10


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_a_recipe_or_an_error_of_ours(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_text(text, "utf-8", errors="replace")
    with pytest.raises((RecipeError, MissingError)):
        load(file)
