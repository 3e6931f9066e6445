"""Faults of Learners on a Ray cluster of two nodes; docs/faults.md shows them as a table."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from support.hosted import is_alive, wait_until
from support.learners import DISCRETE, OBS, assert_same, make_columns
from support.traps import Trap, make_trapped, states, update
from unison import LearnerGroup, SingleAgentRLModuleSpec
from unison.checkpoint import read_checkpoint
from unison.errors import BatchError, LearnerGroupError
from unison.learner_group.failures import WorkerError

pytestmark = pytest.mark.usefixtures("cluster")
SPEC = SingleAgentRLModuleSpec(observation_space=OBS, action_space=DISCRETE, model_config={"hidden_sizes": (64,)})
DRIVER = Path(__file__).parents[2] / "faults" / "group" / "driver_process.py"
RAISED: dict[str, type[BaseException]] = {"raise": BatchError, "memory": MemoryError}


@pytest.fixture(scope="module")
def trap(tmp_path_factory: pytest.TempPathFactory) -> Trap:
    return Trap(tmp_path_factory.mktemp("trap"))


@pytest.fixture(scope="module")
def pair(cluster: Any, trap: Trap) -> Iterator[LearnerGroup]:
    with make_trapped(trap, 2, backend="ray", learner_timeout_s=4.0) as group:
        yield group


@pytest.fixture(scope="module")
def path(pair: LearnerGroup) -> dict[Any, Any]:
    """What all Learners know after 0 to 3 updates without faults; `None`: the group's state to begin with."""
    found: dict[Any, Any] = {None: pair.get_state(), 0: states(pair)}
    for number in range(3):
        update(pair, number)
        found[number + 1] = states(pair)
    return found


@pytest.fixture
def group(pair: LearnerGroup, path: dict[Any, Any]) -> LearnerGroup:
    """The pair after one update."""
    pair.set_state(path[None])
    update(pair, 0)
    return pair


@pytest.mark.parametrize(
    ("moment", "fault"),
    [*((moment, fault) for fault in RAISED for moment in ("before", "inside", "after")), ("inside", "kill")],
)
def test_ray_update(group: LearnerGroup, trap: Trap, path: Any, moment: str, fault: str) -> None:
    trap.set(moment, fault, 1)
    if fault in RAISED:
        with pytest.raises(RAISED[fault]) as caught:
            update(group, 1)
        assert "rank 1" in "\n".join(caught.value.__notes__)
        assert_same(states(group), path[1])
    update(group, 1)
    assert_same(states(group), path[2])
    update(group, 2)
    assert_same(states(group), path[3])


def test_ray_hang(group: LearnerGroup, trap: Trap, path: Any) -> None:
    restarts = group.get_stats()["restarts"]
    trap.set("inside", "stop", 1)
    update(group, 1)
    assert group.get_stats()["restarts"] == restarts + 1
    assert_same(states(group), path[2])


def test_ray_none_survives(group: LearnerGroup, trap: Trap, path: Any) -> None:
    """What the first rank has left in the object store outlives it."""
    trap.set("after", "kill", 0, 1)
    update(group, 1)
    assert_same(states(group), path[2])


@pytest.mark.parametrize("fault", ["raise", "kill"])
def test_ray_saving(group: LearnerGroup, trap: Trap, path: Any, tmp_path: Path, fault: str) -> None:
    group.save_state(tmp_path / "saved")
    update(group, 1)
    trap.set("saving", fault, 0)
    if fault == "raise":
        with pytest.raises(BatchError):
            group.save_state(tmp_path / "saved")
    else:
        group.save_state(tmp_path / "saved")
    written = 1 if fault == "raise" else 2
    assert read_checkpoint(tmp_path / "saved").parts["learner"]["counters"]["num_updates"] == written
    assert_same(states(group), path[2])


@pytest.mark.parametrize("fault", ["raise", "kill"])
def test_ray_adding(group: LearnerGroup, trap: Trap, path: Any, fault: str) -> None:
    trap.set("adding", fault, 1)
    if fault == "raise":
        with pytest.raises(BatchError):
            group.add_module(module_id="new", module_spec=SPEC)
        assert_same(states(group), path[1])
    else:
        group.add_module(module_id="new", module_spec=SPEC)
        states(group)
        group.remove_module("new")
    update(group, 1)
    assert_same(states(group), path[2])


