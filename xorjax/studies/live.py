"""Live bars: on a terminal and in notebooks."""

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

NOTEBOOK_SECONDS = 0.5  # between two looks of a bar there
NOTEBOOK_WIDTH = 120  # characters


@contextmanager
def live_bar(*columns: ProgressColumn, disable: bool = False) -> Iterator[Progress]:
    """A live bar on stderr, so that stdout holds the report alone; in a notebook, below the cell."""
    console = Console(stderr=True)
    of_all = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), *columns, TimeRemainingColumn()
    if not console.is_jupyter:
        with Progress(*of_all, console=console, disable=disable) as progress:
            yield progress
        return
    progress = _InNotebook(*of_all, disable=disable)
    try:
        yield progress
    finally:
        progress.show()


class _InNotebook(Progress):
    """A bar as a display of IPython that is updated in place. (rich's own asks for ipywidgets.)"""

    def __init__(self, *columns: ProgressColumn, disable: bool):
        from IPython.display import HTML, display  # pyright: ignore[reportMissingImports]

        super().__init__(*columns, auto_refresh=False, disable=disable)
        self._html, self._shown = HTML, time.perf_counter()
        self._display = None if disable else display(HTML(""), display_id=True)

    def update(self, *args: Any, **options: Any) -> None:
        super().update(*args, **options)
        if time.perf_counter() - self._shown > NOTEBOOK_SECONDS:
            self.show()

    def show(self) -> None:
        """Shows what there is, at once."""
        if self._display is None:
            return
        console = Console(record=True, file=io.StringIO(), width=NOTEBOOK_WIDTH, force_jupyter=False)
        console.print(self)
        page = console.export_html(inline_styles=True, code_format='<pre style="line-height: 1.2">{code}</pre>')
        self._display.update(self._html(page))
        self._shown = time.perf_counter()
