"""Figures: what stands in them, that equal data give equal bytes, and that names stay text."""

import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from distillkit.report import plots

STEPS = [
    {"stage": "traces", "kind": "sample", "rows_in": 10, "rows_kept": 40, "rejected": {}},
    {"stage": "kept", "kind": "filter", "rows_in": 40, "rows_kept": 15, "rejected": {"wrong": 25}},
]
FIGURES: dict[str, Callable] = {
    "funnel": lambda: plots.funnel(STEPS),
    "intervals": lambda: plots.intervals([("base", 0.25, 0.2, 0.3), ("zero", 0.875, None, None)]),
    "bars": lambda: plots.bars({"never": 1_234, "sure": 0}),
    "histogram": lambda: plots.length_histogram({"a": [1, 2, 2, 90], "b": [], "c": [7]}),
    "lines": lambda: plots.lines({"reward": [(1, 0.5), (2, 0.75)], "none": []}),
    "bands": lambda: plots.bands({"base": [(1, 0.1, 0.05, 0.2), (64, 0.7, 0.6, 0.8)]}),
    "shaded": lambda: plots.bands(
        {"a": [(2, 9.0, 8.0, 10.0), (4, 12.0, 9.0, 15.0)]}, "terms", False, (2, 3), False
    ),
    "below zero": lambda: plots.intervals([("a", -0.2, -0.3, 0.1), ("b", 12.5, None, None)], share=False),
    "tradeoff": lambda: plots.tradeoff(
        {"a": [(1e6, 0.1), (3e7, 0.8)], "b": []}, "operations", [(1e6, 0.1), (3e7, 0.8)], {"a": (3e7, 0.8)}
    ),
}


