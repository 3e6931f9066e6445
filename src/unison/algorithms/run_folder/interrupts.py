"""Ctrl-C and SIGTERM, turned into a request that a run answers at its next iteration."""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, final

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@final
class Interrupts:
    """While entered, the first signal sets `requested`; a second one raises KeyboardInterrupt.

    Processes forked meanwhile ignore Ctrl-C, which a terminal sends to all of them: it is this process
    that ends them, once everything is saved. Outside the main thread, where Python handles no signals,
    this does nothing.

    Args:
        on_request: called at the first signal.
    """

    def __init__(self, on_request: Callable[[], None] | None = None) -> None:
        self.requested = False
        self._on_request = on_request
        self._process = os.getpid()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            if number == signal.SIGTERM:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        if self._on_request is not None:
            self._on_request()
