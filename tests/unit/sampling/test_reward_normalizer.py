"""Rewards over the standard deviation of the discounted return."""

from typing import Any

import numpy as np
import pytest

from unison.errors import StateError
from unison.sampling import RewardNormalizer


def test_against_a_loop_over_single_rewards() -> None:
    generator = np.random.default_rng(0)
    normalizer = RewardNormalizer(gamma=0.9)
    running, seen, kept = [0.0] * 3, [], np.zeros(3)
    for _ in range(4):
        rewards = generator.normal(2, 3, (3, 11))
        begins, valid = generator.random((3, 11)) < 0.2, generator.random((3, 11)) < 0.9
        for index in range(3):
            for step in range(11):
                if valid[index, step]:
                    if begins[index, step]:
                        running[index] = 0.0
                    running[index] = 0.9 * running[index] + rewards[index, step]
                    seen.append(running[index])
        normalized = normalizer(rewards, begins, valid, kept)
        assert kept == pytest.approx(running)
        assert normalized.dtype == np.float32
        assert normalizer.scale == pytest.approx(np.std(seen), rel=1e-12)
        assert np.allclose(normalized, np.clip(rewards / np.std(seen), -10, 10), atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_reward_that_is_not_finite_spoils_its_own_episode_alone(bad: float) -> None:
    rewards = np.random.default_rng(0).normal(size=(2, 8))
    rewards[1, 2] = bad
    begins, everything = np.zeros((2, 8), np.bool_), np.ones((2, 8), np.bool_)
    begins[1, 5] = True
    normalizer, running = RewardNormalizer(gamma=0.5), np.zeros(2)
    normalizer(rewards, begins, everything, running)
    finite, returns = [*rewards[0], *rewards[1, :2], *rewards[1, 5:]], []
    value = 0.0
    for index, reward in enumerate(finite):
        value = reward if index in (0, 8, 10) else 0.5 * value + reward
        returns.append(value)
    assert normalizer.scale == pytest.approx(np.std(returns))
    assert np.isfinite(running).all()


def test_clips_and_does_not_blow_up_what_never_varies() -> None:
    normalizer = RewardNormalizer(gamma=0.0)
    everything = np.ones((1, 5), np.bool_)
    assert normalizer(np.zeros((1, 5)), everything, everything, np.zeros(1)).tolist() == [[0] * 5]
    assert normalizer.scale == 1
    rewards = np.zeros((1, 1000))
    rewards[0, 0] = 1000
    everything = np.ones((1, 1000), np.bool_)
    assert normalizer(rewards, everything, everything, np.zeros(1)).max() == 10


def test_state_round_trip() -> None:
    one, other = RewardNormalizer(0.9), RewardNormalizer(0.9)
    begins, valid = np.zeros((1, 4), np.bool_), np.ones((1, 4), np.bool_)
    one(np.array([[1.0, 2, 3, 4]]), begins, valid, np.zeros(1))
    other.set_state(one.get_state())
    more = np.array([[4.0, 3, -2, 1]])
    assert np.array_equal(one(more, begins, valid, np.zeros(1)), other(more, begins, valid, np.zeros(1)))
    assert one.get_state() == other.get_state()
    with pytest.raises(StateError, match="lacks"):
        other.set_state({"mean": 0})


@pytest.mark.parametrize("mode", ["sync", "NextStep"])
def test_in_a_runner(mode: str, make_runner: Any, counting_env: Any, counting_vector: Any) -> None:
    env, extra = (counting_env, {}) if mode == "sync" else (counting_vector, {"mode": mode})
    runner = make_runner(env, extra, normalize_rewards=True, gamma=0.5)
    seen: list[float] = []
    running: dict[str, float] = {}
    for asked in (40, 31):
        episodes = runner.sample(num_timesteps=asked)
        rows = []
        for episode in episodes:
            for step, action in enumerate(episode.get_actions()):
                reward = 10.0 * (episode.t_started + step) + action
                rows.append((reward, episode.get_rewards()[step]))
                running[episode.id_] = 0.5 * running.get(episode.id_, 0.0) + reward
                seen.append(running[episode.id_])
        # Rows that came over from the sample before keep its scale; those held back for the next count already.
        if asked == 40:
            scale = runner._normalizer.scale
            assert scale == pytest.approx(np.std(seen), rel=0.1)
            assert [normal for _, normal in rows] == pytest.approx([min(10, reward / scale) for reward, _ in rows])
    metrics = runner.get_metrics()
    assert metrics["episode_return_max"] > 100
