"""The page as a file: its chapters, that it is whole by itself, and what it says of runs that did not end well."""

import html
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from distillkit.errors import StageError
from distillkit.events import Events
from distillkit.report.chapter import sections
from distillkit.report.chapter.training import CURVES
from distillkit.report.material import Material, curves_of
from distillkit.report.page import page, script_json, write_report
from distillkit.run_folder import RunFolder, RunRecord, load_record
from distillkit.show import describe, grids
from distillkit.store import Store
from distillkit.training import account

VOID = {"meta", "input", "br", "img", "link", "base"}


class Outline(HTMLParser):
    """Headings, attributes and balance of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


@pytest.fixture
def text(world: Any) -> str:
    return (world.run / "report.html").read_text("utf-8")


def test_the_chapters_are_all_there_in_order(text: str) -> None:
    outline = Outline(text)
    assert outline.open == []
    assert outline.headings == [
        "Scores",
        "The same problems, model by model",
        "Voting",
        "Cost of the evaluation",
        "Screening: go for RL",
        "Reinforcement learning: zero",
        "Distillation: student",
        "Funnel: what was dropped, and why",
        "What the dataset is like: chosen",
        "Traces, kept and dropped",
        "What ran",
    ]
    assert sum(tag == "svg" for tag, _ in outline.tags) == 5 + 1 + 3 + 5 + 2 + 1 + 2, (
        "reflection is zero throughout"
    )


def test_the_first_screen_says_who_scored_what(text: str) -> None:
    head = text[: text.index("</header>")]
    for part in (
        "base model",
        "toy:base",
        "<b>0.750</b>",
        "pass@1 [0.",
        "25.0 % mix languages",
        "12 tokens long",
    ):
        assert part in head
    assert "scores on 4 problems: too few to tell models apart" in head


RICH = [
    "Before and after: what can the models do at all: deep",
    "By how hard a problem is for the base: deep",
    "By complexity: deep",
    "Against temperature: deep",
    "Against the token cap: deep",
    "Voting: deep",
    "Cost of the evaluation: deep",
    "Budget curve: thinking",
    "Probes: probes",
    "Reinforcement learning: longer",
]


def test_everything_that_was_found_has_a_chapter(rich_world: Any) -> None:
    text = (rich_world.run / "report.html").read_text("utf-8")
    outline = Outline(text)
    assert set(RICH) <= set(outline.headings)
    assert outline.open == []
    titles = [html.unescape(each) for each in re.findall(r"<figcaption><b>(.*?)</b>", text)]
    for title in (
        "pass@k before and after: deep",
        "Length by correctness on deep",
        "Length by correctness and band: deep",
        "pass@1 by complexity: deep",
        "cons@4 by temperature: deep",
        "Cut answers by cap: deep",
        "cons@k: deep",
        "Templates",
        "Held-out score on the way",
        "Forgetting on the way",
        "Accuracy against tokens",
        "Accuracy against cost",
        "Faithfulness",
        "Early answering",
        "Verifier gaming",
        "Strategies over training",
        "Length of right answers by band",
        "Difficulty",
    ):
        assert title in titles
    head = text[: text.index("</header>")]
    assert "longer: 82 % of the groups &lt;img" in head
    assert "probes: student: its answer does not follow" in head
    assert "knee at 16 tokens" in text
    assert "rises above pass@4 of toy:base" in text
    assert "trained on extra.terms 2 to 4" in text
    assert len(text.encode()) < 5 * 2**20


def test_every_anchor_leads_somewhere(text: str) -> None:
    outline = Outline(text)
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    links = [attributes["href"] for tag, attributes in outline.tags if tag == "a"]
    assert {f"#{id}" for id in ids} >= set(links)
    assert len(ids) == len(set(ids))


def test_the_page_asks_for_nothing_from_outside(text: str) -> None:
    outline = Outline(text)
    for tag, attributes in outline.tags:
        assert tag not in ("link", "img", "iframe", "base", "object", "embed")
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href"):
                assert (value or "").startswith("#")
    policy = next(a["content"] for t, a in outline.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert "script-src 'sha256-" in policy
    assert "url(" not in text[text.index("<style>") : text.index("</style>")]
    assert len(text.encode()) < 5 * 2**20


def test_equal_runs_give_equal_pages(world: Any, text: str) -> None:
    assert page(Material.of(world.run, world.store)) == text


def test_data_stays_text(text: str) -> None:
    assert "window.hacked" in text
    assert "<script>window.hacked" not in text
    assert "<img src=x" not in text
    assert "\u202e" not in text
    assert "[U+202E]" in text
    outline = Outline(text)
    assert [tag for tag, _ in outline.tags].count("script") == 2


def test_comments_of_a_recipe_stay_text(world: Any, tmp_path: Path) -> None:
    run, store = copied(world, tmp_path)
    with (run / "recipe.yaml").open("a", encoding="utf-8") as file:
        file.write("\n# </pre><script>window.hacked = 1</script> \u202e {{ 7 * 7 }}\n")
    text = write_report(run, store).read_text("utf-8")
    assert "# &lt;/pre&gt;&lt;script&gt;window.hacked = 1&lt;/script&gt; [U+202E] {{ 7 * 7 }}" in text


def test_the_script_gets_the_data_back_whole() -> None:
    value = {"a": "</script><!-- & \u2028 \u202e \"' \\u003c {{7*7}}", "b": [1, None, "所以"]}
    text = script_json(value)
    assert json.loads(text) == value
    assert not set(text) & set("<>&")


def test_the_curves_that_are_drawn_are_those_that_are_written() -> None:
    by_band = {"right_length_*", "wrong_length_*"}
    written = {*account.CURVES.values(), "reward_*", *by_band}
    drawn = {name for _, _, names in CURVES for name in names}
    assert drawn <= written


def test_a_series_that_equals_another_is_drawn_once(world: Any) -> None:
    found = sections(Material.of(world.run, world.store))
    [rl] = [section for section in found if section.name == "training-zero"]
    length = next(figure for figure in rl.figures if figure.title == "Length")
    reward = next(figure for figure in rl.figures if figure.title == "Reward")
    assert length.legend == []
    assert [name for _, name in reward.legend] == ["in all", "accuracy"]


def copied(world: Any, folder: Path) -> tuple[Path, Store]:
    """A world of one's own to damage."""
    shutil.copytree(world.store.root, folder / "store", symlinks=True)
    return folder / "store" / world.run.relative_to(world.store.root), Store(folder / "store")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("running", "this run is not finished, or was killed"),
        ("failed", "judged: 3 of 9 &lt;b&gt;traces&lt;/b&gt; have no score"),
        ("interrupted", "this run was interrupted"),
    ],
)
def test_half_a_run_has_a_page_that_says_what_is_missing(
    world: Any, tmp_path: Path, status: str, words: str
) -> None:
    run, store = copied(world, tmp_path)
    record = load_record(run)
    record.status = status
    record.error = "judged: 3 of 9 <b>traces</b> have no score" if status == "failed" else None
    record.stages = record.stages[:3]
    RunFolder(run, record).save()
    text = write_report(run, store).read_text("utf-8")
    assert words in text
    assert "not made in this run: judged, measured, twins, right, chosen, dataset, screening, scores" in text
    assert Outline(text).headings == [
        "Lengths of what was sampled",
        "Funnel: what was dropped, and why",
        "What the dataset is like: traces",
        "Traces, sampled and others",
        "What ran",
    ]
    assert "this run failed" not in text, "the error says it"


