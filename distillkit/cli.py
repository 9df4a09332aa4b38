"""The command line. Verbs only; what a run does stands in its recipe.

Everything heavy is imported inside the verbs, so that `--help` answers at once.
"""

import errno
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from distillkit import __version__
from distillkit.errors import DistillkitError, MissingError, RecipeError, redacted

if TYPE_CHECKING:
    from distillkit.recipe import Recipe

RECIPE = click.argument("recipe", type=click.Path(path_type=Path))
SETS = click.option(
    "--set", "sets", multiple=True, metavar="KEY=VALUE", help="Change a value: stages.NAME.key=value."
)
STORE = click.option(
    "--store",
    type=click.Path(path_type=Path),
    envvar="DISTILLKIT_STORE",
    default=Path("store"),
    show_default=True,
    help="Where artifacts and runs lie.",
)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print stable, documented JSON.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="distillkit")
def cli() -> None:
    """The DeepSeek-R1 method from one YAML file on one machine."""


@cli.command()
@RECIPE
@STORE
@SETS
@click.option("--until", metavar="STAGE", help="Stop behind this stage.")
@click.option("--only", metavar="STAGE", help="Run this stage alone, its inputs from the store.")
@click.option(
    "--limit",
    type=click.IntRange(1),
    metavar="N",
    help="A smoke run of the whole recipe on at most N problems.",
)
@click.option("--seeds", metavar="1,2,3", help="One run per seed, reported together.")
@click.option("--trust", is_flag=True, help="Let the recipe run code of its author.")
@click.option("--update", is_flag=True, help="Resolve Hub branches and tags anew.")
@click.option("--yes", is_flag=True, help="Run although the plan exceeds the recipe's budget.")
def run(
    recipe: Path,
    store: Path,
    sets: tuple[str, ...],
    until: str | None,
    only: str | None,
    limit: int | None,
    seeds: str | None,
    trust: bool,
    update: bool,
    yes: bool,
) -> None:
    """Run a recipe; what is in the store already is taken from there."""
    from distillkit.recipe import located
    from distillkit.session import Session

    if until and only:
        raise RecipeError("--until and --only: give one of the two")
    drawn = _seeds(seeds)
    loaded = _load(recipe, sets, limit)
    for name in filter(None, (until, only)):
        loaded.stage(name)
    with located(recipe), _terminated_like_interrupted():
        session = Session(loaded, recipe, store, update=update)
        session.admit(trust=trust, over_budget=yes)
        session.run(drawn, until=until, only=only)


def _load(path: Path, sets: tuple[str, ...], limit: int | None = None) -> "Recipe":
    from distillkit.recipe import load

    recipe = load(path, sets)
    return recipe.limited(limit) if limit else recipe


def _seeds(text: str | None) -> list[int]:
    parts = [part.strip() for part in text.split(",")] if text is not None else []
    seeds = [int(part) for part in parts if part.isdecimal() and int(part) < 2**31]
    if len(set(seeds)) != len(parts):
        raise RecipeError(f"--seeds {text}: write different whole numbers from 0 on with commas, e.g. 1,2,3")
    return seeds


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM takes the way of Ctrl-C, so that children are told and the run is marked."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@cli.command()
@RECIPE
@SETS
@AS_JSON
@click.option("--online", is_flag=True, help="Also resolve Hub names and write the lock.")
@click.option("--data", is_flag=True, help="Also read the problems and try every gold on its verifier.")
@click.option(
    "--deep", is_flag=True, help="Also build the trainers' real configurations and ask their tokenizers."
)
@click.option("--trust", is_flag=True, help="With --data: try the recipe's own graders on one row.")
@STORE
def check(
    recipe: Path,
    sets: tuple[str, ...],
    as_json: bool,
    online: bool,
    data: bool,
    deep: bool,
    trust: bool,
    store: Path,
) -> None:
    """Refuse what would fail later: keys, wires, types, fields, files. Offline and static unless told otherwise."""
    from distillkit.check import check as check_recipe
    from distillkit.check import check_data, check_online, render
    from distillkit.hindsight import hindsight
    from distillkit.plan import doubts
    from distillkit.recipe import located

    loaded = _load(recipe, sets)
    with located(recipe):
        finding = check_recipe(loaded, recipe.parent)
        finding.warnings += [*doubts(loaded), *hindsight(loaded, store)]
        if online:
            check_online(loaded, recipe, finding)
        if data:
            check_data(loaded, recipe, store, finding, trust=trust)
        if deep:
            from distillkit.inspection import inspect

            inspect(loaded, recipe, finding)
    _print(finding.as_json(), as_json, lambda: render(finding))