TASKS = {"update": ("before", "inside", "after", "idle"), "save": ("saving", "idle"), "add": ("adding", "idle")}
Case = tuple[list[str], int, str, set[int]]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Tasks, the one that is hit, the moment of it, who is killed."""
    tasks = draw(st.lists(st.sampled_from(["update", *TASKS]), min_size=2, max_size=3))
    hit = draw(st.integers(0, len(tasks) - 1))
    moment = draw(st.sampled_from(TASKS[tasks[hit]]))
    killed = {0} if moment == "saving" else draw(st.sets(st.integers(0, 1), min_size=1))
    return tasks, hit, moment, killed


@given(cases())
@settings(
    max_examples=3,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_ray_random_losses(pair: LearnerGroup, trap: Trap, path: Any, tmp_path: Path, case: Case) -> None:
    """Whoever is killed, whenever: all is as without it."""
    tasks, hit, moment, killed = case
    pair.set_state(path[None])
    restarts, updates = pair.get_stats()["restarts"], 0
    for number, task in enumerate(tasks):
        if number == hit and moment == "idle":
            for rank in killed:
                os.kill(pair._transport.pids[rank], signal.SIGKILL)  # pyright: ignore
        elif number == hit:
            trap.set(moment, "kill", *killed)
        if task == "update":
            update(pair, updates)
            updates += 1
        elif task == "save":
            pair.save_state(tmp_path / "saved")
            counters = read_checkpoint(tmp_path / "saved").parts["learner"]["counters"]
            assert counters["num_updates"] == updates
        else:
            pair.add_module(module_id="new", module_spec=SPEC)
            states(pair)
            pair.remove_module("new")
        assert_same(states(pair), path[updates])
    assert pair.get_stats()["restarts"] == restarts + len(killed)


def test_ray_resizing(group: LearnerGroup, trap: Trap, path: Any) -> None:
    trap.set("building", "kill", 1)
    with pytest.raises(WorkerError, match=r"Rank 1 of 2 died in 'start'"):
        group.resize(2)
    assert_same(states(group), path[1])
    update(group, 1)
    assert_same(states(group), path[2])


def node_of(learner: Any) -> str:
    import ray

    return ray.get_runtime_context().get_node_id()


def make_large(number: int) -> dict[str, Any]:
    """A batch that stays in the object store of the node where it was made."""
    return make_columns(8000, number)


def test_ray_lost_node(cluster: Any, trap: Trap, pair: LearnerGroup) -> None:
    """Its ranks come back on other nodes; batches that were on it are lost, and missed by name."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    node = cluster.add_node(num_cpus=5)
    with make_trapped(trap, 3, backend="ray", placement_strategy="SPREAD", learner_start_timeout_s=30.0) as group:
        nodes = group.foreach_learner(node_of)
        assert nodes.count(node.node_id) == 1
        beginning = group.get_state()
        batches = [ray.put(make_large(number)) for number in range(3)]
        for batch in batches:
            group.update_from_batch(batch, minibatch_size=2000)
        expected = states(group)
        group.set_state(beginning)
        columns = make_large(3)
        there = NodeAffinitySchedulingStrategy(node.node_id, soft=False)
        on_node = ray.remote(max_retries=0)(lambda: columns).options(scheduling_strategy=there).remote()
        assert ray.wait([on_node], fetch_local=False)[0]
        for batch in batches:
            group.update_from_batch(batch, minibatch_size=2000, async_update=True)
        cluster.remove_node(node, allow_graceful=False)
        group.drain()
        assert_same(states(group), expected)
        assert group.get_stats()["restarts"] == 1
        assert node.node_id not in group.foreach_learner(node_of)
        with pytest.raises(LearnerGroupError, match=r"lost with its node.* Ray says: .*Failed to retrieve object"):
            group.update_from_batch(on_node, minibatch_size=2000)
        assert_same(states(group), expected)


def test_ray_silent_node(cluster: Any, trap: Trap) -> None:
    """Until the cluster misses the node, it places the new actor there, where it never runs: no second loss."""
    node = cluster.add_node(num_cpus=5)
    with make_trapped(trap, 3, backend="ray", placement_strategy="SPREAD", learner_start_timeout_s=60.0) as group:
        beginning = group.get_state()
        update(group, 0)
        expected = states(group)
        group.set_state(beginning)
        rank = group.foreach_learner(node_of).index(node.node_id)
        os.kill(node.all_processes["raylet"][0].process.pid, signal.SIGSTOP)
        os.kill(group._transport.pids[rank], signal.SIGKILL)  # pyright: ignore
        update(group, 0)
        assert_same(states(group), expected)
        assert group.get_stats()["restarts"] == 1
        assert node.node_id not in group.foreach_learner(node_of)
    cluster.remove_node(node, allow_graceful=False)


def test_ray_building(trap: Trap, pair: LearnerGroup) -> None:
    trap.set("building", "raise", 1)
    with pytest.raises(WorkerError, match=r"Rank 1 of 2 raised in 'start': BatchError") as caught:
        make_trapped(trap, 2, backend="ray")
    assert isinstance(caught.value.__cause__, BatchError)


def test_ray_driver_killed(tmp_path: Path) -> None:
    """The cluster ends the actors of a driver that is gone."""
    path = os.pathsep.join([str(DRIVER.parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    driver = subprocess.Popen(
        [sys.executable, str(DRIVER), str(tmp_path), "ray", "inside"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    try:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "stuck\n"
    finally:
        driver.kill()
        driver.communicate()
    pids = [int(pid) for pid in (tmp_path / "inside" / "pids").read_text().split()]
    assert len(pids) == 2
    assert wait_until(lambda: not any(map(is_alive, pids)), timeout=30.0)
    assert read_checkpoint(tmp_path / "inside" / "saved").parts["learner"]["counters"]["num_updates"] == 0
