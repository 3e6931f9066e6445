"""The workers of one transport, as children of a nursery that it may share with others."""

import os
import signal
import weakref
from collections.abc import Sequence

from unison.errors import LearnerGroupError
from unison.learner_group.processes.house import House
from unison.learner_group.processes.wire import Channel, Kind

_END_S = 10.0
_GRACE_S = 0.5  # for idle workers to end by themselves when their channels are closed


class Family:
    """Has workers made, killed and buried."""

    def __init__(self, preload: Sequence[str], timeout_s: float) -> None:
        self._timeout_s, self._owner = timeout_s, os.getpid()
        self._house = House.enter(preload)
        self._members: dict[int, Channel] = {}
        self._finalizer = weakref.finalize(self, _end, self._house, self._members, os.getpid())

    @property
    def is_alive(self) -> bool:
        """Whether it can make workers."""
        return self._finalizer.alive and self._house.is_alive

    def spawn(self) -> tuple[int, Channel]:
        """A new worker: its process id and our end of its channel. Raises LearnerGroupError."""
        ours, theirs = Channel.pair()
        with theirs:
            pid = self._house.spawn(theirs.fileno(), self._timeout_s)
        if pid is None:
            ours.close()
            raise LearnerGroupError(
                "No worker process could be made: the process that makes them "
                + (f"did not answer for {self._timeout_s} s." if self.is_alive else "ended; see what it wrote above.")
            )
        self._members[pid] = ours
        return pid, ours

    def kill(self, pid: int) -> None:
        """Kill a worker and all that it has started."""
        self._house.tell(Kind.KILL, pid)

    def dump(self, pid: int) -> None:
        """Have a worker write its stacks to its last words."""
        self._house.tell(Kind.DUMP, pid)

    def exit_of(self, pid: int, timeout: float = _END_S) -> str:
        """How a worker ended, in words; waits for its end."""
        status = self._house.exit_of(pid, timeout)
        if status is None:
            return "it lives but no longer listens" if self.is_alive else "the process that made it ended, and it too"
        self._members.pop(pid, None)
        return _in_words(status)

    def clear(self) -> None:
        """End all workers; idle ones end by themselves, busy ones are killed."""
        if os.getpid() == self._owner:
            _clear(self._house, self._members)

    def close(self) -> None:
        """End all workers, and let go of the nursery."""
        self._finalizer()


def _end(house: House, members: dict[int, Channel], owner: int) -> None:
    if os.getpid() == owner:  # a fork of the driver has no say in this
        _clear(house, members)
        house.leave()


def _clear(house: House, members: dict[int, Channel]) -> None:
    for channel in members.values():
        channel.close()
    grace = _GRACE_S
    for pid in members:
        if house.exit_of(pid, grace) is None:
            grace = 0.0
            house.tell(Kind.KILL, pid)
            house.exit_of(pid, _END_S)
    members.clear()


def _in_words(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"it exited with code {code}"
    if -code == signal.SIGKILL:
        return "it was killed by SIGKILL (as the system does when memory runs out)"
    return f"it was killed by signal {-code} ({signal.strsignal(-code)})"
