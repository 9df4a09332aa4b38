"""What a score was taken with, in words: no number stands without its samples, sampling, engine and versions."""

from collections.abc import Mapping
from typing import Any

Settings = Mapping[str, Any]

VARIANTS = ("", "-cpu")
"""What follows a library's name in the name of its package."""


def opinions(judges: Mapping[str, str]) -> str:
    """A sentence on the domains that a model judges, {domain: kind of verifier}."""
    named = ", ".join(f"{domain} ({kind})" for domain, kind in sorted(judges.items()))
    return f"Verdicts of a learned model, which can be gamed: {named}."


def settings_text(settings: Settings) -> str:
    """The settings of a score in words; what an older artifact does not say is left out.

    Benchmarks that were sampled in different ways are told one by one.
    """
    n = settings.get("n")
    samples = ", ".join(f"{name} {each}" for name, each in n.items()) if isinstance(n, dict) else n
    ways = {name: _way(settings | own) for name, own in (settings.get("benchmarks") or {}).items()}
    if len(set(ways.values())) > 1:
        way = "; ".join(f"{name}: {each}" for name, each in ways.items())
    else:
        way = next(iter(ways.values()), _way(settings))
    told = [
        f"on {settings['benchmark']}: " if settings.get("benchmark") else "",
        f"samples per problem: {samples}; " if n is not None else "",
        f"{way}, " if way else "",
        _engine(settings),
        "95 % intervals over problems",
        f"; {opinions(settings.get('judges') or {})}" if settings.get("learned") else "",
    ]
    return "".join(told)


def _way(settings: Settings) -> str:
    """How the samples were drawn."""
    told = [
        f"template {settings['template']}" if settings.get("template") else "",
        f"temperature {settings['temperature']:g}" if settings.get("temperature") is not None else "",
        f"top_p {settings['top_p']:g}" if settings.get("top_p") is not None else "",
        f"at most {settings['max_tokens']:,} tokens" if settings.get("max_tokens") else "",
    ]
    return ", ".join(filter(None, told))


def _engine(settings: Settings) -> str:
    """The engine with its version, and ours; empty where no engine is told."""
    if not isinstance(settings.get("engine"), dict):
        return ""
    kind, versions = settings["engine"].get("kind"), settings.get("versions") or {}
    own = next((f" {versions[name]}" for end in VARIANTS if (name := f"{kind}{end}") in versions), "")
    ours = f", distillkit {versions['distillkit']}" if "distillkit" in versions else ""
    return f"engine {kind}{own}{ours}; "
