import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unison.modules import ActorCritic


def assert_singular_values(weight: Tensor, gain: float) -> None:
    values = torch.linalg.svdvals(weight.detach().flatten(1).double())
    torch.testing.assert_close(values, torch.full_like(values, gain), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(17,), (12, 12, 3)])
def test_weights_are_orthogonal_with_the_gain_of_their_place_and_biases_zero(shape: tuple[int, ...]) -> None:
    space = gym.spaces.Box(0, 1, shape, np.float32)
    module = ActorCritic(observation_space=space, action_space=gym.spaces.Box(-1, 1, (3,)))
    gains = {"policy_head": 0.01, "value_head": 1.0}
    checked = 0
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            assert_singular_values(layer.weight, gains.get(name, math.sqrt(2)))
            assert not layer.bias.any()
            checked += 1
    assert checked == (6 if len(shape) == 1 else 10)


@pytest.mark.parametrize(("cell", "gates"), [("lstm", 4), ("gru", 3)])
def test_each_gate_of_a_recurrent_layer_is_orthogonal(cell: str, gates: int) -> None:
    module = ActorCritic(
        observation_space=gym.spaces.Box(-1, 1, (4,)),
        action_space=gym.spaces.Discrete(2),
        model_config={"lstm_size": 16, "cell": cell, "hidden_sizes": (24,)},
    )
    assert module.memory is not None
    layer = module.memory.layer
    for weight in (layer.weight_ih_l0, layer.weight_hh_l0):
        for gate in weight.view(gates, 16, -1):
            assert_singular_values(gate, 1.0)
    assert not layer.bias_ih_l0.any()
    assert not layer.bias_hh_l0.any()


def test_the_first_policy_is_close_to_uniform() -> None:
    module = ActorCritic(observation_space=gym.spaces.Box(-1, 1, (8,)), action_space=gym.spaces.Discrete(5))
    probabilities = module.forward_inference({"obs": torch.rand(100, 8)})["action_dist_inputs"].softmax(-1)
    assert (probabilities - 0.2).abs().max() < 0.01
