"""Chinese or Japanese: a part of the language measure.

The two share characters, so a clause is told by what only one of them writes: kana, and characters that only one
side's everyday character sets have (GB 2312 and Big5, level 1, against Shift JIS). A clause without either is the
target's, else its neighbour's.
"""

import re
from collections.abc import Iterator
from functools import cache
from itertools import product

from distillkit.measures.alphabet import Segment, blocks

_HAN = (
    r"\u2e80-\u2fd5\u3005\u3007\u3021-\u3029\u3038-\u303b\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    r"\U00020000-\U0003ffff"
)
_KANA = r"\u3041-\u3096\u3099\u309a\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f"
CHARACTERS = re.compile(f"[{_HAN}{_KANA}]+")
_HAS_KANA = re.compile(f"[{_KANA}]")
_RUN = re.compile(rf"[{_HAN}{_KANA}]++(?:[\W\d_]++[{_HAN}{_KANA}]++)*+")
_CLAUSE = re.compile(r"[^\u3002\uff0c\u3001\uff01\uff1f\uff1a\uff1b,;:!?\n]+")
_CHINESE_WORDS = "所以|因此|如果|因为|因為|但是|然后|然後|可以|等于|等於|没有|不是|我的|你的|他的|的是"


def _encodable(codec: str, rows: range) -> set[str]:
    """The characters of some rows of a double-byte character set."""
    pairs = (bytes(pair) for pair in product(rows, range(0x40, 0xFF)))
    return {char for pair in pairs if len(char := pair.decode(codec, "ignore")) == 1 and ord(char) > 0x3400}


@cache
def _signs() -> dict[str, re.Pattern[str]]:
    """Language -> what only it writes."""
    japanese = _encodable("cp932", range(0x88, 0xEB))
    simplified, traditional = _encodable("gb2312", range(0xB0, 0xD8)), _encodable("big5", range(0xA4, 0xC7))
    chinese = "".join(sorted((simplified | traditional) - japanese))
    rare = _encodable("gb2312", range(0xD8, 0xF8)) | _encodable("big5", range(0xC9, 0xFA))
    own = "".join(sorted(japanese - simplified - traditional - rare))
    return {
        "zh": re.compile(f"[{chinese}]|{_CHINESE_WORDS}"),
        "ja": re.compile(
            f"[{own}]|[{_KANA}]{{2}}|[{_KANA}][{_HAN}]*[{_KANA}]"
        ),  # a lone kana may stand in Chinese
    }


def count(text: str, start: int, end: int) -> int:
    """Chinese and Japanese characters: each is a word."""
    return sum(map(len, CHARACTERS.findall(text, start, end)))


def inserts(clean: str) -> tuple[int, list[Segment]]:
    """The characters of a text in another script, and their segments: all of them are language."""
    found = [segment for run in _RUN.finditer(clean) for segment in segments(clean, *run.span(), "")[1]]
    return sum(segment.words for segment in found), found


def segments(clean: str, start: int, end: int, target: str) -> tuple[int, list[Segment]]:
    """The characters of a run of Chinese or Japanese, and its segments that are not the target's."""
    total = count(clean, start, end)
    kana = _HAS_KANA
    if target not in ("zh", "ja"):
        if not kana.search(clean, start, end):
            return total, [Segment(start, end, "zh", total)]
        return total, list(_merged(clean, start, end, target))
    other = kana if target == "zh" else _signs()["zh"]
    lines = ((left + start, right + start) for left, right in blocks(clean[start:end]))
    found = (_merged(clean, *line, target) for line in lines if other.search(clean, *line))
    return total, [segment for merged in found for segment in merged if segment.language != target]


def _merged(clean: str, start: int, end: int, target: str) -> Iterator[Segment]:
    """Neighbouring clauses of one language as one segment."""
    last: Segment | None = None
    for clause in _CLAUSE.finditer(clean, start, end):
        characters = list(CHARACTERS.finditer(clean, clause.start(), clause.end()))
        if not characters:
            continue
        left, right = characters[0].start(), characters[-1].end()
        size = sum(match.end() - match.start() for match in characters)
        otherwise = target if target in ("zh", "ja") else last.language if last else _first(clean, start, end)
        language = _language(clean, left, right) or otherwise
        if last is not None and language == last.language:
            last = Segment(last.start, right, language, last.words + size)
            continue
        if last is not None:
            yield last
        last = Segment(left, right, language, size)
    if last is not None:
        yield last


def _first(clean: str, start: int, end: int) -> str:
    return _language(clean, start, end) or "zh"


def _language(clean: str, start: int, end: int) -> str | None:
    signs = _signs()
    if signs["ja"].search(clean, start, end):
        return "ja"
    return "zh" if signs["zh"].search(clean, start, end) else None
