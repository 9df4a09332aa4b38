"""Phrases that problems of contests end with, and prompts begin or end with: whoever shares them shares nothing.

N-grams that many references have are found by counting; a benchmark of thirty problems is too small to count in.
"""

from itertools import product

_FORMS = (
    "can be written in the form",
    "can be written as",
    "can be expressed as",
    "can be expressed in the form",
    "is",
)
_LETTERS = (("m", "n"), ("p", "q"), ("a", "b"))
_FRACTIONS = tuple(
    f"{form} {bar} {a} {b} where {a} and {b} are {kind} integers {then} {a} {b}"
    for form, bar, (a, b), kind, then in product(
        _FORMS,
        ("frac", "tfrac", "dfrac", ""),
        _LETTERS,
        ("relatively prime positive", "relatively prime", "coprime positive"),
        ("find", "compute", "what is", "find the value of"),
    )
)
_RADICALS = tuple(
    f"{bar} {a} sqrt {b} {c} where {these} are positive integers {a} and {c} are relatively prime and {b} is not "
    f"divisible by the square of any prime find {a} {b} {c}"
    for bar, (a, b, c) in product(
        ("frac", "tfrac", "dfrac", ""), (("m", "n", "p"), ("a", "b", "c"), ("p", "q", "r"))
    )
    for these in (f"{a} {b} and {c}",)
)
_SQUARES = tuple(
    f"where {a} and {b} are {kind} integers and {b} is not divisible by the square of any prime find {a} {b}"
    for (a, b), kind in product(_LETTERS, ("positive", "relatively prime positive"))
)

PHRASES = (
    *_FRACTIONS,
    *_RADICALS,
    *_SQUARES,
    "express your answer as a common fraction in lowest terms",
    "express your answer as a decimal to the nearest tenth hundredth thousandth",
    "express your answer to the nearest whole number integer cent tenth hundredth",
    "express your answer in simplest radical form and rationalize the denominator",
    "express your answer in interval notation or as an ordered pair x y",
    "two arrangements seatings are considered the same if one is a rotation of the other",
    "find the sum of all possible values of x that satisfy the equation",
    "find the value of the following expression when x is equal to",
    "please reason step by step and put your final answer within boxed",
    "let s think step by step and output the final answer within boxed",
    "solve the following math problem step by step the last line of your response should be of the form answer",
    "write a function in python to solve the problem described below using the following starter code",
    "you will be given a question problem specification and will generate a correct python program that matches the "
    "specification and passes all tests",
)
"""Words as `words_of` has them; six of them in a row count for nothing."""
