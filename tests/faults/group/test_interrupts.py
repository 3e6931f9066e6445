"""Ctrl-C at any moment of an update: that one is trained or counted as failed, and the next one is exact."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.learners import assert_same, make_columns
from support.traps import Trap, make_trapped, states
from unison import LearnerGroup
from unison.errors import LearnerGroupError


def interrupted(action: Callable[[], object], delay_s: float) -> None:
    """Do something, and be interrupted in the middle of it or after it."""
    timer = threading.Timer(delay_s, os.kill, (os.getpid(), signal.SIGINT))
    try:
        timer.start()
        action()
        time.sleep(60.0)
    except KeyboardInterrupt:
        timer.join()


def update(group: LearnerGroup, *, waits: bool = True) -> None:
    group.update_from_batch(make_columns(40), minibatch_size=8, num_iters=2, async_update=not waits)


@pytest.mark.parametrize("ranks", [1, 2])
def test_interrupts(tmp_path: Path, ranks: int) -> None:
    with make_trapped(Trap(tmp_path), ranks) as undisturbed, make_trapped(Trap(tmp_path), ranks) as group:
        for step in range(24):
            waits = step % 3 > 0
            interrupted(lambda waits=waits: update(group, waits=waits), delay_s=0.002 * step)
            stats = group.get_stats()
            assert stats["submitted"] == stats["trained"] + stats["failed"] + stats["in_flight"]
            if step % 2:
                update(group)
        group.drain()
        stats, state = group.get_stats(), states(group)
        assert stats["in_flight"] == stats["restarts"] == 0
        assert stats["trained"] >= 12
        for _ in range(int(stats["trained"])):
            update(undisturbed)
        assert_same(state, states(undisturbed))


def test_interrupted_with_a_learner_lost_and_no_restart_left(tmp_path: Path) -> None:
    """The error says that the state can be saved and that resize() goes on from it: so it is."""
    with make_trapped(Trap(tmp_path), 2, max_learner_restarts=0) as group:
        update(group)
        pid = int(group._transport.pids[1])  # pyright: ignore
        os.kill(pid, signal.SIGSTOP)
        interrupted(lambda: update(group), delay_s=0.3)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(LearnerGroupError, match="The state after 1 updates can be saved"):
            update(group)
        assert group.get_state()["learner"]["counters"]["num_updates"] == 1
        group.resize(2)
        update(group)
        assert states(group)["counters/num_updates"] == 2
