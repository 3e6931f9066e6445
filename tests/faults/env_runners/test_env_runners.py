"""Env runners in processes of their own: they sample side by side, alike given the seed, and come back when lost."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from pettingzoo import ParallelEnv

from support.hosted import children, is_alive, wait_until
from support.runs import tiny_config
from unison.config import AlgorithmConfig
from unison.errors import ConfigError, EnvironmentFailure, LearnerGroupError, ModuleError, SpaceError
from unison.learner_group.failures import WorkerError
from unison.learner_group.transports import make_runner_transport
from unison.modules import SingleAgentRLModuleSpec
from unison.sampling import RunnerGroup, make_runner
from unison.sampling.remote_runner import RemoteRunner
from unison.types import tree_leaves

SLOW_STEP_S = 0.005


class SlowStart(gym.Env[Any, Any]):
    """Takes a second to be made; each step takes a moment, and forever where a file says so."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (4,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, file: str, start_s: float = 0.0) -> None:
        time.sleep(start_s)
        self.file = Path(file)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return np.zeros(4, np.float32), {}

    def step(self, action: Any) -> Any:
        time.sleep(SLOW_STEP_S)
        if self.file.exists():
            with suppress(FileNotFoundError):  # another runner was sooner
                self.file.unlink()
                if self.file.name == "raise":
                    raise RuntimeError("no licence")
                os.kill(os.getpid(), signal.SIGKILL if self.file.name == "kill" else signal.SIGSTOP)
        return np.zeros(4, np.float32), 1.0, False, False, {}