@cli.command()
@RECIPE
@SETS
@STORE
@AS_JSON
def plan(recipe: Path, sets: tuple[str, ...], store: Path, as_json: bool) -> None:
    """What a run would take from the store, what it would make, and what that costs."""
    from distillkit.plan import plan as plan_recipe
    from distillkit.plan import render
    from distillkit.recipe import located

    loaded = _load(recipe, sets)
    with located(recipe):
        planned = plan_recipe(loaded, recipe, store)
    _print(planned.as_json(), as_json, lambda: render(planned))


@cli.command()
@click.argument("run", required=False)
@STORE
@AS_JSON
@click.option("--rejected", metavar="REASON", help="Traces that were rejected for a reason; all: for any.")
@click.option("--trace", metavar="ID", help="One trace, whole.")
@click.option("--compare", metavar="A,B", help="Two evaluated models on one problem, side by side.")
@click.option("--problem", metavar="ID", help="With --compare: which; left out: one that they differ on.")
@click.option("--rules", is_flag=True, help="Count a filter again, with what --set and --rule change.")
@click.option("--stage", metavar="NAME", help="With --rejected, --rules: of this stage only.")
@click.option(
    "--limit", type=click.IntRange(1), default=5, show_default=True, help="With --rejected: traces."
)
@click.option(
    "--set", "sets", multiple=True, metavar="KEY=VALUE", help="With --rules: kept.rules.REASON.min=0.95."
)
@click.option("--rule", "more", multiple=True, metavar="YAML", help="With --rules: one rule more.")
def show(
    run: str | None,
    store: Path,
    as_json: bool,
    rejected: str | None,
    trace: str | None,
    compare: str | None,
    problem: str | None,
    rules: bool,
    stage: str | None,
    limit: int,
    sets: tuple[str, ...],
    more: tuple[str, ...],
) -> None:
    """Funnel and scores of a run (a folder, RECIPE or RECIPE/N; default: the latest); or its traces, or its rules."""
    from distillkit import show as shown
    from distillkit.run_folder import find_run

    if sum([rejected is not None, trace is not None, compare is not None, rules]) > 1:
        raise RecipeError("--rejected, --trace, --compare and --rules: give one of them")
    if problem is not None and compare is None:
        raise RecipeError("--problem: it says what --compare shows; give that, too")
    if (sets or more) and not rules:
        raise RecipeError("--set and --rule: they change what --rules counts; give that, too")
    path = find_run(store, run)
    if rules:
        from distillkit.recount import recount
        from distillkit.recount import render as render_counts

        counted = recount(path, store, stage, sets, more)
        _print(counted, as_json, lambda: render_counts(counted))
    elif rejected is not None:
        traces = shown.find_rejected(path, store, rejected, stage, limit)
        _print(traces, as_json, lambda: shown.render_rejected(traces))
    elif trace is not None:
        told = shown.find_trace(path, store, trace)
        _print(told, as_json, lambda: shown.render_one(told))
    elif compare is not None:
        pair = shown.find_pair(path, store, compare, problem)
        _print(pair, as_json, lambda: shown.render_pair(pair))
    else:
        described = shown.describe(path, store)
        _print(described, as_json, lambda: shown.render(described))


