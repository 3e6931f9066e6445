"""Every row of a sample is the step it claims to be, however the environments are stepped."""

from collections import defaultdict
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from unison.data import Columns, SingleAgentEpisode

LENGTHS, ENDS = (4, 7, 1, 3), (0, 1, 2)
MODES = ["sync", "async", "NextStep", "SameStep", "Disabled"]


def runner_for(mode: str, make_runner: Any, counting_env: Any, counting_vector: Any, **settings: Any) -> Any:
    if mode in ("sync", "async"):
        return make_runner(counting_env, vectorization=mode, **settings)
    return make_runner(counting_vector, {"mode": mode}, **settings)


def by_id(episodes: list[SingleAgentEpisode]) -> dict[str, list[SingleAgentEpisode]]:
    chunks: dict[str, list[SingleAgentEpisode]] = defaultdict(list)
    for episode in episodes:
        chunks[episode.id_].append(episode)
    return chunks


def check_rows(episode: SingleAgentEpisode) -> None:
    """Each observation names its episode, step and the action before it; each reward its step and action."""
    observations, actions = episode.get_observations(), episode.get_actions()
    steps = np.arange(episode.t_started, episode.t_started + len(episode) + 1)
    assert len(observations) == len(episode) + 1
    assert (observations[:, :2] == observations[0, :2]).all()
    assert observations[:, 2].tolist() == steps.tolist()
    assert observations[1:, 3].tolist() == actions.tolist()
    if episode.t_started == 0:
        assert observations[0, 3] == -1
    assert episode.get_rewards().tolist() == (10 * steps[:-1] + actions).tolist()


def check_end(episode: SingleAgentEpisode) -> None:
    """It ends, and in the way that its number says."""
    tag, number, steps, _ = (int(x) for x in episode.get_observations(-1))
    over = steps == LENGTHS[(tag + number) % 4]
    assert steps <= LENGTHS[(tag + number) % 4]
    # Where an episode terminates and is truncated at once, it terminated: nothing follows that could be worth anything.
    assert episode.is_terminated == (over and ENDS[number % 3] != 1)
    assert episode.is_truncated == (over and ENDS[number % 3] == 1)


@pytest.mark.parametrize("mode", MODES)
def test_rows_chunks_and_ends(mode: str, make_runner: Any, counting_env: Any, counting_vector: Any) -> None:
    runner = runner_for(mode, make_runner, counting_env, counting_vector)
    episodes: list[SingleAgentEpisode] = []
    for asked in (30, 7, 1, 1, 64, 2, 29):
        sample = runner.sample(num_timesteps=asked)
        assert sum(len(episode) for episode in sample) == asked
        episodes += sample
    for episode in episodes:
        check_rows(episode)
        check_end(episode)
    numbers: dict[int, list[int]] = defaultdict(list)
    for chunks in by_id(episodes).values():
        # The chunks of an episode follow each other without a gap, and only the last is done.
        position = 0
        for chunk in chunks:
            assert chunk.t_started == position
            position += len(chunk)
        assert not any(chunk.is_done for chunk in chunks[:-1])
        tag, number = chunks[0].get_observations(0)[:2].astype(int)
        numbers[tag].append(number)
    assert len(numbers) == 3
    for seen in numbers.values():
        assert seen == list(range(len(seen)))
    metrics = runner.get_metrics()
    assert metrics["num_env_steps_sampled"] == metrics["num_env_steps_sampled_lifetime"] == 134


@pytest.mark.parametrize("mode", MODES)
def test_whole_episodes_are_shared_out(mode: str, make_runner: Any, counting_env: Any, counting_vector: Any) -> None:
    runner = runner_for(mode, make_runner, counting_env, counting_vector)
    runner.sample(num_timesteps=10)
    episodes = runner.sample(num_episodes=8)
    assert len(episodes) == 8
    counts: dict[int, int] = defaultdict(int)
    for episode in episodes:
        check_rows(episode)
        check_end(episode)
        assert episode.is_done
        assert episode.t_started == 0
        counts[int(episode.get_observations(0)[0])] += 1
    assert sorted(counts.values()) == [2, 3, 3]


