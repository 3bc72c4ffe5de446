"""Several processes at one ensemble, by JAX's own distributed runtime: who takes part, and what all of them know.

Processes train by themselves, and meet when results are put together. One that dies must not leave the others
waiting: each keeps a connection with process 0 open, and when one closes without a word, all hear of it.
"""

import atexit
import os
import pickle
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import jax
import numpy as np
from jax.sharding import Mesh

from xorjax._checks import whole_number

AXIS = "member"
MAX_PROCESSES = 2**16
HEARTBEAT_SECONDS = 30  # after which JAX itself ends all processes, for one whose machine is gone
START_SECONDS, LATE_SECONDS = 300, 10  # for all processes to be there, and before the wait is spoken of
CONNECT_SECONDS = 60
FAREWELL, DIED = b"F", b"D"
OTHER_DIED = 3  # exit code
GRACE_SECONDS = 2  # for a process to say what is wrong with itself, if that is what another left for
# XLA's collectives on CPUs give up after a while; who is done with its members waits for whoever is not.
PATIENCE = "--xla_cpu_collective_timeout_seconds"


@contextmanager
def joined(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> Iterator[Mesh]:
    """Takes part in a job of several processes, and yields the mesh of all their devices.

    On a cluster that JAX recognises (Slurm, Open MPI, Kubernetes, Cloud TPU) no argument is needed. To be entered
    before JAX uses a device. At the end each process waits for all others. If one dies, or leaves with an
    exception, the others say so and end within seconds, with exit code 3.

        with cluster.joined() as mesh:
            shares = xj.train_ensemble(trainer, range(10**9), reduce=accumulators.share(), mesh=mesh)

    Args:
      coordinator: "host:port" at which process 0 is to be found.
      num_processes: how many there are.
      process_id: the number of this one, from 0.

    Raises:
      TypeError, ValueError: naming the argument, its value and what is allowed.
      RuntimeError: if JAX's devices have been used already.
    """
    check_job(coordinator, num_processes, process_id)
    flags = os.environ.get("XLA_FLAGS", "")
    if PATIENCE not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {PATIENCE}=2000000".strip()
    jax.config.update("jax_enable_preemption_service", False)  # which makes SIGTERM do nothing
    where = f"at {coordinator} " if coordinator else ""
    late = threading.Timer(LATE_SECONDS, _report, [f"waiting {where}for all processes, {START_SECONDS} s at most"])
    late.start()
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            cluster_detection_method="deactivate" if coordinator else None,
            initialization_timeout=START_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except ValueError as error:
        raise ValueError(f"{coordinator=} must be given, as JAX recognises no cluster here: {error}") from error
    finally:
        late.cancel()
    line = _Line(coordinator)
    try:
        yield Mesh(np.array(jax.devices()), (AXIS,))
        of_all_processes(None)
    except BaseException as error:
        line.hang_up()
        _leave_with(error, line)
        raise
    line.say_farewell()
    jax.distributed.shutdown()


def check_job(coordinator: Any, num_processes: Any, process_id: Any) -> None:
    """Checks what `joined` is given."""
    given = {"coordinator": coordinator, "num_processes": num_processes, "process_id": process_id}
    if all(value is None for value in given.values()):
        return
    for name, value in given.items():
        if value is None:
            raise ValueError(f"{name}=None must be given too, or none of {', '.join(given)}.")
    host, _, port = coordinator.rpartition(":") if isinstance(coordinator, str) else ("", "", "")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError(f"{coordinator=} must be 'host:port', such as '127.0.0.1:1234'.")
    n = whole_number("num_processes", num_processes, 1, MAX_PROCESSES)
    whole_number("process_id", process_id, 0, n - 1, "num_processes - 1")


def _report(what: str) -> None:
    os.write(2, f"xorjax: {what}.\n".encode())


def _leave_with(error: BaseException, line: "_Line") -> None:
    """Ends this process without JAX's barrier at its exit, in which it would wait for those that still train."""
    code = getattr(error, "exit_code", 1)
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)

    def leave() -> NoReturn:
        sys.stdout.flush()
        sys.stderr.flush()
        line.wait_for_the_end()
        os._exit(code)

    atexit.register(leave)


def of_all_processes(thing: Any) -> list[Any]:
    """What each process calls this with, by process; all must call it. (It travels as a pickle.)

    Raises:
      RuntimeError: if another process is gone.
    """
    sent = np.frombuffer(pickle.dumps(thing), np.uint8)
    length = np.array([sent.size], np.int64)
    lengths = _of_all(length.view(np.uint8)).view(np.int64).reshape(-1)  # 64 bits would not arrive whole
    padded = np.zeros(lengths.max(), np.uint8)
    padded[: sent.size] = sent
    received = _of_all(padded)
    return [pickle.loads(row[:n].tobytes()) for row, n in zip(received, lengths, strict=True)]


