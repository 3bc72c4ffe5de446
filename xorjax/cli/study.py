"""`xorjax study`: options and files in, the library at work, words out. No numerics."""

import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import numpy as np
import typer

from xorjax.cli.terminal import end_interrupted, heeded_interrupts
from xorjax.statistics.arrays import percent
from xorjax.studies.live import live_bar
from xorjax.studies.options import writable
from xorjax.studies.plan import Plan, PlanError, checked, from_store, kept, read_file, setup_of
from xorjax.studies.progress import NOTHING, Progress, duration, shown, solved
from xorjax.studies.setups import Setup
from xorjax.training.results import Outcome
from xorjax.training.trainer import Trainer

if TYPE_CHECKING:  # what is imported where it is used: ensembles need no zarr
    from xorjax.studies.store.shards import Stored
    from xorjax.studies.verify import Verified

app = typer.Typer(no_args_is_help=True, help="Labelled grids of members, in a store that loses nothing.")

Where = Annotated[str, typer.Argument(metavar="STORE", help="The store of the study: a folder, or a URL.")]


@app.command()
def run(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="The study, as TOML.", exists=True, dir_okay=False)
    ] = None,
    store: Annotated[str | None, typer.Option(help="Where to: a folder, or a URL.")] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="N|FROM:TO", help="Without a file, what would be in it:")
    ] = None,
    task: Annotated[str | None, typer.Option(metavar="xor|parity:N|TABLE")] = None,
    learning_rate: Annotated[str | None, typer.Option(metavar="X|X,Y|FROM:TO:COUNT")] = None,
    momentum: Annotated[str | None, typer.Option(metavar="X|X,Y|FROM:TO:COUNT")] = None,
    epochs: Annotated[int | None, typer.Option()] = None,
    optimizer: Annotated[str | None, typer.Option()] = None,
    hidden_units: Annotated[int | None, typer.Option()] = None,
    batch_size: Annotated[int | None, typer.Option()] = None,
    stop: Annotated[str | None, typer.Option(metavar="never|solved")] = None,
    keep: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Repeatable.")] = None,
    worker: Annotated[
        str | None, typer.Option(metavar="I/N", help="Do the I-th of every N units alone, as of a job array.")
    ] = None,
) -> None:
    """Train a study, or what is still missing of it; as many processes as wished may do so at once."""
    of_axes = {"learning_rate": learning_rate, "momentum": momentum}
    given: dict[str, Any] = {
        "seeds": seeds if seeds is None or not seeds.isdecimal() else int(seeds),
        "task": task,
        "epochs": epochs,
        "optimizer": optimizer,
        "hidden_units": hidden_units,
        "batch_size": batch_size,
        "stop": stop,
        "keep": keep,
        "axes": {name: _numbers(value) for name, value in of_axes.items() if value is not None} or None,
    }
    given = {name: value for name, value in given.items() if value is not None}
    plan = _plan(file, given)
    where = plan.store if store is None else store
    if where is None:
        raise typer.BadParameter("--store, or store in the file, must say where the study is to be kept.")
    setup = setup_of(plan.how, plan.firsts)
    updates = -(-len(setup.batch.x) // (plan.how["batch_size"] or len(setup.batch.x)))
    _run(setup.trainer, plan, where, worker, updates)


def _plan(file: Path | None, given: dict[str, Any]) -> Plan:
    try:
        if file is not None:
            if given:
                option = next(iter(given)).replace("_", "-")
                raise typer.BadParameter(f"--{option} and a file are given; what {str(file)!r} says, say there.")
            return read_file(file)
        plan, problems = checked(given)
    except PlanError as error:
        _refuse(str(error))
    if plan is None:
        raise typer.BadParameter("; ".join(problem.what for problem in problems))
    return plan


def _refuse(what: str) -> NoReturn:
    typer.echo(f"xorjax: {what}", err=True)
    raise typer.Exit(2)


def _numbers(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def _run(trainer: Trainer, plan: Plan, where: str, worker: str | None, updates: int) -> None:
    from xorjax.studies.run import complete

    at = NOTHING
    begun = time.perf_counter()
    each, unit = (plan.how["epochs"] * updates, "net-steps/s") if plan.how["stop"] == "never" else (1, "members/s")
    try:
        with heeded_interrupts() as heed, shown(each, unit) as show:

            def note(progress: Progress) -> None:
                nonlocal at
                at = progress
                heed()
                show(progress)

            complete(
                trainer,
                plan.seeds,
                plan.axes,
                store=where,
                keep=plan.keep,
                unit=plan.unit,
                worker=worker,
                progress=note,
                plan=kept(plan),
            )
    except KeyboardInterrupt:
        of_all = f"{at.committed:,} of {at.total:,} members are committed in {where}"
        waiting = f"another process makes or extends the study in {where}"
        end_interrupted(f"{of_all if at.total else waiting}; the same command goes on with it")
    except ValueError as error:
        _refuse(str(error))
    seconds = time.perf_counter() - begun
    share = "" if worker is None else " of its share"
    of_all = f"{at.committed:,} of {at.total:,} members{share}, {solved(at)}"
    print(f"{where}: {of_all}; {at.trained:,} trained in {seconds:.1f} s")


@app.command()
def status(
    store: Where,
    json_: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """How far a study is: members, rate, time left, workers."""
    from xorjax.studies.status import status_of

    stored = _found(store)
    found = status_of(stored)
    if json_:
        print(json.dumps(found._asdict(), indent=1))
        return
    share = found.committed / stored.layout.members
    print(f"{store}: {found.committed:,} of {stored.layout.members:,} members ({percent(share)})")
    axes = " × ".join(f"{size:,} {axis}" for axis, size in stored.layout.axes.items())
    print(f"axes: {axes}; units of {math.prod(stored.layout.unit):,} members")
    if found.committed:
        print(solved(NOTHING._replace(committed=found.committed, solved=found.solved)))
    if found.members_per_second:
        left = (stored.layout.members - found.committed) / found.members_per_second
        print(f"{found.members_per_second:,.0f} members/s lately" + (f", {duration(left)} left" if left else ""))
    for worker, units in found.workers.items():
        print(f"at work: {worker}, {units} units")


def _found(store: str) -> "Stored":
    from xorjax.studies.store import manifest as roots

    try:
        return roots.found_in(store)
    except ValueError as error:
        _refuse(str(error))


@app.command()
def verify(
    store: Where,
    sample: Annotated[int, typer.Option(min=0, max=2**20, help="Members that are trained again.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Which members: another seed draws others.")] = 0,
    repair_: Annotated[bool, typer.Option("--repair", help="Train anew what is damaged.")] = False,
) -> None:
    """Read every file of a study, and train a sample of its members again: the same, bit for bit?"""
    from xorjax.studies.verify import repair

    stored = _found(store)
    setup = _trained_alike(stored) if sample or repair_ else None
    trainer = setup and setup.trainer
    found = _verified(store, trainer, sample, seed)
    if repair_ and not found.is_sound:
        if found.units and trainer is None:
            _refuse(f"{len(found.units)} units can't be trained anew here.")
        left = repair(store, found)
        if left:
            typer.echo(f"xorjax: units {', '.join(left)} are left: another process works on them", err=True)
        if found.units and trainer is not None:
            _again(trainer, store)
        print(f"{store}: metadata are written anew, and {len(found.units) - len(left)} units trained anew")
        found = _verified(store, trainer, sample, seed)
    if not found.is_sound:
        raise typer.Exit(1)


def _verified(store: str, trainer: Trainer | None, sample: int, seed: int) -> "Verified":
    from xorjax.studies.verify import verify_study

    with heeded_interrupts() as heed, live_bar() as progress:
        bar = progress.add_task("reading")

        def show(done: int, total: int) -> None:
            heed()
            progress.update(bar, completed=done, total=total)

        try:
            found = verify_study(store, trainer, sample=sample, seed=seed, progress=show)
        except ValueError as error:
            _refuse(str(error))
    for line in [*found.damaged, *(f"not the same when trained again: {each}" for each in found.differing)]:
        typer.echo(f"xorjax: {line}", err=True)
    print(
        f"{store}: {found.committed:,} of {found.members:,} members read, {found.replayed:,} trained again, "
        f"{len(found.damaged)} files damaged, {len(found.differing)} values that differ"
    )
    return found


def _trained_alike(stored: "Stored") -> Setup | None:
    """What trains the members of a store again, bit for bit, or None, and a word on why."""
    from xorjax.studies.verify import check_same

    setup = _setup(stored)
    if setup is not None:
        try:
            check_same(stored, setup.trainer)
        except ValueError as error:
            typer.echo(f"xorjax: {error}", err=True)
            return None
    return setup


def _again(trainer: Trainer, store: str) -> None:
    from xorjax.studies.run import complete
    from xorjax.studies.store.seed_ranges import seeds_at

    stored = _found(store)
    (first, last), *more = stored.seeds
    seeds = seeds_at(stored.seeds, np.arange(stored.layout.axes["seed"])) if more else range(first, last)
    with heeded_interrupts() as heed, shown(1, "members/s") as show:

        def note(progress: Progress) -> None:
            heed()
            show(progress)

        axes = {**stored.values, **stored.header["shared"]}
        try:
            complete(trainer, seeds, axes, store=store, progress=note, plan=stored.header["plan"], **stored.how)
        except ValueError as error:
            _refuse(str(error))


@app.command()
def report(
    store: Where,
    output: Annotated[
        Path | None, typer.Option(callback=writable, help="The page; STORE.html if not said.")
    ] = None,
) -> None:
    """Write one HTML page about a study, with all its figures in it."""
    from xorjax.reports.page import page_of

    stored = _found(store)
    path = output or Path(f"{Path(store).resolve().stem}.html")
    try:
        text = page_of(stored, _trained_alike(stored))
    except ValueError as error:
        _refuse(str(error))
    path.write_text(text, encoding="utf-8")
    print(path)


def _setup(stored: "Stored") -> Setup | None:
    """What the plan in a store describes, or None, and a word on why."""
    try:
        how = from_store(stored.header["plan"])
    except PlanError as error:
        typer.echo(f"xorjax: {error}", err=True)
        return None
    return setup_of(
        how, {**{axis: values[0] for axis, values in stored.values.items()}, **stored.header["shared"]}
    )


@app.command()
def replay(
    store: Where,
    seed: Annotated[int, typer.Option(help="The seed of the member.")],
    at: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Where along an axis; once for each axis.")
    ] = None,
) -> None:
    """Train one member again, and say whether it is, bit for bit, what the store has."""
    from xorjax.studies.verify import replayed

    stored = _found(store)
    setup = _setup(stored)
    if setup is None:
        raise typer.Exit(1)
    hparams: dict[str, float] = {}
    for each in at or []:
        name, _, value = each.partition("=")
        try:
            hparams[name] = float(value)
        except ValueError:
            raise typer.BadParameter(
                f"--at={each!r} must be a name and a number, as in learning_rate=0.5."
            ) from None
    if len(hparams) < len(at or []):
        raise typer.BadParameter("--at names each axis once.")
    try:
        result, differing = replayed(stored, setup.trainer, seed, hparams)
    except ValueError as error:
        _refuse(str(error))
    for row, (pattern, target) in enumerate(zip(*setup.batch, strict=True)):
        outputs = ", ".join(f"{value:.8f}" for value in result.predictions[0, row])
        print(f"{' '.join(f'{value:g}' for value in pattern)} → {outputs}   (target {target[0]:g})")
    outcome = Outcome(int(result.outcome[0])).name.lower()
    since = f" since epoch {result.solved_epoch[0]:,}" if outcome == "solved" else ""
    print(f"{outcome}{since}: loss {result.loss[0]:.6g} after {result.epochs[0]:,} epochs")
    print(
        "not the same in the store: " + ", ".join(differing)
        if differing
        else "the same, bit for bit, in the store"
    )
    if differing:
        raise typer.Exit(1)
