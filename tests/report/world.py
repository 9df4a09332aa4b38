"""A small run made by the real stages from recorded completions, with hostile texts among them; no model is loaded.

What would train stands in as sealed artifacts of the trainers' shape. Loaded by its path: tests are no package.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from distillkit import launch
from distillkit.artifact import Artifact, Manifest
from distillkit.events import Events
from distillkit.lock import Lock
from distillkit.recipe import load
from distillkit.run_folder import RunFolder, open_run
from distillkit.runner import Run
from distillkit.spec import digest
from distillkit.store import Store
from distillkit.wiring import Step

BIDI = "\u202eright to left\u202c and \u2066isolated\u2069"
HOSTILE = [
    "</script><script>window.hacked = 1</script>",
    "<script>window.hacked = 2</script>",
    "<img src=x onerror='window.hacked = 3'>",
    "<svg onload=window.hacked=4></svg>",
    '"><iframe srcdoc="<script>parent.hacked=5</script>"></iframe>',
    "<body onload=window.hacked=6>",
    "javascript:window.hacked=7",
    '<a href="javascript:window.hacked=8" autofocus onfocus="window.hacked=8">x</a>',
    "<!-- <script> -->",
    "<![CDATA[ ]]><style>*{display:none}</style>",
    "]]></script>",
    "{{7*7}} {% raw %} ${window.hacked=9} #{7*7} <%= 7*7 %>",
    '\\u003cscript\\u003ewindow.hacked=10\\u003c/script\\u003e", "x": "',
    "'\"`\\ \\n \\x3cscript\\x3e &lt;script&gt; &#60;script&#62;",
    "<details open ontoggle=window.hacked=11>",
    "<math><mtext></mtext><script>window.hacked=12</script></math>",
    '<meta http-equiv="refresh" content="0;url=javascript:window.hacked=13">',
    "<base href='https://example.invalid/'><link rel=stylesheet href=x>",
    "</textarea></title></style></noscript></template><script>window.hacked=14</script>",
    "null\x00byte, escape\x1b[31m, bell\x07",
    "line\u2028separator\u2029paragraph",
    BIDI,
    "\ufeffmark, \u200ezero\u200f",
    "__proto__ constructor toString",
    "```\n# heading\n<b>bold</b>\n```` | pipe | [link](javascript:alert(1))",
]
"""Texts that break out of something somewhere."""

FOREIGN = "we add the numbers 所以 the sum is known, wait, check it"

RECIPE = """
name: tiny
seed: 3
shards: 2
engine: {{kind: replay, file: recorded.jsonl}}
verifiers: {{math: {{kind: exact}}}}
stages:
  - {{name: problems, kind: problems, file: problems.jsonl}}
  - {{name: heldout, kind: problems, file: heldout.jsonl, split: heldout}}
  - {{name: traces, kind: sample, model: "toy:base", input: problems, n: 4, max_tokens: 99}}
  - {{name: judged, kind: verify}}
  - {{name: measured, kind: measure}}
  - {{name: twins, kind: dedup, on: completion}}
  - name: right
    kind: filter
    rules:
      - {{field: score, min: 1.0, reason: wrong}}
      - {{field: measures.language.share, min: 1.0, reason: mixed_language}}
      - {{field: completion_tokens, max: 12, reason: long}}
  - {{name: chosen, kind: select, unique: twins, per_problem: 2}}
  - {{name: dataset, kind: publish, input: chosen, repository: me/tiny, version: 1.0.0{publish}}}
  - {{name: screening, kind: screen, model: "toy:base", input: problems, n: 4, k: 2, max_tokens: 99}}
  - {{name: scores, kind: evaluate, models: ["toy:base"], problems: heldout, n: 4, k: [2], max_tokens: 99}}
"""


@dataclass
class World:
    """A store and the folder of a run in it."""

    store: Store
    run: Path
    artifacts: dict[str, Artifact]


def make_world(folder: Path, publish: str = "", until: str | None = None) -> World:
    """Run the recipe above, up to a stage; `publish` adds keys to its publish stage."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_sources(folder)
    path = folder / "tiny.yaml"
    path.write_text(RECIPE.format(publish=publish), "utf-8")
    recipe = load(path)
    store = Store(folder / "store")
    with (
        pytest.MonkeyPatch.context() as patch,
        open_run(store.root / "runs", recipe.name, recipe.dump()) as opened,
    ):
        patch.setattr(launch, "run_child", launch.run_here)
        patch.setattr(launch, "start", lambda *_: None)
        events = Events(opened.path / "events.jsonl")
        events.tell("run_started", recipe=recipe.name, seed=recipe.seed)
        run = Run(recipe, store, events, Lock(folder / "tiny.lock", update=False))
        run.execute(until, None, recorder(opened))
        opened.record.status = "done"
        opened.save()
    return World(store, opened.path, run.done)


