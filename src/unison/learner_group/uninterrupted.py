"""Ctrl-C comes between two things that are done, never in the middle of one."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, final

_LOOK_S = 0.1  # between looks for Ctrl-C while another thread has its turn
_PATIENCE_S = 1.0  # for which one waits until the next breaks in
_signal: Any = sys.modules["_signal"]
"""What `signal` wraps: that looks for an enum of each handler, which takes ten times as long as to set it."""
Handler = Callable[[int, FrameType | None], Any]


class _Gate:
    """Stands in place of the program's own handler of Ctrl-C, which Python runs in the main thread only.

    Wherever it is open, that handler may raise: nothing here may then be left half changed. It is down in forks, and
    where it is down but still in the handler's place, for Ctrl-C came in between, it passes everything on.
    """

    is_open = False

    def __init__(self) -> None:
        self._program: Handler = signal.default_int_handler
        self._owner = 0  # the process in which it is up
        self._waiting: list[tuple[int, FrameType | None]] = []
        self._since = 0.0

    @property
    def is_up(self) -> bool:
        return self._owner == os.getpid()

    def receive(self, number: int, frame: FrameType | None) -> None:
        """What the system calls."""
        if self.is_open or not self.is_up:
            self._pass_on(number, frame)
            return
        now = time.monotonic()
        if not self._waiting:
            self._since = now
        self._waiting.append((number, frame))
        if now - self._since > _PATIENCE_S:
            self.take_down()

    def put_up(self) -> bool:
        """Take the handler's place; False where it is taken already, or nobody handles Ctrl-C."""
        if self.is_up:
            return False
        before = _signal.getsignal(signal.SIGINT)
        before = self._program if before == self.receive else before
        if not callable(before):
            return False
        self._waiting = []
        try:
            self._program, self._owner = before, os.getpid()
            _signal.signal(signal.SIGINT, self.receive)
        except BaseException:  # one that came just before
            self._owner = 0
            raise
        return True

    def take_down(self) -> None:
        """Give the handler its place back, unless another has it by now, and what has waited."""
        self._owner = 0
        if _signal.getsignal(signal.SIGINT) == self.receive:
            _signal.signal(signal.SIGINT, self._program)
        self.deliver()

    def deliver(self) -> None:
        """Let through what waits."""
        while self._waiting:
            self._pass_on(*self._waiting.pop(0))

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        was_open, self.is_open = self.is_open, False  # for whoever was about to close it, should this raise
        self._program(number, frame)
        self.is_open = was_open


_gate = _Gate()


def _is_in_main_thread() -> bool:
    return threading.get_ident() == threading.main_thread().ident


@final
class Uninterrupted:
    """Ctrl-C waits for the end of this, or for the next `Interruptible` in it; after a second the next one breaks in.

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
        if _is_in_main_thread() and _gate.is_up and not _gate.is_open:
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
        try:
            self._lock.release()
        finally:
            turn.__exit__()
