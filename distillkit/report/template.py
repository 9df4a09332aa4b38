"""The Jinja2 templates of pages and cards."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Template

FOLDER = Path(__file__).parent / "templates"


def load(name: str, *, autoescape: bool) -> "Template":
    """A template by its file name; a variable that it is not given is an error, not an empty text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(name)


def source(name: str) -> str:
    """A file beside the templates as it is."""
    return (FOLDER / name).read_text("utf-8")
