"""Cards: a header that the Hub accepts, nothing invented, and texts that cannot break out."""

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from distillkit.report.card import COLUMNS, Title, dataset_card, fenced, front_matter, model_card, table

FACTS: dict[str, Any] = {
    "rows": 1_200,
    "problems": 400,
    "tokens": 30_000,
    "domains": {"math": 1_000, "code": 200},
    "languages": {"en": 900, "zh": 300},
    "models": {"org/teacher": 1_200},
    "mixed_language": 6,
    "length_unit": "tokens",
    "lengths": {"median": 20, "p95": 40, "longest": 90},
    "rejected": 0,
    "teachers": [
        {
            "name": "org/teacher",
            "revision": "c" * 40,
            "stage": "traces",
            "sampling": {"n": 4, "temperature": 0.6},
            "trainings": [],
            "licence": "mit",
        },
        {
            "name": "zero",
            "revision": "",
            "stage": "own",
            "sampling": {"n": 8},
            "trainings": [
                {"base": "org/base", "revision": "d" * 40, "kind": "sft"},
                {"base": "cold", "revision": "", "kind": "grpo"},
            ],
            "licence": None,
        },
    ],
    "sources": [
        {
            "stage": "problems",
            "kind": "problems",
            "source": "hub: org/problems@v1",
            "rows": 500,
            "licence": "cc-by-4.0",
        }
    ],
    "conditions": [{"stage": "kept", "condition": "score at least 1", "reason": "wrong"}],
    "funnel": [
        {"stage": "kept", "kind": "filter", "rows_in": 2_000, "rows_kept": 1_200, "rejected": {"wrong": 800}}
    ],
    "decontamination": [
        {
            "stage": "leaks",
            "against": ["aime24", "math500"],
            "on": "prompt",
            "rows": 2_000,
            "found": {"math500": 7},
        }
    ],
    "columns": {"id": "", "score": "judged", "second.score": "second"},
    "changelog": [{"version": "1.2.0", "text": "More\nrows."}, {"version": "1.0.0", "text": "The first."}],
    "example": {"id": "x", "prompt": "1 + 1", "completion": "<think>2</think>2"},
}
RECIPE = "name: x\nnote: '```'\n"


def card(licence: str | None = None, **changed: Any) -> str:
    return dataset_card(Title("me/traces", "1.2.0", licence), FACTS | changed, RECIPE, [])


def header(text: str) -> dict[str, Any]:
    assert text.startswith("---\n")
    found: dict[str, Any] = yaml.safe_load(text.split("---\n")[1])
    return found


def test_the_header_is_what_the_hub_reads() -> None:
    assert header(card("mit")) == {
        "pretty_name": "traces",
        "license": "mit",
        "language": ["en", "zh"],
        "task_categories": ["text-generation"],
        "size_categories": ["1K<n<10K"],
        "library_name": "distillkit",
        "tags": ["distillkit", "reasoning", "synthetic"],
        "configs": [
            {
                "config_name": "default",
                "default": True,
                "data_files": [{"split": "train", "path": "data/train-*.parquet"}],
            }
        ],
    }


def test_a_licence_is_never_invented() -> None:
    text = card(None)
    assert "license" not in header(text)
    assert "Licence of this dataset: none was declared" in text
    assert "Licence of this dataset: mit" in card("mit")


def test_an_odd_licence_stays_one_value() -> None:
    found = header(card("other: no\nbase_model: evil"))
    assert (found["license"], found["license_name"]) == ("other", "other-no-base-model-evil")
    assert "base_model" not in header(card("other: no\nbase_model: evil"))


@pytest.mark.parametrize(
    ("rows", "size"),
    [(1, "n<1K"), (999, "n<1K"), (1_000, "1K<n<10K"), (10**7, "10M<n<100M"), (10**9, "n>100M")],
)
def test_sizes_are_the_hubs_categories(rows: int, size: str) -> None:
    assert header(card(rows=rows))["size_categories"] == [size]


