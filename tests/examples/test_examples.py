"""Every example runs as it stands, and what it shows is true."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unison import PPOConfig, SingleAgentEpisode
from unison.data.rollout import make_rollout

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


def load(name: str) -> Any:
    """An example as a module."""
    spec = importlib.util.spec_from_file_location(name, next(p for p in EXAMPLES if p.stem == name))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 80


def test_a_learner_of_ones_own_learns() -> None:
    assert load("custom_learner").main(iterations=25) > 100


def test_a_module_of_ones_own_learns() -> None:
    assert load("custom_module").main(iterations=12) > 60


def test_an_environment_of_ones_own_is_solved() -> None:
    assert load("custom_environment").main() == pytest.approx(0.3)


def test_a_connector_of_ones_own_changes_rewards_and_learns() -> None:
    example = load("custom_connector")
    assert example.main(iterations=12)["episode_return_mean"] > 100
    config = PPOConfig().training(gamma=0.5).environment("CartPole-v1").debugging(seed=0)
    observations = np.array([[1, 0, 0, 0], [2, 0, 0, 0], [-4, 0, 0, 0]], np.float32)
    rewards = np.ones(2, np.float32)
    shaped = []
    for terminated in (False, True):
        episode = SingleAgentEpisode(
            observations=observations, actions=np.zeros(2, np.int64), rewards=rewards, terminated=terminated
        )
        rollout = make_rollout([episode], torch.device("cpu"))
        connector = example.DrawToTheMiddle(weight=1.0)
        learner = config.build_learner()
        shaped.append(connector(rollout, learner=learner, module_id="default_policy").columns["rewards"].tolist())
    assert shaped == [[1 - 0.5 * 2 + 1, 1 - 0.5 * 4 + 2], [1 - 0.5 * 2 + 1, 1 + 2]]


def test_poles_of_many_agents_stand_longer() -> None:
    returns = load("multi_agent_cartpole").main(iterations=12)
    assert sum(returns.values()) > 200


def test_a_centralized_critic_learns_and_only_it_sees_all() -> None:
    example = load("mappo")
    algorithm = example.make_config().training(train_batch_size=400, minibatch_size=300).build()
    before = algorithm.learner_group.get_weights()
    results = algorithm.train()
    after = algorithm.learner_group.get_weights()
    assert results["env_runners"]["num_env_steps_sampled"] == 400
    assert {"everyone", "__all_modules__"} == set(after)
    for module_id in after:
        assert all(not np.array_equal(before[module_id][name], after[module_id][name]) for name in after[module_id])
    observation = algorithm.env_runner.modules["everyone"].observation_space.sample()
    first = algorithm.compute_actions(observation)
    assert algorithm.compute_actions({**observation, "state": observation["state"] * 0}) == first


def test_a_league_in_small(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.syspath_prepend(str(EXAMPLES[0].parent))
    league, connect_four, tournament = load("league"), load("connect_four"), load("tournament")
    small = league.make_config().training(train_batch_size=256, minibatch_size=128, num_epochs=1)
    monkeypatch.setattr(league, "make_config", lambda iterations: small)
    seen: list[dict[str, float]] = []
    ratings = league.main(6, games=4, every=1, pool=5, stop=lambda algorithm, rates: seen.append(rates))
    assert [len(rates) for rates in seen] == [3, 4, 5, 5, 5, 5]
    assert "snapshot_5" in seen[-1]
    assert set(ratings) == {"random", "one-move lookahead", "main", *list(seen[-1])[2:]}
    assert ratings["one-move lookahead"] > ratings["random"] == 0
    assert tournament.points([2, 1, 1]) == 0.625
    always = [lambda _, column=column: column for column in (0, 1)]  # Four in a column, whoever moves first.
    assert tournament.play(always, 5) == [3, 0, 2]
    shares = np.array([[np.nan, 0.75], [0.25, np.nan]])  # Three points to one, and half a point each: 3.5 to 1.5.
    assert tournament.elo(shares, 4, anchor=1)[0] == pytest.approx(400 * np.log10(3.5 / 1.5), abs=1)
    board = torch.zeros(1, 6, 7, 2)
    board[0, 5, 0:3, 1] = 1  # Three of the other's in the bottom row, one place free beside them.
    board[0, 5, 6, 0] = board[0, 4, 6, 0] = 1
    player = connect_four.Lookahead()
    mask = torch.ones(1, 7)
    assert int(player.forward_inference({"obs": {"observation": board, "action_mask": mask}})["actions"]) == 3
    board[0, 3, 6, 0] = 1  # Three of its own in a column: it wins instead.
    assert int(player.forward_inference({"obs": {"observation": board, "action_mask": mask}})["actions"]) == 6


def test_many_modules() -> None:
    assert load("many_modules").main() == ["rookie"]


@pytest.mark.parametrize("name", ["several_learners"])
def test_examples_with_processes(name: str) -> None:
    path = next(p for p in EXAMPLES if p.stem == name)
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "restarts: 1" in done.stdout
