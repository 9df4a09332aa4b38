from pathlib import Path

import pytest

from distillkit.errors import MissingError, RecipeError
from distillkit.recipe import load
from distillkit.wiring import resolve

HEAD = """\
name: wired
engine: {kind: transformers}
verifiers: {chain: {kind: exact}}
stages:
"""
STAGES = [
    "{name: problems, kind: problems, toy: chain, limit: 10}",
    "{name: heldout, kind: problems, toy: chain, limit: 5, split: heldout}",
    "{name: own, kind: sample, model: toy:base, n: 4, max_tokens: 32}",
    "{name: judged, kind: verify}",
    "{name: measured, kind: measure}",
    "{name: twins, kind: dedup, on: completion}",
    "{name: kept, kind: filter, rules: [{field: score, min: 1.0, reason: wrong}, {field: measures.language.share, min: 0.9, reason: mixed}]}",
    "{name: chosen, kind: select, unique: twins}",
    "{name: student, kind: sft, model: toy:base, learning_rate: 1.0e-3, epochs: 1, batch: 8, max_length: 96}",
    "{name: scores, kind: evaluate, models: [toy:base, student], n: 4, k: [2], max_tokens: 32}",
]


def wires(tmp_path: Path, *stages: str) -> dict[str, dict[str, list[str]]]:
    file = tmp_path / "wired.yaml"
    file.write_text(HEAD + "".join(f"  - {stage}\n" for stage in stages))
    return {step.name: step.wires for step in resolve(load(file))}


def test_what_was_left_out_is_the_nearest_that_fits(tmp_path: Path) -> None:
    found = wires(tmp_path, *STAGES)
    assert found["own"]["input"] == ["problems"]  # never the held-out ones, though they are nearer
    assert found["judged"]["input"] == ["own"]
    assert found["kept"] == {"input": ["own"], "labels": ["judged", "measured", "twins"]}
    assert found["chosen"]["input"] == ["kept"]
    assert {slot: names for slot, names in found["student"].items() if names} == {
        "input": ["chosen"],
        "model": ["toy:base"],
    }
    assert found["scores"]["problems"] == ["heldout"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({3: "{name: judged, kind: verify, input: owm}"}, "no stage 'owm'; did you mean own?"),
        ({3: "{name: judged, kind: verify, input: student}"}, "student stands later in the file"),
        (
            {3: "{name: judged, kind: verify, input: problems}"},
            "problems makes problems, needed is traces or selection",
        ),
        (
            {
                9: "{name: zero, kind: grpo, model: toy:base, screened: probes, learning_rate: 1.0e-3, steps: 2, "
                "max_completion_length: 32}",
                8: "{name: probes, kind: probe, models: [toy:base], n: 4, max_tokens: 32}",
            },
            "probes is a probe stage, needed is screen",
        ),
        (
            {2: "{name: own, kind: sample, model: toy:base, input: heldout, n: 4, max_tokens: 32}"},
            "heldout is held out",
        ),
        (
            {2: "{name: own, kind: sample, model: bse, n: 4, max_tokens: 32}"},
            "'bse' is neither an earlier stage",
        ),
        (
            {6: "{name: kept, kind: filter, rules: [{field: scor, min: 1.0, reason: wrong}]}"},
            "no earlier stage makes 'scor'",
        ),
        (
            {7: "{name: chosen, kind: select, unique: elsewhere}"},
            "field elsewhere.cluster: no earlier stage 'elsewhere' makes labels; those that do: ",
        ),
        (
            {7: "{name: chosen, kind: select, unique: true, labels: [own]}"},
            "own makes traces, needed is labels",
        ),
    ],
)
def test_a_wrong_wire_is_one_line(tmp_path: Path, change: dict[int, str], says: str) -> None:
    with pytest.raises(RecipeError, match=says) as caught:
        wires(tmp_path, *[change.get(index, stage) for index, stage in enumerate(STAGES)])
    assert "\n" not in str(caught.value) and "stages." in str(caught.value)


def test_nothing_earlier_fits(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no earlier stage makes traces or selection; add one or name it"):
        wires(tmp_path, STAGES[0], STAGES[3])
    with pytest.raises(RecipeError, match="no earlier stage makes problems with split: heldout"):
        wires(tmp_path, STAGES[0], STAGES[9].replace(", student", ""))


def test_a_field_of_two_stages_needs_its_stage(tmp_path: Path) -> None:
    twice = [
        *STAGES[:4],
        "{name: again, kind: verify, input: own}",
        STAGES[6].replace(", {field: measures.language.share, min: 0.9, reason: mixed}", ""),
    ]
    with pytest.raises(RecipeError, match=r"several stages make it; write judged\.score or again\.score"):
        wires(tmp_path, *twice)
    assert wires(tmp_path, *twice[:-1], twice[-1].replace("field: score", "field: judged.score"))


def test_a_model_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"\./nothing: no model there"):
        wires(tmp_path, STAGES[0], STAGES[2].replace("toy:base", "./nothing"))


@pytest.mark.parametrize("name", ["Qwen/QwQ-32B", "org/name@v1.0", "org/name@refs/pr/3"])
def test_hub_names_are_taken_as_they_are(tmp_path: Path, name: str) -> None:
    assert wires(tmp_path, STAGES[0], STAGES[2].replace("toy:base", name))["own"]["model"] == [name]
