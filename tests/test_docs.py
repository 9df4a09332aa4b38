"""Every command and recipe in the README and the docs is one that works: what no longer exists fails here."""

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from inprocess import DATA, curation, distillkit

from distillkit.cli import cli
from distillkit.document import Loader
from distillkit.recipe import Recipe
from distillkit.shipped import folder

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
IDS = [page.stem for page in PAGES]

ELSEWHERE = {
    "distillkit run recipes/quickstart.yaml --limit 8": "test_recipes.py::test_the_quickstart_runs_as_a_smoke_run",
    "distillkit run recipes/quickstart.yaml": "e2e/test_kill.py::test_twenty_kills_of_the_quickstart",
}
"""Commands that take minutes -> the test that runs them; all others run here."""


def blocks(page: Path, language: str) -> Iterator[str]:
    """The fenced blocks of a language."""
    yield from re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    """The commands in the shell blocks of a page, without their comments."""
    lines = [line for block in blocks(page, "bash") for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.join(words) for line in lines if (words := shlex.split(line, comments=True))]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a reader has it: the shipped recipes, traces of their own, and a store in which something ran."""
    scratch = tmp_path_factory.mktemp("docs")
    answer = distillkit("run", curation(scratch), "--store", scratch / "store")
    assert answer.code == 0, answer.err
    shutil.copytree(folder(), scratch / "recipes")
    return scratch


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_the_commands_of_a_page_work_one_after_the_other(
    page: Path, ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ran, tmp_path / "reader", symlinks=True)
    monkeypatch.chdir(tmp_path / "reader")
    for line in commands(page):
        words = shlex.split(line)
        if Path(words[0]).name == "distillkit" and line not in ELSEWHERE:
            answer = distillkit(*words[1:])
            assert answer.code == 0, f"{page.name}: {line}: {answer.err}"


@pytest.mark.parametrize("line", ELSEWHERE)
def test_what_runs_elsewhere_really_does(line: str) -> None:
    file, _, name = ELSEWHERE[line].partition("::")
    assert f"def {name}(" in (ROOT / "tests" / file).read_text("utf-8")
    verb, *arguments = shlex.split(line)[1:]
    context = cli.commands[verb].make_context(verb, arguments)
    assert (ROOT / str(context.params["recipe"])).exists()


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for line in commands(page):
        words = shlex.split(line)
        if words[0] == "make":
            assert {word for word in words[1:] if "=" not in word} <= targets, f"{page.name}: {line}"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_verbs_and_options_in_the_text_exist(page: Path) -> None:
    prose = re.findall(r"`distillkit ([^`]+)`", page.read_text("utf-8"))
    for phrase in prose:
        verb, *words = phrase.replace("[", " ").replace("]", " ").split()
        assert verb in cli.commands, f"{page.name}: distillkit {phrase}"
        known = {option for each in cli.commands[verb].params for option in each.opts}
        assert {word for word in words if word.startswith("-")} <= known, f"{page.name}: distillkit {phrase}"


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name != "README.md"], ids=lambda page: page.stem
)
def test_recipes_in_the_docs_are_recipes(page: Path) -> None:
    """A block shows stages, top-level keys, or both; what it leaves out is filled in."""
    rest = {"name": "shown", "stages": [{"name": "judged", "kind": "verify"}]}
    for block in blocks(page, "yaml"):
        parsed = yaml.load(block, Loader=Loader)
        Recipe.model_validate(rest | (parsed if isinstance(parsed, dict) else {"stages": parsed}))


def test_stages_in_the_readme_are_those_of_the_quickstart() -> None:
    """They are abridged there, so each key that is shown has to be that of the shipped recipe."""
    shipped = yaml.load((folder() / "quickstart.yaml").read_text("utf-8"), Loader=Loader)
    by_name = {stage["name"]: stage for stage in shipped["stages"]}
    [block] = blocks(ROOT / "README.md", "yaml")
    shown = yaml.load(re.sub(r", \.\.\.(?=[}\]])", "", block), Loader=Loader)
    assert shown["verifiers"] == shipped["verifiers"]
    for stage in shown["stages"]:
        whole = by_name[stage["name"]]
        for key, value in stage.items():
            same = whole[key][: len(value)] if isinstance(value, list) else whole[key]
            if key != "rules":
                assert same == value, f"README: stages.{stage['name']}.{key}"


def test_every_verb_and_option_of_run_is_documented() -> None:
    text = (ROOT / "docs" / "running.md").read_text("utf-8")
    for verb in cli.commands:
        assert f"`distillkit {verb}" in text, verb
    for option in cli.commands["run"].params:
        if option.param_type_name == "option":
            assert option.opts[0] in text, option.opts[0]


def test_exit_codes_are_those_of_the_errors() -> None:
    from distillkit import errors

    text = (ROOT / "docs" / "running.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| (\d+) \| (.+) \|$", text, re.MULTILINE))
    raised = {errors.RecipeError, errors.MissingError, errors.StageError, errors.EngineError}
    assert {str(error.exit_code) for error in raised} | {"0", "130"} == set(rows)


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_traces_of_the_docs_are_the_fixture(ran: Path) -> None:
    assert (ran / "traces.jsonl").read_bytes() == (DATA / "traces.jsonl").read_bytes()


@pytest.mark.parametrize("verb", ["check", "plan", "ls", "show"])
def test_the_json_keys_are_the_documented_ones(verb: str, ran: Path) -> None:
    text = (ROOT / "docs" / "running.md").read_text("utf-8").partition("## JSON")[2]
    documented = re.search(rf"^`{verb} --json`: (.*?)(?=^`\w+ --json`|\Z)", text, re.MULTILINE | re.DOTALL)
    assert documented is not None
    subject = [ran / "curation.yaml"] if verb in ("check", "plan") else []
    answer = distillkit(verb, *subject, "--store", ran / "store", "--json")
    keys = set(json.loads(answer.out)) | ({"seeds"} if verb == "show" else set())  # of several seeds only
    assert set(re.findall(r"`(\w+)`", documented[1])) == keys