class Paying(gym.Env[Any, Any]):
    """Five steps an episode, each of which pays what a file says."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (4,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, file: str) -> None:
        self.file = Path(file)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.step_count = 0
        return np.zeros(4, np.float32), {}

    def step(self, action: Any) -> Any:
        self.step_count += 1
        return np.zeros(4, np.float32), float(self.file.read_text()), self.step_count == 5, False, {}


class Pair(ParallelEnv):
    """Two agents, three steps an episode."""

    def __init__(self) -> None:
        self.possible_agents = ["a", "b"]

    def observation_space(self, agent: str) -> gym.Space[Any]:
        return SlowStart.observation_space

    def action_space(self, agent: str) -> gym.Space[Any]:
        return SlowStart.action_space

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.step_count, self.agents = 0, list(self.possible_agents)
        return {agent: np.zeros(4, np.float32) for agent in self.agents}, {agent: {} for agent in self.agents}

    def step(self, actions: Any) -> Any:
        self.step_count += 1
        over = self.step_count == 3
        self.agents = [] if over else self.agents
        named = [dict.fromkeys(actions, value) for value in (np.zeros(4, np.float32), 1.0, over, False)]
        return *named, {agent: {} for agent in actions}


def to_red(agent_id: str, episode: Any) -> str:
    return "red"


def to_nobody(agent_id: str, episode: Any) -> str:
    return "nobody"


def make_slow(settings: dict[str, Any]) -> gym.Env[Any, Any]:
    return SlowStart(**settings)


def make_config(num_env_runners: int, **faults: Any) -> AlgorithmConfig:
    config = tiny_config().resources(num_env_runners=num_env_runners, backend="processes")
    return config.fault_tolerance(**faults)


@pytest.fixture(scope="module", autouse=True)
def _nursery() -> Iterator[None]:
    """Keeps the process alive that makes workers quickly."""
    runner = make_runner(make_config(1))
    yield
    runner.stop()


@pytest.fixture
def trio() -> Iterator[RunnerGroup]:
    """Three runners, with weights."""
    config = make_config(3)
    runner = make_runner(config)
    assert isinstance(runner, RunnerGroup)
    with config.build_learner_group() as group:
        runner.set_weights(group.get_weights(), 1)
    yield runner
    runner.stop()


def pids(runner: RunnerGroup) -> list[int]:
    return [pid for one in runner._runners for pid in one._transport.pids]  # type: ignore[attr-defined]


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: not is_alive(pid))


def steps(episodes: Any) -> int:
    return sum(len(episode) for episode in episodes)


def test_runners_start_side_by_side(tmp_path: Path) -> None:
    settings = {"file": str(tmp_path / "none"), "start_s": 1.0}
    config = make_config(4).environment(make_slow, env_config=settings).env_runners(num_envs_per_env_runner=1)
    started: list[float] = []
    threads: set[int] = set()
    start = time.monotonic()
    runner = RunnerGroup(config, make_runner_transport)
    started.append(time.monotonic() - start)
    threads |= set(pids(runner))
    runner.stop()
    assert len(threads) == 4
    assert started[0] < 3.9  # one after the other they would take 4 s at least
    assert not any(map(is_alive, threads))


def test_what_is_sampled_is_the_seeds_alone() -> None:
    runs = []
    for seed in (0, 0, 1):
        config = make_config(2).debugging(seed=seed)
        runner = make_runner(config)
        with config.build_learner_group() as group:
            runner.set_weights(group.get_weights(), 1)
        episodes = [*runner.sample(num_timesteps=101), *runner.sample(num_episodes=5)]
        runs.append([(e.id_, e.get_observations().tobytes(), e.get_actions().tobytes()) for e in episodes])  # type: ignore
        runner.stop()
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    assert len({id_ for id_, _, _ in runs[0]}) > 2


def test_a_group_is_asked_as_a_single_runner_is(trio: RunnerGroup) -> None:
    for number in (0, -3, 1.5):
        with pytest.raises(ConfigError, match=f"asked for {number} steps; ask for a whole number of at least 1"):
            trio.sample(num_timesteps=number)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"evaluate\(\) was asked for 1.5 episodes"):
        trio.evaluate(1.5)  # type: ignore[arg-type]
    assert steps(trio.sample()) == 66  # 64 of a batch, spread over 3 runners with 2 environments
    assert trio.restarts == 0


def test_killed_between_calls(trio: RunnerGroup) -> None:
    before = steps(trio.sample(num_timesteps=90))
    lost = pids(trio)[1]
    kill(lost)
    assert steps(trio.sample(num_timesteps=90)) == 90 == before
    assert wait_until(lambda: trio._runners[1].is_started)
    assert steps(trio.sample(num_timesteps=90)) == 90
    assert lost not in pids(trio)
    metrics = trio.get_metrics()
    assert metrics["num_env_runner_restarts"] == 1
    assert metrics["num_env_steps_sampled_lifetime"] == 270


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_lost_during_a_sample(tmp_path: Path, how: str) -> None:
    """The others sample what is missing, while the lost one comes back."""
    settings = {"file": str(tmp_path / how)}
    config = make_config(2, learner_timeout_s=1.5).environment(make_slow, env_config=settings)
    config.env_runners(num_envs_per_env_runner=1)
    runner = make_runner(config)
    assert isinstance(runner, RunnerGroup)
    with config.build_learner_group() as group:
        runner.set_weights(group.get_weights(), 1)
    before = pids(runner)
    (tmp_path / how).touch()
    assert steps(runner.sample(num_timesteps=40)) == 40
    assert runner.restarts == 1
    assert wait_until(lambda: all(one.is_started for one in runner._runners))
    assert steps(runner.sample(num_timesteps=40)) == 40
    assert len(set(before) & set(pids(runner))) == 1
    runner.stop()
    assert not any(map(is_alive, before))


def test_killed_while_saving(trio: RunnerGroup) -> None:
    trio.sample(num_timesteps=90)
    kill(pids(trio)[0])
    state = trio.get_state()
    assert len(state["runners"]) == 3
    assert trio.restarts == 1
    assert steps(trio.sample(num_timesteps=90)) == 90


def test_killed_while_loading(trio: RunnerGroup) -> None:
    """The runner that comes back takes over the state of the one that was lost."""
    trio.sample(num_timesteps=90)
    state = trio.get_state()
    trio.sample(num_timesteps=90)
    kill(pids(trio)[2])
    trio.set_state(state)
    assert trio.restarts == 1
    for saved, found in zip(state["runners"], trio.get_state()["runners"], strict=True):
        assert len(tree_leaves(saved)) > 5
        assert all(map(np.array_equal, tree_leaves(saved), tree_leaves(found)))
    assert steps(trio.sample(num_timesteps=90)) == 90


def test_counts_go_on_after_a_loss_and_a_load(trio: RunnerGroup) -> None:
    """What lost runners had counted is part of the state, also for fewer runners, and of that state in turn."""
    trio.sample(num_timesteps=90)
    kill(pids(trio)[1])
    trio.sample(num_timesteps=90)
    assert trio.get_metrics()["num_env_steps_sampled_lifetime"] == 180
    state = trio.get_state()
    for count in (2, 1):
        other = make_runner(make_config(count))
        other.set_state(state)
        other.set_state(state)
        other.sample(num_timesteps=90, random_actions=True)
        metrics, state = other.get_metrics(), other.get_state()
        other.stop()
        assert metrics["num_env_steps_sampled"] == 90
    assert metrics["num_env_steps_sampled_lifetime"] == 360


def test_where_one_raises_the_others_rows_do_not_count(tmp_path: Path) -> None:
    config = make_config(2).environment(make_slow, env_config={"file": str(tmp_path / "raise")})
    runner = make_runner(config.env_runners(num_envs_per_env_runner=1))
    got = steps(runner.sample(num_timesteps=20, random_actions=True))
    (tmp_path / "raise").touch()
    with pytest.raises(EnvironmentFailure, match="no licence"):
        runner.sample(num_timesteps=20, random_actions=True)
    for _ in range(2):
        got += steps(runner.sample(num_timesteps=20, random_actions=True))
    metrics, state = runner.get_metrics(), runner.get_state()
    runner.stop()
    assert (metrics["num_env_steps_sampled_lifetime"], metrics["num_env_steps_sampled"]) == (got, got) == (60, 60)
    assert metrics["num_env_runner_restarts"] == 0
    single = make_runner(make_config(0))
    single.set_state(state)
    assert single.get_metrics()["num_env_steps_sampled_lifetime"] == 60


def test_where_all_raise_none_is_lost() -> None:
    """A user's mistake that every runner trips over is no fault of the runners."""
    config = make_config(3, max_env_runner_restarts=0).environment(Pair)
    config.multi_agent(policies={"red", "blue"}, policy_mapping_fn=to_red)
    runner = make_runner(config)
    runner.sample(num_timesteps=30, random_actions=True)
    for _ in range(2):
        runner.set_policy_mapping_fn(to_nobody)
        runner.reset_environments()
        with pytest.raises(ModuleError, match="'nobody', which does not exist"):
            runner.sample(num_timesteps=30, random_actions=True)
        runner.set_policy_mapping_fn(None)
        assert steps(runner.sample(num_timesteps=30, random_actions=True)) == 30
    misfit = SingleAgentRLModuleSpec(
        observation_space=gym.spaces.Text(3), action_space=SlowStart.action_space, model_config={}
    )
    with pytest.raises(SpaceError, match="Text"):
        runner.add_module(module_id="new", module_spec=misfit)
    assert steps(runner.sample(num_timesteps=30, random_actions=True)) == 30
    metrics = runner.get_metrics()
    runner.stop()
    assert (metrics["num_env_runner_restarts"], metrics["num_env_steps_sampled_lifetime"]) == (0, 120)


