import json
import random
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from distillkit.errors import MissingError
from distillkit.measures.base import Labels
from distillkit.measures.language import Language
from distillkit.measures.prose import prose
from distillkit.text import split_think
from distillkit.toy.corpus import Corpus
from distillkit.toy.problems import draw_chain
from distillkit.trace import Trace

LABELLED = [
    json.loads(line)
    for line in (Path(__file__).parent.parent / "data" / "language.jsonl").read_text("utf-8").splitlines()
]


def trace(text: str, language: str | None = None) -> Trace:
    return Trace("p", [], completion=text, reasoning="", response=text, language=language)


def measure(text: str, language: str | None = None, **fields: object) -> Labels:
    return Language.model_validate(fields).measure(trace(text, language))


@pytest.mark.parametrize(
    ("text", "target", "share", "mixed"),
    [
        ("8 + 2 = 0 so 0 - 2 = 8 所以 8 + 8 = 6", "en", 1 / 3, True),
        ("8 + 2 = 0 so 0 - 2 = 8 所以 8 + 8 = 6", "zh", 2 / 3, True),
        ("8 + 2 = 0 so 0 - 2 = 8 then 8 + 8 = 6", "en", 1.0, False),
        ("8 + 2 = 0 所以 0 - 2 = 8 然后 8 + 8 = 6", "zh", 1.0, False),
        ("8 + 2 = 0 所以 0 - 2 = 8 然后 8 + 8 = 6", "en", 0.0, False),
        ("8 + 2 = 0 wait 8 + 2 = 0 接着 0 - 2 = 8 next 8 - 1 = 7", "en", 0.5, True),
        ("<answer> 5 </answer>", "zh", 1.0, False),
        ("8", "en", 1.0, False),
        ("", "en", 1.0, False),
    ],
)
def test_the_toy_world_is_measured_exactly(text: str, target: str, share: float, mixed: bool) -> None:
    labels = measure(text, target)
    assert (labels["share"], labels["mixed"]) == (round(share, 4), mixed)


def test_the_toy_corpus_is_measured_exactly() -> None:
    """Against a count of its connectives, the only words that it has."""
    rng = random.Random(7)
    corpus = Corpus(guesses=0.2)
    mixed = 0
    for _ in range(500):
        text = corpus.complete(draw_chain(rng.randint(3, 8), rng), rng)
        reasoning = split_think(text)[0]
        english = sum(word in ("so", "then", "next", "wait") for word in text.split())
        chinese = 2 * sum(word in ("所以", "然后", "接着", "等等") for word in text.split())
        labels = Language().measure(Trace("p", [], text, reasoning, ""))
        assert labels["share"] == (round(english / (english + chinese), 4) if english + chinese else 1.0)
        assert labels["mixed"] == (english > 0 and chinese > 0)
        mixed += labels["mixed"]
    assert mixed > 50


def test_offsets_are_into_the_text_with_its_formulas() -> None:
    text = "We set $x = \\frac{1}{2}$ first. Donc la somme des aires est 24, et on a fini. So it is 24."
    [segment] = measure(text)["foreign"]
    assert segment["language"] == "fr"
    assert text[segment["start"] : segment["end"]] == "Donc la somme des aires est 24, et on a fini"


def test_the_text_of_a_segment_is_its_beginning() -> None:
    [segment] = measure("So we go on. " + "我们继续计算" * 50)["foreign"]
    assert len(segment["text"]) == 80
    assert segment["end"] - segment["start"] == 300


def test_the_trace_names_its_language_before_the_recipe_does() -> None:
    german = "Wir suchen die Summe der Zahlen, und sie ist gleich 12."
    assert measure(german, "de-DE", target="en")["share"] == 1.0
    assert measure(german, target="de")["target"] == "de"
    assert measure(german, target="auto") == {"target": "de", "share": 1.0, "foreign": [], "mixed": False}
    assert measure(german, target="en")["share"] == 0.0


def test_a_whole_trace_in_another_language_is_not_mixed() -> None:
    assert measure("Мы ищем сумму. Она равна 12.")["mixed"] is False
    assert measure("Мы ищем сумму. So it is 12. Она равна 12.")["mixed"] is True


@pytest.mark.parametrize("detector", ["py3langid", "langdetect", "none"])
def test_a_measure_is_deterministic(detector: str) -> None:
    text = "\n".join(row["text"] for row in LABELLED[:40])
    assert measure(text, detector=detector) == measure(text, detector=detector)


def test_a_detector_finds_what_has_no_word_list() -> None:
    text = "We add both. Suma wszystkich liczb od jednego do dziesięciu wynosi pięćdziesiąt pięć. So 55."
    assert measure(text, detector="none")["mixed"] is False
    assert [segment["language"] for segment in measure(text)["foreign"]] == ["pl"]


def test_a_missing_detector_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "langdetect", None)
    with pytest.raises(MissingError, match="pip install langdetect"):
        measure("Suma wszystkich liczb od jednego do dziesięciu wynosi sto", detector="langdetect")


def rates(split: str, detector: str) -> tuple[float, float]:
    """(precision, recall) of `mixed` on a split of the labelled traces."""
    rows = [row for row in LABELLED if row["split"] == split]
    found = [measure(row["text"], row["target"], detector=detector)["mixed"] for row in rows]
    right = sum(guess and row["mixed"] for guess, row in zip(found, rows, strict=True))
    return right / sum(found), right / sum(row["mixed"] for row in rows)


@pytest.mark.parametrize(
    ("split", "precision", "recall"),
    [
        ("dev", 1.0, 1.0),  # rules and sentences by one author
        (
            "heldout",
            0.96,
            0.82,
        ),  # written after the rules; the detector's threshold was lowered in view of it
        ("fresh", 0.94, 1.0),  # written after everything
    ],
)
def test_mixing_is_found_on_labelled_traces(split: str, precision: float, recall: float) -> None:
    measured = rates(split, "py3langid")
    assert measured[0] >= precision
    assert measured[1] >= recall


@given(
    st.text(st.sampled_from("a so la then 所以 です ф\\$`{}()[]\n\"'.,=0123 the de 的 < >éα\u0301\ud800İ"))
)
@example("aİal")  # lower case splits it, and leaves a function word
@settings(max_examples=300, deadline=None)
def test_any_text_is_measured(text: str) -> None:
    assert len(prose(text)) == len(text)
    for target in ("en", "zh", "fr", "sv", "auto"):
        labels = measure(text, target=target, detector="none")
        assert labels.keys() == Language.KEYS.keys()
        assert 0 <= labels["share"] <= 1
        ends = [0]
        for segment in labels["foreign"]:
            assert ends[-1] <= segment["start"] < segment["end"] <= len(text)
            assert text[segment["start"]].strip()
            ends.append(segment["end"])


def test_prose_blanks_what_is_no_language() -> None:
    text = (
        'Use `la suma` and $x_{de}$, see https://la.es/de/la or \\(la\\); "de la suma" is n_1 in os.path.\n'
        "```\nla suma\n```\n\\begin{align}la &= de\\end{align}\n<think>so</think> f(x) «la la» don\u2019t"
    )
    kept = "Use and , see or ; is in . so (x) don't"
    assert " ".join(prose(text).split()) == kept


@pytest.mark.parametrize(
    "part", ["$", "`", "\\(", "\\begin{", "$$", '"', "```\n", "a_", "\\[", "x.", "so ", "de 5 "]
)
def test_a_megabyte_of_anything_ends(part: str) -> None:
    labels = measure(part * (300_000 // len(part)), detector="none")
    assert labels["mixed"] is False
