"""Formulas: where they are, what they become, and what of hostile LaTeX is left (nothing but text)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillkit.report.formula import ATTRIBUTES, LONGEST, TAGS, Node, formulas, tree


def found(text: str) -> list[str]:
    return [latex for _, _, latex in formulas(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"so $x^2$ and \(y\), \[z\] or $$w$$", ["x^2", "y", "z", "w"]),
        ("it costs $5 and then $10 more", []),
        ("US$5 or 5$ or $ 5 $", []),
        (r"a \$5$ note$", []),
        (r"the answer is \boxed{\frac{1}{2}}.", [r"\boxed{\frac{1}{2}}"]),
        (r"\frac{1}{2} and \dfrac{a}{b} and \sqrt{2}", [r"\frac{1}{2}", r"\dfrac{a}{b}", r"\sqrt{2}"]),
        ("$x\ny$", []),
        (r"\boxed{open", []),
    ],
)
def test_formulas_stand_between_their_delimiters(text: str, expected: list[str]) -> None:
    assert found(text) == expected


def test_a_fraction_is_a_fraction() -> None:
    assert tree(r"\frac{1}{2}") == ["math", {}, ["mfrac", {}, ["mn", {}, "1"], ["mn", {}, "2"]]]


def walk(node: Node) -> list[Node]:
    return [node, *(below for child in node[2:] if not isinstance(child, str) for below in walk(child))]


HOSTILE = [
    r"\href{javascript:alert(1)}{x}",
    r"\url{javascript:alert(1)}",
    r"\def\a{\a\a}\a",
    r"\newcommand{\a}{\a\a}\a",
    r"\style{position:fixed}{x}",
    r"\class{x}{y}",
    r"\unicode{x3C}",
    r"\nosuchcommand",
    "{" * 60 + "}" * 60,
    "x" * (LONGEST + 1),
    "a\u202eb",
    "a\x00b",
    "\ud800",
    "",
    r"\left(",
    r"\begin{matrix}",
    "_",
]


@pytest.mark.parametrize("latex", HOSTILE)
def test_what_is_unknown_or_dangerous_stays_text(latex: str) -> None:
    node = tree(latex)
    assert node is None or walk(node) == [["math", {}]] or walk(node)[-1] == ["mrow", {}]


COMMANDS = (
    r"\frac \sqrt \left \right \text{ \\ \begin{matrix} \end{matrix} \color{red} \hspace{99em} \rule{9em}{9em} <script> "
    r"&lt; onerror= \mathrm \overline \binom \limits \cfrac \not \tag{x} \genfrac \hbox{"
).split()
TOKENS = st.sampled_from([*r"{}^_&$#%~<>|()[]ab1+-=/'\"", *COMMANDS])


@settings(max_examples=300, deadline=None)
@given(st.lists(TOKENS | st.text(max_size=3), max_size=14).map("".join))
def test_a_tree_has_nothing_but_known_elements_and_attributes(latex: str) -> None:
    node = tree(latex)
    for tag, attributes, *children in walk(node) if node else []:
        assert tag in TAGS
        for name, value in attributes.items():
            assert ATTRIBUTES[name].fullmatch(value)
        for child in children:
            assert isinstance(child, list) or not child.startswith("\\")


@given(st.text(st.sampled_from("$\\(){}[]ab \n1"), max_size=60))
def test_spans_do_not_overlap_and_hold_their_formula(text: str) -> None:
    before = 0
    for start, end, latex in formulas(text):
        assert before <= start < end <= len(text)
        assert latex in text[start:end]
        before = end