@pytest.mark.parametrize("how", ["kill", "resume"])
def test_returns_of_runners_that_are_gone_make_way(tmp_path: Path, how: str) -> None:
    pay = tmp_path / "pay"
    pay.write_text("0")
    configs = [
        make_config(number)
        .environment(Paying, env_config={"file": str(pay)})
        .env_runners(num_envs_per_env_runner=1)
        .reporting(metrics_window=10)
        for number in (3, 2)
    ]
    runner = make_runner(configs[0])
    assert isinstance(runner, RunnerGroup)
    runner.sample(num_timesteps=150, random_actions=True)
    assert runner.get_metrics()["episode_return_mean"] == 0.0
    pay.write_text("1")
    if how == "kill":
        kill(pids(runner)[0])
    else:
        state = runner.get_state()
        runner.stop()
        runner = make_runner(configs[1])
        runner.set_state(state)
    for _ in range(2):
        runner.sample(num_timesteps=150, random_actions=True)
        if how == "kill":
            assert wait_until(lambda: all(one.is_started for one in runner._runners))  # type: ignore[attr-defined]
    metrics = runner.get_metrics()
    runner.stop()
    assert (metrics["episode_return_mean"], metrics["episode_return_min"]) == (5.0, 5.0)
    assert (metrics["num_env_steps_sampled_lifetime"], metrics["num_episodes_lifetime"]) == (450, 90)


