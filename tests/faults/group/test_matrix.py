"""Every fault at every moment, on processes: training goes on exactly, or an error tells and nothing has changed.

docs/faults.md shows what happens as a table; each of its cells names the test here.
"""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.hosted import children, is_alive, wait_until
from support.learners import DISCRETE, OBS, assert_same, make_columns
from support.traps import Trap, lift_limit, make_trapped, states, update, update_often
from unison import LearnerGroup, SingleAgentRLModuleSpec
from unison.checkpoint import read_checkpoint
from unison.errors import BatchError, LearnerGroupError
from unison.learner_group import updates
from unison.learner_group.failures import WorkerError
from unison.learner_group.recovery import recover
from unison.learner_group.shared_memory import SharedMemoryError

SPEC = SingleAgentRLModuleSpec(observation_space=OBS, action_space=DISCRETE, model_config={"hidden_sizes": (64,)})
LARGE = SingleAgentRLModuleSpec(observation_space=OBS, action_space=DISCRETE, model_config={"hidden_sizes": (256,) * 2})
SURVIVED = ("kill", "stop")
RAISED: dict[str, type[BaseException]] = {"raise": BatchError, "memory": MemoryError, "full": SharedMemoryError}
FAULTS = (*SURVIVED, *RAISED)
DEADLINE_S = 20.0


def rank_of(fault: str, moment: str) -> int:
    """Who fails: the one that is asked, or whose memory is needed; else the last one."""
    return 0 if fault == "full" or moment == "saving" else 1


def hand_in(group: LearnerGroup, number: int) -> Any:
    return group.update_from_batch(make_columns(40, number), minibatch_size=8, num_iters=2, async_update=True)


@pytest.fixture(scope="module")
def path(undisturbed: LearnerGroup) -> dict[int, Any]:
    """The states of Learners that nothing happens to after 0 to 4 updates; `None`: to begin with."""
    found: dict[Any, Any] = {None: undisturbed.get_state(), 0: states(undisturbed)}
    for number in range(4):
        update(undisturbed, number)
        found[number + 1] = states(undisturbed)
    return found


@pytest.fixture
def group(pair: LearnerGroup, path: Any) -> LearnerGroup:
    """The pair after one update."""
    pair.set_state(path[None])
    update(pair, 0)
    return pair


@pytest.mark.parametrize("moment", ["before", "inside", "after"])
@pytest.mark.parametrize("fault", FAULTS)
def test_update(
    group: LearnerGroup, trap: Trap, path: Any, fault: str, moment: str, caplog: pytest.LogCaptureFixture
) -> None:
    restarts, start = group.get_stats()["restarts"], time.monotonic()
    rank = rank_of(fault, moment)
    trap.set(moment, fault, rank)
    if fault in SURVIVED:
        totals = update(group, 1)["__all_modules__"]
        assert totals["num_updates"] == 2
        assert totals["num_learner_restarts"] == group.get_stats()["restarts"] == restarts + 1
        assert f"A Learner was lost and is back, after update 1. Rank {rank} of 2" in caplog.text
    elif fault == "full":  # an update like the last one has its room
        update(group, 1)
        group.foreach_learner(lift_limit)
        assert group.get_stats()["restarts"] == restarts
    else:
        with pytest.raises(RAISED[fault]) as caught:
            update(group, 1)
        notes = "\n".join(caught.value.__notes__)
        assert f"rank {rank}" in notes
        assert "Traceback" in notes
        assert_same(states(group), path[1])
        update(group, 1)
        assert group.get_stats()["restarts"] == restarts
    assert time.monotonic() - start < DEADLINE_S
    assert_same(states(group), path[2])
    update(group, 2)
    assert_same(states(group), path[3])


