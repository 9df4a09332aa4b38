r"""The prose of a trace: everything that is no natural language is blanked out, offsets kept.

Every detector takes `\frac{a}{b}` for Catalan and `sin(x)` for Spanish, so formulas, code, links and short
quotations go before any language is measured. Each pattern ends with the paragraph at the latest (a fence with
the text), so that an unclosed one costs no more than a closed one.
"""

import re

QUOTE_CHARS = 120
"""A longer span in quotation marks is the author's own text more often than a citation."""

_FENCE = re.compile(
    r"^[^\S\n]{0,3}(?P<fence>```|~~~)(?s:.*?)(?:\n[^\S\n]{0,3}(?P=fence)|\Z)"
    # One that opens behind text needs its language's name, and ends with the paragraph.
    r"|(?<=[^\n`])```[a-z+]{1,12}\n(?s:.*?)(?:```|\n\s*\n|\Z)",
    re.MULTILINE,
)
_LINK = re.compile(r"(?:https?://|www\.)[^\s\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]++")

# One character that opens something, then the alternatives for it: a set of first characters makes the search
# several times as fast as alternatives that each begin with their own.
_QUOTES = "".join(
    rf"|(?<={opening})[^{closing}\n]{{1,{QUOTE_CHARS}}}(?:[{closing}]|\Z)"
    for opening, closing in (
        ('"', '"'),
        ("\u201c", "\u201d"),
        ("\u201e", "\u201c\u201d"),
        ("\u2018", "\u2019"),
        ("\u00ab", "\u00bb"),
        ("\u300c", "\u300d"),
        ("\u300e", "\u300f"),
        (r"\{", r"{}"),  # a set, or what is left of a formula
    )
)
_NOT_PROSE = re.compile(
    r'[`$\\"<{\u201c\u201e\u2018\u00ab\u300c\u300e](?:'
    r"(?<=`)[^`\n]++(?:`|\Z)"
    r"|(?<=\$)(?:(?P<display>\$(?s:.*?)(?:\$\$|\n\s*\n|\Z))"
    # Not what stands between two prices: a formula's signs stand close to it, or both a space away.
    r"|(?=\S)[^$\n]{1,400}(?<=\S)\$(?!\d)|(?= )[^$\n]{2,400}(?<= )\$(?!\d))"
    r"|(?<=\\)(?:\(.*?(?:\\\)|\n|\Z)"
    r"|(?P<block>\[(?s:.*?)(?:\\\]|\n\s*\n|\Z)|begin\{(?s:.*?)(?:\\end\{[^}\n]*\}?|\n\s*\n|\Z))"
    r"|[A-Za-z]++(?:\{[^{}\n]*\})*)"
    r"|(?<=<)/?[A-Za-z][\w-]{0,30}\s?/?>" + _QUOTES + ")"
)

_OPENER = "So|Then|But|Since|Let|We|If|By|And|Thus|Hence|Now|Because|For|In|On|To|As|From|Therefore|However|Wait|Also"
_JOINED = "(?: (?:of|the|and|for|in|to|on|a|an))+"
_NAME = r"[A-Z][\w']*+"
_TITLE = re.compile(
    rf"(?<![\w'])(?!(?:{_OPENER})\b){_NAME}(?: {_NAME}){{0,3}}(?:{_JOINED}(?: {_NAME}){{1,4}}){{1,3}}"
)


def prose(text: str) -> str:
    """The text with code, LaTeX, links, tags, sets in braces and quotations of at most 120 characters blanked.

    The same length as `text`, so that offsets hold; a block (fence, display formula) starts a new
    line. Curly apostrophes become straight.
    """
    if "```" in text or "~~~" in text:
        text = _FENCE.sub(_blank_block, text)
    if "://" in text or "www." in text:
        text = _LINK.sub(_blank, text)
    return _NOT_PROSE.sub(_blank, text).replace("\u2019", "'")


def without_titles(clean: str) -> str:
    """Prose without English titles ("The Lord of the Rings"), which are names in a text of another language."""
    return _TITLE.sub(_blank, clean)


def _blank(match: re.Match[str]) -> str:
    if match.lastgroup:
        return _blank_block(match)
    return " " * (match.end() - match.start())


def _blank_block(match: re.Match[str]) -> str:
    return "\n" + " " * (match.end() - match.start() - 1)
