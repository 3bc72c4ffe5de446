"""`xorjax study`: options and files in, the library at work, words out. No numerics."""

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import jax
import typer
from tqdm import tqdm

from xorjax.cli.options import NETWORK, Given, build_plan_from_options, check_writable, take_options
from xorjax.cli.terminal import counting_bar, exit_interrupted, print_result, progress_unit, study_bar
from xorjax.ensembles.members import MAX_SEED
from xorjax.statistics.arrays import percent
from xorjax.studies.plan import Plan, Setup, build_setup, from_store, read_plan, to_store
from xorjax.studies.progress import NO_PROGRESS, Progress, format_solved
from xorjax.training.trainer import Trainer

if TYPE_CHECKING:  # imported where they are used: ensembles need no zarr
    from xorjax.studies.store.shards import StudyStore
    from xorjax.studies.verify import Verification

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Train every seed at every combination of hyper-parameters, into a store that loses nothing.",
)

Where = Annotated[str, typer.Argument(metavar="STORE", help="The store of the study: a folder, or a URL.")]
PlanFile = Annotated[
    Path | None, typer.Argument(metavar="[FILE]", help="The study, as TOML.", exists=True, dir_okay=False)
]


@app.command()
@take_options("seeds", "task", *NETWORK, "stop", "keep")
def run(
    file: PlanFile = None,
    store: Annotated[str | None, typer.Option(help="Where the study is stored: a folder, or a URL.")] = None,
    *,
    given: Given,
    worker: Annotated[
        str | None, typer.Option(metavar="I/N", help="Train the I-th of N parts, as in a job array.")
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="If the store holds another study, show how the programs differ.")
    ] = False,
) -> None:
    """Train a study, or the members (networks) that are still missing of it.

    The study is a TOML file, whose keys help(xorjax.studies.plan_keys) lists, or options. Several processes may
    train the same study at once.
    """
    plan = build_plan_from_options(given) if file is None else _read_plan(file, given)
    where = plan.store if store is None else store
    if where is None:
        raise typer.BadParameter("--store, or store in the file, must say where the study is to be kept.")
    _train(plan, where, worker, verbose)


def _read_plan(file: Path, given: Given) -> Plan:
    if given:
        option = next(iter(given)).replace("_", "-")
        raise typer.BadParameter(f"--{option} and the file {str(file)!r} are given; set {option} in the file.")
    with _refuse_errors():
        return read_plan(file)


def _refuse(error: Exception | str) -> NoReturn:
    typer.echo(f"xorjax: {error}", err=True)
    raise typer.Exit(2)


@contextmanager
def _refuse_errors(verbose: bool = False) -> Iterator[None]:
    """End the command where the library refuses a study; print how two programs differ only if verbose."""
    try:
        yield
    except (TypeError, ValueError) as error:
        if program := getattr(error, "program", ""):
            _refuse(f"{error}\n{program if verbose else '--verbose shows how the programs differ.'}")
        _refuse(error)


def _train(plan: Plan, where: str, worker: str | None, verbose: bool) -> None:
    from xorjax.studies.run import describe_study, train_study

    setup = build_setup(plan.options, plan.first_hparams)
    at, begin = NO_PROGRESS, time.perf_counter()
    try:
        with _refuse_errors(verbose), study_bar(*progress_unit(plan.options, setup.updates)) as show:

            def note(progress: Progress) -> None:
                nonlocal at
                at = progress
                show(progress)

            shape = (plan.seeds, plan.axes, where, plan.keep, plan.shard_size)
            asked = describe_study(setup.trainer, *shape, plan=to_store(plan))
            train_study(setup.trainer, asked, plan.keep, worker=worker, progress=note)
    except KeyboardInterrupt:
        committed = f"{at.committed:,} of {at.total:,} members are committed in {where}"
        waiting = f"another process creates or extends the study in {where}"
        exit_interrupted(f"{committed if at.total else waiting}; the same command continues it")
    seconds = time.perf_counter() - begin
    part = "" if worker is None else " of its part"
    committed = f"{at.committed:,} of {at.total:,} members{part}, {format_solved(at.committed, at.solved)}"
    print(f"{where}: {committed}; {at.trained:,} trained in {seconds:.1f} s")


@app.command()
def status(store: Where, json_: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False) -> None:
    """Print how far a study is: members, rate, time left, workers."""
    from xorjax.studies.status import read_status

    study = _open_store(store)
    found, layout = read_status(study), study.layout
    if json_:
        print(json.dumps(found._asdict(), indent=1))
        return
    share = percent(found.committed / layout.members)
    print(f"{store}: {found.committed:,} of {layout.members:,} members ({share})")
    axes = " × ".join(f"{size:,} {axis}" for axis, size in layout.axes.items())
    print(f"axes: {axes}; shards of {math.prod(layout.shard_shape):,} members")
    if found.committed:
        print(format_solved(found.committed, found.solved))
    if rate := found.members_per_second:
        left = (layout.members - found.committed) / rate
        print(f"{rate:,.0f} members/s lately" + (f", {tqdm.format_interval(left)} left" if left else ""))
    for worker, shards in found.workers.items():
        print(f"at work: {worker}, {shards} shards")


