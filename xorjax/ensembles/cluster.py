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
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from xorjax._checks import check_integer

AXIS = "member"
MAX_PROCESSES = 2**16
HEARTBEAT_SECONDS = 30  # after which JAX itself ends all processes, for one whose machine is gone
START_SECONDS, LATE_SECONDS = 300, 10  # for all processes to be there, and before the wait is spoken of
CONNECT_SECONDS, STRANGER_SECONDS = 60, 1  # to connect all, and for one that connects to say who it is
TOKEN = 16  # bytes by which processes know each other
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
    before JAX uses a device, and once. At the end each process waits for all others. If one dies, or leaves with
    an exception, the others say so and end within seconds, with exit code 3. The exit code of one that left is its
    exception's, or 1, even where that is caught.

        with cluster.joined() as mesh:
            shares = xj.train_ensemble(trainer, range(10**9), reduce=accumulators.share(), mesh=mesh)

    Args:
      coordinator: "host:port" at which process 0 is to be found.
      num_processes: how many there are.
      process_id: the number of this one, from 0.

    Raises:
      TypeError, ValueError: naming the argument, its value and what is allowed.
      RuntimeError: if JAX's devices have been used already, or the processes can't reach one another.
    """
    check_job(coordinator, num_processes, process_id)
    if jax.distributed.is_initialized():
        raise RuntimeError("this process has joined a job already; it can join one alone.")
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
    except RuntimeError as error:
        if coordinator is None or "before" in str(error):  # JAX's devices have been used
            raise
        raise RuntimeError(f"{coordinator=}: no job could be started there: {error}") from error
    finally:
        late.cancel()
    line = _Line()
    atexit.register(line.leave)
    try:
        line.connect(coordinator)
        yield Mesh(np.array(jax.devices()), (AXIS,))
        of_all_processes(None, "that all is done")
    except BaseException as error:
        line.hang_up(error)
        raise
    line.say_farewell()
    jax.distributed.shutdown()
    line.close()


def check_job(coordinator: Any, num_processes: Any, process_id: Any) -> None:
    """Checks what `joined` is given.

    Args:
      coordinator, num_processes, process_id: as for `joined`.

    Raises:
      TypeError, ValueError: naming the argument, its value and what is allowed.
    """
    given = {"coordinator": coordinator, "num_processes": num_processes, "process_id": process_id}
    if all(value is None for value in given.values()):
        return
    for name, value in given.items():
        if value is None:
            raise ValueError(f"{name}=None must be given too, or none of {', '.join(given)}.")
    host, _, port = coordinator.rpartition(":") if isinstance(coordinator, str) else ("", "", "")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError(f"{coordinator=} must be 'host:port', such as '127.0.0.1:1234'.")
    n = check_integer("num_processes", num_processes, 1, MAX_PROCESSES)
    check_integer("process_id", process_id, 0, n - 1, "num_processes - 1")


def _report(what: str) -> None:
    os.write(2, f"xorjax: {what}.\n".encode())


def of_all_processes(thing: Any, what: str) -> list[Any]:
    """What each process calls this with, by process; all must call it.

    It travels as a pickle.

    Args:
      thing: of this process.
      what: it is, in words; the same in all processes, or they have lost one another.

    Returns:
      A list with a thing for each process, in the order of their numbers.

    Raises:
      ValueError: if the others bring something else.
      RuntimeError: if another process is gone.
    """
    sent = np.frombuffer(pickle.dumps((what, thing)), np.uint8)
    length = np.array([sent.size], np.int64)
    lengths = _of_all(length.view(np.uint8)).view(np.int64).reshape(-1)  # 64 bits would not arrive whole
    padded = np.zeros(lengths.max(), np.uint8)
    padded[: sent.size] = sent
    received = _of_all(padded)
    said, things = zip(
        *(pickle.loads(row[:n].tobytes()) for row, n in zip(received, lengths, strict=True)), strict=True
    )
    for number, other in enumerate(said):
        if other != said[0]:
            raise ValueError(
                f"process {number} brings {other}, and process 0 {said[0]}; all must make the same calls."
            )
    return list(things)


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

    Args:
      call: what it is called with, in words, by the names of the arguments.

    Raises:
      ValueError: naming what differs, and in which process.
    """
    first, *others = of_all_processes(dict(call), "what it is called with")
    for number, other in enumerate(others, 1):
        for name in {**first, **other}:
            if first.get(name) != other.get(name):
                raise ValueError(
                    f"{name}: {other.get(name)} in process {number}, and {first.get(name)} in process 0; all must "
                    f"make the same call."
                )


