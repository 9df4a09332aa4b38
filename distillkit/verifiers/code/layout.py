"""Reading a problem's tests: every layout that data sets of coding problems use, as one of two shapes.

Sources: APPS, TACO and PrimeIntellect ("inputs"/"outputs", "fn_name"), LiveCodeBench (a list of {"input", "output",
"testtype"}), CodeContests, MBPP ("test_list"), HumanEval ("test", "entry_point", "prompt"), LeetCodeDataset and
rllm ("functional": a check() on Solution()).
"""

import ast
import json
from dataclasses import asdict, dataclass
from typing import Any

LAYOUTS = (
    '{"inputs", "outputs"} (with "fn_name" for calls), a list of {"input", "output"}, {"tests": [asserts]}, '
    '{"test", "entry_point"} or {"functional"}'
)


@dataclass(frozen=True, slots=True)
class Cases:
    """Inputs and what must come out: text on stdin and stdout or, with `function`, arguments and a value."""

    inputs: list[Any]
    outputs: list[Any]
    function: str | None = None


@dataclass(frozen=True, slots=True)
class Asserts:
    """A script of asserts about names that the answer defines.

    `prompt` is code of the problem that the answer goes on from; `entry_points` are the answer's even where the
    prompt defines them.
    """

    script: str
    prompt: str = ""
    entry_points: tuple[str, ...] = ()


def as_json(tests: Cases | Asserts) -> dict[str, Any]:
    """The tests as what `of_json` reads."""
    return asdict(tests)


def of_json(data: dict[str, Any]) -> Cases | Asserts:
    """The tests that `as_json` wrote."""
    return Asserts(**data) if "script" in data else Cases(**data)


def read(reference: Any) -> Cases | Asserts:
    """The tests in a reference; ValueError with one line where there are none that can be run."""
    data = _unpacked(reference)
    if isinstance(data, list):
        return _from_list(data)
    if not isinstance(data, dict):
        raise ValueError(f"its tests are no JSON object or list but {type(data).__name__}; use {LAYOUTS}")
    for name in ("test_cases", "public_tests", "official_tests"):
        if name in data:
            return _from_list(data[name], data.get("fn_name"))
    if "inputs" in data or "outputs" in data:
        return _cases(data.get("inputs"), data.get("outputs"), data.get("fn_name"))
    if "functional" in data:
        return _asserts(data["functional"])
    if "test" in data:
        return _check_function(data)
    for name in ("tests", "test_list"):
        if name in data:
            return _listed(data, data[name])
    raise ValueError(f"its tests have an unknown layout (keys {sorted(data)[:6]}); use {LAYOUTS}")


def _unpacked(reference: Any) -> Any:
    """The object in it: JSON in text is read, {"tests": {...}} and {"answer": {...}} are looked into."""
    if isinstance(reference, str):
        try:
            return _unpacked(json.loads(reference))
        except ValueError:
            raise ValueError(f"its tests are not JSON: {reference[:60]!r}") from None
    if isinstance(reference, dict) and "inputs" not in reference:
        for name in ("tests", "answer", "input_output"):
            inner = reference.get(name)
            if isinstance(inner, str) and inner.lstrip().startswith(("{", "[")):
                inner = _unpacked(inner)
            if isinstance(inner, dict) or (isinstance(inner, list) and inner and isinstance(inner[0], dict)):
                return _unpacked(inner)
    return reference


def _from_list(cases: Any, function: str | None = None) -> Cases | Asserts:
    if not isinstance(cases, list) or not cases:
        raise ValueError("it holds no test")
    if all(isinstance(case, str) for case in cases):
        return _asserts("\n".join(cases))
    if not all(isinstance(case, dict) and {"input", "output"} <= case.keys() for case in cases):
        raise ValueError('its tests are no list of {"input", "output"}')
    for case in cases:
        function = function or case.get("fn_name") or (case.get("metadata") or {}).get("func_name")
    if any(case.get("testtype", case.get("type")) in ("functional", "function_call") for case in cases):
        if not function:
            raise ValueError('its tests call a function that they do not name; add "fn_name"')
    else:
        function = None
    return _cases([case["input"] for case in cases], [case["output"] for case in cases], function)


def _cases(inputs: Any, outputs: Any, function: Any) -> Cases:
    if not isinstance(inputs, list) or not isinstance(outputs, list) or len(inputs) != len(outputs):
        raise ValueError("its inputs and outputs are no two lists of one length")
    if not inputs:
        raise ValueError("it holds no test")
    if function:
        return Cases([_arguments(each) for each in inputs], _values(outputs), str(function))
    texts = [[_text(each) for each in column] for column in (inputs, outputs)]
    if any(len(text) > _MAX_CHARS for column in texts for text in column):
        raise ValueError(f"one of its tests is longer than {_MAX_CHARS} characters")
    return Cases(texts[0], texts[1])


_MAX_CHARS = 12_000_000


def _text(value: Any) -> str:
    """What goes over stdin or stdout; a list is its lines (APPS)."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(_text(each) for each in value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise ValueError(f"one of its tests is a {type(value).__name__} where text is due")


def _arguments(given: Any) -> list[Any]:
    """Arguments of one call: a list, or text with one JSON value per line (LiveCodeBench)."""
    if isinstance(given, list):
        return given
    if isinstance(given, str):
        try:
            return [json.loads(line) for line in given.splitlines() if line.strip()]
        except ValueError:
            raise ValueError(f"arguments of one of its tests are not JSON: {given[:60]!r}") from None
    raise ValueError(f"arguments of one of its tests are a {type(given).__name__}; use a list")


def _values(outputs: list[Any]) -> list[Any]:
    """Expected values; text that holds JSON is that JSON where all of them do (LiveCodeBench)."""
    if not all(isinstance(each, str) for each in outputs):
        return outputs
    try:
        return [json.loads(each) for each in outputs]
    except ValueError:
        return outputs


def _listed(data: dict[str, Any], tests: Any) -> Cases | Asserts:
    setup = "\n".join(str(data.get(name) or "") for name in ("test_imports_text", "setup", "test_setup_code"))
    imports = data.get("test_imports") or []
    if not isinstance(tests, list) or not all(isinstance(test, str) for test in tests):
        return _from_list(tests, data.get("fn_name"))
    entry = data.get("entry_point")
    return _asserts(
        "\n".join([*imports, setup, *tests]), str(data.get("prompt") or "") if entry else "", entry
    )


def _check_function(data: dict[str, Any]) -> Asserts:
    entry, test = data.get("entry_point"), data["test"]
    if not isinstance(test, str) or not isinstance(entry, str) or not entry.isidentifier():
        raise ValueError('its "test" needs an "entry_point", the name of the function that check() gets')
    prompt = data.get("prompt") or ""
    call = f"\ncheck({entry})\n" if "def check(" in test else ""
    return _asserts(test + call, prompt if _compiles(prompt) else "", entry)


def _asserts(script: Any, prompt: str = "", entry: Any = None) -> Asserts:
    if not isinstance(script, str):
        raise ValueError(f"its tests are a {type(script).__name__} where Python text is due")
    try:
        tree = ast.parse(script)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"its tests are no Python: {str(error)[:80]}") from None
    if not any(isinstance(node, ast.Assert) for node in ast.walk(tree)):
        raise ValueError("it holds no test: there is no assert in it")
    return Asserts(script, prompt, (entry,) if entry else ())


def _compiles(prompt: Any) -> bool:
    """Whether a prompt is code (HumanEval's) and not prose."""
    try:
        ast.parse(prompt)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return False
    return bool(prompt.strip())
