r"""The prose of a trace: everything that is no natural language is blanked out, offsets kept.

Every detector takes `\frac{a}{b}` for Catalan and `sin(x)` for Spanish, so formulas, code, links, identifiers
and short quotations go before any language is measured. Each pattern ends with the paragraph at the latest (a
fence with the text), so that an unclosed one costs no more than a closed one.
"""

import re

QUOTE_CHARS = 120
"""A longer span in quotation marks is the author's own text more often than a citation."""

_BLOCK = (
    r"(?:^|(?<=\n))[^\S\n]{0,3}(?P<fence>```|~~~)(?s:.*?)(?:\n[^\S\n]{0,3}(?P=fence)|\Z)"
    r"|\$\$(?s:.*?)(?:\$\$|\n\s*\n|\Z)"
    r"|\\\[(?s:.*?)(?:\\\]|\n\s*\n|\Z)"
    r"|\\begin\{(?s:.*?)(?:\\end\{[^}\n]*\}?|\n\s*\n|\Z)"
)
_INLINE = (
    r"`[^`\n]++`"
    r"|\\\(.*?(?:\\\)|\n|\Z)"
    r"|\$[^$\n]{1,400}\$"
    r"|\\[A-Za-z]++(?:\{[^{}\n]*\})*"
    r"|(?:https?://|www\.)[^\s\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]++"
    r"|</?[A-Za-z][\w-]{0,30}\s?/?>"
    rf'|"[^"\n]{{1,{QUOTE_CHARS}}}"'
    rf"|\u201c[^\u201d\n]{{1,{QUOTE_CHARS}}}\u201d|\u00ab[^\u00bb\n]{{1,{QUOTE_CHARS}}}\u00bb"
    rf"|[\u300c\u300e][^\u300d\u300f\n]{{1,{QUOTE_CHARS}}}[\u300d\u300f]"
    r"|(?<![A-Za-z0-9_])(?:"
    r"[A-Za-z]+[0-9_][A-Za-z0-9_]*|[0-9_]+[A-Za-z_][A-Za-z0-9_]*"  # x_1, n2, 3x
    r"|[a-z]+[A-Z][A-Za-z0-9_]*"  # camelCase
    r"|[A-Za-z][A-Za-z0-9_]*(?:\.[a-z][A-Za-z0-9_]*)+"  # os.path, i.e
    r"|[A-Za-z][A-Za-z0-9_]*(?=\()"  # f(
    r")"
)
_NOT_PROSE = re.compile(f"(?P<block>{_BLOCK})|{_INLINE}")


def prose(text: str) -> str:
    """The text with code, LaTeX, links, tags, identifiers and quotations of at most 120 characters blanked.

    The same length as `text`, so that offsets hold; a block (fence, display formula) starts a new
    line. Curly apostrophes become straight.
    """
    return _NOT_PROSE.sub(_blank, text).replace("\u2019", "'")


def _blank(match: re.Match[str]) -> str:
    blank = " " * (match.end() - match.start() - 1)
    return f"\n{blank}" if match["block"] else f" {blank}"
