"""The nursery: a small process that has imported torch, forks workers on request, and buries them.

Forking it is safe where forking the driver is not: it has run nothing but imports, and has a single thread (where
that should fail to hold, a worker starts as a fresh interpreter instead). A worker is up in some 10 ms, not in the
second or two that importing torch takes. The nursery lives as long as its driver: when that ends, in whatever way,
it kills every worker with all of the worker's own children; and the kernel kills the workers when the nursery ends.
"""

import contextlib
import ctypes
import gc
import importlib
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Sequence

from unison.learner_group.processes.wire import Channel, Header, Kind, PeerGone

_GRACE_S = 0.5  # for idle workers to end by themselves when the driver closes their channels
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15


def boot_code(module: str, *arguments: object) -> str:
    """A program for a fresh interpreter: `module.main(*arguments)`, with this process's import path.

    Numpy's OpenBLAS would start threads on import, and a process with threads must not fork: hence the variable.
    """
    name = "OPENBLAS_NUM_THREADS"
    return (
        f"import os, sys; sys.path[:] = {sys.path!r}; threads = os.environ.get({name!r}); os.environ[{name!r}] = '1'; "
        f"from {module} import main; os.environ.pop({name!r}); threads and os.environ.update({name}=threads); "
        f"main{arguments!r}"
    )


def main(descriptor: int, driver: int, preload: Sequence[str]) -> None:
    """Serve the driver with process id `driver` at the other end of the socket, until either is gone."""
    channel = Channel(socket.socket(fileno=descriptor))
    watch = os.pidfd_open(driver)
    if os.getppid() != driver:
        return
    for name in preload:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # keeps the collector of a worker from touching, and so copying, all that they share
    Nursery(channel, watch).serve()
    os._exit(0)  # taking torch apart politely would take a tenth of a second


class Nursery:
    """Forks, watches and buries workers."""

    def __init__(self, channel: Channel, driver_watch: int) -> None:
        self._channel, self._driver_watch = channel, driver_watch
        self._children: dict[int, int] = {}  # descriptor that watches a worker -> its pid
        self._poll = select.poll()
        self._poll.register(channel, select.POLLIN)
        self._poll.register(driver_watch, select.POLLIN)

    def serve(self) -> None:
        """Do as the driver says until it is gone; then leave nothing behind."""
        try:
            while self._step(None):
                pass
        except PeerGone:
            pass
        self._clear()

    def _step(self, timeout_ms: float | None) -> bool:
        for descriptor, _ in self._poll.poll(timeout_ms):
            if descriptor == self._driver_watch:
                return False
            if descriptor in self._children:
                self._bury(descriptor)
            elif packet := self._channel.receive(wait=False):
                self._obey(packet.header, packet.descriptors)
        return True

    def _obey(self, header: Header, descriptors: list[int]) -> None:
        if header.kind == Kind.SPAWN:
            pid = self._fork(descriptors[0])
            os.close(descriptors[0])
            self._channel.send(Header(Kind.SPAWN, number=pid))
        elif header.number in self._children.values():
            if header.kind == Kind.DUMP:
                os.kill(header.number, signal.SIGUSR1)
            else:
                _kill_family(header.number)

    def _fork(self, descriptor: int) -> int:
        single_thread = len(os.listdir("/proc/self/task")) == 1
        nursery = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                _become_worker(descriptor, nursery, fresh=not single_thread)
            finally:
                os._exit(1)
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)  # the child does the same; whoever comes first
        watch = os.pidfd_open(pid)
        self._children[watch] = pid
        self._poll.register(watch, select.POLLIN)
        return pid

    def _bury(self, watch: int) -> None:
        pid = self._children.pop(watch)
        self._poll.unregister(watch)
        os.close(watch)
        _kill_family(pid)  # before the pid is freed for others: what the worker itself has started
        status = os.waitpid(pid, 0)[1]
        with contextlib.suppress(PeerGone, TimeoutError):
            self._channel.send(Header(Kind.EXITED, number=pid, value=status), timeout=1.0)

    def _clear(self) -> None:
        self._poll.unregister(self._channel)
        deadline = time.monotonic() + _GRACE_S
        while self._children and (left := deadline - time.monotonic()) > 0 and self._step(left * 1000):
            pass
        for pid in self._children.values():
            _kill_family(pid)
        for pid in self._children.values():
            os.waitpid(pid, 0)


def _kill_family(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _become_worker(descriptor: int, nursery: int, *, fresh: bool) -> None:
    os.setpgid(0, 0)  # its own group: Ctrl-C is the driver's business, and one signal reaches all it starts
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    libc.prctl(_PR_SET_NAME, b"unison-worker")
    if os.getppid() != nursery:
        return
    module = "unison.learner_group.processes.worker"
    if fresh:
        os.set_inheritable(descriptor, True)
        os.execv(sys.executable, [sys.executable, "-c", boot_code(module, descriptor)])
    importlib.import_module(module).main(descriptor)