@cli.command()
@click.argument("run", required=False)
@STORE
def report(run: str | None, store: Path) -> None:
    """Write a run's report page anew and say where it is."""
    from distillkit.report.page import write_report
    from distillkit.run_folder import find_run
    from distillkit.store import Store

    click.echo(write_report(find_run(store, run), Store(store)))


@cli.command()
@click.argument("before")
@click.argument("after")
@STORE
@AS_JSON
def diff(before: str, after: str, store: Path, as_json: bool) -> None:
    """Rows, reasons, tokens and domains that changed between two versions (RUN/STAGE, a folder, NAME@v1.0.0)."""
    from distillkit.difference import render
    from distillkit.store import Store
    from distillkit.version import diff as difference

    found = difference(Store(store), before, after)
    _print(found.as_json(), as_json, lambda: render(found))


@cli.command()
@click.argument("what")
@click.argument("repository")
@STORE
@click.option("--tag", metavar="v1.0.0", help="Its semantic version; left out: that of the published stage.")
@click.option("--public", is_flag=True, help="Into a public repository; left out: a private one.")
@click.option("--replace", is_flag=True, help="Delete files there that no push made.")
@click.option("--message", help="Of the commit; left out: name and version.")
@click.option("--dry-run", is_flag=True, help="Print what would change, and send nothing.")
def push(
    what: str,
    repository: str,
    store: Path,
    tag: str | None,
    public: bool,
    replace: bool,
    message: str | None,
    dry_run: bool,
) -> None:
    """Push WHAT (RUN/STAGE, an artifact's or a published folder) to a REPOSITORY on the Hub: one commit, one tag."""
    from distillkit.live import console
    from distillkit.release import look, pack, render
    from distillkit.release import push as push_parcel

    parcel = pack(store, what, repository, tag, public=public, replace=replace, message=message)
    if dry_run:
        console().print(render(look(parcel)), soft_wrap=True)
        return
    pushed = push_parcel(store, parcel, _warn)
    if pushed is not None:
        click.echo(f"{pushed.url}: {repository} {pushed.tag or 'main'} at {pushed.commit}")


@cli.command()
@click.argument("repository", metavar="REPOSITORY[@REVISION]")
@STORE
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="A folder to keep it in; else the store."
)
@click.option("--kind", type=click.Choice(["dataset", "model"]), help="Left out: whichever there is.")
def pull(repository: str, store: Path, output: Path | None, kind: str | None) -> None:
    """Fetch a version from the Hub, pinned to its commit and digested again; only what is not here travels."""
    from distillkit.release import pull as pull_version

    edition, fetched = pull_version(store, repository, kind, output, _warn)
    click.echo(
        f"{edition.path}: {edition.name} {edition.version} at {fetched.commit}, "
        f"{fetched.downloaded_bytes:,} bytes fetched, {fetched.reused_bytes:,} were here"
    )


def _warn(text: str) -> None:
    click.echo(f"distillkit: {text}", err=True)


@cli.command()
@STORE
@AS_JSON
def ls(store: Path, as_json: bool) -> None:
    """Runs and artifacts of a store."""
    from distillkit.housekeeping import list_store, render

    listed = list_store(store)
    _print(listed, as_json, lambda: render(listed))


@cli.command()
@STORE
@click.option("--yes", is_flag=True, help="Remove; without it only say what would go.")
def gc(store: Path, yes: bool) -> None:
    """Remove artifacts that no run refers to, and work that no run goes on with."""
    from distillkit.housekeeping import collect

    for line in collect(store, remove=yes):
        click.echo(line)


@cli.command()
@click.argument("name", required=False)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Where to copy it; default ./NAME.yaml."
)
def init(name: str | None, output: Path | None) -> None:
    """Copy a shipped recipe to start from; without a name, list them."""
    from distillkit.shipped import copy, listing

    click.echo("\n".join(listing()) if name is None else f"wrote {copy(name, output)}")


