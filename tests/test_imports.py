"""Where people wait, nothing heavy is loaded."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = (
    "torch vllm trl transformers datasets huggingface_hub ray matplotlib pyarrow numpy math_verify sympy langdetect "
    "py3langid rensa"
).split()
RECIPES = Path(__file__).parent.parent / "recipes"


def loaded(code: str) -> set[str]:
    """Heavy modules in `sys.modules` after `code` ran in a fresh interpreter."""
    probe = f"import sys\n{code}\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return set(answer.stdout.splitlines()[-1].split())


def test_help_loads_nothing_heavy_and_no_pydantic() -> None:
    code = "from distillkit.cli import cli\ncli.main(['--help'], standalone_mode=False)\nassert 'pydantic' not in sys.modules"
    assert loaded(code) == set()


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_check_loads_nothing_heavy(recipe: Path) -> None:
    code = f"from distillkit.cli import cli\ncli.main(['check', {str(recipe)!r}], standalone_mode=False)"
    assert loaded(code) == set()


def test_every_module_imports_without_anything_heavy() -> None:
    code = (
        "import importlib, pkgutil, distillkit\n"
        "for module in pkgutil.walk_packages(distillkit.__path__, 'distillkit.'):\n"
        "    if module.name != 'distillkit.__main__': importlib.import_module(module.name)"
    )
    assert loaded(code) == set()
