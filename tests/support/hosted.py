"""Objects for worker processes to host, and what tests ask of processes."""

import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unison.errors import BatchError
from unison.learner_group.transport import WorkerContext


class Hosted:
    """Does what a test asks of its rank."""

    def __init__(self, context: WorkerContext, tag: str = "") -> None:
        self.context = context
        self.collective = context.collective
        self.tag = tag
        self.kept: list[Any] = []
        self.calls: list[Any] = []

    def echo(self, value: Any = None) -> Any:
        self.calls.append(value)
        return value

    def history(self) -> list[Any]:
        return self.calls

    def about(self) -> dict[str, Any]:
        return {
            "rank": self.context.rank,
            "world_size": self.context.world_size,
            "tag": self.tag,
            "pid": os.getpid(),
            "threads": torch.get_num_threads(),
            "stdin": sys.stdin.read(),
        }

    def apply(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(self, *arguments)

    def keep(self, array: np.ndarray[Any, Any]) -> float:
        self.kept.append(array)
        return float(array.sum())

    def sums_of_kept(self) -> list[float]:
        return [float(array.sum()) for array in self.kept]

    def write(self, array: np.ndarray[Any, Any]) -> float:
        array += self.context.rank + 1
        return float(array[0])

    def reduce(self, size: int, rounds: int = 1) -> torch.Tensor:
        """Sums of random numbers over the ranks: alike on all of them."""
        generator = torch.Generator().manual_seed(self.context.rank)
        total = torch.zeros(size)
        for _ in range(rounds):
            total += self.collective.all_reduce_(torch.randn(size, generator=generator))
        return total

    def misbehave(self, how: str, rank: int, when: str, size: int = 1000) -> torch.Tensor:
        """A sum in three rounds; one rank does something bad before, between or after them."""
        bad = self.context.rank == rank
        if bad and when == "before":
            misbehave(how)
        total = self.reduce(size)
        if bad and when == "between":
            misbehave(how)
        total += self.reduce(size, rounds=2)
        if bad and when == "after":
            misbehave(how)
        return total


def misbehave(how: str) -> None:
    """Die, hang or raise."""
    if how == "SIGKILL":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "SIGSEGV":
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.kill(os.getpid(), signal.SIGSEGV)
    elif how == "exit":
        os._exit(3)
    elif how == "SIGSTOP":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif how == "loop":
        while True:
            time.sleep(0.01)
    elif how == "raise":
        raise BatchError("column 'obs' has 3 rows, 'actions' 4")
    elif how == "SystemExit":
        raise SystemExit("enough")
    elif how == "memory":
        with limit(resource.RLIMIT_AS, 1 << 20):
            np.ones(1 << 26)
    else:
        raise AssertionError(how)


class limit:
    """A resource limit of this process for a while, above what it uses now where that is memory."""

    def __init__(self, kind: int, value: int) -> None:
        self._kind, self._value = kind, value
        if kind == resource.RLIMIT_AS:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            self._value += pages * resource.getpagesize()

    def __enter__(self) -> None:
        self._before = resource.getrlimit(self._kind)
        resource.setrlimit(self._kind, (self._value, self._before[1]))

    def __exit__(self, *_: object) -> None:
        resource.setrlimit(self._kind, self._before)


def is_alive(pid: int) -> bool:
    """Whether there is such a process that has not ended (a zombie has)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children(pid: int | None = None) -> set[int]:
    """The processes that descend from this one, at any depth."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents.setdefault(parent, []).append(int(entry.name))
    found: set[int] = set()
    open_ends = [os.getpid() if pid is None else pid]
    while open_ends:
        for child in parents.get(open_ends.pop(), []):
            if is_alive(child):
                found.add(child)
                open_ends.append(child)
    return found


def wait_until(condition: Callable[[], bool], timeout: float = 30.0) -> bool:
    """Whether a condition comes true in time."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.005)
    return condition()
