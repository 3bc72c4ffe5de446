"""How far a study is, and showing it: a live bar on a terminal or in a notebook, a line now and then elsewhere."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from rich.console import Console
from rich.progress import TextColumn

from xorjax.statistics.arrays import interval, percent
from xorjax.studies.live import live_bar

LINE_SECONDS = 10.0


class Progress(NamedTuple):
    """How far a study is.

    Attributes:
      done: members committed, before this run or in it, and those under way by the share of their epochs.
      total: members of the study, or of this worker's share of it.
      committed: members, and `solved`: how many of these are.
      trained: members that this run has committed.
      epochs: that it has trained them for.
    """

    done: int
    total: int
    committed: int
    solved: int
    trained: int
    epochs: int


NOTHING = Progress(0, 0, 0, 0, 0, 0)


def solved(at: Progress) -> str:
    """The share solved, of those committed so far, with its interval of 95 %."""
    if not at.committed:
        return "none committed yet"
    low, high = interval(at.solved, at.committed)
    return f"{percent(at.solved / at.committed)} solved ({100 * low:.2f} to {100 * high:.2f} %)"


def duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


@contextmanager
def shown(each: int, unit: str) -> Iterator[Callable[[Progress], None]]:
    """Shows a Progress on stderr or in a notebook; the rate is of members times `each`, in this unit."""
    console = Console(stderr=True)
    is_live = console.is_terminal or console.is_jupyter
    begun, first, last_line = time.perf_counter(), -1, -math.inf
    columns = TextColumn(f"{{task.fields[rate]:.2g}} {unit}"), TextColumn("{task.fields[solved]}")
    with live_bar(*columns, disable=not is_live) as bars:
        bar = bars.add_task("study", total=None, rate=0.0, solved="")

        def show(at: Progress) -> None:
            nonlocal first, last_line
            if not at.total:  # another process makes or extends the study
                return
            first, now = at.done if first < 0 else first, time.perf_counter()
            rate = (at.done - first) / max(now - begun, 1e-9)
            if is_live:
                bars.update(bar, completed=at.done, total=at.total, rate=rate * each, solved=solved(at))
                return
            is_new = now - last_line >= LINE_SECONDS
            if is_new or (at.committed == at.total and last_line < math.inf):
                last_line = now if at.committed < at.total else math.inf
                left = f", {duration((at.total - at.done) / rate)} left" if rate and at.done < at.total else ""
                done = f"{percent(at.done / max(at.total, 1))} of {at.total:,} members"
                console.print(f"xorjax: {done}, {rate * each:.2g} {unit}, {solved(at)}{left}", soft_wrap=True)

        yield show
