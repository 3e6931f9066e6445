"""Whoever resumes from a memento goes on exactly as the Learner that it was taken of."""

import copy
from typing import Any

import numpy as np
import pytest
import torch

from support.learners import make_columns, make_config, make_learner, weights
from unison.algorithms import PPOLearner
from unison.learner.memento import resume, take_memento
from unison.types import tree_leaves


class Adamax(PPOLearner):
    """An optimizer that no update rule serves: it steps by itself."""

    def configure_optimizers_for_module(self, module_id: str, config: Any) -> None:
        params = self.get_parameters(self.module[module_id])
        self.register_optimizer(
            module_id=module_id,
            optimizer=torch.optim.Adamax(params),
            params=params,
            lr_or_lr_schedule=[[0, 0.1], [99, 0]],
        )


def batch(seed: int) -> dict[str, Any]:
    return {"a": make_columns(16, seed), "b": make_columns(16, seed + 50)}


@pytest.mark.parametrize("cls", [PPOLearner, Adamax])
def test_a_new_learner_goes_on_alike(cls: type[PPOLearner]) -> None:
    config = make_config(lr=[[0, 1e-2], [200, 0.0]], entropy_coeff=[[0, 0.1], [100, 0.0]])
    config.rl_module(model_config={"hidden_sizes": (8,), "normalize_observations": True})
    config.multi_agent(policies_to_train=["a"])
    first, second = (make_learner(config, cls=cls, module_ids=("a", "b")) for _ in range(2))
    with torch.no_grad():
        next(first.module["b"].parameters()).add_(1.0)  # it does not train, and yet is part of the state
    for seed in range(3):
        first.update_from_batch(batch(seed), minibatch_size=4)
    resume(second, copy.deepcopy(take_memento(first)))
    for seed in range(3, 5):
        assert all(map(np.array_equal, leaves(first), leaves(second)))
        for learner in (first, second):
            learner.update_from_batch(batch(seed), minibatch_size=4)
    assert first.counters == second.counters
    assert not np.array_equal(
        *[
            weights(learner)["a/policy_head.bias"]
            for learner in (first, make_learner(config, cls=cls, module_ids=("a", "b")))
        ]
    )


def leaves(learner: Any) -> list[Any]:
    return list(tree_leaves(learner.get_state()))


def test_modules_that_only_one_of_the_two_has_are_passed_over() -> None:
    first, second = make_learner(module_ids=("a", "b")), make_learner(module_ids=("b", "c"))
    untouched = {name: value for name, value in weights(second).items() if name.startswith("c/")}
    first.update_from_batch(batch(0), minibatch_size=4)
    resume(second, copy.deepcopy(take_memento(first)))
    for name, value in weights(second).items():
        assert np.array_equal(value, untouched[name] if name.startswith("c/") else weights(first)[name])
