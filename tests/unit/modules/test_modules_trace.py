"""What compilers ask of modules: `functional_call` and tracing without data."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx

from unison.modules import ActorCritic, MultiAgentRLModule
from unison.types import Tree, tree_leaves, tree_map

IMAGE = spaces.Box(0, 255, (12, 12, 3), np.uint8)
VECTOR = spaces.Box(-1, 1, (4,))
NESTED = spaces.Dict({"d": spaces.Discrete(70), "t": spaces.Tuple((spaces.MultiDiscrete([3, 2]), IMAGE, VECTOR))})
MASKED = spaces.Dict({"action_mask": spaces.MultiBinary(2), "x": VECTOR})
CASES: list[tuple[gym.Space[Any], dict[str, Any]]] = [
    (VECTOR, {}),
    (VECTOR, {"normalize_observations": True}),
    (IMAGE, {"share_value_layers": True}),
    (NESTED, {}),
    (MASKED, {}),
    (VECTOR, {"lstm_size": 5}),
    (VECTOR, {"lstm_size": 5, "cell": "gru", "share_value_layers": True}),
    (IMAGE, {"lstm_size": 5}),
]


def make(space: gym.Space[Any], settings: dict[str, Any], observe: Callable[..., Tree]) -> Any:
    module = ActorCritic(observation_space=space, action_space=spaces.Discrete(2), model_config=settings)
    if not module.is_stateful():
        return module, {"obs": observe(space, 3)}
    state = tree_map(lambda leaf: torch.randn(3, *leaf.shape), module.get_initial_state())
    return module, {"obs": observe(space, 3, 2), "state_in": state}


@pytest.mark.parametrize(("space", "settings"), CASES)
def test_functional_call_uses_the_parameters_that_it_is_given(
    space: gym.Space[Any], settings: dict[str, Any], observe: Callable[..., Tree]
) -> None:
    module, batch = make(space, settings, observe)
    other, _ = make(space, settings, observe)
    outputs = functional_call(module, {**dict(other.named_parameters()), **dict(other.named_buffers())}, (batch,))
    for ours, theirs in zip(tree_leaves(outputs), tree_leaves(other(batch)), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("space", "settings", "tracing_mode"),
    [*((*case, "fake") for case in CASES), (VECTOR, {}, "symbolic"), (MASKED, {}, "symbolic")],
)
def test_forward_and_backward_trace_without_data(
    space: gym.Space[Any], settings: dict[str, Any], tracing_mode: str, observe: Callable[..., Tree]
) -> None:
    module, batch = make(space, settings, observe)
    parameters = dict(module.named_parameters())
    buffers = dict(module.named_buffers())

    def step(parameters: dict[str, Any], buffers: dict[str, Any], batch: Tree) -> Any:
        outputs = functional_call(module, {**parameters, **buffers}, (batch,))
        loss = outputs["vf_preds"].square().mean() + outputs["action_dist_inputs"].square().mean()
        return outputs, torch.autograd.grad(loss, list(parameters.values()))

    traced = make_fx(step, tracing_mode=tracing_mode)(parameters, buffers, batch)
    fresh = tree_map(lambda leaf: leaf.flip(0), batch)
    for ours, expected in zip(
        _leaves(traced(parameters, buffers, fresh)), _leaves(step(parameters, buffers, fresh)), strict=True
    ):
        torch.testing.assert_close(ours, expected)


def _leaves(result: Any) -> list[torch.Tensor]:
    return [leaf for part in result for leaf in tree_leaves(part)]


def test_several_modules_trace_as_one(observe: Callable[..., Tree]) -> None:
    actors = {i: ActorCritic(observation_space=VECTOR, action_space=spaces.Discrete(2)) for i in ("a.b", "c/d")}
    module = MultiAgentRLModule(actors)
    batch = {"a.b": {"obs": observe(VECTOR, 3)}, "c/d": {"obs": observe(VECTOR, 5)}}

    def forward(parameters: dict[str, Any], batch: Tree) -> Any:
        return functional_call(module, parameters, (batch,))

    traced = make_fx(forward, tracing_mode="fake")(dict(module.named_parameters()), batch)
    torch.testing.assert_close(traced(dict(module.named_parameters()), batch), module(batch))
