"""A local zarr store whose writes survive a power cut: each is complete, or it did not happen.

zarr's own `LocalStore` writes atomically too, but the new name may reach the disk before the content does. A file
that holds committed members is replaced here only after its new content is on the disk.
"""

import asyncio
import os
import secrets
from contextlib import suppress
from pathlib import Path

from zarr.abc.buffer import Buffer
from zarr.storage import LocalStore

PARTIAL = ".partial"


def write_durably(path: Path, content: bytes | bytearray | memoryview) -> None:
    """Replace a file by one atomic step, once its new content is on the disk.

    Raises:
      OSError: naming the path; the file is as it was before.
    """
    new = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        created = [folder for folder in path.parents if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(new, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
        for folder in (path.parent, *(each.parent for each in created)):
            _flush_folder(folder)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(new)
        if isinstance(error, OSError):
            raise OSError(error.errno, f"{error.strerror or error}: could not be written", str(path)) from error
        raise


def _flush_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


class DurableStore(LocalStore):
    """zarr's `LocalStore`, writing by `write_durably`."""

    async def set(self, key: str, value: Buffer) -> None:
        await asyncio.to_thread(self.set_sync, key, value)

    def set_sync(self, key: str, value: Buffer) -> None:
        self._check_writable()
        write_durably(self.root / key, value.as_buffer_like())


def remove_partial(root: Path, before: float) -> None:
    """Remove files that killed writers left half written, if they were last written to before this time."""
    for path in root.rglob(f".*{PARTIAL}"):
        with suppress(OSError):
            if path.stat().st_mtime < before:
                path.unlink()
