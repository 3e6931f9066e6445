"""Rewards of many agents: none is lost between chunks; normalized agent by agent, with a scale for each module."""

from collections import defaultdict
from typing import Any

import numpy as np
import pytest

from unison import MultiAgentRLModuleSpec, PPOConfig, SingleAgentEpisode, SingleAgentRLModuleSpec
from unison.errors import StateError
from unison.sampling.multi_agent.rewards import AgentRewards

from .conftest import BOX, DISCRETE, RunnerMaker, Turns, Visitors

GAMMAS = {"one": 0.5, "rest": 0.9}


def visitors() -> Visitors:
    return Visitors({"early": (0, 3), "late": (2, 9), "always": (0, 9)}, silent=("always",))


def turns() -> Turns:
    return Turns(players=3, length=7, out=1)


def by_name(agent_id: str, episode: Any) -> str:
    return "one" if agent_id in ("late", "player_1") else "rest"


def settings(**other: Any) -> dict[str, Any]:
    specs = {name: SingleAgentRLModuleSpec() for name in GAMMAS}
    overrides = {name: {"gamma": gamma} for name, gamma in GAMMAS.items()}
    return {
        "policies": list(GAMMAS),
        "rl_module_spec": MultiAgentRLModuleSpec(module_specs=specs),
        "policy_mapping_fn": by_name,
        "algorithm_config_overrides_per_module": overrides,
        **other,
    }


def test_a_state_brings_scales_and_no_running_returns() -> None:
    def take_in(rewards: AgentRewards) -> None:
        parts = {"observations": np.zeros((4, 1)), "actions": np.zeros(3), "rewards": np.array([1.0, 5.0, 2.0])}
        rewards.normalize("one", [SingleAgentEpisode("an id that comes again", **parts)])

    used, fresh = AgentRewards(PPOConfig()), AgentRewards(PPOConfig())
    take_in(used)
    state = used.get_state()
    for rewards in (used, fresh):
        rewards.set_state(state)
        take_in(rewards)
    assert used.get_state() == fresh.get_state()


@pytest.mark.parametrize("env", [visitors, turns])
def test_every_reward_reaches_a_step(make_runner: RunnerMaker, env: Any) -> None:
    runner = make_runner(env, envs=2, metrics_window=1000, **settings())
    paid: defaultdict[str, float] = defaultdict(float)
    over: set[str] = set()
    for number in (3, 1, 2, 1, 1, 4, 30):
        for chunk in runner.sample(num_timesteps=number):
            over |= {chunk.id_} if chunk.is_done else set()
            paid[chunk.id_] += sum(part.get_rewards().sum() for part in chunk.agent_episodes.values() if len(part))
    whole = [paid[id_] for id_ in over]
    assert len(whole) > 4
    assert np.mean(whole) == pytest.approx(runner.get_metrics()["episode_return_mean"])


@pytest.mark.parametrize("lengths", [(7,), (1,) * 7, (3, 4), (2, 1, 2, 2)])
def test_what_others_moves_pay_reaches_the_row_of_the_own_last_move(
    make_runner: RunnerMaker, lengths: tuple[int, ...]
) -> None:
    """Three players take seven turns; each row sums what is paid from a player's move to its next turn, or the end."""
    runner = make_runner(Turns, **settings())
    rows: defaultdict[str, list[float]] = defaultdict(list)
    for number in lengths:
        for chunk in runner.sample(num_timesteps=number):
            for agent, part in chunk.agent_episodes.items():
                assert not len(part) or part.t_started == len(rows[agent])
                rows[agent] += part.get_rewards().tolist() if len(part) else []
    # An own move pays 1, another's 0.25, the last one 8 more; what comes before a first move comes with it.
    assert rows == {"player_0": [1.5, 1.5, 9.0], "player_1": [1.75, 1.5], "player_2": [2.0, 1.25]}


