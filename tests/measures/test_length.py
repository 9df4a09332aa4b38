from distillkit.measures.length import Length
from distillkit.trace import Trace


def test_four_units_of_one_trace() -> None:
    text = "First, two words. 所以 it is 7.\nDone"
    trace = Trace(
        "p", [], completion=f"<think>{text}</think> 7", reasoning=text, response="7", completion_tokens=19
    )
    assert Length().measure(trace) == {"tokens": 19, "characters": len(text), "words": 8, "sentences": 3}


def test_unknown_tokens_are_null_and_empty_text_is_zero() -> None:
    trace = Trace("p", [], completion="", reasoning="", response="")
    assert Length().measure(trace) == {"tokens": None, "characters": 0, "words": 0, "sentences": 0}
