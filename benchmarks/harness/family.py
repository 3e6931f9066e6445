"""A process and all that it starts, stopped and continued as one.

Members are told by a variable of their environment, which what they start inherits: daemons too, whose parent may be
gone; and their children belong to them, also if those have written something else in that place.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO
from uuid import uuid4

from harness.machine import one_thread_environment, pin

_MARK = "BENCHMARK_FAMILY"
_PATIENCE_S = 10.0
_ENDED = "ZX"  # states as in /proc: zombie, dead


class Family:
    """A process that is talked to over its standard input and output, and its descendants.

    It has a process group of its own, so that Ctrl-C reaches the benchmark alone, which ends it.

    Args:
        command: the program and its arguments.
        cores: where it runs.
        log: takes what it prints to standard error.
    """

    def __init__(self, command: Sequence[str], cores: Sequence[int], log: IO[bytes]) -> None:
        mark = uuid4().hex
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
        self._send(signal.SIGSTOP, spared="Tt" + _ENDED)

    def thaw(self) -> None:
        """Continue all of them."""
        self._send(signal.SIGCONT, spared="RSDI" + _ENDED)

    def end(self, patience_s: float) -> None:
        """Close the input, which ends it in order; whoever is left after that, or after `patience_s`, is killed."""
        assert self.process.stdin is not None
        self.thaw()
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(patience_s)
        self._send(signal.SIGKILL, spared=_ENDED)
        self.process.kill()  # where there is no /proc
        self.process.wait()

    def members(self) -> dict[int, str]:
        """The state of each, by process id."""
        found = {pid: (parent, state) for pid, parent, state in _processes()}
        own = {pid for pid in found if pid == self.process.pid or self._mark in _environment(pid)}
        while more := {pid for pid, (parent, _) in found.items() if parent in own} - own:
            own |= more
        return {pid: found[pid][1] for pid in own if pid in found}

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


def _processes() -> Iterator[tuple[int, int, str]]:
    """Id, parent and state of each process of this machine; none where there is no /proc."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, parent = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
            yield int(folder.name), int(parent), state


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []
