"""Which process works on which shard, where several run one study: by number, or by leases in a shared folder.

A claim is a file that only one process can have created; it is renewed while its owner lives, and taken over once
it has not been renewed for a while. Claims save work, and results do not depend on them: a shard has the same bits
whichever process trains it, and a process that has lost a claim commits nothing.
"""

import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from xorjax._checks import check_integer
from xorjax.studies.store.durable import remove_partial, write_durably
from xorjax.studies.store.layout import CLAIMS, GROUP, MANIFEST

LEASE_SECONDS = 60.0
MAX_LEASE_SECONDS = 1e6
RENEWALS = 4  # in a lease
STUDY = "study"  # the claim on the whole study
PAUSE_SECONDS = 0.05
MAX_WORKERS = 100_000


def parse_worker(worker: tuple[int, int] | str | None) -> slice:
    """Return which shards the worker does that `(3, 16)` or "3/16" names; None does all.

    >>> list(range(40)[parse_worker("3/16")])
    [2, 18, 34]
    """
    if worker is None:
        return slice(None)
    parts = worker.split("/") if isinstance(worker, str) else worker
    try:
        number, of = (int(part) if isinstance(worker, str) else part for part in parts)
    except (TypeError, ValueError):
        raise ValueError(f"{worker=} must be two integers, such as '3/16'.") from None
    of = check_integer("worker[1]", of, 1, MAX_WORKERS)
    return slice(check_integer("worker[0]", number, 1, of, "worker[1]") - 1, None, of)


def list_claims(folder: Path | None, lease_seconds: float = LEASE_SECONDS) -> dict[str, str]:
    """Return the shards (and STUDY) that are worked on now, by label, and their workers (host, process)."""
    claims = {}
    for path in (folder / CLAIMS).glob("[!.z]*") if folder else ():
        with suppress(OSError):
            if time.time() - path.stat().st_mtime < lease_seconds and not _is_dead(path):
                claims[path.name] = " ".join(path.read_text().split()[:2])
    return claims


def _is_dead(path: Path) -> bool:
    """Return whether the owner of a claim was a process of this host and has ended."""
    try:
        host, process, _ = path.read_text().split()
        if host == os.uname().nodename:
            os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError, OverflowError):  # alive, but another user's; or not written yet
        return False
    return False


class Claims:
    """The claims of one process in the folder of a study, each a file; without a folder it gets every shard."""

    def __init__(self, folder: Path | None, lease_seconds: float = LEASE_SECONDS):
        self._is_shared = folder is not None
        self._folder, self._lease = (folder or Path()) / CLAIMS, lease_seconds
        self._me = f"{os.uname().nodename} {os.getpid()} {secrets.token_hex(8)}"
        self._ours: set[str] = set()
        if self._is_shared and not self._folder.is_dir():
            write_durably(self._folder / MANIFEST, json.dumps(GROUP).encode())

    def take(self, shard: str) -> bool:
        """Try to claim a shard, and return whether it is now this process's."""
        if not self._is_shared:
            return True
        path = self._folder / shard
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            return self._remove_stale(path) and self.take(shard)
        with os.fdopen(file, "w") as opened:
            opened.write(self._me)
        self._ours.add(shard)
        return True

    def _remove_stale(self, path: Path) -> bool:
        if not self._is_stale(path):
            return False
        # Of several processes that see a stale claim, one moves it away; others find nothing, or a fresh claim.
        away = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            os.rename(path, away)
        except FileNotFoundError:
            return False
        was_stale = self._is_stale(away)
        if not was_stale:  # another process took it between the look and the move: give it back
            with suppress(OSError):
                os.link(away, path)
        with suppress(OSError):
            os.unlink(away)
        return was_stale

    def holds(self, shard: str) -> bool:
        """Return whether a shard is still this process's."""
        try:
            return not self._is_shared or (self._folder / shard).read_text() == self._me
        except OSError:
            return False

    def release(self, shard: str) -> None:
        """Give a shard back."""
        if shard in self._ours and self.holds(shard):
            with suppress(OSError):
                (self._folder / shard).unlink()
        self._ours.discard(shard)

    def clean(self) -> None:
        """Remove the remains of dead processes: expired claims, and files half written."""
        if self._is_shared:
            for path in self._folder.glob("[!.z]*"):
                with suppress(OSError):
                    if path.name not in self._ours and self._is_stale(path):
                        path.unlink()
            remove_partial(self._folder.parent, self._now() - self._lease)

    @contextmanager
    def hold_study(self, wait: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Wait until no other process creates or extends the study, calling `wait`, and keep others from it."""
        while not self.take(STUDY):
            wait()
            time.sleep(PAUSE_SECONDS)
        try:
            yield
        finally:
            self.release(STUDY)

    @contextmanager
    def keep_alive(self) -> Iterator[None]:
        """Renew the claims of this process from a thread of its own, and release them at the end."""
        is_over = threading.Event()

        def renew() -> None:
            while not is_over.wait(self._lease / RENEWALS):
                for shard in list(self._ours):
                    with suppress(OSError):
                        if self.holds(shard):
                            os.utime(self._folder / shard)

        thread = threading.Thread(target=renew, name="xorjax-claims", daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()
            for shard in list(self._ours):
                self.release(shard)

    def _is_stale(self, path: Path) -> bool:
        """Return whether a claim was not renewed for a lease, by the file system's clock, or its owner is dead."""
        try:
            return _is_dead(path) or self._now() - path.stat().st_mtime > self._lease
        except FileNotFoundError:
            return False

    def _now(self) -> float:
        """Return the time by the clock of the file system."""
        clock = self._folder / f".{secrets.token_hex(8)}"
        try:
            clock.touch()
            return clock.stat().st_mtime
        finally:
            with suppress(OSError):
                clock.unlink()