def test_rejected_rows_are_a_config_of_their_own() -> None:
    text = card(rejected=800)
    assert [config["config_name"] for config in header(text)["configs"]] == ["default", "rejected"]
    assert "The 800 rejected traces are the config `rejected`" in text
    assert "config `rejected`" not in card()


def test_the_card_tells_where_rows_come_from_and_where_they_went() -> None:
    text = card()
    for line in (
        "1,200 reasoning traces of 400 problems, 30,000 tokens of completions. Version 1.2.0.",
        "| tokens of the completions | 30,000 |",
        "| tokens of a completion | half up to 20, 95 % up to 40, longest 90 |",
        "| domains | math 1,000, code 200 |",
        "| mix languages | 6 (0.5%) |",
        f"- Teacher: `org/teacher` at `{'c' * 40}` (n 4, temperature 0.6; stage `traces`). Its licence: mit.",
        f"- Teacher: `zero`, `org/base` at `{'d' * 40}` trained by sft, then by grpo (n 8; stage `own`). "
        "Its licence is not known.",
        "- Problems: hub: org/problems@v1, 500 of them (stage `problems`). Its licence: cc-by-4.0.",
        "| kept | filter | wrong 800 | 2,000 | 1,200 |",
        "| `kept` | score at least 1 | wrong |",
        "| `id` | problem, origin (who sampled it, and how) and number of the sample, with `/` between them | the text |",
        f"| `second.score` | {COLUMNS['score']} | `second` |",
        "![Rows that came in and rows that stayed, stage by stage](funnel.png)",
    ):
        assert line in text.splitlines()
    assert "\n\n\n" not in text
    assert "## Scores" not in text


def test_what_was_not_measured_is_not_told() -> None:
    text = card(languages={}, mixed_language=None, tokens=0, lengths=None, conditions=[])
    assert "language" not in header(text)
    assert "mix languages" not in text
    assert "| tokens of the completions | not counted |" in text
    assert "30,000" not in text
    assert "lengths.png" not in text
    assert "had to meet" not in text
    assert "not searched for the problems of any benchmark" in card(decontamination=[])
    assert "## Versions" not in card(changelog=[])
    assert "| language | en 900 (75.0%), zh 300 (25.0%) |" in card()


def test_rows_that_nobody_judged_are_not_called_judged() -> None:
    told = card(columns={"id": None})
    assert "Judged, curated" not in told and "Nothing was judged" in told and "Correct means" not in told
    told = card(columns={"score": "judged"})
    assert "Judged, curated" in told and "Correct means" in told and "Nothing was judged" not in told


def test_a_model_without_scores_says_so_and_lists_the_datasets_of_the_hub_that_it_read() -> None:
    facts = MODEL | {
        "datasets": [],
        "sources": [FACTS["sources"][0] | {"repository": "me/rows", "revision": "a" * 40}],
    }
    told = model_card(Title("me/model", "1.0.0", None), facts, "", [])
    assert "It was not evaluated" in told and "The scores above" not in told
    assert "datasets:\n- me/rows\n" in told


def test_what_was_searched_for_leaks_is_told_also_where_nothing_was_found() -> None:
    lines = card().splitlines()
    assert "| `leaks` | aime24 | prompt | 2,000 | 0 |" in lines
    assert "| `leaks` | math500 | prompt | 2,000 | 7 |" in lines


def test_the_changelog_and_the_recipe_stand_in_the_card() -> None:
    text = card()
    assert "- **1.2.0** More\n  rows.\n- **1.0.0** The first.\n" in text
    assert text.endswith(f"## How it was made\n\n````yaml\n{RECIPE}````\n")
    assert "How it was made" not in dataset_card(Title("me/traces", "1.2.0", None), FACTS, "", [])


def test_the_hubs_own_reader_takes_the_cards() -> None:
    repocard = pytest.importorskip("huggingface_hub.repocard")
    data = repocard.DatasetCard(card("MIT")).data
    assert (data.license, data.size_categories, data.language) == ("mit", ["1K<n<10K"], ["en", "zh"])
    assert data.configs[0]["data_files"] == [{"split": "train", "path": "data/train-*.parquet"}]
    model = repocard.ModelCard(model_card(Title("me/model", "1.0.0", "Qwen licence"), MODEL, "", [])).data
    assert (model.base_model, model.datasets, model.library_name) == (
        "org/base",
        ["me/traces"],
        "transformers",
    )
    assert (model.license, model.to_dict()["license_name"]) == ("other", "qwen-licence")


