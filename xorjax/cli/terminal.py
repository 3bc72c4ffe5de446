"""What the command shows on a terminal: errors in one line, live bars, and a clean end after Ctrl-C."""

import io
import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from xorjax.networks.tasks import Batch
from xorjax.studies.progress import Show, open_bar, progress_bar
from xorjax.training.results import Outcome, Result

TOLERANCE = 0.01  # of a solved network's loss
INTERRUPTED = 130  # the shell's exit code for SIGINT
ABBREVIATIONS = {"--lr": "--learning-rate", "--bs": "--batch-size", "--units": "--hidden-units"}


class OneLineErrors(TyperGroup):
    """The command, with errors as one line on stderr and exit code 2, and 130 after Ctrl-C."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # typer ends it quietly
            raise
        except OSError as error:
            typer.echo(f"xorjax: {error}", err=True)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:  # outside of training, which reports the members that finished
            exit_interrupted()

    def main(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["standalone_mode"] = False
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # ½ and ━ on a terminal that has none
        try:
            code = super().main(*args, **kwargs)
        except TyperException as error:
            message = " ".join(error.format_message().split())
            if (option := getattr(error, "option_name", "")) in ABBREVIATIONS:
                message = f"No such option: {option}; did you mean {ABBREVIATIONS[option]}?"
            if message:  # empty after the help of a bare `xorjax`
                typer.echo(f"xorjax: {message}", err=True)
            sys.exit(2)
        except typer.Abort:
            sys.exit(INTERRUPTED)
        sys.exit(code if isinstance(code, int) else 0)


@contextmanager
def defer_interrupts() -> Iterator[Callable[[], None]]:
    """Raise KeyboardInterrupt for a first Ctrl-C only where the function given is called; for a second at once.

    In the middle of JAX's compiler, an interrupt would crash the process, or be lost. (While programs are
    compiled, a second one waits too, a few seconds.)
    """
    is_pressed = False

    def note(*_: object) -> None:
        nonlocal is_pressed
        is_pressed = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def check_interrupt() -> None:
        if is_pressed:
            raise KeyboardInterrupt

    is_main = threading.current_thread() is threading.main_thread()
    takes_over = is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if takes_over:
        signal.signal(signal.SIGINT, note)
    try:
        yield check_interrupt
    finally:
        if takes_over:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def progress_unit(settings: Mapping[str, Any], updates: int) -> tuple[str, int]:
    """Return the unit of a bar, and how many a member has: net-steps where all members train all epochs."""
    return ("net-steps", settings["epochs"] * updates) if settings["stop"] == "never" else ("members", 1)


@contextmanager
def counting_bar(description: str, total: int, unit: str, each: int = 1) -> Iterator[Callable[[int, int], None]]:
    """Give a function that shows what is done of a total in a live bar, which counts `each` of a unit for each.

    The function also raises a deferred KeyboardInterrupt.
    """
    with defer_interrupts() as check_interrupt, open_bar(description, total * each, unit) as bar:

        def show(done: int, total: int) -> None:
            check_interrupt()
            bar.update(done * each - bar.n)

        yield show


@contextmanager
def study_bar(unit: str, each: int = 1) -> Iterator[Show]:
    """Show how far a study is, as `progress_bar`; the function given also raises a deferred KeyboardInterrupt."""
    with defer_interrupts() as check_interrupt, progress_bar(unit, each, check_interrupt) as show:
        yield show


def print_result(batch: Batch, result: Result) -> None:
    """Print the predictions of one network, and as what it ended."""
    for pattern, target, prediction in zip(*batch, result.predictions, strict=True):
        outputs = ", ".join(f"{value:.8f}" for value in prediction)
        print(f"{' '.join(f'{value:g}' for value in pattern)} → {outputs}   (target {target[0]:g})")
    print(describe_outcome(result))


def describe_outcome(result: Result) -> str:
    """Return in words what a network ended as, and why it is not solved."""
    outcome = Outcome(int(result.outcome))
    since, reason = "", ""
    if outcome == Outcome.SOLVED:
        since = f" since epoch {result.solved_epoch:,}"
        reason = f" (all patterns right and a loss below {TOLERANCE})"
    elif outcome == Outcome.UNSOLVED:
        reasons = [] if result.accuracy == 1 else ["not all patterns are right"]
        reasons += [] if result.loss < TOLERANCE else [f"the loss is not below {TOLERANCE}"]
        reason = f", since {' and '.join(reasons)}" if reasons else ""
    measures = f"loss {result.loss:.6g}, accuracy {result.accuracy:.2f} after {result.epochs:,} epochs"
    return f"{outcome.name.lower()}{since}: {measures}{reason}"


def write_report(
    report: Mapping[str, Any], json_file: Path | None, plot: Path | None, draw: Callable[[Path], None]
) -> None:
    """Write a report and its figure, each to its file if there is one."""

    def write_json(path: Path) -> None:
        path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    for option, path, write in (("--json", json_file, write_json), ("--plot", plot, draw)):
        try:
            if path is not None:
                write(path)
        except OSError as error:
            raise OSError(f"{option}={str(path)!r} could not be written: {error.strerror or error}") from error


def exit_interrupted(what: str = "") -> NoReturn:
    typer.echo(f"xorjax: interrupted{what and ': '}{what}", err=True)
    raise typer.Exit(INTERRUPTED)
