"""The processes of a benchmark, and as a program of its own: what ends them when the benchmark is gone.

Contenders are stopped while others have their turn. Were the benchmark killed meanwhile, they would stay so for ever.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ENDED = "ZX"
"""States as in /proc: zombie, dead."""
_PATIENCE_S = 10.0


def members(mark: bytes, root: int | None = None) -> dict[int, str]:
    """The state of each process, by its id, that belongs to a family.

    Args:
        mark: how an entry of their environment begins. Children of members belong to them, also if they have written
            something else in that place.
        root: a member in any case.
    """
    found = {pid: (parent, state) for pid, parent, state in _processes()}
    own = {pid for pid in found if pid == root or any(entry.startswith(mark) for entry in _environment(pid))}
    while more := {pid for pid, (parent, _) in found.items() if parent in own} - own:
        own |= more
    return {pid: found[pid][1] for pid in own if pid in found}


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


def main() -> None:
    """Wait for the end of the input, then kill all that have the mark."""
    mark = sys.argv[1].encode()
    sys.stdin.read()
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline and (left := [p for p, state in members(mark).items() if state not in ENDED]):
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


if __name__ == "__main__":
    main()
