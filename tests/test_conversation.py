import json
import shutil
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from distillkit.artifact import Artifact, Manifest, Model
from distillkit.cli import cli
from distillkit.conversation import Conversation, Settings, Voice, find_model, opened
from distillkit.errors import DistillkitError, MissingError, RecipeError
from distillkit.run_folder import open_run
from distillkit.store import Store
from distillkit.toy import BASE

QUESTION = "3 + 4 - 5"


def base() -> Model:
    return Model("toy:base", str(BASE), "")


@pytest.fixture(scope="module")
def greedy() -> Iterator[Conversation]:
    with opened(base(), Settings(temperature=0)) as conversation:
        yield conversation


def test_an_answer_is_told_as_it_is_returned(greedy: Conversation) -> None:
    greedy.begin()
    told: list[str] = []
    answer = greedy.ask(QUESTION, told.append)
    assert "".join(told).strip() == answer.completion.strip()
    assert len(told) > 1  # word by word
    assert answer.finish_reason == "stop"
    assert "<|end|>" not in answer.completion


def test_what_was_thought_is_not_read_again(greedy: Conversation) -> None:
    greedy.begin()
    answer = greedy.ask(QUESTION, lambda piece: None)
    assert greedy.messages == [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": answer.response},
    ]
    second = greedy.ask(QUESTION, lambda piece: None)
    assert second.prompt_tokens > answer.prompt_tokens
    greedy.begin()
    assert greedy.ask(QUESTION, lambda piece: None) == answer


def test_an_answer_is_cut_at_its_limit_and_at_the_context() -> None:
    with opened(base(), Settings(max_tokens=2, temperature=0)) as short:
        answer = short.ask(QUESTION, lambda piece: None)
        assert (answer.finish_reason, answer.completion_tokens) == ("length", 2)
        with pytest.raises(RecipeError, match=r"tokens fills the model's context; /new begins anew"):
            short.ask(" ".join(["1"] * 600), lambda piece: None)


def test_a_seed_gives_the_same_answers_again() -> None:
    def answers(seed: int) -> list[str]:
        with opened(base(), Settings(seed=seed)) as conversation:
            return [conversation.ask(QUESTION, lambda piece: None).completion for _ in range(4)]

    assert answers(1) == answers(1)
    assert answers(1) != answers(2)


def test_what_is_thought_is_dimmed_and_nothing_commands_the_terminal() -> None:
    console = Console(file=StringIO(), force_terminal=True, color_system="standard", width=80)
    voice = Voice(console)
    for piece in ("<think> 1 + 1 ", "= 2 </think> ", "two \x1b[2J[bold]"):
        voice(piece)
    written = console.file.getvalue()
    assert written.index("\x1b[2m<think>") < written.index("</think>") < written.index("two")
    assert "\x1b[2J" not in written
    assert "[bold]" in written


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with two runs of a recipe, whose stages made weights and traces."""
    made = Store(tmp_path / "store")

    def sealed(kind: str, type: str, request: str) -> Artifact:
        with made.building(kind, request, print) as out:
            if type == "weights":
                shutil.copytree(BASE, out.path / "model")
            return made.seal(out, Manifest(kind, kind, type, request, ""))

    for number in (1, 2):
        with open_run(made.root / "runs", "mini", f"text {number}") as folder:
            for name, type in (("student", "weights"), ("kept", "selection")):
                artifact = sealed(name, type, f"{number}{name}".ljust(64, "0"))
                folder.add(name, name, artifact, cached=False, seconds=0)
            folder.record.status = "done"
            folder.save()
    return made.root


def test_a_stage_is_found_by_run_or_as_the_latest(store: Path) -> None:
    latest = find_model("student", store)
    assert find_model("mini/student", store) == Model("mini/student", latest.path, latest.content)
    assert find_model("student", store, "mini/2").path == latest.path
    assert find_model("student", store, "mini/1").path != latest.path
    assert find_model("toy:base", store).path == str(BASE)
    assert find_model(str(BASE), store).path == str(BASE)


def test_a_folder_needs_no_dot(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BASE.parent.parent)
    assert (
        find_model(f"{BASE.parent.name}/{BASE.name}", store).content == find_model(str(BASE), store).content
    )


@pytest.mark.parametrize(
    ("name", "run", "message"),
    [
        ("kept", None, "kept: makes selection, no weights to talk to"),
        ("nothing", None, "has no stage 'nothing'; it has student, kept"),
        ("student", "other", "other: no run there"),
        ("./nowhere", None, "no model there"),
    ],
)
def test_what_is_no_model_is_refused(store: Path, name: str, run: str | None, message: str) -> None:
    with pytest.raises(DistillkitError, match=message):
        find_model(name, store, run)


def test_a_model_that_writes_nothing_is_refused(tmp_path: Path) -> None:
    shutil.copytree(BASE, tmp_path / "model")
    config = json.loads((BASE / "config.json").read_text("utf-8"))
    config["architectures"] = ["Qwen3ForSequenceClassification"]
    (tmp_path / "model" / "config.json").write_text(json.dumps(config), "utf-8")
    scorer = Model("helpful", str(tmp_path / "model"), "")
    with (
        pytest.raises(MissingError, match="Qwen3ForSequenceClassification scores texts and writes none"),
        opened(scorer, Settings()),
    ):
        pass


def test_the_verb_answers_once_and_refuses_in_one_line(store: Path) -> None:
    def chat(*words: str) -> object:
        arguments = ["chat", "student", "--store", str(store), *words]
        return CliRunner().invoke(cli, arguments, standalone_mode=False)

    answer = chat("--once", QUESTION, "--temperature", "0", "--json")
    found = json.loads(answer.stdout)
    assert set(found) == {
        "completion",
        "reasoning",
        "response",
        "finish_reason",
        "prompt_tokens",
        "completion_tokens",
    }
    assert chat("--once", QUESTION, "--temperature", "0").stdout.strip() == found["completion"].strip()
    assert isinstance(chat("--json").exception, RecipeError)
    assert isinstance(chat("--once", " ").exception, RecipeError)
    assert isinstance(
        chat("--once", "1", "--system", "Be brief.").exception, RecipeError
    )  # the toy knows none