@cli.command()
def schema() -> None:
    """Print the JSON Schema of recipes, for completion in an editor."""
    from distillkit.recipe import Recipe

    click.echo(json.dumps(Recipe.model_json_schema(), indent=1))


@cli.command()
@click.argument("kind")
@click.argument("input", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="A .jsonl or .parquet file."
)
@click.option(
    "--set", "sets", multiple=True, metavar="KEY=VALUE", help="A key of the stage, or verifiers.DOMAIN.key."
)
@click.option("--domain", default="math", show_default=True, help="Domain of rows that name none.")
@click.option("--trust", is_flag=True, help="Let the stage run code of yours.")
def apply(kind: str, input: Path, output: Path, sets: tuple[str, ...], domain: str, trust: bool) -> None:
    """Run one row stage (verify, measure, dedup, decontaminate, filter, select) on a jsonl or parquet file."""
    from distillkit.apply import apply as apply_stage

    counts = apply_stage(kind, input, output, sets, domain, trust=trust)
    click.echo(f"{output}: {', '.join(f'{n:,} {what}' for what, n in counts.items())}")


@cli.command()
@click.argument("weights")
@STORE
@click.option(
    "--run", metavar="RUN", help="Whose stage WEIGHTS is: RECIPE, RECIPE/N or a folder; else the latest."
)
@click.option("--once", metavar="PROMPT", help="Answer this and end.")
@click.option("--system", metavar="TEXT", help="A system message before the conversation.")
@click.option(
    "--max-tokens", type=click.IntRange(1), default=4096, show_default=True, help="Tokens of an answer."
)
@click.option(
    "--temperature", type=click.FloatRange(0), help="0: the likeliest token; left out: the model's own."
)
@click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), help="Left out: the model's own.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@AS_JSON
def chat(
    weights: str,
    store: Path,
    run: str | None,
    once: str | None,
    system: str | None,
    max_tokens: int,
    temperature: float | None,
    top_p: float | None,
    seed: int,
    as_json: bool,
) -> None:
    """Talk to WEIGHTS: a stage that trained (STAGE or RUN/STAGE), ./folder, org/name on the Hub, or toy:base."""
    from distillkit.conversation import Settings, Voice, answer_once, converse, find_model, opened
    from distillkit.live import console

    if as_json and once is None:
        raise RecipeError("--json: only with --once, for one answer")
    if once is not None and not once.strip():
        raise RecipeError("--once: an empty prompt; write what to ask")
    settings = Settings(max_tokens, temperature, top_p, seed, system)
    with opened(find_model(weights, store, run), settings) as conversation:
        if once is None:
            converse(conversation, console())
        else:
            answer = answer_once(conversation, once, None if as_json else Voice(console()))
            click.echo(json.dumps(answer, indent=1) if as_json else "")


def _print(data: dict[str, Any], as_json: bool, render: Callable[[], Any]) -> None:
    if as_json:
        click.echo(json.dumps(data, indent=1))  # ASCII: nothing in it commands a terminal
        return
    from distillkit.live import console

    console().print(render())


UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EISDIR, errno.ENOTDIR}
"""What keeps a place from being written, and is no mistake of ours."""


def main() -> None:
    """Console entry: one line for a user's mistake, the documented exit code, no traceback."""
    try:
        cli.main(standalone_mode=False)
    except DistillkitError as error:
        _leave(redacted(str(error)), error.exit_code)
    except click.UsageError as error:
        _leave(f"{error.format_message()} (see distillkit --help)", RecipeError.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _leave("interrupted; what is finished is safe, run again to go on", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        where = error.filename or "output"
        _leave(f"{where}: {error.strerror}; make room or give another place", MissingError.exit_code)


def _leave(text: str, code: int) -> NoReturn:
    print(f"distillkit: {text}", file=sys.stderr)
    sys.exit(code)
