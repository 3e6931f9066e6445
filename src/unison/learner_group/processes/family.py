"""The driver's side of the nursery: starts it, asks it for workers, hears of their ends."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Sequence

from unison.errors import LearnerGroupError
from unison.learner_group.processes.nursery import boot_code
from unison.learner_group.processes.wire import Channel, Header, Kind, PeerGone

_END_S = 10.0


class Family:
    """A nursery process and, through it, the workers that it forks."""

    def __init__(self, preload: Sequence[str], timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._exits: dict[int, int] = {}
        self._channel, theirs = Channel.pair()
        code = boot_code("unison.learner_group.processes.nursery", theirs.fileno(), os.getpid(), tuple(preload))
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._channels = [self._channel]
        self._finalizer = weakref.finalize(self, _end, self._channels, self._process, os.getpid())

    @property
    def is_alive(self) -> bool:
        """Whether it can make workers."""
        return self._finalizer.alive and self._process.poll() is None

    def spawn(self) -> tuple[int, Channel]:
        """A new worker: its process id and our end of its channel. Raises LearnerGroupError."""
        ours, theirs = Channel.pair()
        with theirs:
            try:
                self._channel.send(Header(Kind.SPAWN), descriptors=[theirs.fileno()])
                pid = self._hear(self._timeout_s, of=None)
            except PeerGone:
                pid = None
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_END_S)
        if pid is None:
            ours.close()
            raise LearnerGroupError(
                "No worker process could be made: the process that makes them "
                + (f"did not answer for {self._timeout_s} s." if self.is_alive else "ended; see what it wrote above.")
            )
        self._channels.append(ours)
        return pid, ours

    def kill(self, pid: int) -> None:
        """Kill a worker and all that it has started."""
        with contextlib.suppress(PeerGone):
            self._channel.send(Header(Kind.KILL, number=pid))

    def dump(self, pid: int) -> None:
        """Have a worker write its stacks to its last words."""
        with contextlib.suppress(PeerGone):
            self._channel.send(Header(Kind.DUMP, number=pid))

    def exit_of(self, pid: int, timeout: float = _END_S) -> str:
        """How a worker ended, in words; waits for its end."""
        with contextlib.suppress(PeerGone):
            while pid not in self._exits and self._hear(timeout, of=pid) is not None:
                pass
        if pid not in self._exits:
            return "it lives but no longer listens" if self.is_alive else "the process that made it ended, and it too"
        return _in_words(self._exits.pop(pid))

    def close(self) -> None:
        """End all workers, and the nursery; idle workers end by themselves, busy ones are killed."""
        self._finalizer()

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


def _end(channels: list[Channel], process: "subprocess.Popen[bytes]", owner: int) -> None:
    if os.getpid() != owner:  # a fork of the driver has no say in this
        return
    for channel in reversed(channels):
        channel.close()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _in_words(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"it exited with code {code}"
    if -code == signal.SIGKILL:
        return "it was killed by SIGKILL (as the system does when memory runs out)"
    return f"it was killed by signal {-code} ({signal.strsignal(-code)})"