def recorder(folder: RunFolder) -> Any:
    """Tells a run folder of each stage, as a session does; it took 1.5 s, whatever it took."""

    def record(step: Step, artifact: Artifact, cached: bool, seconds: float) -> None:
        folder.add(step.name, step.stage.kind, artifact, cached=cached, seconds=1.5)

    return record


def add_trainings(world: World) -> None:
    """Put an RL model and a student into the run, as the trainers would have sealed them, and a second evaluation."""
    steps = list(range(1, 13))
    curves = {
        "step": steps,
        "loss": [0.5 / step for step in steps],
        "reward": [step / 12 for step in steps],
        "reward_accuracy": [step / 13 for step in steps],
        "reward_std": [0.1] * 12,
        "length": [10.0 * step for step in steps],
        "terminated_length": [10.0 * step for step in steps],
        "mixed_language": [0.1] * 12,
        "zero_std": [None, *[0.25] * 11],
        "clipped": [0.0] * 12,
        "entropy": [1.0 / step for step in steps],
        "reflections": [0.0] * 12,
    }
    rollouts = [
        {
            "step": step,
            "prompt": text,
            "completion": text,
            "rewards": {"accuracy": 0.0, "format": None},
            "advantage": -0.5,
        }
        for step in (1, 12)
        for text in HOSTILE[:4]
    ]
    base = world.artifacts["scores"].manifest.inputs["models"][0]
    summary = {"steps": 12, "loss": 0.1, "reward_first": 0.1, "reward_last": 0.9, "length_last": 120.0}
    texts = {
        "curves.json": json.dumps(curves),
        "completions.jsonl": "".join(json.dumps(each) + "\n" for each in rollouts),
    }
    zero = seal_training(world, "zero", "grpo", {"model": [base]}, summary, texts)
    summary = {"steps": 12, "loss": 0.1, "rows": 3, "tokens": 99, "trained_tokens": 66, "longest": 40}
    chosen = world.artifacts["chosen"]
    data = {"name": "chosen", "type": chosen.type, "content": chosen.content, "artifact": chosen.path.name}
    sft = {"step": steps, "loss": curves["loss"], "token_accuracy": curves["reward"]}
    student = seal_training(
        world, "student", "sft", {"model": [base], "input": [data]}, summary, {"curves.json": json.dumps(sft)}
    )
    folder = RunFolder(world.run, _record(world))
    for artifact in (zero, student):
        folder.add(artifact.stage, artifact.manifest.kind, artifact, cached=False, seconds=2.0)
        world.artifacts[artifact.stage] = artifact


def _record(world: World) -> Any:
    from distillkit.run_folder import load_record

    return load_record(world.run)


def seal_training(
    world: World,
    stage: str,
    kind: str,
    inputs: dict[str, Any],
    summary: dict[str, Any],
    texts: dict[str, str],
) -> Artifact:
    """A sealed training artifact without weights."""
    request = digest([stage, summary])
    with world.store.building(kind, request, print) as out:
        for name, text in texts.items():
            out.add_text(name, text)
        out.summary = summary
        out.rows_in = out.rows_kept = 3
        draft = Manifest(stage, kind, "weights", request, "", inputs=inputs, declared={"kind": kind})
        return world.store.seal(out, draft)


def _write_sources(folder: Path) -> None:
    """Problems whose prompts are hostile too, and four completions of each: two right, one mixed, one wrong."""
    problems = [{"prompt": f"{n} + 0 {text}", "reference": str(n)} for n, text in enumerate(HOSTILE)]
    heldout = [{"prompt": f"{n} + 1", "reference": str(n + 1)} for n in range(100, 104)]
    recorded = [row for problem in [*problems, *heldout] for row in _completions(problem)]
    for name, rows in (("problems", problems), ("heldout", heldout), ("recorded", recorded)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, "utf-8")


def _completions(problem: dict[str, str]) -> list[dict[str, Any]]:
    prompt, gold = problem["prompt"], problem["reference"]
    thoughts = [
        f"the number is {gold} and nothing else {prompt}",
        f"I think {prompt}",
        FOREIGN,
        f"<b>{prompt}</b>",
    ]
    answers = [gold, gold, gold, "</answer><answer>wrong</b>"]
    return [
        {
            "prompt": prompt,
            "index": index,
            "completion": f"<think>{thought}</think><answer>{answer}</answer>",
            "finish_reason": "stop",
            "prompt_tokens": 5,
            "completion_tokens": 10 + index,
        }
        for index, (thought, answer) in enumerate(zip(thoughts, answers, strict=True))
    ]