@pytest.mark.parametrize("env", [visitors, turns])
def test_against_a_loop_over_the_rewards_of_each_agent(make_runner: RunnerMaker, env: Any) -> None:
    normalizing = make_runner(env, envs=3, **settings(normalize_rewards=True))
    plain = make_runner(env, envs=3, **settings())
    running: defaultdict[Any, float] = defaultdict(float)
    seen: defaultdict[str, list[float]] = defaultdict(list)
    for number in (2, 17, 5, 40):
        chunks = list(zip(normalizing.sample(num_timesteps=number), plain.sample(num_timesteps=number), strict=True))
        pairs = [
            (ours.agent_episodes[agent], theirs)
            for ours, both in chunks
            for agent, theirs in both.agent_episodes.items()
            if len(theirs)
        ]
        for _, theirs in pairs:
            for reward in theirs.get_rewards().tolist():
                running[theirs.id_] = GAMMAS[theirs.module_id] * running[theirs.id_] + reward
                seen[theirs.module_id].append(running[theirs.id_])
        for ours, theirs in pairs:
            scale = np.std(seen[theirs.module_id]) or 1.0
            np.testing.assert_allclose(ours.get_rewards(), np.clip(theirs.get_rewards() / scale, -10, 10), rtol=1e-4)
            assert ours.get_rewards().dtype == np.float32
    assert set(seen) == set(GAMMAS)
    assert normalizing.get_metrics()["episode_return_mean"] == plain.get_metrics()["episode_return_mean"]
    assert set(normalizing._rewards._running) <= set(running)
    assert len(normalizing._rewards._running) <= 9  # those of the episodes that go on


def scaled(runner: Any) -> set[str]:
    return {each["module_id"] for each in runner.get_state()["reward_normalizers"]}


def test_scales_are_saved_and_go_with_their_module(make_runner: RunnerMaker) -> None:
    first, second = (make_runner(visitors, envs=2, **settings(normalize_rewards=True)) for _ in range(2))
    first.sample(num_timesteps=30)
    first.reset_environments()
    second.modules.set_state(first.modules.get_state())
    second.set_state(first.get_state())
    ours, theirs = (
        [part.get_rewards().tolist() for e in each.sample(num_timesteps=20) for part in e.agent_episodes.values()]
        for each in (first, second)
    )
    assert ours == theirs
    assert first.get_state()["reward_normalizers"] == second.get_state()["reward_normalizers"]
    first.set_policy_mapping_fn(lambda agent, episode: "rest")
    first.remove_module("one")
    assert scaled(first) == {"rest"}
    spec = SingleAgentRLModuleSpec(observation_space=BOX, action_space=DISCRETE, model_config={"hidden_sizes": (4,)})
    first.add_module(module_id="new", module_spec=spec)
    first.set_policy_mapping_fn(lambda agent, episode: "new")
    first.sample(num_timesteps=40)
    assert scaled(first) == {"rest", "new"}
    assert make_runner(visitors, **settings(normalize_rewards=True), evaluation=True)._rewards is None


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"module_id": "rest", "count": 3, "mean": 1.0}, r"scales of rewards, an item: .*lacks \['variance'\]"),
        ({"count": 3, "mean": 1.0, "variance": 2.0}, r"lacks \['module_id'\]"),
        ({"module_id": "rest", "count": 3, "mean": "high", "variance": 2.0}, "'mean': expected a number"),
        (7, "the state holds a number"),
    ],
)
def test_a_state_that_lacks_a_part_changes_nothing(make_runner: RunnerMaker, broken: Any, message: str) -> None:
    runner = make_runner(visitors, **settings(normalize_rewards=True))
    runner.sample(num_timesteps=9)
    runner.reset_environments()
    before = runner.get_state()
    assert scaled(runner) == {"one", "rest"}
    other = make_runner(visitors, seed=5, **settings(normalize_rewards=True)).get_state()
    good = {"module_id": "one", "count": 3, "mean": 1.0, "variance": 2.0}
    with pytest.raises(StateError, match=message):
        runner.set_state({**other, "reward_normalizers": [good, broken]})
    after = runner.get_state()
    assert str(after) == str(before)
    with pytest.raises(StateError, match="expected a sequence"):
        runner.set_state({**other, "reward_normalizers": good})
