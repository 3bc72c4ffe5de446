"""How far a study is, and showing it with tqdm: a bar on a terminal or in a notebook, now and then elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tqdm.auto import tqdm

from xorjax.statistics.arrays import interval, percent

LOG_SECONDS = 10.0  # between two lines where stderr is no terminal


class Progress(NamedTuple):
    """How far a study is, in members."""

    done: int  # committed, before this run or in it, and those in training by the share of their epochs
    total: int  # members of the study, or of this worker's part of it
    committed: int
    solved: int  # of those committed
    trained: int  # members that this run has committed
    epochs: int  # for which this run has trained them


Show = Callable[[Progress], None]
NO_PROGRESS = Progress(0, 0, 0, 0, 0, 0)


def format_solved(committed: int, solved: int) -> str:
    """Return the share solved of the members committed so far, with its interval of 95 %."""
    if not committed:
        return "none committed yet"
    low, high = interval(solved, committed)
    return f"{percent(solved / committed)} solved ({100 * low:.2f} to {100 * high:.2f} %)"


def open_bar(what: str, total: int, unit: str, initial: int = 0) -> tqdm:
    """Return a bar of tqdm on stderr, or in a notebook."""
    is_live = sys.stderr.isatty() or "ipykernel" in sys.modules
    seconds = 0.1 if is_live else LOG_SECONDS
    look = {"unit": f" {unit}", "unit_scale": True, "mininterval": seconds, "dynamic_ncols": True}
    return tqdm(desc=what, total=total, initial=initial, **look)


@contextmanager
def progress_bar(unit: str, each: int = 1, check: Callable[[], None] = lambda: None) -> Iterator[Show]:
    """Give a function that calls `check` and shows a Progress in a bar, by `each` of these units for a member."""
    bar: tqdm | None = None

    def show(at: Progress) -> None:
        nonlocal bar
        check()
        if not at.total:  # another process creates or extends the study
            return
        if bar is None:
            bar = open_bar("study", at.total * each, unit, at.done * each)
        bar.set_postfix_str(format_solved(at.committed, at.solved), refresh=False)
        bar.update(at.done * each - bar.n)

    try:
        yield show
    finally:
        if bar is not None:
            bar.close()
