"""Where processor time goes: sections that nest, each charged with its own time alone."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any


class Stopwatch:
    """Processor seconds by section; what runs inside an inner section is not charged to the outer one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._open: list[str] = []
        self._since = 0.0
        self._classes: list[tuple[type, str, Any]] = []

    def __enter__(self) -> "Stopwatch":
        return self

    def __exit__(self, *_: object) -> None:
        for owner, method, original in self._classes:
            setattr(owner, method, original)

    def reset(self) -> None:
        """Forget all."""
        self.seconds.clear()

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Charge what runs inside to `name`."""
        self._charge()
        self._open.append(name)
        try:
            yield
        finally:
            self._charge()
            self._open.pop()

    def wrap(self, owner: Any, method: str, name: str) -> None:
        """Charge every call of a method of an object or a class to `name`; `with stopwatch:` restores the classes."""
        original: Callable[..., Any] = getattr(owner, method)

        @wraps(original)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.section(name):
                return original(*args, **kwargs)

        # Not setattr: modules and configs have their own.
        if isinstance(owner, type):
            self._classes.append((owner, method, original))
            setattr(owner, method, timed)
        else:
            vars(owner)[method] = timed

    def _charge(self) -> None:
        now = time.process_time()
        if self._open:
            self.seconds[self._open[-1]] = self.seconds.get(self._open[-1], 0.0) + now - self._since
        self._since = now
