"""Opening a store, and its raw contents: the few operations that zarr offers only as coroutines."""

import asyncio
import os
from collections.abc import Coroutine
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

import zarr
from zarr.abc.buffer import Buffer
from zarr.abc.store import Store
from zarr.buffer import default_buffer_prototype
from zarr.storage import FsspecStore, MemoryStore

from xorjax.studies.store.durable import DurableStore

T = TypeVar("T")
BUFFERS = default_buffer_prototype()
StoreLocation = Store | str | Path


class StoreError(ValueError):
    """The contents of a store are not those of a study."""


def open_zarr(where: StoreLocation, *, read_only: bool = False) -> tuple[Store, str]:
    """Return zarr's store for a folder, a URL that fsspec knows, or a store of zarr; and its name for messages."""
    if isinstance(where, Store):
        return where, str(where)
    if isinstance(where, str) and (url := urlsplit(where)).scheme == "file" and url.netloc in ("", "localhost"):
        where = url2pathname(url.path)
    if isinstance(where, str) and "://" in where:
        try:
            return FsspecStore.from_url(where, read_only=read_only), where
        except (ImportError, ValueError) as error:  # an unknown protocol, or its package is not installed
            raise ValueError(f"store={where!r} can't be opened: {error}") from None
    if not isinstance(where, str | Path) or not str(where):
        raise TypeError(f"store={where!r} must be a folder, a URL, or a store of zarr.")
    return DurableStore(Path(where).expanduser(), read_only=read_only), str(where)


def local_folder(store: Store) -> Path | None:
    """Return the folder of a store in the local file system, else None."""
    return store.root if isinstance(store, DurableStore) else None


def read_bytes(store: Store, key: str) -> bytes | None:
    """Return the content under a key, or None if there is none."""
    content = wait_for(store.get(key, BUFFERS))
    return None if content is None else content.to_bytes()


def list_names(store: Store, path: str) -> list[str]:
    """Return the names directly below a path."""

    async def collect() -> list[str]:
        return [name.removeprefix(f"{path}/") async for name in store.list_dir(path)]

    return wait_for(collect())


def wait_for(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine, run in zarr's event loop."""
    return asyncio.run_coroutine_threadsafe(coroutine, _find_loop(os.getpid())).result()


@cache
def _find_loop(process_id: int) -> asyncio.AbstractEventLoop:
    """Return zarr's event loop in this process, for which zarr has no public name: that in which it calls a store.

    A connection to a remote store belongs to one loop, so that all calls must run in that of zarr's arrays.
    """
    loops = []

    class Probe(MemoryStore):
        async def set(self, key: str, value: Buffer, byte_range: Any = None) -> None:
            loops.append(asyncio.get_running_loop())
            await super().set(key, value, byte_range)

    zarr.create_group(Probe())
    return loops[0]
