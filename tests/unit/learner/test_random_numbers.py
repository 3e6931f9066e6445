"""What draws from torch's global generators in an update goes by the Learner's state alone."""

from pathlib import Path
from typing import Any

import pytest
import torch

from support.episodes import make_episode
from support.learners import DISCRETE, OBS, assert_same, make_columns, make_config, make_learner, weights
from unison import SingleAgentRLModuleSpec
from unison.algorithms import PPOLearner
from unison.modules import ActorCritic


class Noisy(PPOLearner):
    """Adds noise to what it trains by, and writes down the first number of each update."""

    drawn: list[float]

    def before_gradient_based_update(self, *, timesteps: Any) -> None:
        self.__dict__.setdefault("drawn", []).append(float(torch.rand(())))

    def postprocess_gradients(self, gradients: Any) -> Any:
        return {ref: g + 0.1 * torch.randn_like(g) for ref, g in super().postprocess_gradients(gradients).items()}


def updated(learner: Any, global_seed: int, updates: int = 2) -> dict[str, Any]:
    torch.manual_seed(global_seed)
    for seed in range(updates):
        learner.update_from_batch(make_columns(16, seed), minibatch_size=8)
    return weights(learner)


@pytest.mark.parametrize("engine", ["eager", "xla"])
def test_the_same_seed_gives_the_same_weights(engine: str) -> None:
    if engine == "xla":
        pytest.importorskip("jax")
    config = make_config().framework(engine=engine)
    first, second = (updated(make_learner(config, cls=Noisy), global_seed) for global_seed in (1, 2))
    assert_same(first, second)


def test_a_restored_learner_draws_what_the_saved_one_draws(tmp_path: Path) -> None:
    learner, restored = make_learner(cls=Noisy), make_learner(cls=Noisy)
    updated(learner, 0)
    learner.save_state(tmp_path / "state")
    restored.load_state(tmp_path / "state")
    assert_same(updated(learner, 1), updated(restored, 2))


def test_no_two_updates_draw_alike_and_others_never_notice() -> None:
    learner = make_learner(make_config(shuffle_batch_per_epoch=False), cls=Noisy)
    torch.manual_seed(0)
    expected = torch.rand(3)
    updated(learner, 0, updates=8)
    assert torch.equal(torch.rand(3), expected)
    assert len(set(learner.drawn)) == 8


def test_the_first_weights_of_an_added_module_go_by_the_seed() -> None:
    def added(global_seed: int, module_id: str, seed: int = 0) -> dict[str, Any]:
        learner = make_learner(make_config().debugging(seed=seed))
        torch.manual_seed(global_seed)
        expected = torch.rand(3)
        torch.manual_seed(global_seed)
        learner.add_module(module_id=module_id, module_spec=SingleAgentRLModuleSpec(None, OBS, DISCRETE))
        assert torch.equal(torch.rand(3), expected)
        return learner.get_module_state()[module_id]

    assert_same(added(1, "b"), added(2, "b"))
    others = [added(1, "b"), added(1, "c"), added(1, "b", seed=1)]
    assert len({float(state["policy_head.weight"].flat[0]) for state in others}) == 3


class Dropping(ActorCritic):
    """Its values are of what dropout leaves, also those that advantages are computed from."""

    def setup(self) -> None:
        super().setup()
        self.dropout = torch.nn.Dropout(0.5)

    def compute_values(self, batch: Any) -> Any:
        return self.dropout(super().compute_values(batch))


def test_what_is_drawn_on_the_way_from_episodes_goes_by_the_state_too() -> None:
    def learned(global_seed: int) -> dict[str, Any]:
        torch.manual_seed(0)
        config = make_config().rl_module(rl_module_spec=SingleAgentRLModuleSpec(module_class=Dropping))
        learner = config.build_learner(spaces={"default_policy": (OBS, DISCRETE)})
        torch.manual_seed(global_seed)
        learner.update_from_episodes([make_episode(8, 0)])
        return weights(learner)

    assert_same(learned(1), learned(2))