def words(svg: str) -> list[str]:
    """The texts of a figure, in drawing order."""
    root = ElementTree.fromstring(svg)
    return [(text.text or "").strip() for text in root.iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("name", FIGURES)
def test_equal_data_give_equal_bytes(name: str, tmp_path: Path) -> None:
    assert plots.svg(FIGURES[name](), name) == plots.svg(FIGURES[name](), name)
    for file in ("one.png", "two.png"):
        plots.save_png(FIGURES[name](), tmp_path / file)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_scales_and_takes_the_colour_of_the_page(name: str) -> None:
    svg = plots.svg(FIGURES[name](), "a <label> & 'more'")
    opening = svg[: svg.index(">") + 1]
    assert 'role="img" aria-label="a &lt;label&gt; &amp; &#x27;more&#x27;"' in opening
    assert "viewBox=" in opening
    assert not re.search(r' (width|height)="', opening)
    assert "currentColor" in svg
    assert plots.INK not in svg
    assert "font-family" not in svg
    assert not re.search(r' id="\w+_\d+"', svg), "ids would be there twice in a page of many figures"


def test_a_funnel_says_who_kept_how_many() -> None:
    assert words(plots.svg(plots.funnel(STEPS), "")) == ["traces (sample)", "40", "kept (filter)", "15 of 40"]


def test_intervals_say_names_and_values() -> None:
    found = words(plots.svg(FIGURES["intervals"](), ""))
    assert [word for word in found if not re.fullmatch(r"\d\.\d", word)] == ["base", "0.250", "zero", "0.875"]


def test_small_shares_get_the_whole_width() -> None:
    [axes] = plots.intervals([("base", 0.02, 0.01, 0.04)]).axes
    assert 0.04 < axes.get_xlim()[1] < 0.1
    [axes] = plots.intervals([("base", 0.9, 0.8, 1.0)]).axes
    assert axes.get_xlim() == (0, 1)


def test_bars_have_their_counts() -> None:
    assert words(plots.svg(FIGURES["bars"](), "")) == ["never", "sure", "1,234", "0"]


def test_a_histogram_is_shares_that_sum_to_one() -> None:
    [axes] = plots.length_histogram({"a": [1, 2, 2, 90], "b": [0] * 7}).axes
    filled = [patch for patch in axes.patches if patch.get_fill()]
    sums = [sum(patch.get_data().values) for patch in filled]
    assert sums == pytest.approx([1.0, 1.0])
    assert filled[0].get_data().edges[-1] > 90


def test_steps_are_whole_numbers_and_rewards_start_at_zero() -> None:
    [axes] = plots.lines({"reward": [(1, 0.5), (2, 0.75), (3, 0.8)]}).axes
    assert axes.get_ylim()[0] == 0
    assert all(tick == int(tick) for tick in axes.get_xticks())
    [axes] = plots.lines({"loss": [(1, -0.5), (2, 0.75)]}).axes
    assert axes.get_ylim()[0] < -0.4


def test_the_k_of_pass_at_k_stand_there_as_they_are() -> None:
    assert words(plots.svg(FIGURES["bands"](), ""))[:2] == ["1", "64"]


@pytest.mark.parametrize("draw", ["funnel", "intervals", "bars"])
def test_names_are_text_whatever_is_in_them(draw: str) -> None:
    name = "a $x^2$ <script>alert(1)</script> & \\frac $"
    figure = {
        "funnel": lambda: plots.funnel([{"stage": name, "kind": "k", "rows_in": 1, "rows_kept": 1}]),
        "intervals": lambda: plots.intervals([(name, 0.5, None, None)]),
        "bars": lambda: plots.bars({name: 1}),
    }[draw]()
    svg = plots.svg(figure, "")
    assert "<script" not in svg
    assert any(word.startswith(name) for word in words(svg))


def test_the_middle_of_a_long_name_is_left_out() -> None:
    name = "x" * 30 + "y" * 30
    assert "x" * 20 + " ... " + "y" * 20 in words(plots.svg(plots.intervals([(name, 0.5, 0.4, 0.6)]), ""))


@pytest.mark.parametrize(
    "figure",
    [
        lambda: plots.funnel([]),
        lambda: plots.intervals([]),
        lambda: plots.bars({}),
        lambda: plots.length_histogram({}),
        lambda: plots.length_histogram({"a": []}),
        lambda: plots.lines({}),
        lambda: plots.bands({"a": []}),
    ],
)
def test_nothing_to_draw_is_an_empty_figure(figure: Callable) -> None:
    assert plots.svg(figure(), "").endswith("</svg>")


def test_a_figure_is_drawn_once_per_store(tmp_path: Path) -> None:
    drawn = []

    def draw(value: float) -> object:
        drawn.append(value)
        return plots.intervals([("base", value, None, None)])

    first = plots.cached_svg(tmp_path, "pass@1", draw, 0.5)
    assert plots.cached_svg(tmp_path, "pass@1", draw, 0.5) == first
    assert drawn == [0.5]
    assert plots.cached_svg(tmp_path, "pass@1", draw, 0.6) != first
    assert plots.cached_svg(tmp_path, "other", draw, 0.5) != first
    assert drawn == [0.5, 0.6, 0.5]


def test_half_a_cached_figure_is_drawn_anew(tmp_path: Path) -> None:
    whole = plots.cached_svg(tmp_path, "l", plots.bars, {"a": 1})
    [file] = tmp_path.iterdir()
    file.write_text(whole[:100])
    assert plots.cached_svg(tmp_path, "l", plots.bars, {"a": 1}) == whole
    assert file.read_text() == whole


def test_a_log_axis_has_plain_numbers() -> None:
    found = words(plots.svg(FIGURES["tradeoff"](), "x"))
    assert "1e+06" in found
    assert "1e+07" in found
    near = words(plots.svg(plots.tradeoff({"a": [(4.0, 0.1), (31.0, 0.8)]}, "tokens"), "x"))
    assert {"5", "10", "20"} <= set(near)
    assert not any("$" in word for word in [*found, *near])


def test_an_interval_below_zero_is_inside_the_figure() -> None:
    found = words(plots.svg(FIGURES["below zero"](), "x"))
    assert "12.5" in found
    assert "\u22120.2" not in found, "lengths have one decimal"
    assert "-0.2" in found
