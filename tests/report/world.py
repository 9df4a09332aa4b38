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
    r"$\href{javascript:window.hacked=15}{x}$ \(\href{javascript:window.hacked=16}{y}\)",
    r"$\text{<img src=x onerror=window.hacked=17>}$",
    r"\[ \style{position:fixed;inset:0;background:red}{x} \]",
    r"$\def\a{\a\a}\a$ and $\newcommand{\b}{\b\b}\b$",
    r"$\rule{9999em}{9999em}$ $\hspace{9999em}x$ $\color{red;background:url(//example.invalid)}{x}$",
    r"\(&lt;script&gt;window.hacked=18&lt;/script&gt;\) $\unicode{x3C}script\unicode{x3E}$",
    r"$<script>window.hacked=19</script>$ $x</math><script>window.hacked=20</script>$",
    "<math><annotation-xml encoding='text/html'><script>window.hacked=21</script></annotation-xml></math>",
    "<math><maction actiontype='statusline' xlink:href='javascript:window.hacked=22'>x</maction></math>",
    "<svg><animate onbegin=window.hacked=23 attributeName=x dur=1s></svg>",
    "<svg><foreignObject><iframe src='javascript:parent.hacked=24'></iframe></foreignObject></svg>",
    "<svg><use href='data:image/svg+xml,<svg id=x onload=window.hacked=25>#x'></use></svg>",
    "</style><style>body{display:none} @import url(//example.invalid/x.css);</style>",
    '" style="position:fixed;inset:0;background:red;width:expression(window.hacked=26)',
    "{% include '/etc/passwd' %}{{ ''.__class__.__mro__ }}{{ cycler.__init__.__globals__ }}",
    "<scr\x00ipt>window.hacked=27</scr\x00ipt>",
    "<input autofocus onfocus=window.hacked=28>",
    "<form action='javascript:window.hacked=29'><button autofocus>x</button></form>",
    "<object data='data:text/html,<script>parent.hacked=30</script>'></object><embed src=x>",
    "<video><source onerror=window.hacked=31></video><marquee onstart=window.hacked=32>x</marquee>",
    "<a href='data:text/html;base64,PHNjcmlwdD4='>x</a><a href='JaVaScRiPt:window.hacked=33'>x</a>",
    "<template shadowrootmode=open><script>window.hacked=34</script></template>",
    "zero\u200bwidth, tags \U000e0041\U000e0042, join\u2060er, \u2067right\u2069",
    "<link rel=prefetch href=//example.invalid><img srcset='//example.invalid/x 1x'>",
    "[x](javascript:window.hacked=35) ![x](//example.invalid/x.png) <javascript:window.hacked=36>",
]
"""Texts that break out of something somewhere."""
TRAP = "<img src=x onerror='window.hacked = 99'>"

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
      - {{field: completion_tokens, max: 12, reason: "long<img src=x onerror=window.hacked=55>"}}
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


def add_findings(world: World, findings: Any) -> None:
    """Put an evaluation, a budget curve, probes and a training into the run that found everything."""
    ends = [{"name": name, "type": "weights", "content": name} for name in findings.MODELS]
    screening = {
        "k": 2,
        "go": True,
        "matrix": findings.matrix(),
        "plug_in": {"gap": 0.2, "why": findings.TRAP},
    }
    texts = {
        "curves.json": json.dumps(
            {"step": [1, 2], "reward": [0.1, float("nan")], "right_length_hard": [1.0, 2.0]}
        ),
        "eval.jsonl": "".join(json.dumps(line) + "\n" for line in findings.ON_THE_WAY),
    }
    warned = {"warnings": [{"name": "zero_variance", "text": f"82 % of the groups {findings.TRAP}"}]}
    made = [
        seal_training(world, "deep", "evaluate", {"models": ends}, findings.evaluation(), {}, "scores"),
        seal_training(
            world, "thinking", "budget_curve", {"models": ends}, findings.budget_curve(), {}, "scores"
        ),
        seal_training(world, "probes", "probe", {"models": ends}, findings.probe(), {}, "scores"),
        seal_training(world, "before", "screen", {"model": ends[:1]}, screening, {}, "scores"),
        seal_training(world, "longer", "grpo", {"model": ends[:1]}, warned, texts),
    ]
    folder = RunFolder(world.run, _record(world))
    for artifact in made:
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
    makes: str = "weights",
) -> Artifact:
    """A sealed training artifact without weights, or another without rows."""
    request = digest([stage, summary])
    with world.store.building(kind, request, print) as out:
        for name, text in texts.items():
            out.add_text(name, text)
        out.summary = summary
        out.rows_in = out.rows_kept = 3
        draft = Manifest(stage, kind, makes, request, "", inputs=inputs, declared={"kind": kind})
        return world.store.seal(out, draft)


def _write_sources(folder: Path) -> None:
    """Problems whose prompts are hostile too, and four completions of each: two right, one mixed, one wrong."""
    problems = [
        {"prompt": f"{n} + 0 {text}", "reference": f"{n}{TRAP if n % 2 else ''}"}
        for n, text in enumerate(HOSTILE)
    ]
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