class _Line:
    """The connections of this process: of process 0 with all others, and of each of these with process 0."""

    def __init__(self) -> None:
        self._peers: dict[int, socket.socket] = {}
        self._is_over, self._leaves = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._listeners: list[threading.Thread] = []
        self._error: BaseException | None = None

    def connect(self, coordinator: str | None) -> None:
        """Connects process 0 with all others.

        Raises:
          RuntimeError: naming who could not be reached.
        """
        me, n = jax.process_index(), jax.process_count()
        server, address = None, None
        if me == 0:
            both = socket.has_dualstack_ipv6()
            family = socket.AF_INET6 if both else socket.AF_INET
            server = socket.create_server(("", 0), family=family, backlog=n, dualstack_ipv6=both)
            address = _hosts(coordinator), server.getsockname()[1], secrets.token_bytes(TOKEN)
        # This connects XLA's collectives too, while all are here.
        (hosts, port, token), *_ = of_all_processes(address, "where process 0 is")
        if server is None:
            peer = _connected(hosts, port)
            peer.sendall(token + me.to_bytes(4, "big"))
            self._watch(peer, 0)
            return
        deadline = time.monotonic() + CONNECT_SECONDS
        with server:
            while len(self._peers) < n - 1:
                server.settimeout(max(0.01, deadline - time.monotonic()))
                try:
                    peer, _ = server.accept()
                except TimeoutError:
                    missing = sorted(set(range(1, n)) - set(self._peers))
                    raise RuntimeError(f"processes {missing} can't reach process 0 at port {port}.") from None
                said = b""
                with suppress(OSError):
                    peer.settimeout(STRANGER_SECONDS)
                    said = peer.recv(TOKEN + 4, socket.MSG_WAITALL)
                if said[:TOKEN] == token and len(said) == TOKEN + 4:
                    self._watch(peer, int.from_bytes(said[TOKEN:], "big"))
                else:  # a stranger is not heard
                    peer.close()

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
        self._wait_for_the_end()
        flush = threading.Thread(target=_flush, daemon=True)  # the main thread may be in the middle of a write
        flush.start()
        flush.join(GRACE_SECONDS)
        os._exit(OTHER_DIED)

    def _say(self, what: bytes) -> None:
        for peer in list(self._peers.values()):
            with suppress(OSError):
                peer.sendall(what)

    def say_farewell(self) -> None:
        """All is done."""
        self._is_over.set()
        self._say(FAREWELL.ljust(5))

    def hang_up(self, error: BaseException) -> None:
        """This process leaves before the others have done."""
        self._error = error
        self._leaves.set()
        self._is_over.set()
        self._say(DIED + jax.process_index().to_bytes(4, "big"))

    def leave(self) -> None:
        """Ends a process that left without JAX's barrier at the exit, in which it would wait for the others."""
        if self._error is None:
            return
        _flush()
        self._wait_for_the_end()
        code = getattr(self._error, "exit_code", 1)
        if isinstance(self._error, SystemExit):
            given = self._error.code
            code = given if isinstance(given, int) else int(given is not None)
        os._exit(code)

    def close(self) -> None:
        for listener in self._listeners:
            listener.join(GRACE_SECONDS)
        for peer in self._peers.values():
            peer.close()

    def _wait_for_the_end(self) -> None:
        """For the others to end, which JAX would abort where process 0 ended before them."""
        deadline = time.monotonic() + 2 * GRACE_SECONDS
        if jax.process_index() == 0:
            for listener in list(self._listeners):
                if listener is not threading.current_thread():
                    listener.join(max(0.0, deadline - time.monotonic()))


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


def _hosts(coordinator: str | None) -> list[str]:
    """What this machine may be called by others."""
    if coordinator is not None:
        return [coordinator.rpartition(":")[0].strip("[]")]
    hosts = [socket.gethostname()]
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("10.255.255.255", 1))  # sends nothing, but finds the interface that would
        hosts.append(probe.getsockname()[0])
    return hosts


def _connected(hosts: list[str], port: int) -> socket.socket:
    said = []
    for host in hosts:
        try:
            return socket.create_connection((host, port), CONNECT_SECONDS / len(hosts))
        except OSError as error:
            said.append(f"{host}: {error}")
    raise RuntimeError(
        f"process {jax.process_index()} can't reach process 0 at port {port} ({'; '.join(said)}); ports "
        f"between the machines of a job must be open."
    )
