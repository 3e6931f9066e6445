"""Ctrl-C at any moment of an update: that one is trained or counted as failed, and the next one is exact."""

import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

import unison.learner_group
from support.hosted import is_alive, wait_until
from support.learners import assert_same, make_columns
from support.traps import Trap, make_trapped, state_of, states
from unison import LearnerGroup
from unison.errors import LearnerGroupError
from unison.learner_group.transport import Transport
from unison.learner_group.updates import UpdatePipeline


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


class AtLine:
    """Ctrl-C just before the given line of those that a group runs in this process, counted from 1."""

    _folder = str(Path(unison.learner_group.__file__).parent)

    def __init__(self, number: int) -> None:
        self._left = number

    def __enter__(self) -> "AtLine":
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    @property
    def has_come(self) -> bool:
        return self._left <= 0

    def _trace(self, frame: FrameType, event: str, _: object) -> Any:
        if not frame.f_code.co_filename.startswith(self._folder):
            return None
        if event == "line":
            self._left -= 1
            if self._left == 0:
                signal.raise_signal(signal.SIGINT)
        return self._trace


def interrupt_every_line(action: Callable[[int], object], check: Callable[[int], None]) -> int:
    """Do something again and again, each time with Ctrl-C one line later; how many lines it has.

    While ranks are waited for the same lines come again and again: beyond 600 not each one is tried.
    """
    for number in itertools.chain(range(1, 600), itertools.count(600, 11)):
        with suppress(KeyboardInterrupt), AtLine(number) as line:
            action(number)
        check(number)
        if not line.has_come:
            return number - 1
    raise AssertionError


@pytest.mark.parametrize("waits", [True, False])
def test_ctrl_c_at_every_line_of_an_update(tmp_path: Path, waits: bool) -> None:
    with make_trapped(Trap(tmp_path), 2) as undisturbed, make_trapped(Trap(tmp_path), 2) as group:

        def train(_: int) -> None:
            update(group, waits=waits)
            group.drain()

        def check(_: int) -> None:
            stats = group.get_stats()
            assert stats["submitted"] == stats["trained"] + stats["failed"] + stats["in_flight"]
            assert stats["restarts"] == 0
            group.drain()

        assert interrupt_every_line(train, check) > 300
        stats = group.get_stats()
        assert 0 < stats["failed"] < stats["trained"] == stats["submitted"] - stats["failed"]
        for _ in range(int(stats["trained"])):
            update(undisturbed)
        assert_same(states(group), states(undisturbed))


def test_ctrl_c_at_every_line_of_a_change(tmp_path: Path) -> None:
    """It is made wholly or not at all, and the version of the weights tells which."""
    with make_trapped(Trap(tmp_path), 2) as group:
        names = {module_id: list(named) for module_id, named in group.get_weights().items()}
        shapes = {name: value.shape for named in group.get_weights().values() for name, value in named.items()}
        before, version = None, group.weights_version

        def change(number: int) -> None:
            weights = {m: {n: np.full(shapes[n], number, np.float32) for n in named} for m, named in names.items()}
            group.set_weights(weights)

        def check(number: int) -> None:
            nonlocal before, version
            found = {float(value) for named in group.get_weights().values() for v in named.values() for value in v.flat}
            has_changed = group.weights_version > version
            assert found == {number} if has_changed else before is None or found == before
            before, version = found, group.weights_version

        assert interrupt_every_line(change, check) > 300
        assert len({str(state) for state in group.foreach_learner(state_of)}) == 1
        assert group.get_stats()["restarts"] == 0


def test_ctrl_c_while_others_take_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are the group's, and go with it; those before them are gone."""
    take_over = UpdatePipeline.move_to

    def interrupted_take_over(self: UpdatePipeline, transport: Transport) -> None:
        signal.raise_signal(signal.SIGINT)
        take_over(self, transport)

    with make_trapped(Trap(tmp_path), 1) as group:
        version, pids = group.weights_version, [*group._transport.pids]  # pyright: ignore
        monkeypatch.setattr(UpdatePipeline, "move_to", interrupted_take_over)
        with pytest.raises(KeyboardInterrupt):
            group.resize(2)
        assert wait_until(lambda: not any(map(is_alive, pids)))
        assert (len(group), group.weights_version) == (2, version + 1)
        update(group)
        pids = [*group._transport.pids]  # pyright: ignore
    assert wait_until(lambda: not any(map(is_alive, pids)))


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
