"""`xorjax study`: options and files in, the library at work, words out. No numerics."""

import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import jax
import typer
from tqdm import tqdm

from xorjax.cli.options import (
    BatchSize,
    Epochs,
    HiddenUnits,
    LearningRates,
    Momenta,
    Optimizer,
    Seeds,
    Stop,
    TaskName,
    build_plan_from_options,
    check_writable,
)
from xorjax.cli.terminal import defer_interrupts, describe_outcome, exit_interrupted
from xorjax.statistics.arrays import percent
from xorjax.studies.plan import Plan, Setup, build_setup, from_store, read_plan, to_store
from xorjax.studies.progress import NO_PROGRESS, Progress, format_solved, open_bar, progress_bar
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


@app.command()
def run(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="The study, as TOML.", exists=True, dir_okay=False)
    ] = None,
    store: Annotated[str | None, typer.Option(help="Where the study is stored: a folder, or a URL.")] = None,
    seeds: Seeds = None,
    task: TaskName = None,
    learning_rate: LearningRates = None,
    momentum: Momenta = None,
    epochs: Epochs = None,
    optimizer: Optimizer = None,
    hidden_units: HiddenUnits = None,
    batch_size: BatchSize = None,
    stop: Stop = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Which results are stored, such as loss; repeatable. All but params."),
    ] = None,
    worker: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Train the I-th of N parts, as in a job array."),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="If the store holds another study, show how the programs differ.")
    ] = False,
) -> None:
    """Train a study, or the members (networks) that are still missing of it.

    The study is a TOML file, or options. Several processes may train the same study at once.
    """
    given = {
        "seeds": seeds,
        "task": task,
        "learning_rate": learning_rate,
        "momentum": momentum,
        "epochs": epochs,
        "optimizer": optimizer,
        "hidden_units": hidden_units,
        "batch_size": batch_size,
        "stop": stop,
        "keep": keep,
    }
    plan = build_plan_from_options(**given) if file is None else _read_plan(file, given)
    where = plan.store if store is None else store
    if where is None:
        raise typer.BadParameter("--store, or store in the file, must say where the study is to be kept.")
    _train(plan, where, worker, verbose)


def _read_plan(file: Path, given: dict[str, object]) -> Plan:
    if options := [name.replace("_", "-") for name, value in given.items() if value is not None]:
        raise typer.BadParameter(
            f"--{options[0]} and the file {str(file)!r} are given; set {options[0]} in the file."
        )
    try:
        return read_plan(file)
    except ValueError as error:
        _refuse(error)


def _refuse(error: ValueError | str) -> NoReturn:
    typer.echo(f"xorjax: {error}", err=True)
    raise typer.Exit(2)


def _train(plan: Plan, where: str, worker: str | None, verbose: bool) -> None:
    from xorjax.studies.run import train_study

    setup = build_setup(plan.options, plan.first_hparams)
    never_stops, steps = plan.options["stop"] == "never", plan.options["epochs"] * setup.updates
    each, unit = (steps, "net-steps") if never_stops else (1, "members")
    at, begin = NO_PROGRESS, time.perf_counter()
    try:
        with defer_interrupts() as check_interrupt, progress_bar(each, unit) as show:

            def note(progress: Progress) -> None:
                nonlocal at
                at = progress
                check_interrupt()
                show(progress)

            train_study(
                setup.trainer,
                plan.seeds,
                plan.axes,
                store=where,
                keep=plan.keep,
                shard_size=plan.shard_size,
                worker=worker,
                progress=note,
                plan=to_store(plan),
            )
    except KeyboardInterrupt:
        committed = f"{at.committed:,} of {at.total:,} members are committed in {where}"
        waiting = f"another process creates or extends the study in {where}"
        exit_interrupted(f"{committed if at.total else waiting}; the same command continues it")
    except ValueError as error:
        _refuse_study(error, verbose)
    seconds = time.perf_counter() - begin
    part = "" if worker is None else " of its part"
    committed = f"{at.committed:,} of {at.total:,} members{part}, {format_solved(at)}"
    print(f"{where}: {committed}; {at.trained:,} trained in {seconds:.1f} s")


def _refuse_study(error: ValueError, verbose: bool) -> NoReturn:
    """Print why a study is refused; the lines in which two programs differ only if they are asked for."""
    program = getattr(error, "program", "")
    more = f"\n{program}" if verbose else "\n--verbose shows how the programs differ."
    _refuse(f"{error}{more if program else ''}")