MODEL: dict[str, Any] = {
    "trainings": [
        {
            "stage": "cold", "kind": "sft", "base": "org/base@main", "revision": "d" * 40, "rows": 90,
            "summary": {"steps": 7}, "licence": "apache-2.0",
        },
        {
            "stage": "zero", "kind": "grpo", "base": "cold", "revision": "", "rows": 1_000, "summary": {},
            "licence": None,
        },
    ],
    "datasets": [{"name": "me/traces", "revision": "e" * 40, "tag": "v1.2.0"}],
    "teachers": [],
    "sources": FACTS["sources"],
    "funnel": [],
    "curves": ["loss", "reward"],
    "changelog": [],
}  # fmt: skip


def test_a_model_card_names_its_base_its_steps_and_its_data() -> None:
    text = model_card(Title("me/model", "1.0.0", None), MODEL, RECIPE, [])
    assert header(text) == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "base_model": "org/base",
        "datasets": ["me/traces"],
        "tags": ["distillkit", "reasoning", "sft", "grpo"],
    }
    assert f"| `cold` | sft | `org/base@main` at `{'d' * 40}` | apache-2.0 | 90 | 7 |" in text
    assert "| `zero` | grpo | `cold` |  | 1,000 |  |" in text
    assert f"- Dataset: `me/traces` at `{'e' * 40}` (v1.2.0)" in text
    assert "![loss by step](curve-loss.png)\n\n![reward by step](curve-reward.png)" in text
    assert 'from_pretrained("me/model", revision="v1.0.0")' in text
    assert "## The data behind it" not in text
    assert "\n\n\n" not in text


def test_a_model_card_says_how_the_last_training_is_served() -> None:
    assert "vLLM" not in model_card(Title("me/model", "1.0.0", None), MODEL, RECIPE, [])
    command = "vllm serve MODEL --reasoning-parser deepseek_r1"
    serve = {"command": command, "parser": "deepseek_r1", "stops": ["<|im_end|>", "<|endoftext|>"]}
    *first, last = MODEL["trainings"]
    served = {**MODEL, "trainings": [*first, {**last, "summary": {"serve": serve}}]}
    text = model_card(Title("me/MODEL-7B", "1.0.0", None), served, RECIPE, [])
    assert "```sh\nvllm serve me/MODEL-7B --reasoning-parser deepseek_r1\n```" in text
    assert (
        "An answer ends with `<|im_end|>` or `<|endoftext|>`, which `generation_config.json` says, too."
        in text
    )
    silent = {**serve, "parser": None}
    mute = {**MODEL, "trainings": [{**last, "summary": {"serve": silent}}]}
    assert "The parser hands out" not in model_card(Title("me/m", "1.0.0", None), mute, RECIPE, [])


@given(st.text())
def test_a_text_cannot_leave_its_fence(text: str) -> None:
    first, *body, last = fenced(text + "\n```\n# out").split("\n")
    assert first == f"{last}text"
    assert set(last) == {"`"}
    assert not any(line.strip().startswith(last) for line in body)


def test_an_example_is_cut() -> None:
    assert len(fenced("x" * 10_000)) < 2_100


@given(st.text())
def test_a_cell_stays_one_cell(text: str) -> None:
    *_, last = table(["a", "b"], [(text, 1)], left=1).split("\n")
    assert last.startswith("| ")
    assert last.endswith(" | 1 |")
    assert last.replace("\\|", "").count("|") == 3


YAML = st.text("ab1: #-\n'\"{}[]&*!|>%@`~\u00e9\u6587", min_size=1)


@given(st.dictionaries(YAML, YAML | st.lists(YAML)))
def test_any_header_is_read_back(values: dict[str, Any]) -> None:
    assert yaml.safe_load(front_matter(values)) == {key: value for key, value in values.items() if value}