def test_episodes_longer_than_a_block_are_joined(make_runner: Any, counting_env: Any) -> None:
    runner = make_runner(counting_env, {"lengths": (600,)}, envs=2, normalize_rewards=True)
    episodes = runner.sample(num_episodes=2)
    assert [len(episode) for episode in episodes] == [600, 600]
    assert episodes[0].get_observations()[:, 2].tolist() == list(range(601))
    assert len(episodes[0].get_extra_model_outputs(Columns.ACTION_LOGP)) == 600


@pytest.mark.parametrize("mode", ["sync", "NextStep"])
def test_log_probabilities_belong_to_observations_and_actions(
    mode: str, make_runner: Any, counting_env: Any, counting_vector: Any
) -> None:
    runner = runner_for(mode, make_runner, counting_env, counting_vector)
    module = runner.modules[runner.module_id]
    for episode in runner.sample(num_timesteps=60):
        with torch.no_grad():
            inputs = module.forward_exploration({"obs": torch.tensor(episode.get_observations()[:-1])})
            inputs = inputs["action_dist_inputs"]
            logp = module.action_distribution(inputs).log_prob(torch.tensor(episode.get_actions()))
        assert np.allclose(episode.get_extra_model_outputs(Columns.ACTION_DIST_INPUTS), inputs, atol=1e-6)
        assert np.allclose(episode.get_extra_model_outputs(Columns.ACTION_LOGP), logp, atol=1e-6)
        assert episode.get_extra_model_outputs(Columns.ACTION_LOGP).dtype == np.float32


def test_episodes_are_views_and_stay_as_they_are(make_runner: Any, counting_env: Any) -> None:
    runner = make_runner(counting_env, {"lengths": (5,)}, envs=2)
    first, *_ = sample = runner.sample(num_timesteps=40)
    assert first.get_observations().base is not None
    assert first.get_observations().flags.c_contiguous
    before = [np.array(episode.get_observations()) for episode in sample]
    runner.sample(num_timesteps=40)
    for episode, observations in zip(sample, before, strict=True):
        assert np.array_equal(episode.get_observations(), observations)


def test_default_length_of_a_sample(make_runner: Any, counting_env: Any) -> None:
    runner = make_runner(counting_env, train_batch_size=100)
    assert sum(len(episode) for episode in runner.sample()) == 102
    runner = make_runner(counting_env, train_batch_size=100, rollout_fragment_length=5)
    assert sum(len(episode) for episode in runner.sample()) == 15


def test_async_equals_sync_bit_for_bit(make_runner: Any, assert_same: Any) -> None:
    samples = []
    weights = make_runner("CartPole-v1").modules.get_state()
    for mode in ("sync", "async"):
        runner = make_runner("CartPole-v1", vectorization=mode, envs=2, seed=7)
        runner.set_weights(weights)
        samples.append([*runner.sample(num_timesteps=100), *runner.sample(num_timesteps=101)])
    assert_same(*samples)


@pytest.mark.parametrize(
    ("env", "mode"),
    [("CartPole-v1", "vector_entry_point"), ("CartPole-v1", "sync"), ("Acrobot-v1", "auto"), ("Pendulum-v1", "auto")],
)
def test_real_environments(env: str, mode: str, make_runner: Any) -> None:
    runner = make_runner(env, vectorization=mode, envs=4)
    episodes = [*runner.sample(num_timesteps=500), *runner.sample(num_timesteps=500)]
    assert sum(len(episode) for episode in episodes) == 1000
    for chunks in by_id(episodes).values():
        for before, after in pairwise(chunks):
            assert np.array_equal(before.get_observations(-1), after.get_observations(0))
    if env == "CartPole-v1":
        assert any(episode.is_terminated for episode in episodes)
        for episode in episodes:
            # A terminal observation is out of bounds, all others are within: no reset row is among them.
            out = (np.abs(episode.get_observations()[:, 2]) > 0.2095) | (np.abs(episode.get_observations()[:, 0]) > 2.4)
            assert out.tolist() == [False] * len(episode) + [episode.is_terminated]
            if episode.t_started == 0:
                assert np.abs(episode.get_observations(0)).max() <= 0.05
            assert (episode.get_rewards() == 1).all()