def test_runners_that_were_started_anew_go_on_with_their_seeds(trio: RunnerGroup) -> None:
    """Also in another group, and each one that is started later has seeds that none had before."""
    trio.sample(num_timesteps=90)
    kill(pids(trio)[1])
    trio.sample(num_timesteps=90)
    assert wait_until(lambda: trio._runners[1].is_started)
    trio.sample(num_timesteps=90)
    trio.reset_environments()
    state = trio.get_state()
    assert indices(state) == [1, 4, 3]
    expected = shown(trio.sample(num_timesteps=90, random_actions=True))
    other = make_runner(make_config(3))
    assert isinstance(other, RunnerGroup)
    other.set_state(state)
    assert shown(other.sample(num_timesteps=90, random_actions=True)) == expected
    kill(pids(other)[0])
    assert indices(other.get_state()) == [5, 4, 3]
    other.stop()
    for count in (1, 2, 5):
        other = make_runner(make_config(count))
        other.check_state(state)
        other.set_state(state)
        assert indices(other.get_state()) == [1, 4, 3, 6, 5][:count]
        other.stop()


def indices(state: dict[str, Any]) -> list[int]:
    return [runner["seeds"]["worker_index"] for runner in state["runners"]]


def shown(episodes: Any) -> list[tuple[str, bytes]]:
    return [(episode.id_, episode.get_observations().tobytes()) for episode in episodes]


def test_a_group_goes_on_from_the_state_of_a_single_runner(trio: RunnerGroup) -> None:
    """What that one had reported is not reported again, and what it had not is, whatever the group has done before."""
    single = make_runner(make_config(0))
    single.sample(num_timesteps=60, random_actions=True)
    single.get_metrics()
    single.sample(num_timesteps=30, random_actions=True)
    state, expected = single.get_state(), single.get_metrics()
    single.stop()
    trio.sample(num_timesteps=150)
    trio.get_metrics()
    trio.set_state(state)
    metrics = trio.get_metrics()
    names = [f"num_{what}{when}" for what in ("episodes", "env_steps_sampled") for when in ("", "_lifetime")]
    assert {name: metrics[name] for name in names} == {name: expected[name] for name in names}
    assert metrics["num_env_steps_sampled"] == 30


