"""Modules that act copy those that train, tensor to tensor."""

from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from unison.errors import StateError
from unison.modules import ActorCritic, MultiAgentRLModule
from unison.modules.mirror import Mirror


def modules(size: int, actions: int, **model_config: Any) -> MultiAgentRLModule:
    spaces = {"observation_space": Box(-1, 1, (size,)), "action_space": Discrete(actions)}
    return MultiAgentRLModule({"a": ActorCritic(**spaces, model_config={"hidden_sizes": (4,), **model_config})})


def test_the_weights_that_acting_needs_are_copied() -> None:
    source, target = modules(3, 2), modules(3, 2)
    Mirror(source, target).update()
    acting = target.get_state(inference_only=True)["a"]
    assert "policy_head.weight" in acting
    for name, array in acting.items():
        np.testing.assert_array_equal(array, source.get_state()["a"][name])


def test_tensors_of_another_shape_are_refused_by_name() -> None:
    message = r"Module 'a': 'encoder.layers.0.weight' has shape \(4, 4\) where it acts, but has shape \(4, 1\) where"
    with pytest.raises(StateError, match=message):
        Mirror(modules(1, 1), modules(4, 1))


def test_missing_tensors_are_refused_by_name() -> None:
    with pytest.raises(StateError, match=r"Module 'a': 'encoder.layers.1.weight' .* but is missing where it trains"):
        Mirror(modules(3, 2), modules(3, 2, hidden_sizes=(4, 4)))
