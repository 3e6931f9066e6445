"""A process and all that it starts, stopped and continued as one.

Members are told by a variable of their environment, which what they start inherits: daemons too, whose parent may be
gone. A guard ends them should this process be killed.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache, partial
from itertools import count
from typing import IO
from uuid import uuid4

from harness import guard
from harness.guard import ENDED
from harness.machine import one_thread_environment, pin

_MARK = "BENCHMARK_FAMILY"
_BENCHMARK = uuid4().hex
"""What the marks of all families of this process begin with."""
_numbers = count()
_PATIENCE_S = 10.0


class Family:
    """A process that is talked to over its standard input and output, and its descendants.

    It has a process group of its own, so that Ctrl-C reaches the benchmark alone, which ends it.

    Args:
        command: the program and its arguments.
        cores: where it runs.
        log: takes what it prints to standard error.
    """

    def __init__(self, command: Sequence[str], cores: Sequence[int], log: IO[bytes]) -> None:
        _guard()
        mark = f"{_BENCHMARK}/{next(_numbers)}/"
        self._mark = f"{_MARK}={mark}".encode()
        self.process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**one_thread_environment(), _MARK: mark},
            text=True,
            bufsize=1,
            process_group=0,
            preexec_fn=partial(pin, list(cores)),
        )

    def freeze(self) -> None:
        """Stop all of them: they take no processor time any more."""
        self._send(signal.SIGSTOP, spared="Tt" + ENDED)

    def thaw(self) -> None:
        """Continue all of them."""
        self._send(signal.SIGCONT, spared="RSDI" + ENDED)

    def end(self, patience_s: float) -> None:
        """Close the input, which ends it in order; whoever is left after that, or after `patience_s`, is killed."""
        assert self.process.stdin is not None
        self.thaw()
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(patience_s)
        self._send(signal.SIGKILL, spared=ENDED)
        self.process.kill()  # where there is no /proc
        self.process.wait()

    def members(self) -> dict[int, str]:
        """The state of each, by process id."""
        # Once it has been waited for, its id may be another's.
        return guard.members(self._mark, self.process.pid if self.process.returncode is None else None)

    def _send(self, number: int, spared: str) -> None:
        """Send a signal to all but those in the states `spared`, until all are: some may have been born meanwhile."""
        deadline = time.monotonic() + _PATIENCE_S
        while others := [pid for pid, state in self.members().items() if state not in spared]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"Processes {others} did not take {signal.Signals(number).name}.")
            for pid in others:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
            time.sleep(0.001)


@cache
def _guard() -> "subprocess.Popen[bytes]":
    """The process that kills all families when this one, and with it the other end of its input, is gone."""
    command = [sys.executable, guard.__file__, f"{_MARK}={_BENCHMARK}"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
