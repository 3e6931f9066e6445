"""Workers on a Ray cluster of two nodes: the same mathematics, faults told apart, nothing left behind."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import ray
import torch

from support.episodes import make_episode
from support.hosted import Hosted, is_alive, wait_until
from support.learners import DISCRETE, OBS, assert_same, make_columns, make_config
from support.ranks import Rank
from support.runs import tiny_config
from unison.config import make_module_spec
from unison.errors import LearnerGroupError
from unison.learner_group.collectives import SingleCollective
from unison.learner_group.failures import WorkerError
from unison.learner_group.ray import RayTransport
from unison.learner_group.transport import WorkerContext

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture(scope="module")
def pair(cluster: Any) -> Iterator[RayTransport]:
    """Two workers, one on each node."""
    transport = RayTransport(placement_strategy="STRICT_SPREAD", timeout_s=30.0, grace_s=0.5)
    transport.start(Hosted, 2)
    yield transport
    transport.stop()


def ask(transport: RayTransport, method: str, *arguments: Any, **keywords: Any) -> list[Any]:
    return transport.gather(transport.call(method, *arguments, **keywords))


def check_that_all_go_on(transport: RayTransport) -> None:
    transport.restart(transport.lost)
    assert transport.lost == ()
    assert torch.equal(*ask(transport, "reduce", 3000, rounds=3))


def flat(state: Any) -> dict[str, Any]:
    return {f"{m}/{n}": value for m, named in state["rl_module"].items() for n, value in named.items()}


def test_ranks_are_placed_on_both_nodes_and_know_who_they_are(pair: RayTransport) -> None:
    assert [(a["rank"], a["world_size"], a["threads"]) for a in ask(pair, "about")] == [(0, 2, 1), (1, 2, 1)]
    assert [a["rank"] for a in ask(pair, "about", ranks=[1, 0])] == [1, 0]
    assert len({process_of_node(pid) for pid in pair.pids}) == 2


def process_of_node(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rsplit(")", 1)[1].split()[1])


@pytest.mark.parametrize("rows", [3, 100_000])
def test_arrays_there_and_back_belong_to_whoever_receives_them(pair: RayTransport, rows: int) -> None:
    value = {"a": np.zeros(rows), "b": (torch.randn(rows), torch.arange(rows))}
    for back in ask(pair, "echo", value):
        assert torch.equal(back["b"][0], value["b"][0])
        back["a"][0] = 7
    assert ask(pair, "write", value["a"]) == [1.0, 2.0]
    assert ask(pair, "write", ray.put(value["a"])) == [1.0, 2.0]
    assert value["a"][0] == 0


def test_several_calls_run_in_order_and_ready_waits_no_longer_than_told(pair: RayTransport) -> None:
    ask(pair, "apply", lambda hosted: hosted.calls.clear())
    sleep = pair.call("apply", lambda _: time.sleep(0.5))
    calls = [pair.call("echo", number) for number in range(5)]
    assert not pair.ready(sleep)
    assert not pair.ready(calls[0], timeout=0.05)
    assert pair.ready(calls[4], timeout=30.0)
    assert [pair.gather(call) for call in reversed(calls)] == [[n, n] for n in reversed(range(5))]
    assert ask(pair, "history") == [list(range(5))] * 2


def run_rank(hosted: Hosted, *arguments: Any) -> Any:
    return Rank(hosted.context).run(*arguments)


def test_two_ranks_equal_one_learner(pair: RayTransport) -> None:
    config = make_config(lr=1e-2, optimizer={"name": "adam", "eps": 1e-3}).multi_agent(policies=["a", "b"]).freeze()
    spec = make_module_spec(config, spaces=dict.fromkeys("ab", (OBS, DISCRETE)))
    alone = Rank(WorkerContext(rank=0, world_size=1, collective=SingleCollective()))
    first, _ = alone.run(config, spec, {}, [])
    batches = [{"a": make_columns(37, seed), "b": make_columns(1, seed)} for seed in (0, 1)]
    ends = [(9, "terminated"), (4, "truncated"), (13, "cut")]
    episodes = [make_episode(n, i, end=end, module_id="a") for i, (n, end) in enumerate(ends)]
    updates: list[Any] = [("batch", batch, {"minibatch_size": 7, "num_iters": 2}) for batch in batches]
    updates.append(("episodes", episodes, {"minibatch_size": 8, "num_iters": 2}))
    expected, outcomes = alone.run(config, spec, first, updates)
    answers = ask(pair, "apply", run_rank, config, spec, first, updates)
    assert_same(flat(answers[0][0]), flat(answers[1][0]))
    for name, value in flat(expected).items():
        np.testing.assert_allclose(flat(answers[0][0])[name], value, rtol=1e-5, atol=2e-6, err_msg=name)
        assert not np.array_equal(flat(first)[name], value)
    assert [len(found) for _, found in answers] == [len(outcomes)] * 2


def test_an_exception_arrives_with_type_traceback_and_rank_and_all_stay_usable(pair: RayTransport) -> None:
    with pytest.raises(WorkerError, match=r"Rank 1 of 2 raised in 'misbehave': BatchError: column 'obs'") as caught:
        ask(pair, "misbehave", "raise", 1, "between")
    assert type(caught.value.__cause__).__name__ == "BatchError"
    assert 'raise BatchError("column' in caught.value.cause.traceback
    assert caught.value.failures[0].kind == "aborted"
    assert pair.lost == ()
    check_that_all_go_on(pair)


def test_calls_behind_a_failed_one_do_nothing(pair: RayTransport) -> None:
    ask(pair, "apply", lambda hosted: hosted.calls.clear())
    calls = [pair.call("misbehave", "raise", 0, "before"), pair.call("echo", 1), pair.call("echo", 2)]
    for index, call in enumerate(calls):
        with pytest.raises(WorkerError) as caught:
            pair.gather(call)
        assert caught.value.cause.kind == ("aborted" if index else "raised")
    assert ask(pair, "history") == [[], []]


def test_a_rank_dies_in_a_call(pair: RayTransport) -> None:
    pids, start = pair.pids, time.monotonic()
    with pytest.raises(WorkerError, match=r"Rank 1 of 2 died in 'misbehave': .* process has died") as caught:
        ask(pair, "misbehave", "SIGKILL", 1, "between")
    assert time.monotonic() - start < 20.0
    assert (caught.value.lost, pair.lost) == ((1,), (1,))
    assert caught.value.failures[0].kind == "aborted"
    check_that_all_go_on(pair)
    assert pair.pids[0] == pids[0]


def test_a_rank_that_dies_idle_is_noticed_by_the_next_call(pair: RayTransport) -> None:
    pid = pair.pids[0]
    os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: not is_alive(pid))

    def is_noticed() -> bool:
        try:
            ask(pair, "echo", 5)
        except WorkerError as error:
            assert (error.cause.kind, error.lost) == ("died", (0,))  # noqa: PT017
            return True
        return False

    assert wait_until(is_noticed, timeout=10.0)
    check_that_all_go_on(pair)


def test_a_rank_that_hangs_is_killed_at_the_deadline_and_told_from_one_that_waits(pair: RayTransport) -> None:
    pid = pair.pids[1]
    with pytest.raises(WorkerError, match=r"Rank 1 of 2 hung in 'misbehave': it did not answer .* killed") as caught:
        pair.gather(pair.call("misbehave", "loop", 1, "between"), timeout=1.0)
    assert "in misbehave" in str(caught.value)
    assert caught.value.failures[0].kind == "aborted"
    assert wait_until(lambda: not is_alive(pid))
    check_that_all_go_on(pair)


def test_objects_by_reference_arrive_as_objects_and_time_stands_still_until_they_are_there(pair: RayTransport) -> None:
    @ray.remote(num_cpus=0)
    def slow() -> int:
        time.sleep(1.5)
        return 7

    assert ask(pair, "echo", ray.put({"a": 1})) == [{"a": 1}] * 2
    assert ask(pair, "echo", [ray.put([1, 2]), 3, ray.put(4)]) == [[1, 2, 3, 4]] * 2
    assert ask(pair, "echo", {"a": ray.put(5), "b": 6}) == [{"a": 5, "b": 6}] * 2
    assert pair.gather(pair.call("echo", slow.remote()), timeout=0.3) == [7, 7]


def test_an_object_that_never_comes_to_be_is_an_error_and_no_rank_is_lost(pair: RayTransport) -> None:
    @ray.remote(num_cpus=0)
    def fail() -> None:
        raise ValueError("no batch today")

    with pytest.raises(WorkerError, match="no batch today"):
        ask(pair, "echo", fail.remote())
    assert pair.lost == ()
    check_that_all_go_on(pair)


def test_a_stopped_process_is_killed_too(pair: RayTransport) -> None:
    pid = pair.pids[1]
    with pytest.raises(WorkerError, match="Rank 1 of 2 hung"):
        pair.gather(pair.call("misbehave", "SIGSTOP", 1, "before"), timeout=1.0)
    assert wait_until(lambda: not is_alive(pid))


def test_too_many_workers_for_the_cluster_are_an_error_that_says_so(cluster: Any) -> None:
    transport = RayTransport(num_cpus=9.0, start_timeout_s=0.5)
    with pytest.raises(LearnerGroupError, match=r"no room for 1 workers with \{'CPU': 9.0\} each"):
        transport.start(Hosted, 1)
    assert transport.num_workers == 0


@pytest.fixture(scope="module")
def algorithm(cluster: Any) -> Iterator[Any]:
    """PPO with two Learners and two env runners; RAY_ADDRESS is set, and backend is auto."""
    algorithm = (
        tiny_config(optimizer={"name": "adam", "eps": 1e-3}).resources(num_learners=2, num_env_runners=2).build()
    )
    yield algorithm
    algorithm.stop()


def test_ppo_with_learners_and_env_runners_on_ray(algorithm: Any) -> None:
    assert {type(runner._transport) for runner in algorithm.env_runner._runners} == {RayTransport}
    results = [algorithm.train() for _ in range(2)]
    assert [r["num_env_steps_sampled_lifetime"] for r in results] == [64, 128]
    assert all(np.isfinite(r["learners"]["default_policy"]["total_loss"]) for r in results)


def test_training_goes_on_when_an_actor_is_killed_and_refs_are_batches(algorithm: Any) -> None:
    group = algorithm.learner_group
    batches = [{"default_policy": make_columns(32, seed, gym.spaces.Discrete(2))} for seed in range(4)]
    with algorithm.config.copy().resources(num_learners=0, num_env_runners=0).build_learner_group() as local:
        local.set_state(group.get_state())
        for batch in batches:
            local.update_from_batch(batch)
        expected = local.get_weights()["default_policy"]
    pids = group.foreach_learner(lambda learner: os.getpid())
    results = group.update_from_batch(ray.put(batches[0]), async_update=True)
    results += group.update_from_batch(batches[1], async_update=True)
    os.kill(pids[1], signal.SIGKILL)
    results += group.update_from_batch(ray.put(batches[2]["default_policy"]), async_update=True)
    results += group.update_from_batch({"default_policy": ray.put(batches[3]["default_policy"])}, async_update=True)
    results += group.drain()
    assert len(results) == 4
    assert group.get_stats()["restarts"] == 1
    weights = group.get_weights()["default_policy"]
    for name, value in expected.items():
        np.testing.assert_allclose(weights[name], value, rtol=1e-5, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("num_learners", [0, 1])
def test_references_are_batches_without_actors_too(algorithm: Any, num_learners: int) -> None:
    config = algorithm.config.copy().resources(num_learners=num_learners, num_env_runners=0, backend="processes")
    columns = make_columns(32, 0, gym.spaces.Discrete(2))
    with config.build_learner_group() as group, config.build_learner_group() as other:
        for batch in (ray.put(columns), {"default_policy": ray.put(columns)}):
            group.update_from_batch(batch)
            other.update_from_batch(columns)
        assert_same(group.get_weights()["default_policy"], other.get_weights()["default_policy"])
        episodes = algorithm.env_runner.sample(num_timesteps=32)
        group.update_from_episodes(ray.put(episodes))
        other.update_from_episodes(episodes)
        assert_same(group.get_weights()["default_policy"], other.get_weights()["default_policy"])


def test_weights_go_to_all_env_runners_as_one_object(algorithm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = algorithm.learner_group.get_weights()
    put: list[Any] = []
    cluster = algorithm.env_runner._runners[0]._transport._cluster
    before = cluster.put
    monkeypatch.setattr(type(cluster), "put", lambda self, value: put.append(before(value)) or put[-1])
    algorithm.env_runner.set_weights(weights, 7)
    assert len(put) == 1


def test_learners_are_placed_as_the_config_says(cluster: Any) -> None:
    places = {}
    for strategy in ("STRICT_PACK", "STRICT_SPREAD"):
        config = make_config().resources(num_learners=2, placement_strategy=strategy)
        with config.build_learner_group(spaces={"default_policy": (OBS, DISCRETE)}) as group:
            places[strategy] = {process_of_node(pid) for pid in group.foreach_learner(lambda learner: os.getpid())}
    assert (len(places["STRICT_PACK"]), len(places["STRICT_SPREAD"])) == (1, 2)


def test_ctrl_c_ends_a_wait_for_room(cluster: Any) -> None:
    config = make_config().resources(num_learners=1, backend="ray").fault_tolerance(learner_start_timeout_s=60.0)
    with config.build_learner_group(spaces={"default_policy": (OBS, DISCRETE)}) as group:
        start = time.monotonic()
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            group.resize(64)
        assert time.monotonic() - start < 30.0
        assert len(group) == len(group.foreach_learner(lambda learner: os.getpid())) == 1


def test_a_killed_env_runner_comes_back_while_the_other_samples(algorithm: Any) -> None:
    os.kill(algorithm.env_runner._runners[0]._transport.pids[0], signal.SIGKILL)
    results = [algorithm.train() for _ in range(2)]
    assert results[-1]["env_runners"]["num_env_runner_restarts"] == 1
    assert results[-1]["num_env_steps_sampled_lifetime"] == 4 * 64


def test_stopping_leaves_nothing_behind(algorithm: Any, pair: RayTransport) -> None:
    pids = algorithm.learner_group.foreach_learner(lambda learner: os.getpid())
    pids += [pid for runner in algorithm.env_runner._runners for pid in runner._transport.pids]
    algorithm.stop()
    assert wait_until(lambda: not any(map(is_alive, pids)))
    assert ray.is_initialized()  # for the pair
    pids = pair.pids
    pair.stop()
    pair.stop()
    assert wait_until(lambda: not any(map(is_alive, pids)))
    assert not ray.is_initialized()
    with pytest.raises(LearnerGroupError, match=r"call start\(\) first"):
        pair.call("echo", 1)