def _open_store(store: str, *, read_only: bool = True) -> "StudyStore":
    from xorjax.studies.store.manifest import find_study

    with _refuse_errors():
        return find_study(store, read_only=read_only)


@app.command()
def verify(
    store: Where,
    sample: Annotated[int, typer.Option(min=0, max=2**20, help="How many members are trained again.")] = 64,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Draws these members.")] = 0,
    repair_: Annotated[bool, typer.Option("--repair", help="Train damaged members again.")] = False,
) -> None:
    """Read every file of a study, train a sample of its members again, and compare bit for bit."""
    from xorjax.studies.claims import Claims
    from xorjax.studies.verify import repair_study
    from xorjax.studies.worker import StudyWorker

    study = _open_store(store)
    setup = _load_setup(study, check=True) if sample or repair_ else None
    trainer = setup and setup.trainer
    found = _verify_once(store, trainer, sample, seed)
    if repair_ and not found.is_sound:
        if found.shards and trainer is None:
            _refuse(f"shards that can't be trained anew here: {', '.join(found.shards)}")
        left = repair_study(store, found)
        if left:
            typer.echo(f"xorjax: shards {', '.join(left)} are left: another process works on them", err=True)
        if found.shards and trainer is not None:
            damaged = _open_store(store, read_only=False)
            claims = Claims(damaged.folder)
            numbers = [damaged.layout.shard_at(label) for label in found.shards if label not in left]
            with study_bar("members") as show, claims.keep_alive(), _refuse_errors():
                StudyWorker(trainer, damaged, claims, show, numbers).run()
        print(f"{store}: metadata are written anew, shards trained anew: {len(found.shards) - len(left)}")
        found = _verify_once(store, trainer, sample, seed)
    if not found.is_sound:
        raise typer.Exit(1)


def _verify_once(store: str, trainer: Trainer | None, sample: int, seed: int) -> "Verification":
    from xorjax.studies.verify import verify_study

    n_shards = _open_store(store).layout.n_shards
    with counting_bar("reading", n_shards, "shards") as show, _refuse_errors():
        found = verify_study(store, trainer, sample=sample, seed=seed, progress=show)
    for line in [*found.damaged, *(f"not the same when trained again: {each}" for each in found.differing)]:
        typer.echo(f"xorjax: {line}", err=True)
    read = f"{found.committed:,} of {found.members:,} members read, {found.replayed:,} trained again"
    print(f"{store}: {read}, {len(found.damaged)} files damaged, {len(found.differing)} values that differ")
    return found


@app.command()
def report(
    store: Where,
    output: Annotated[
        Path | None, typer.Option(callback=check_writable, show_default="STORE.html", help="The file of the page.")
    ] = None,
) -> None:
    """Write one HTML page about a study, with all its figures in it."""
    from xorjax.reports.page import render_page

    study = _open_store(store)
    path = output or Path(f"{Path(store).resolve().stem}.html")
    with _refuse_errors():
        text = render_page(study, _load_setup(study, check=True))
    path.write_text(text, encoding="utf-8")
    print(path)


def _load_setup(study: "StudyStore", *, check: bool) -> Setup | None:
    """Return what trains the members of a store, bit for bit if that is to be checked, or None, and print why."""
    from xorjax.studies.verify import check_trainer

    first = {axis: values[0] for axis, values in study.values.items()}
    try:
        setup = build_setup(from_store(study.metadata["plan"]), {**first, **study.metadata["shared"]})
        if check:
            check_trainer(study, setup.trainer)
        return setup
    except ValueError as error:
        typer.echo(f"xorjax: {error}", err=True)
        return None


@app.command()
def replay(
    store: Where,
    seed: Annotated[int, typer.Option(help="The seed of the member.")],
    at: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Where along an axis; once for each axis.")
    ] = None,
) -> None:
    """Train one member again, and say whether it is, bit for bit, what the store has."""
    from xorjax.studies.verify import replay_member

    study = _open_store(store)
    setup = _load_setup(study, check=False)  # which `replay_member` does
    if setup is None:
        raise typer.Exit(1)
    hparams = _parse_hparams(at or [])
    with _refuse_errors():
        result, differing = replay_member(study, setup.trainer, seed, hparams)
    print_result(setup.batch, jax.tree.map(lambda leaf: leaf[0], result))
    if differing:
        print(f"not the same in the store: {', '.join(differing)}")
        raise typer.Exit(1)
    print("the same, bit for bit, in the store")


def _parse_hparams(texts: list[str]) -> dict[str, float]:
    """Return the hyper-parameters of texts such as learning_rate=0.5."""
    hparams: dict[str, float] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name in hparams:
            raise typer.BadParameter(f"--at={text!r} gives {name} a second value.")
        try:
            hparams[name] = float(value)
        except ValueError:
            wanted = "a name and a number, as in learning_rate=0.5"
            raise typer.BadParameter(f"--at={text!r} must be {wanted}.") from None
    return hparams
