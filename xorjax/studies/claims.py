"""Who works on which unit, where several processes run one study: by number, or by leases in a shared folder.

A claim is a file that only one process can have made; it is renewed while its owner lives, and taken over when it
was not for a while. Claims save work: results do not depend on them, since a unit comes out the same whoever
trains it, and who has lost a claim commits nothing.
"""

import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from xorjax._checks import check_integer
from xorjax.studies.store.durable import remove_partial, write_durably
from xorjax.studies.store.layout import CLAIMS, GROUP, ROOT

LEASE_SECONDS = 60.0
MAX_LEASE_SECONDS = 1e6
RENEWALS = 4  # in a lease
STUDY = "study"  # the claim on all of it
PAUSE_SECONDS = 0.05
MAX_WORKERS = 100_000


class Worker(NamedTuple):
    """One of several workers that share the units of a study by their numbers: `number` is from 1 to `of`."""

    number: int
    of: int

    def has(self, unit: int) -> bool:
        return unit % self.of == self.number - 1


def checked_worker(worker: tuple[int, int] | str | None) -> Worker | None:
    """`(3, 16)` or "3/16".

    Raises:
      TypeError, ValueError: if it is no such pair.
    """
    if worker is None:
        return None
    parts = worker.split("/") if isinstance(worker, str) else worker
    try:
        number, of = (int(part) if isinstance(worker, str) else part for part in parts)
    except (TypeError, ValueError):
        raise ValueError(f"{worker=} must be two integers, such as '3/16'.") from None
    of = check_integer("worker[1]", of, 1, MAX_WORKERS)
    return Worker(check_integer("worker[0]", number, 1, of, "the number of workers "), of)


def claimed(root: Path, lease_seconds: float = LEASE_SECONDS) -> dict[str, str]:
    """Units of the study in a folder that are worked on now, and by whom (host, process)."""
    found = {}
    for path in (root / CLAIMS).glob("[!.z]*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime < lease_seconds and not _is_dead(path):
                found[path.name] = " ".join(path.read_text().split()[:2])
    return found


def _is_dead(path: Path) -> bool:
    """Whether a claim is of a process of this host that is no more; of others' processes, time tells."""
    try:
        host, process, _ = path.read_text().split()
        if host == os.uname().nodename:
            os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError, OverflowError):  # alive, but another's; or not written yet
        return False
    return False


class Claims:
    """The claims of one process in the folder of a study."""

    def __init__(self, root: Path, lease_seconds: float = LEASE_SECONDS):
        self._folder, self._lease = root / CLAIMS, lease_seconds
        self._me = f"{os.uname().nodename} {os.getpid()} {secrets.token_hex(8)}"
        self._ours: set[str] = set()
        if not self._folder.is_dir():
            write_durably(self._folder / ROOT, json.dumps(GROUP).encode())

    def take(self, unit: str) -> bool:
        """Tries to claim a unit."""
        path = self._path(unit)
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            if not self._is_stale(path):
                return False
            # Of several that find it so, one moves it away; the others find nothing, or another's fresh claim.
            away = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
            try:
                os.rename(path, away)
            except FileNotFoundError:
                return False
            was_stale = self._is_stale(away)
            if not was_stale:  # it was taken anew between the look and the move: give it back
                with suppress(OSError):
                    os.link(away, path)
            with suppress(OSError):
                os.unlink(away)
            return was_stale and self.take(unit)
        with os.fdopen(file, "w") as opened:
            opened.write(self._me)
        self._ours.add(unit)
        return True

    def holds(self, unit: str) -> bool:
        """Whether a unit is still this process's."""
        try:
            return self._path(unit).read_text() == self._me
        except OSError:
            return False

    def release(self, unit: str) -> None:
        self._ours.discard(unit)
        if self.holds(unit):
            with suppress(OSError):
                self._path(unit).unlink()

    def clean(self) -> None:
        """Removes what those who died left behind: claims that are over, and files half written."""
        for path in self._folder.glob("[!.z]*"):
            with suppress(OSError):
                if path.name not in self._ours and self._is_stale(path):
                    path.unlink()
        remove_partial(self._folder.parent, self._now() - self._lease)

    @contextmanager
    def alone(self, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Waits until no other process makes or extends the study, and keeps others from it.

        Args:
          waiting: called again and again until then.
        """
        while not self.take(STUDY):
            waiting()
            time.sleep(PAUSE_SECONDS)
        try:
            yield
        finally:
            self.release(STUDY)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Renews the claims of this process from a thread of its own, and gives them back at the end."""
        is_over = threading.Event()

        def renew() -> None:
            while not is_over.wait(self._lease / RENEWALS):
                for unit in list(self._ours):
                    with suppress(OSError):
                        if self.holds(unit):
                            os.utime(self._path(unit))

        thread = threading.Thread(target=renew, name="xorjax-claims", daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()
            for unit in list(self._ours):
                self.release(unit)

    def _path(self, unit: str) -> Path:
        return self._folder / unit

    def _is_stale(self, path: Path) -> bool:
        """Whether a claim was not renewed for a lease, by the clock of the file system, or its owner is dead."""
        try:
            return _is_dead(path) or self._now() - path.stat().st_mtime > self._lease
        except FileNotFoundError:
            return False

    def _now(self) -> float:
        """The time, by the clock of the file system."""
        clock = self._folder / f".{secrets.token_hex(8)}"
        try:
            clock.touch()
            return clock.stat().st_mtime
        finally:
            with suppress(OSError):
                clock.unlink()
