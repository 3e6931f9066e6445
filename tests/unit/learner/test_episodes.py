"""From episodes to batches: values in pieces, advantages by hand, padding that never matters."""

from typing import Any

import numpy as np
import pytest
import torch

from support.episodes import make_episode
from support.equality import compare_results
from support.learners import DISCRETE, OBS, assert_same, make_config, make_learner, make_sequences, weights
from unison import ALL_MODULES, Columns, MultiAgentEpisode, SingleAgentEpisode
from unison.algorithms import PPOLearner
from unison.data.rollout import Rollout, make_rollout
from unison.errors import BatchError
from unison.learner.connectors import episodes_to_columns
from unison.learner.connectors.values import compute_values
from unison.types import tree_leaves, tree_map

EPISODES = [make_episode(5, 0, end="terminated"), make_episode(3, 1, end="truncated"), make_episode(7, 2)]


def values_of(learner: Any, observations: Any) -> Any:
    with torch.no_grad():
        return learner.module["default_policy"].compute_values({"obs": torch.as_tensor(observations)}).numpy()


def gae_by_definition(learner: Any, episode: SingleAgentEpisode, gamma: float, lambda_: float) -> list[float]:
    """Schulman et al. 2016, equation 16: a plain double sum in float64."""
    values = values_of(learner, episode.get_observations()).astype(np.float64)
    if episode.is_terminated:
        values[-1] = 0.0
    rewards = np.asarray(episode.get_rewards(), np.float64)
    deltas = rewards + gamma * values[1:] - values[:-1]
    length = len(deltas)
    return [sum((gamma * lambda_) ** (k - t) * deltas[k] for k in range(t, length)) for t in range(length)]