def test_a_run_that_reached_nothing_has_a_page(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "quick" / "1"
    folder.mkdir(parents=True)
    RunFolder(folder, RunRecord("quick", 1, "failed", error="problems.jsonl: no such file")).save()
    text = write_report(folder, Store(tmp_path)).read_text("utf-8")
    assert "problems.jsonl: no such file" in text
    assert Outline(text).headings == ["What ran"]


def test_a_stage_at_work_tells_how_far_it_came(world: Any, tmp_path: Path) -> None:
    run, store = copied(world, tmp_path)
    record = load_record(run)
    record.status, record.stages = "running", record.stages[:3]
    RunFolder(run, record).save()
    events = Events(run / "events.jsonl")
    events.tell("stage_started", stage="zero", kind="grpo")
    for step in (1, 2, 3):
        events.tell("progress", stage="zero", done=step, total=25, unit="steps", reward=step / 3)
    text = write_report(run, store).read_text("utf-8")
    assert "zero was at work: 3 of 25 steps" in text
    assert "Not finished: zero" in Outline(text).headings


def test_where_a_stage_broke_is_told(world: Any, tmp_path: Path) -> None:
    run, store = copied(world, tmp_path)
    record = load_record(run)
    record.status, record.error = "failed", "judged: broke"
    RunFolder(run, record).save()
    (run / "error.txt").write_text("Traceback <b>\u202e", "utf-8")
    text = write_report(run, store).read_text("utf-8")
    assert "Traceback &lt;b&gt;[U+202E]" in text


@pytest.mark.parametrize("name", ["scores", "screening", "zero", "student", "traces"])
def test_an_artifact_of_an_older_version_has_a_page(world: Any, tmp_path: Path, name: str) -> None:
    run, store = copied(world, tmp_path)
    manifest = store.artifacts / world.artifacts[name].path.name / "manifest.json"
    told = json.loads(manifest.read_text("utf-8"))
    told["summary"], told["telemetry"] = {}, {}
    manifest.write_text(json.dumps(told), "utf-8")
    text = write_report(run, store).read_text("utf-8")
    assert Outline(text).open == []
    assert "What ran" in Outline(text).headings
    assert grids(describe(run, store.root))


@pytest.mark.parametrize("value", [0.0, 1.0, None])
def test_all_wrong_all_right_and_nothing_judged_have_a_page(
    worlds: Any, findings: Any, world: Any, tmp_path: Path, value: float | None
) -> None:
    run, store = copied(world, tmp_path)
    told = findings.estimate(value) | ({"low": 1.0, "high": 1.0} if value == 1.0 else {})
    scores = {model: {"pass@1": told, "pass@2": told, "truncated": told} for model in findings.MODELS}
    summary = {"scores": scores, "settings": {}, "gamma": []}
    ends = [{"name": name, "type": "weights", "content": name} for name in findings.MODELS]
    made = worlds.World(store, run, {})
    artifact = worlds.seal_training(made, "flat", "evaluate", {"models": ends}, summary, {}, "scores")
    RunFolder(run, load_record(run)).add("flat", "evaluate", artifact, cached=False, seconds=1.0)
    assert Outline(write_report(run, store).read_text("utf-8")).open == []


def test_what_is_no_number_is_left_out_of_curves(rich_world: Any) -> None:
    material = Material.of(rich_world.run, rich_world.store)
    longer = next(each for each in material.artifacts if each.stage == "longer")
    assert "NaN" in (longer.path / "curves.json").read_text("utf-8")
    assert curves_of(longer)["reward"] == [0.1, None]


def test_what_left_the_store_is_named(world: Any, tmp_path: Path) -> None:
    run, store = copied(world, tmp_path)
    for stage in ("scores", "screening"):
        shutil.rmtree(store.artifacts / world.artifacts[stage].path.name)
    text = write_report(run, store).read_text("utf-8")
    assert "no longer in the store: screening, scores" in text
    assert "Reinforcement learning: zero" in text


def test_a_damaged_artifact_is_one_clear_line(world: Any, tmp_path: Path) -> None:
    run, store = copied(world, tmp_path)
    traces = store.artifacts / world.artifacts["traces"].path.name
    for file in (traces / "tables" / "rows").iterdir():
        file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(StageError, match="artifact of stage traces is corrupt; remove it"):
        write_report(run, store)


def test_seeds_have_pages_of_their_own_and_stand_side_by_side(world: Any, tmp_path: Path) -> None:
    run, store = copied(world, tmp_path)
    record = load_record(run)
    for seed in ("1", "2"):
        below = run / "seeds" / seed
        below.mkdir(parents=True)
        shutil.copy(run / "events.jsonl", below)
        RunFolder(below, RunRecord("tiny", 1, "done", record.stages)).save()
    record.stages, record.seeds = [], [1, 2]
    RunFolder(run, record).save()
    text = write_report(run, store).read_text("utf-8")
    assert Outline(text).headings == ["Seeds side by side", "What ran"]
    assert "pass@1 [0.750, 0.750], range of 2 seeds" in text
    for seed in ("1", "2"):
        assert f'href="seeds/{seed}/report.html"' in text
        assert "Reinforcement learning: zero" in (run / "seeds" / seed / "report.html").read_text("utf-8")
    assert "zero, seed 1" in text
    assert "zero, seed 2" in text
    assert "not made in this run" not in text
    assert "41.0 s in all" in text


def test_a_learned_judge_is_named(world: Any, tmp_path: Path, text: str) -> None:
    run, store = copied(world, tmp_path)
    manifest = store.artifacts / world.artifacts["judged"].path.name / "manifest.json"
    told = json.loads(manifest.read_text("utf-8"))
    told["summary"] = {"learned": True, "judges": {"essay": "judge"}}
    manifest.write_text(json.dumps(told), "utf-8")
    sentence = "Verdicts of a learned model, which can be gamed: essay (judge)."
    assert sentence in write_report(run, store).read_text("utf-8")
    assert sentence not in text


def test_times_are_those_of_the_run(text: str) -> None:
    assert re.search(r"started \d{4}-\d\d-\d\d \d\d:\d\d UTC · 20\.5 s in all", text)
