"""What draws from torch's global generators in an update goes by the Learner's state alone."""

from pathlib import Path
from typing import Any

import pytest
import torch

from support.learners import assert_same, make_columns, make_config, make_learner, weights
from unison.algorithms import PPOLearner


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