def test_advantages_are_those_of_the_definition() -> None:
    learner = make_learner(make_config(normalize_advantages=False, gamma=0.9, lambda_=0.8))
    columns, env_steps = episodes_to_columns(learner, EPISODES)
    batch = columns["default_policy"]
    expected = np.concatenate([gae_by_definition(learner, e, 0.9, 0.8) for e in EPISODES])
    np.testing.assert_allclose(batch["advantages"], expected, rtol=1e-4, atol=1e-5)
    values = np.concatenate([values_of(learner, e.get_observations()[:-1]) for e in EPISODES])
    np.testing.assert_allclose(batch["value_targets"], expected + values, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(batch["vf_preds"], values, rtol=1e-5, atol=1e-6)
    assert env_steps == 15
    np.testing.assert_array_equal(batch["obs"], np.concatenate([e.get_observations()[:-1] for e in EPISODES]))
    np.testing.assert_array_equal(batch["terminateds"].nonzero()[:, 0], [4])
    np.testing.assert_array_equal(batch["truncateds"].nonzero()[:, 0], [7])


def test_truncation_is_not_termination() -> None:
    learner = make_learner(make_config(normalize_advantages=False))
    ends = {}
    for end in ("terminated", "truncated", "cut"):
        columns, _ = episodes_to_columns(learner, [make_episode(4, 0, end=end)])
        ends[end] = columns["default_policy"]["advantages"].numpy()
    np.testing.assert_array_equal(ends["truncated"], ends["cut"])
    assert not np.allclose(ends["terminated"], ends["truncated"])


def test_advantages_are_standardized_over_the_whole_batch() -> None:
    columns, _ = episodes_to_columns(make_learner(), EPISODES)
    advantages = columns["default_policy"]["advantages"].numpy()
    assert abs(advantages.mean()) < 1e-6
    assert advantages.std() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("minibatch_size", [1, 2, 3, None])
def test_values_in_pieces_equal_values_at_once(minibatch_size: int | None) -> None:
    learner = make_learner(make_config(minibatch_size=minibatch_size))
    largest = 0
    module = learner.module["default_policy"]
    original = module.compute_values

    def watched(batch: Any) -> Any:
        nonlocal largest
        largest = max(largest, batch["obs"].shape[0])
        return original(batch)

    module.compute_values = watched
    columns, _ = episodes_to_columns(learner, EPISODES)
    module.compute_values = original
    expected = np.concatenate([values_of(learner, e.get_observations()[:-1]) for e in EPISODES])
    np.testing.assert_allclose(columns["default_policy"]["vf_preds"], expected, rtol=1e-5, atol=1e-6)
    assert largest <= 4 * (minibatch_size or 18)


def test_an_update_from_episodes_equals_one_from_their_batch() -> None:
    first, second = make_learner(), make_learner()
    columns, _ = episodes_to_columns(first, EPISODES)
    first.update_from_batch(columns, minibatch_size=4, num_iters=2)
    results = second.update_from_episodes(EPISODES, minibatch_size=4, num_iters=2)
    assert_same(weights(first), weights(second))
    assert results[ALL_MODULES]["num_env_steps_trained"] == 30


class TestStateful:
    """LSTM modules: sequences of bounded length, padded at the end, from the states that acting saw."""

    def learner(self, **training: Any) -> Any:
        config = make_config(**training).rl_module(
            model_config={"hidden_sizes": (8,), "lstm_size": 6, "max_seq_len": 4}
        )
        return make_learner(config)

    def episodes(self) -> list[SingleAgentEpisode]:
        lengths = [(5, "terminated"), (3, "truncated"), (8, "cut")]
        initial = self.learner().module["default_policy"].get_initial_state()
        return [make_episode(n, i, end=end, initial_state=initial) for i, (n, end) in enumerate(lengths)]

    def test_layout(self) -> None:
        learner = self.learner()
        episodes = self.episodes()
        columns, _ = episodes_to_columns(learner, episodes)
        batch = columns["default_policy"]
        # 5 = 4 + 1, 3, 8 = 4 + 4
        np.testing.assert_array_equal(batch["loss_mask"].sum(1), [4, 1, 3, 4, 4])
        np.testing.assert_array_equal(batch["obs"][1, 0], episodes[0].get_observations()[4])
        np.testing.assert_array_equal(batch["obs"][4], episodes[2].get_observations()[4:8])
        starts = [(0, 0), (0, 4), (1, 0), (2, 0), (2, 4)]
        for row, (episode, step) in enumerate(starts):
            state = episodes[episode].get_extra_model_outputs("state_in")
            ours, theirs = tree_leaves(batch["state_in"]), tree_leaves(state)
            assert len(ours) == len(theirs) > 0
            for leaf, expected in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(leaf[row], expected[step])

    def test_values_follow_the_states(self) -> None:
        learner = self.learner(normalize_advantages=False, gamma=0.9, lambda_=0.8)
        module = learner.module["default_policy"]
        columns, _ = episodes_to_columns(learner, self.episodes())
        flat = columns["default_policy"]
        expected: list[float] = []
        for episode in self.episodes():
            values: list[float] = []
            states = episode.get_extra_model_outputs("state_in")
            state = None
            observations = torch.as_tensor(episode.get_observations())
            for t in range(len(episode) + 1):
                if t % 4 == 0 and t < len(episode):
                    state = tree_map(lambda v, t=t: torch.as_tensor(v[t : t + 1]), states)
                with torch.no_grad():
                    out = module.forward_train({"obs": observations[None, t : t + 1], "state_in": state})
                state = out["state_out"]
                values.append(float(out["vf_preds"][0, 0]))
            if episode.is_terminated:
                values[-1] = 0.0
            rewards = episode.get_rewards()
            advantage, found = 0.0, []
            for t in reversed(range(len(episode))):
                advantage = rewards[t] + 0.9 * values[t + 1] - values[t] + 0.9 * 0.8 * advantage
                found.append(advantage)
            expected += found[::-1]
        np.testing.assert_allclose(flat["advantages"][flat["loss_mask"]], expected, rtol=1e-4, atol=1e-5)

    def test_what_padding_holds_never_matters(self) -> None:
        clean, dirty = self.learner(), self.learner()
        columns, _ = episodes_to_columns(clean, self.episodes())
        batch = columns["default_policy"]
        mask = batch["loss_mask"]
        spoilt = dict(batch)
        for name in ("advantages", "value_targets", "action_logp", "vf_preds"):
            spoilt[name] = torch.where(mask, batch[name], torch.full_like(batch[name], 1e6))
        spoilt["obs"] = torch.where(mask[..., None], batch["obs"], 50.0)
        first = clean.update_from_batch(batch, minibatch_size=8, num_iters=2)
        second = dirty.update_from_batch(spoilt, minibatch_size=8, num_iters=2)
        assert_same(weights(clean), weights(dirty))
        assert first["default_policy"] == second["default_policy"]
        assert first[ALL_MODULES]["num_module_steps_trained"] == 32  # 16 valid steps, twice

    @pytest.mark.parametrize("parts", [1, 3])
    def test_sequences_without_padding_need_no_mask(self, parts: int) -> None:
        plain, masked = (self.learner(gradient_accumulation_steps=parts) for _ in range(2))
        columns = make_sequences(8, 4, plain.module["default_policy"].get_initial_state())
        whole = {**columns, "loss_mask": np.ones((8, 4), np.bool_)}
        first = plain.update_from_batch(columns, minibatch_size=12, num_iters=2)
        second = masked.update_from_batch(whole, minibatch_size=12, num_iters=2)
        for name, value in weights(plain).items():
            np.testing.assert_allclose(weights(masked)[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
        compare_results(first, second)
        assert first["default_policy"]["num_module_steps_trained"] == 2 * 32

    @pytest.mark.parametrize("parts", [2, 3])
    def test_accumulation_weighs_by_valid_steps(self, parts: int) -> None:
        whole = self.learner(shuffle_batch_per_epoch=False)
        split = self.learner(shuffle_batch_per_epoch=False, gradient_accumulation_steps=parts)
        for learner, size in ((whole, 4 * parts), (split, 4)):
            columns, _ = episodes_to_columns(learner, self.episodes())
            learner.update_from_batch(columns, minibatch_size=size)
        for name, value in weights(whole).items():
            np.testing.assert_allclose(weights(split)[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_connectors_of_the_user_run_first() -> None:
    def no_reward(rollout: Rollout, *, learner: Any, module_id: str) -> Rollout:
        rollout.columns[Columns.REWARDS] = torch.zeros_like(rollout.columns[Columns.REWARDS])
        rollout.columns["mine"] = torch.arange(rollout.num_steps)
        return rollout

    learner = make_learner(make_config(learner_connectors=[no_reward], normalize_advantages=False))
    columns, _ = episodes_to_columns(learner, EPISODES)
    assert columns["default_policy"]["mine"].tolist() == list(range(15))
    silent = [
        SingleAgentEpisode(
            observations=e.get_observations(), actions=e.get_actions(), rewards=np.zeros(len(e), np.float32),
            terminated=e.is_terminated, truncated=e.is_truncated, extra_model_outputs=e.get_extra_model_outputs(),
        )
        for e in EPISODES
    ]  # fmt: skip
    plain = make_learner(make_config(normalize_advantages=False))
    expected, _ = episodes_to_columns(plain, silent)
    assert torch.equal(columns["default_policy"]["advantages"], expected["default_policy"]["advantages"])


def test_outputs_that_some_chunks_lack_are_left_out() -> None:
    full, bare = make_episode(5, 0), make_episode(3, 1)
    bare.keep_extra_model_outputs({"action_logp"})
    for chunks in ([full, bare], [bare, full]):
        columns = make_rollout(chunks, torch.device("cpu")).columns
        assert columns["action_logp"].shape == (8,)
        assert "action_dist_inputs" not in columns


def test_a_stateful_value_pass_is_bounded_too() -> None:
    learner = TestStateful().learner(minibatch_size=4)
    sizes: list[int] = []
    module = learner.module["default_policy"]
    original = module.compute_values

    def measured(batch: dict[str, Any]) -> torch.Tensor:
        rows, steps = batch["obs"].shape[:2]
        sizes.append(rows * steps)
        return original(batch)

    module.compute_values = measured
    rollout = make_rollout(TestStateful().episodes(), learner.device)
    compute_values(learner, "default_policy", rollout)
    assert max(sizes) <= 4 * 4 + 4  # four minibatches, and a final observation per sequence


def test_many_agents_are_sorted_by_module() -> None:
    episode = MultiAgentEpisode(
        agent_episodes={"x": make_episode(4, 0, module_id="a"), "y": make_episode(6, 1, module_id="b")}
    )
    learner = make_learner(make_config().multi_agent(policies={"a", "b"}), module_ids=("a", "b"))
    results = learner.update_from_episodes([episode])
    assert results["a"]["num_module_steps_trained"] == 4
    assert results["b"]["num_module_steps_trained"] == 6
    assert results[ALL_MODULES]["num_env_steps_trained"] == 6


def test_bad_episodes_are_named() -> None:
    learner = make_learner()
    with pytest.raises(BatchError, match="no step"):
        learner.update_from_episodes([])
    with pytest.raises(BatchError, match="module 'other', which is unknown"):
        learner.update_from_episodes([make_episode(3, 0, module_id="other")])
    with pytest.raises(BatchError, match="not dict"):
        learner.update_from_episodes([{}])


def test_observation_statistics_follow_the_steps() -> None:
    config = make_config().rl_module(model_config={"hidden_sizes": (8,), "normalize_observations": True})
    seen: list[float] = []

    class Looking(PPOLearner):
        def compute_loss_for_module(self, *, module_id: str, config: Any, batch: Any, fwd_out: Any) -> Any:
            counts = [b for n, b in self.module[module_id].named_buffers() if n.endswith("count")]
            seen.append(float(counts[0]))
            return super().compute_loss_for_module(module_id=module_id, config=config, batch=batch, fwd_out=fwd_out)

    learner = make_learner(config, cls=Looking)
    learner.update_from_episodes(EPISODES)
    learner.update_from_episodes(EPISODES)
    assert seen == [0.0, 15.0]
    buffers = dict(learner.module["default_policy"].named_buffers())
    observations = np.concatenate([e.get_observations()[:-1] for e in EPISODES])
    mean = next(b for n, b in buffers.items() if n.endswith("mean"))
    np.testing.assert_allclose(mean, observations.mean(0), rtol=1e-5, atol=1e-6)


def test_adaptive_kl_coefficient_moves_towards_its_target() -> None:
    learner = make_learner(make_config(use_kl_loss=True, kl_target=1e-12, kl_coeff=0.2))
    learner.update_from_episodes(EPISODES, num_iters=2)
    assert float(learner.coefficients["default_policy"]["kl_coeff"]) == pytest.approx(0.4)
    learner = make_learner(make_config(use_kl_loss=True, kl_target=1e3, kl_coeff=0.2))
    learner.update_from_episodes(EPISODES, num_iters=2)
    assert float(learner.coefficients["default_policy"]["kl_coeff"]) == pytest.approx(0.1)


@pytest.mark.parametrize(("kl", "factor"), [(0.6, 0.5), (0.7, 1.0), (1.4, 1.0), (1.6, 2.0)])
def test_the_kl_coefficient_rests_within_half_as_much_again_of_its_target(kl: float, factor: float) -> None:
    learner = make_learner(make_config(use_kl_loss=True, kl_target=0.01, kl_coeff=0.2))
    learner.results = {"default_policy": {"mean_kl_loss": kl * 0.01}}
    learner.after_gradient_based_update(timesteps={"num_env_steps_sampled_lifetime": 0})
    assert float(learner.coefficients["default_policy"]["kl_coeff"]) == pytest.approx(0.2 * factor)


def test_spaces_are_checked_in_batches_of_sequences() -> None:
    learner = TestStateful().learner()
    with pytest.raises(BatchError, match=r"give \[B, T, 4\]"):
        learner.update_from_batch({"obs": np.zeros((3, 4), np.float32), **{
            name: np.zeros(3, np.float32) for name in ("action_logp", "advantages", "value_targets")
        }, "actions": np.zeros(3, np.int64)})  # fmt: skip
    assert OBS.shape == (4,)
    assert DISCRETE.n == 3
