"""How the command speaks to who runs it: errors in a line, live bars, a clean end where it is interrupted."""

import io
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.progress import TextColumn
from typer.core import TyperGroup
from typer.exceptions import TyperException

from xorjax.studies.live import live_bar

INTERRUPTED = 130  # the shell's exit code for SIGINT


class OneLineErrors(TyperGroup):
    """Errors as one line on stderr, and exit code 2; an interrupt likewise, and 130."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # typer ends it quietly
            raise
        except OSError as error:
            typer.echo(f"xorjax: {error}", err=True)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:  # outside the work, which reports what it has finished
            end_interrupted()

    def main(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["standalone_mode"] = False
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # ½ and ━ on a terminal that has none
        try:
            code = super().main(*args, **kwargs)
        except TyperException as error:
            if message := " ".join(error.format_message().split()):  # empty after the help of a bare `xorjax`
                typer.echo(f"xorjax: {message}", err=True)
            sys.exit(2)
        except typer.Abort:
            sys.exit(INTERRUPTED)
        sys.exit(code if isinstance(code, int) else 0)


@contextmanager
def heeded_interrupts() -> Iterator[Callable[[], None]]:
    """A first Ctrl-C takes effect, as KeyboardInterrupt, where the function given is called; a second at once.

    In the middle of JAX's compiler it would crash the process, or be lost.
    """
    is_pressed = False

    def note(*_: Any) -> None:
        nonlocal is_pressed
        is_pressed = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def heed() -> None:
        if is_pressed:
            raise KeyboardInterrupt

    is_main = threading.current_thread() is threading.main_thread()
    takes_over = is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if takes_over:
        signal.signal(signal.SIGINT, note)
    try:
        yield heed
    finally:
        if takes_over:
            signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def training_bar(
    what: str, total: int, updates: int, settings: dict[str, Any]
) -> Iterator[Callable[[int, int], None]]:
    """A live bar of the members finished, and how fast: in updates where all members train all epochs."""
    each, unit = (settings["epochs"] * updates, "net-steps/s") if settings["stop"] == "never" else (1, "members/s")
    begun = time.perf_counter()
    rate = TextColumn(f"{{task.fields[rate]:.2g}} {unit}")
    with heeded_interrupts() as heed, live_bar(rate) as progress:
        bar = progress.add_task(what, total=total, rate=0.0)

        def show(done: int, total: int) -> None:
            heed()
            seconds = time.perf_counter() - begun
            progress.update(bar, completed=done, total=total, rate=done * each / seconds)

        yield show


def deliver(
    made: dict[str, Any],
    json_file: Path | None,
    plot: Path | None,
    draw: Callable[[Path], None],
    show: Callable[[Console, dict[str, Any]], None],
) -> None:
    """Writes a report and its figure, and shows the report: also where one of the others fails."""
    try:
        if json_file is not None:
            text = json.dumps(made, indent=2, ensure_ascii=False) + "\n"
            _written("--json", json_file, lambda path: path.write_text(text, encoding="utf-8"))
        if plot is not None:
            _written("--plot", plot, draw)
    finally:
        show(Console(highlight=False), made)


def _written(option: str, path: Path, write: Callable[[Path], Any]) -> None:
    try:
        write(path)
    except OSError as error:
        raise OSError(f"{option}={str(path)!r} could not be written: {error.strerror or error}") from error


def end_if_interrupted(finished: int, total: int) -> None:
    if not finished:
        end_interrupted("before any member finished")
    if finished < total:
        end_interrupted(f"the report is of the {finished:,} of {total:,} members that finished")


def end_interrupted(what: str = "") -> NoReturn:
    typer.echo(f"xorjax: interrupted{what and ': '}{what}", err=True)
    raise typer.Exit(INTERRUPTED)
