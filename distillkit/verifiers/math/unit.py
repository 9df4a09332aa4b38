r"""Units of measurement at the end of an answer: 5\text{ cm}, 30 km/h, 15 square feet, \$18.

math-verify drops whatever looks like a unit, so that 5 cm equals 5 m. Here a unit left out on one side is no
mistake, and two that conflict are one.
"""

import re
from fractions import Fraction
from typing import NamedTuple


class Unit(NamedTuple):
    """A unit: what it measures, as powers of base dimensions, and its size in those."""

    dimension: tuple[tuple[str, int], ...]
    size: Fraction


_F = Fraction
# name -> (dimension, size). Sizes by definition: the inch is 2.54 cm, the pound 453.59237 g.
_NAMES: dict[str, tuple[str, Fraction]] = {}


def _define(dimension: str, *rows: tuple[str, Fraction | int | str]) -> None:
    for names, size in rows:
        for name in names.split():
            _NAMES[name] = (dimension, Fraction(size))


_define(
    "length",
    ("m meter metre", 1),
    ("cm centimeter centimetre", "1/100"),
    ("mm millimeter millimetre", "1/1000"),
    ("dm decimeter decimetre", "1/10"),
    ("km kilometer kilometre", 1000),
    ("inch inches in", "0.0254"),
    ("ft foot feet", "0.3048"),
    ("yd yard", "0.9144"),
    ("mi mile", "1609.344"),
)
_define(
    "time",
    ("s sec second", 1),
    ("ms millisecond", "1/1000"),
    ("min minute", 60),
    ("h hr hour", 3600),
    ("day", 86400),
    ("wk week", 604800),
)
_define("month", ("month", 1), ("yr year", 12))
_define(
    "mass",
    ("g gram gm", 1),
    ("kg kilogram", 1000),
    ("mg milligram", "1/1000"),
    ("t ton tonne", 1000000),
    ("lb pound", "453.59237"),
    ("oz ounce", "28.349523125"),
)
_define(
    "volume", ("l L liter litre", 1), ("ml mL milliliter millilitre", "1/1000"), ("gal gallon", "3.785411784")
)
_define("angle", ("degree deg", 1))
_define("radian", ("rad radian", 1))
_define("celsius", ("celsius C", 1))
_define("fahrenheit", ("fahrenheit F", 1))
_define("dollar", ("dollar USD", 1), ("cent", "1/100"))
_define("euro", ("euro EUR", 1))
_define("sterling", ("GBP", 1))
_define("rupee", ("rupee Rs", 1))
_define("yen", ("yen yuan", 1))

_SPEEDS = {"mph": ("mi", "h"), "kmh": ("km", "h"), "kph": ("km", "h"), "kmph": ("km", "h")}
# Alone they may as well be variables: 5 m has a unit, 5m has not.
_LETTERS = {"m", "s", "h", "g", "t", "l", "L", "C", "F"}
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}

_WORD = r"(?:[A-Za-z]+\.?)"
_EXPONENT = r"(?:\s*\^\s*(?:\{\s*-?[123]\s*\}|[123]))?"
_PART = rf"(?:(?:square|sq\.?|cubic|cu\.?)\s+)?{_WORD}{_EXPONENT}"
_BARE = rf"{_PART}(?:\s*(?:/|\bper\s)\s*{_PART})?"
_TAIL = re.compile(
    rf"(?:\\text\s*\{{\s*(?P<set>{_BARE})\s*\}}(?P<power>{_EXPONENT})"
    rf"(?:\s*/\s*\\text\s*\{{\s*(?P<below>{_PART})\s*\}}(?P<below_power>{_EXPONENT}))?"
    rf"|(?P<circle>\^\\circ)\s*(?:\\text\s*\{{\s*)?(?P<scale>[CF])?\s*\}}?"
    rf"|(?<![A-Za-z\\{{_^])(?P<bare>{_BARE}))\s*$"
)
_MONEY = re.compile(r"(?P<sign>-?)\s*(?:\\\$|(?P<other>[€£¥]))\s*(?P<rest>\S.*)")
_CURRENCIES = {"€": "euro", "£": "GBP", "¥": "yen"}
_NUMBER = re.compile(r"-?(?:[\d.,]+|\d*\s*\\frac\s*\{?\d+\}?\s*\{?\d+\}?|\d+/\d+)")


def measure(expression: str) -> tuple[str, Unit | None]:
    """An expression and the unit that it ends with (or the currency it starts with), parted; None: no unit."""
    if expression.endswith(r"\$"):
        return expression[:-2].strip(), _unit("dollar")
    if money := _MONEY.fullmatch(expression):
        unit = _unit(_CURRENCIES.get(money["other"] or "", "dollar"))
        return money["sign"] + money["rest"], unit
    tail = _TAIL.search(expression)
    if tail is None or not (core := expression[: tail.start()].strip()):
        return expression, None
    unit = _tail_unit(expression, tail, core)
    return (expression, None) if unit is None else (core, unit)


def _tail_unit(expression: str, tail: re.Match[str], core: str) -> Unit | None:
    if tail["circle"]:
        return _unit(tail["scale"] or "degree")
    if tail["bare"]:
        written = tail["bare"]
        spaced = expression[len(core) : tail.start("bare")].isspace()
        if written in _LETTERS and not (spaced and _NUMBER.fullmatch(core)):
            return None
        return _compound(written)
    upper = _compound(tail["set"] + (tail["power"] or ""))
    if upper is None or not tail["below"]:
        return upper
    lower = _compound(tail["below"] + (tail["below_power"] or ""))
    return None if lower is None else _divided(upper, lower)


def _compound(written: str) -> Unit | None:
    parts = re.split(r"\s*/\s*|\s*\bper\s+", written.strip())
    units = [_power(part) for part in parts]
    if len(units) > 2 or None in units:
        return None
    return units[0] if len(units) == 1 else _divided(units[0], units[1])  # type: ignore[arg-type]


def _power(part: str) -> Unit | None:
    """Unit of `cm^2`, `square feet`, `m^{3}`, `hours`."""
    match = re.fullmatch(
        r"(?:(square|sq|cubic|cu)\.?\s+)?([A-Za-z]+)\.?\s*(?:\^\s*\{?\s*(-?\d)\s*\}?)?", part.strip()
    )
    if match is None or (unit := _unit(match[2])) is None:
        return None
    exponent = _POWERS.get(match[1] or "", 1) * int(match[3] or 1)
    return Unit(tuple((name, power * exponent) for name, power in unit.dimension), unit.size**exponent)


def _unit(name: str) -> Unit | None:
    if name in _SPEEDS:
        above, below = (_NAMES[each] for each in _SPEEDS[name])
        return _divided(Unit(((above[0], 1),), above[1]), Unit(((below[0], 1),), below[1]))
    forms = (name, name.lower(), name.lower().removesuffix("s")) if len(name) > 1 else (name,)
    found = next((_NAMES[form] for form in forms if form in _NAMES), None)
    return None if found is None else Unit(((found[0], 1),), found[1])


def _divided(upper: Unit, lower: Unit) -> Unit:
    powers = dict(upper.dimension)
    for name, power in lower.dimension:
        powers[name] = powers.get(name, 0) - power
    return Unit(
        tuple(sorted((name, power) for name, power in powers.items() if power)), upper.size / lower.size
    )