@pytest.mark.parametrize("fault", FAULTS)
def test_saving(group: LearnerGroup, trap: Trap, path: Any, tmp_path: Path, fault: str) -> None:
    group.save_state(tmp_path / "saved")
    update(group, 1)
    restarts = group.get_stats()["restarts"]
    trap.set("saving", fault, 0)
    if fault in SURVIVED:
        group.save_state(tmp_path / "saved")
        assert group.get_stats()["restarts"] == restarts + 1
    else:
        with pytest.raises(RAISED[fault]):
            group.save_state(tmp_path / "saved")
        group.foreach_learner(lift_limit)
    written = 2 if fault in SURVIVED else 1
    assert read_checkpoint(tmp_path / "saved").parts["learner"]["counters"]["num_updates"] == written
    assert [entry.name for entry in tmp_path.iterdir()] == ["saved"]
    assert_same(states(group), path[2])
    group.load_state(tmp_path / "saved")
    assert_same(states(group), path[written])


@pytest.mark.parametrize("fault", FAULTS)
def test_adding(group: LearnerGroup, trap: Trap, path: Any, fault: str) -> None:
    trap.set("adding", fault, rank_of(fault, "adding"))
    spec = LARGE if fault == "full" else SPEC  # more than there has been room for
    if fault in SURVIVED:
        group.add_module(module_id="new", module_spec=spec)
    else:
        with pytest.raises(RAISED[fault]):
            group.add_module(module_id="new", module_spec=spec)
        group.foreach_learner(lift_limit)
        assert_same(states(group), path[1])
        group.add_module(module_id="new", module_spec=spec)
    assert {name.split("/")[0] for name in states(group)} == {"default_policy", "new", "counters"}
    group.remove_module("new")
    update(group, 1)
    assert_same(states(group), path[2])


@pytest.mark.parametrize("fault", FAULTS)
def test_building(undisturbed: LearnerGroup, trap: Trap, fault: str) -> None:
    before, start = children(), time.monotonic()
    rank = rank_of(fault, "building")
    trap.set("building", fault, rank)
    with pytest.raises(WorkerError, match=f"Rank {rank} of 2 .* in 'start'") as caught:
        make_trapped(trap, 2, learner_timeout_s=2.0, learner_start_timeout_s=4.0)
    assert time.monotonic() - start < DEADLINE_S
    if fault in RAISED:
        assert isinstance(caught.value.__cause__, RAISED[fault])
        assert "Traceback" in str(caught.value)
    assert wait_until(lambda: children() == before)


@pytest.mark.parametrize("fault", FAULTS)
def test_resizing(group: LearnerGroup, trap: Trap, path: Any, fault: str) -> None:
    before, start = children(), time.monotonic()
    rank = rank_of(fault, "building")
    trap.set("building", fault, rank)
    with pytest.raises(WorkerError, match=f"Rank {rank} of 3 .* in 'start'"):
        group.resize(3)
    assert time.monotonic() - start < DEADLINE_S
    assert wait_until(lambda: children() == before)
    assert_same(states(group), path[1])
    group.resize(1)
    group.resize(2)
    assert_same(states(group), path[1])
    update(group, 1)
    assert_same(states(group), path[2])


def test_a_rank_that_is_lost_right_after_resizing_comes_back(group: LearnerGroup, path: Any) -> None:
    group.resize(1)
    group.resize(2)
    os.kill(group._transport.pids[1], signal.SIGKILL)  # pyright: ignore
    update(group, 1)
    assert_same(states(group), path[2])


@pytest.fixture(scope="module")
def lone(undisturbed: LearnerGroup, trap: Trap) -> Iterator[LearnerGroup]:
    """One Learner in a process of its own."""
    with make_trapped(trap, 1, learner_timeout_s=2.0) as group:
        yield group


