"""Ctrl-C comes between two things that are done, never in the middle of one."""

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, final

_LOOK_S = 0.1  # between looks for Ctrl-C while another thread has its turn
_signal: Any = sys.modules["_signal"]
"""What `signal` wraps: that looks for an enum of each handler, which takes ten times as long as to set it."""
Handler = Callable[[int, FrameType | None], Any]


class _Gate:
    """Stands in place of the program's own handler of Ctrl-C, which Python runs in the main thread only.

    Wherever it is open, that handler may raise: nothing here may then be left half changed.
    """

    handler: Handler | None = None
    """The program's own, while the gate is in its place."""
    is_open = False
    waiting: tuple[int, FrameType | None] | None = None

    def receive(self, number: int, frame: FrameType | None) -> None:
        """What the system calls. The first Ctrl-C waits at the closed gate, a second one does not."""
        if self.handler and (self.is_open or self.waiting):
            self._pass_on(self.handler, number, frame)
        else:
            self.waiting = number, frame

    def deliver(self) -> None:
        """Let through what waits."""
        if self.handler and self.waiting:
            self._pass_on(self.handler, *self.waiting)

    def put_up(self) -> bool:
        """Take the handler's place; False where it is taken already, or nobody handles Ctrl-C."""
        before = None if self.handler else _signal.getsignal(signal.SIGINT)
        if not callable(before):
            return False
        self.waiting = None
        _signal.signal(signal.SIGINT, self.receive)
        self.handler = before
        return True

    def take_down(self) -> None:
        """Give the handler its place back, and what has waited."""
        handler, self.handler = self.handler, None
        _signal.signal(signal.SIGINT, handler)
        waiting, self.waiting = self.waiting, None
        if handler and waiting:
            handler(*waiting)

    def _pass_on(self, handler: Handler, number: int, frame: FrameType | None) -> None:
        self.waiting = None
        was_open, self.is_open = self.is_open, False  # for whoever was about to close it, should this raise
        handler(number, frame)
        self.is_open = was_open


_gate = _Gate()


def _is_in_main_thread() -> bool:
    return threading.get_ident() == threading.main_thread().ident


@final
class Uninterrupted:
    """Ctrl-C waits for the end of this, or for the next `Interruptible` in it; a second one does not.

    So what changes state does so wholly or not at all. In other threads than the main one this does nothing.
    """

    _has_put_up = _was_open = False

    def __enter__(self) -> None:
        if _is_in_main_thread():
            self._was_open, _gate.is_open = _gate.is_open, False
            self._has_put_up = _gate.put_up()

    def __exit__(self, *_: object) -> None:
        if self._has_put_up:
            _gate.take_down()
        elif self._was_open:
            _gate.is_open = True
            _gate.deliver()


@final
class Interruptible:
    """What waits, or calls the user's code, inside an `Uninterrupted`: nothing is half changed here."""

    _was_closed = False

    def __enter__(self) -> None:
        if _is_in_main_thread() and _gate.handler and not _gate.is_open:
            self._was_closed = _gate.is_open = True
            _gate.deliver()

    def __exit__(self, *_: object) -> None:
        if self._was_closed:
            _gate.is_open = False


@final
class Turns:
    """A lock that a thread may take again. While it is held Ctrl-C waits, as in an `Uninterrupted`."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._taken: list[Uninterrupted] = []

    def __enter__(self) -> None:
        turn = Uninterrupted()
        turn.__enter__()
        try:
            while not self._lock.acquire(timeout=_LOOK_S):
                with Interruptible():
                    pass
        except BaseException:
            turn.__exit__()
            raise
        self._taken.append(turn)

    def __exit__(self, *_: object) -> None:
        turn = self._taken.pop()
        self._lock.release()
        turn.__exit__()
