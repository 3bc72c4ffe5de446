"""A local zarr store whose writes survive a power cut: each is whole, or it did not happen."""

import asyncio
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

from zarr.storage import LocalStore

PARTIAL = ".partial"


def write_durably(path: Path, content: Any) -> None:
    """Puts a file in place of another in one atomic step, after what it holds is on the disk.

    Raises:
      OSError: naming the path; what was there before is there still.
    """
    path = Path(path)
    new = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        try:
            _make_folder(path.parent)
            _write(new, content)
            os.replace(new, path)
            _flush_folder(path.parent)
        except BaseException:
            with suppress(OSError):
                os.unlink(new)
            raise
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror or error}: could not be written", str(path)) from error


def _write(path: Path, content: Any) -> None:
    left = memoryview(content).cast("B")
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        while len(left):
            left = left[os.write(file, left) :]
        os.fsync(file)
    finally:
        os.close(file)


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        with suppress(FileExistsError):
            os.mkdir(folder)
        _flush_folder(folder.parent)


def _flush_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


class DurableStore(LocalStore):
    """zarr's `LocalStore`, writing by `write_durably`."""

    async def set(self, key: str, value: Any) -> None:
        await asyncio.to_thread(self.set_sync, key, value)

    def set_sync(self, key: str, value: Any) -> None:
        self._check_writable()
        write_durably(self.root / key, value.as_buffer_like())


def remove_partial(root: Path, before: float) -> None:
    """Removes what writers that were killed left behind, and nobody has written to since this time."""
    for path in root.rglob(f".*{PARTIAL}"):
        with suppress(OSError):
            if path.stat().st_mtime < before:
                path.unlink()
