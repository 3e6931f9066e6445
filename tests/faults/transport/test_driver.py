"""However the driver ends, nothing of its workers is left: no process, no shared memory."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from support.hosted import Hosted, children, is_alive, wait_until
from unison.errors import LearnerGroupError
from unison.learner_group.processes import ProcessTransport

BEGIN = """
import os, signal, subprocess, sys, time
import torch
sys.path.insert(0, {support!r})
from support.hosted import Hosted, children
from unison.learner_group.processes import ProcessTransport

class Local(Hosted):
    def stop(self): os.kill(os.getpid(), signal.SIGSTOP)
    def loop(self):
        while True: pass
    def wait(self): self.collective.all_reduce_(torch.zeros(1))
    def breed(self): return subprocess.Popen(["sleep", "1000"]).pid

transport = ProcessTransport()
"""

NASTY = """
transport.start(Local, 4)
transport.gather(transport.call("breed"))
transport.call("stop", ranks=[0])
transport.call("loop", ranks=[1])
transport.call("wait", ranks=[2])
if os.fork() == 0:  # a fork that inherits all our sockets, and must not be taken for us
    time.sleep(1000)
print("ready", flush=True)
time.sleep(1000)
"""

CAREFREE = """
if __name__ == "__main__":
    transport.start(Local, 2)
    transport.gather(transport.call("reduce", 10))
    print("ready", flush=True)
"""

INTERRUPTED = """
signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background, shells start programs that ignore it
transport.start(Local, 2)
call = transport.call("wait", ranks=[0])
print("ready", flush=True)
transport.gather(call)
"""


@contextmanager
def driver(script: str) -> Iterator[tuple["subprocess.Popen[str]", set[int]]]:
    """A process that runs a script, and all processes that descend from it."""
    code = BEGIN.format(support=str(Path(__file__).parents[2])) + script
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    family: set[int] = set()
    try:
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            raise AssertionError(process.communicate()[1])
        family |= children(process.pid)
        yield process, family
    finally:
        for pid in {process.pid, *family}:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.communicate()


def test_a_killed_driver_takes_along_workers_in_whatever_state_and_their_children() -> None:
    shared_memory = set(os.listdir("/dev/shm"))
    with driver(NASTY) as (process, family):
        assert len(family) == 1 + 4 + 4 + 1
        (fork,) = {pid for pid in family if b"time.sleep(1000)" in Path(f"/proc/{pid}/cmdline").read_bytes()}
        process.kill()
        process.wait()
        assert wait_until(lambda: not any(is_alive(pid) for pid in family - {fork}))
    assert set(os.listdir("/dev/shm")) <= shared_memory


def test_a_transport_that_nobody_stopped_stops_at_exit() -> None:
    with driver(CAREFREE) as (process, family):
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, output, errors) == (0, "", "")
        assert not any(is_alive(pid) for pid in family)


def test_ctrl_c_reaches_the_driver_alone_and_ends_all() -> None:
    with driver(INTERRUPTED) as (process, family):
        assert len(family) == 3
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert errors.count("Traceback") == 1
        assert errors.rstrip().endswith("KeyboardInterrupt")
        assert not any(is_alive(pid) for pid in family)


def test_a_nursery_with_threads_starts_fresh_interpreters_and_ends_with_the_last_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "starts_a_thread.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    def threads(hosted: Hosted) -> tuple[int, bool]:
        return threading.active_count(), "starts_a_thread" in sys.modules

    before = children()
    transport = ProcessTransport(preload=("starts_a_thread",))
    transport.start(Hosted, 1)
    assert transport.gather(transport.call("apply", threads)) == [(1, False)]
    del transport
    assert children() == before


def test_a_nursery_that_cannot_start_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    before = children()
    with pytest.raises(LearnerGroupError, match=r"No worker process could be made: .* see what it wrote above"):
        ProcessTransport(preload=("there_is_no_such_module",)).start(Hosted, 1)
    assert "No module named 'there_is_no_such_module'" in capfd.readouterr().err
    assert children() == before