@pytest.mark.parametrize(
    ("moment", "fault"),
    [*((moment, "kill") for moment in ("before", "inside", "after", "saving", "adding")), ("inside", "stop")],
)
def test_a_lone_learner(lone: LearnerGroup, trap: Trap, tmp_path: Path, moment: str, fault: str) -> None:
    if moment == "before":  # Whatever the last test left: the state may not depend on what is done again.
        update(lone, 5)
    beginning = lone.get_state()
    wanted = []
    for number in range(2):
        update(lone, number)
        wanted.append(states(lone))
    lone.set_state(beginning)
    restarts = lone.get_stats()["restarts"]
    trap.set(moment, fault, 0)
    if moment == "saving":
        lone.save_state(tmp_path / "saved")
    elif moment == "adding":
        lone.add_module(module_id="new", module_spec=SPEC)
        lone.remove_module("new")
    update(lone, 0)
    assert lone.get_stats()["restarts"] == restarts + 1
    assert_same(states(lone), wanted[0])
    update(lone, 1)
    assert_same(states(lone), wanted[1])


@pytest.mark.parametrize("moment", ["before", "inside", "after"])
def test_all_at_once(group: LearnerGroup, trap: Trap, path: Any, moment: str) -> None:
    trap.set(moment, "kill", 0, 1)
    update(group, 1)
    assert_same(states(group), path[2])


def test_between_calls(group: LearnerGroup, path: Any) -> None:
    """Updates that were finished before a rank died count, and are not run again."""
    for number in (1, 2):
        hand_in(group, number)
    pids = group._transport.pids  # pyright: ignore  # foreach_learner would wait for the update
    time.sleep(1.0)
    os.kill(pids[0], signal.SIGKILL)
    assert wait_until(lambda: not is_alive(pids[0]))
    results = [*hand_in(group, 3), *group.drain()]
    assert [r["__all_modules__"]["num_updates"] for r in results][-2:] == [3, 4]
    assert_same(states(group), path[4])


def test_again_and_again(group: LearnerGroup, trap: Trap, path: Any) -> None:
    restarts = group.get_stats()["restarts"]
    trap.set("inside", "kill-always", 1)
    with pytest.raises(LearnerGroupError, match="lost more often than max_learner_restarts") as caught:
        update(group, 1)
    assert "killed by SIGKILL" in str(caught.value)
    assert group.get_stats()["restarts"] == restarts + group.config.max_learner_restarts
    trap.lift()
    assert_same(states(group), path[1])
    update(group, 1)
    assert_same(states(group), path[2])


def test_no_restart(undisturbed: LearnerGroup, trap: Trap, path: Any, tmp_path: Path) -> None:
    """Where none is allowed, what the survivors know can still be saved, and `resize()` goes on from it."""
    with make_trapped(trap, 2, max_learner_restarts=0) as group:
        group.set_state(path[None])
        update(group, 0)
        trap.set("inside", "kill", 0)
        for _ in range(2):
            with pytest.raises(LearnerGroupError, match="lost more often than max_learner_restarts"):
                update(group, 1)
        group.save_state(tmp_path / "saved")
        assert read_checkpoint(tmp_path / "saved").parts["learner"]["counters"]["num_updates"] == 1
        group.resize(2)
        update(group, 1)
        assert_same(states(group), path[2])


def test_survivors_that_are_updates_ahead(undisturbed: LearnerGroup, trap: Trap) -> None:
    """A function may update more than once; who can't go back that far gets the state of one who can."""
    with make_trapped(trap, 3) as group:
        trap.set("between", "kill", 2)
        group.foreach_learner(update_often, number=3)
        assert states(group)["counters/num_updates"] == 3
        assert group.get_stats()["restarts"] == 1


def test_lost_again_after_a_recovery(
    group: LearnerGroup, trap: Trap, path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rank dies after all were whole again and before the update is handed in anew."""
    pids: list[int] = []

    def recover_and_kill(transport: Any, *args: Any, **kwargs: Any) -> int:
        restarts = recover(transport, *args, **kwargs)
        if not pids:
            pids.append(transport.pids[0])
            os.kill(pids[0], signal.SIGKILL)
            assert wait_until(lambda: not is_alive(pids[0]))
        return restarts

    monkeypatch.setattr(updates, "recover", recover_and_kill)
    restarts = group.get_stats()["restarts"]
    trap.set("inside", "kill", 1)
    update(group, 1)
    assert group.get_stats()["restarts"] == restarts + 2
    assert_same(states(group), path[2])