def test_killed_before_a_module_is_removed(trio: RunnerGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runner that is back before the others have answered has no such module either."""
    rejoin = RemoteRunner.rejoin

    def rejoin_at_once(runner: RemoteRunner, index: int) -> None:
        rejoin(runner, index)
        runner.wait()

    monkeypatch.setattr(RemoteRunner, "rejoin", rejoin_at_once)
    module = make_config(1).build_learner().module["default_policy"]
    spec = SingleAgentRLModuleSpec(
        observation_space=module.observation_space, action_space=module.action_space, model_config={}
    )
    trio.add_module(module_id="new", module_spec=spec)
    kill(pids(trio)[1])
    trio.remove_module("new")
    assert trio.restarts == 1
    for runner in trio._runners:
        with pytest.raises(WorkerError, match="new"):
            runner.gather(runner.call("remove_module", module_id="new"))


def test_all_are_killed(trio: RunnerGroup) -> None:
    for pid in pids(trio):
        kill(pid)
    assert steps(trio.sample(num_timesteps=90)) == 90
    assert trio.restarts == 3


def test_killed_too_often() -> None:
    runner = make_runner(make_config(2, max_env_runner_restarts=1))
    assert isinstance(runner, RunnerGroup)
    kill(pids(runner)[0])
    runner.sample(num_timesteps=10, random_actions=True)
    assert wait_until(lambda: all(one.is_started for one in runner._runners))
    kill(pids(runner)[1])
    with pytest.raises(LearnerGroupError, match="lost more than 1 times"):
        runner.sample(num_timesteps=10, random_actions=True)
    runner.stop()


@pytest.mark.parametrize(("first", "second"), [(0, 2), (2, 0), (2, 3), (3, 1)])
def test_a_state_goes_on_with_another_number_of_runners(first: int, second: int) -> None:
    """Nothing that was counted or learned is lost: neither counts nor averages nor the scale of rewards."""
    configs = [make_config(number).env_runners(normalize_rewards=True) for number in (first, second)]
    old, new = map(make_runner, configs)
    old.sample(num_timesteps=400, random_actions=True)
    old.get_metrics()
    old.sample(num_timesteps=80, random_actions=True)
    new.sample(num_timesteps=60, random_actions=True)  # what it did before is forgotten
    state = old.get_state()
    new.set_state(state)
    before, after = old.get_metrics(), new.get_metrics()
    names = [f"num_{what}{when}" for what in ("episodes", "env_steps_sampled") for when in ("", "_lifetime")]
    names += ["episode_return_mean", "episode_return_max", "episode_len_mean"]
    assert {name: before[name] for name in names} == {name: after[name] for name in names}
    assert before["num_env_steps_sampled"] == 80
    taken_over = new.get_state()
    seen, kept = (scales(each) for each in (state, taken_over))
    assert len(kept) == max(1, second)
    count = sum(scale["count"] for scale in seen)
    assert sum(scale["count"] for scale in kept) == count >= 480
    mean = sum(scale["count"] * scale["mean"] for scale in seen) / count
    squares = sum(scale["count"] * (scale["variance"] + (scale["mean"] - mean) ** 2) for scale in seen)
    for scale in kept:
        assert scale["mean"] == pytest.approx(mean)
        assert scale["variance"] == pytest.approx(squares / count)
    assert steps(new.sample(num_timesteps=60, random_actions=True)) == 60
    assert new.get_metrics()["num_env_steps_sampled_lifetime"] == 540
    old.stop()
    new.stop()


def scales(state: dict[str, Any]) -> list[dict[str, Any]]:
    return [runner["reward_normalizer"] for runner in state.get("runners", [state])]


def test_training_goes_on(tmp_path: Path) -> None:
    """An Algorithm trains, saves and goes on with other numbers of runners, whatever is killed meanwhile."""
    before = children()
    algorithm = make_config(2).build()
    algorithm.train()
    kill(pids(algorithm.env_runner)[0])  # type: ignore[arg-type]
    results = [algorithm.train() for _ in range(2)]
    algorithm.save_state(tmp_path / "saved")
    algorithm.stop()
    assert [row["num_env_steps_sampled_lifetime"] for row in results] == [128, 192]
    assert results[-1]["env_runners"]["num_env_runner_restarts"] == 1
    for number in (0, 1):
        other = make_config(number).build()
        other.load_state(tmp_path / "saved")
        assert other.train()["num_env_steps_sampled_lifetime"] == 256
        other.stop()
    assert children() == before