def _of_all(words: np.ndarray) -> np.ndarray:
    """Bytes of each process, (processes, bytes)."""
    from jax.experimental.multihost_utils import process_allgather

    try:
        return np.array(process_allgather(words)).reshape(jax.process_count(), -1)
    except (ValueError, RuntimeError) as error:  # either, by platform and version
        time.sleep(2 * GRACE_SECONDS)  # in which a process of `joined` hears who is gone, and ends
        raise RuntimeError(f"processes could not be put together: {str(error).splitlines()[0]}") from error


def check_alike(call: Mapping[str, str]) -> None:
    """Checks that all processes make the same call, described in words.

    Raises:
      ValueError: naming what differs, and in which process.
    """
    first, *others = of_all_processes(dict(call))
    for number, other in enumerate(others, 1):
        for name in {**first, **other}:
            if first.get(name) != other.get(name):
                raise ValueError(
                    f"{name}: {other.get(name)} in process {number}, and {first.get(name)} in process 0; all must "
                    f"make the same call."
                )


class _Line:
    """The connections of this process: of process 0 with all others, and of each of these with process 0."""

    def __init__(self, coordinator: str | None):
        self._peers: dict[int, socket.socket] = {}
        self._is_over, self._leaves = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._listeners: list[threading.Thread] = []
        me, n = jax.process_index(), jax.process_count()
        server = None
        if me == 0:
            both = socket.has_dualstack_ipv6()
            family = socket.AF_INET6 if both else socket.AF_INET
            server = socket.create_server(("", 0), family=family, backlog=n, dualstack_ipv6=both)
            server.settimeout(CONNECT_SECONDS)
        host = coordinator.rpartition(":")[0].strip("[]") if coordinator else socket.gethostname()
        address = server and ((host, server.getsockname()[1]), secrets.token_bytes(16))
        (where, token), *_ = of_all_processes(address)  # which connects XLA's collectives, while all are here
        if server is None:
            peer = socket.create_connection(where, CONNECT_SECONDS)
            peer.sendall(token + me.to_bytes(4, "big"))
            self._watch(peer, 0)
            return
        with server:
            while len(self._peers) < n - 1:
                peer, _ = server.accept()
                peer.settimeout(CONNECT_SECONDS)
                said = peer.recv(len(token) + 4, socket.MSG_WAITALL)
                if said[: len(token)] == token:  # a stranger is not heard
                    self._watch(peer, int.from_bytes(said[len(token) :], "big"))

    def _watch(self, peer: socket.socket, number: int) -> None:
        peer.settimeout(None)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._peers[number] = peer
        listener = threading.Thread(target=self._listen, args=(peer, number), daemon=True)
        self._listeners.append(listener)
        listener.start()

    def _listen(self, peer: socket.socket, number: int) -> None:
        said = b""
        with suppress(OSError):
            said = peer.recv(5, socket.MSG_WAITALL)
        if said.startswith(FAREWELL):
            return
        with self._lock:
            is_news = not self._is_over.is_set()
            self._is_over.set()
        # Who left by itself may have told why, and this process may be about to say the same.
        if not is_news or (said and self._leaves.wait(GRACE_SECONDS)):
            with suppress(OSError):
                while peer.recv(64):
                    pass
            return
        if said.startswith(DIED):
            number = int.from_bytes(said[1:], "big")
        self._say(DIED + number.to_bytes(4, "big"))
        _report(f"process {number} died or left; process {jax.process_index()} ends too")
        self.wait_for_the_end()
        os._exit(OTHER_DIED)

    def _say(self, what: bytes) -> None:
        for peer in self._peers.values():
            with suppress(OSError):
                peer.sendall(what)

    def say_farewell(self) -> None:
        """All is done."""
        self._is_over.set()
        self._say(FAREWELL.ljust(5))

    def hang_up(self) -> None:
        """This process leaves before the others have done."""
        self._leaves.set()
        self._is_over.set()
        self._say(DIED + jax.process_index().to_bytes(4, "big"))

    def wait_for_the_end(self) -> None:
        """For the others to end, which JAX would abort where process 0 ended before them."""
        if jax.process_index() == 0:
            for listener in self._listeners:
                if listener is not threading.current_thread():
                    listener.join(2 * GRACE_SECONDS)