@app.command()
def status(
    store: Where,
    json_: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Print how far a study is: members, rate, time left, workers."""
    from xorjax.studies.status import read_status

    stored = _open_store(store)
    found = read_status(stored)
    if json_:
        print(json.dumps(found._asdict(), indent=1))
        return
    share = found.committed / stored.layout.members
    print(f"{store}: {found.committed:,} of {stored.layout.members:,} members ({percent(share)})")
    axes = " × ".join(f"{size:,} {axis}" for axis, size in stored.layout.axes.items())
    print(f"axes: {axes}; shards of {math.prod(stored.layout.shard_shape):,} members")
    if found.committed:
        print(format_solved(NO_PROGRESS._replace(committed=found.committed, solved=found.solved)))
    if found.members_per_second:
        left = (stored.layout.members - found.committed) / found.members_per_second
        print(
            f"{found.members_per_second:,.0f} members/s lately"
            + (f", {tqdm.format_interval(left)} left" if left else "")
        )
    for worker, shards in found.workers.items():
        print(f"at work: {worker}, {shards} shards")


def _open_store(store: str) -> "StudyStore":
    from xorjax.studies.store.manifest import find_study

    try:
        return find_study(store)
    except ValueError as error:
        _refuse(error)


@app.command()
def verify(
    store: Where,
    sample: Annotated[int, typer.Option(help="How many members are trained again.")] = 64,
    seed: Annotated[int, typer.Option(help="Draws these members.")] = 0,
    repair_: Annotated[bool, typer.Option("--repair", help="Train damaged members again.")] = False,
) -> None:
    """Read every file of a study, train a sample of its members again, and compare bit for bit."""
    from xorjax.studies.verify import repair_study

    stored = _open_store(store)
    setup = _load_same_setup(stored) if sample or repair_ else None
    trainer = setup and setup.trainer
    found = _verify_once(store, trainer, sample, seed)
    if repair_ and not found.is_sound:
        if found.shards and trainer is None:
            _refuse(f"{len(found.shards)} shards can't be trained anew here.")
        left = repair_study(store, found)
        if left:
            typer.echo(f"xorjax: shards {', '.join(left)} are left: another process works on them", err=True)
        if found.shards and trainer is not None:
            _train_missing(trainer, store)
        print(f"{store}: metadata are written anew, and {len(found.shards) - len(left)} shards trained anew")
        found = _verify_once(store, trainer, sample, seed)
    if not found.is_sound:
        raise typer.Exit(1)


def _verify_once(store: str, trainer: Trainer | None, sample: int, seed: int) -> "Verification":
    from xorjax.studies.verify import verify_study

    with (
        defer_interrupts() as check_interrupt,
        open_bar("reading", _open_store(store).layout.n_shards, "shards") as bar,
    ):

        def show(done: int, total: int) -> None:
            check_interrupt()
            bar.update(done - bar.n)

        try:
            found = verify_study(store, trainer, sample=sample, seed=seed, progress=show)
        except ValueError as error:
            _refuse(error)
    for line in [*found.damaged, *(f"not the same when trained again: {each}" for each in found.differing)]:
        typer.echo(f"xorjax: {line}", err=True)
    print(
        f"{store}: {found.committed:,} of {found.members:,} members read, {found.replayed:,} trained again, "
        f"{len(found.damaged)} files damaged, {len(found.differing)} values that differ"
    )
    return found


def _load_same_setup(stored: "StudyStore") -> Setup | None:
    """Return what trains the members of a store again, bit for bit, or None, and print why."""
    from xorjax.studies.verify import check_trainer

    setup = _load_setup(stored)
    if setup is not None:
        try:
            check_trainer(stored, setup.trainer)
        except ValueError as error:
            typer.echo(f"xorjax: {error}", err=True)
            return None
    return setup


def _train_missing(trainer: Trainer, store: str) -> None:
    from xorjax.studies.claims import open_claims
    from xorjax.studies.run import train_missing
    from xorjax.studies.store.manifest import find_study

    study = find_study(store, read_only=False)
    claims = open_claims(study.folder)
    with defer_interrupts() as check_interrupt, progress_bar(1, "members") as show, claims.keep_alive():

        def note(progress: Progress) -> None:
            check_interrupt()
            show(progress)

        try:
            train_missing(trainer, study, claims, show=note)
        except ValueError as error:
            _refuse(error)


@app.command()
def report(
    store: Where,
    output: Annotated[
        Path | None, typer.Option(callback=check_writable, show_default="STORE.html", help="The file of the page.")
    ] = None,
) -> None:
    """Write one HTML page about a study, with all its figures in it."""
    from xorjax.reports.page import page_of

    stored = _open_store(store)
    path = output or Path(f"{Path(store).resolve().stem}.html")
    try:
        text = page_of(stored, _load_same_setup(stored))
    except ValueError as error:
        _refuse(error)
    path.write_text(text, encoding="utf-8")
    print(path)


def _load_setup(stored: "StudyStore") -> Setup | None:
    """Return what the plan in a store describes, or None, and print why."""
    first = {axis: values[0] for axis, values in stored.values.items()}
    try:
        return build_setup(from_store(stored.metadata["plan"]), {**first, **stored.metadata["shared"]})
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

    stored = _open_store(store)
    setup = _load_setup(stored)
    if setup is None:
        raise typer.Exit(1)
    hparams = _parse_place(at or [])
    try:
        result, differing = replay_member(stored, setup.trainer, seed, hparams)
    except ValueError as error:
        _refuse(error)
    for row, (pattern, target) in enumerate(zip(*setup.batch, strict=True)):
        outputs = ", ".join(f"{value:.8f}" for value in result.predictions[0, row])
        print(f"{' '.join(f'{value:g}' for value in pattern)} → {outputs}   (target {target[0]:g})")
    print(describe_outcome(jax.tree.map(lambda leaf: leaf[0], result._replace(params=None))))
    print(
        "not the same in the store: " + ", ".join(differing)
        if differing
        else "the same, bit for bit, in the store"
    )
    if differing:
        raise typer.Exit(1)


def _parse_place(at: list[str]) -> dict[str, float]:
    """Return the hyper-parameters of texts such as learning_rate=0.5."""
    hparams: dict[str, float] = {}
    for text in at:
        name, _, value = text.partition("=")
        if name in hparams:
            raise typer.BadParameter(f"--at={text!r} gives {name} a second value.")
        try:
            hparams[name] = float(value)
        except ValueError:
            raise typer.BadParameter(
                f"--at={text!r} must be a name and a number, as in learning_rate=0.5."
            ) from None
    return hparams
