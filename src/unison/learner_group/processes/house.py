"""The driver's end of a nursery: started once for all families of this process that need the same imports."""

import contextlib
import os
import select
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Sequence

from unison.learner_group.processes.nursery import boot_code
from unison.learner_group.processes.wire import Channel, Header, Kind, PeerGone

_END_S = 10.0
_houses: "dict[tuple[str, ...], House]" = {}
_lock = threading.Lock()


class House:
    """A nursery process. It stands as long as somebody lives in it; any thread may ask it."""

    def __init__(self, preload: Sequence[str]) -> None:
        self._owner, self._inhabitants = os.getpid(), 0
        self._exits: dict[int, int] = {}
        self._lock = threading.RLock()
        self._channel, theirs = Channel.pair()
        code = boot_code("unison.learner_group.processes.nursery", theirs.fileno(), os.getpid(), tuple(preload))
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._finalizer = weakref.finalize(self, _end, self._channel, self._process, os.getpid())

    @classmethod
    def enter(cls, preload: Sequence[str]) -> "House":
        """The house with these imports, built if there is none; whoever enters must `leave()`."""
        key = tuple(preload)
        with _lock:
            house = _houses.get(key)
            if house is None or not house.is_alive:
                house = _houses[key] = cls(key)
            house._inhabitants += 1
            return house

    def leave(self) -> None:
        """The last one to leave ends the process."""
        if os.getpid() != self._owner:  # a fork of the driver has no say in this
            return
        with _lock:
            self._inhabitants -= 1
            if self._inhabitants == 0:
                for key in [key for key, house in _houses.items() if house is self]:
                    del _houses[key]
                self._finalizer()

    @property
    def is_alive(self) -> bool:
        """Whether it can make workers for this process."""
        return os.getpid() == self._owner and self._finalizer.alive and self._process.poll() is None

    def spawn(self, descriptor: int, timeout: float) -> int | None:
        """Make a worker at the other end of a socket: its process id, or None if that fails."""
        with self._lock:
            try:
                self._channel.send(Header(Kind.SPAWN), descriptors=[descriptor])
                pid = self._hear(timeout, of=None)
            except PeerGone:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_END_S)
                return None
            if pid is not None:
                self._exits.pop(pid, None)  # of an earlier process with the same number
            return pid

    def tell(self, kind: Kind, pid: int) -> None:
        """Have a worker killed with all that it has started, or have it write down its stacks."""
        with self._lock, contextlib.suppress(PeerGone):
            self._channel.send(Header(kind, number=pid))

    def exit_of(self, pid: int, timeout: float) -> int | None:
        """The wait status of a worker, once it has ended; None after `timeout` seconds."""
        with self._lock:
            with contextlib.suppress(PeerGone):
                while pid not in self._exits and self._hear(timeout, of=pid) is not None:
                    pass
            return self._exits.pop(pid, None)

    def _hear(self, timeout: float, of: int | None) -> int | None:
        """Listen until a worker is made (its pid) or the worker `of` has ended; None after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            packet = self._channel.receive()
            assert packet is not None
            number = packet.header.number
            if packet.header.kind == Kind.SPAWN:
                return number
            self._exits[number] = packet.header.value
            if number == of:
                return number
        return None


def _end(channel: Channel, process: "subprocess.Popen[bytes]", owner: int) -> None:
    if os.getpid() != owner:
        return
    channel.close()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
