import copy
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from unison.errors import StateError
from unison.modules import ActorCritic, RLModule
from unison.types import Tree


def make(**settings: Any) -> ActorCritic:
    return ActorCritic(
        observation_space=spaces.Box(-1, 1, (4,)), action_space=spaces.Box(-1, 1, (2,)), model_config=settings
    )


class Tied(RLModule):
    """The same layer under two names."""

    def setup(self) -> None:
        self.first = nn.Linear(3, 3)
        self.second = self.first
        self.head = nn.Linear(3, 2)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("scratch", torch.zeros(5), persistent=False)

    def forward_inference(self, batch: Mapping[str, Tree]) -> dict[str, Tree]:
        return {"action_dist_inputs": self.head(self.second(self.first(batch["obs"])))}


def snapshot(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def assert_unchanged(module: nn.Module, before: dict[str, torch.Tensor]) -> None:
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_a_state_round_trips_into_the_same_tensors() -> None:
    source, target = make(), make()
    identities = [id(p) for p in target.parameters()]
    addresses = [p.data_ptr() for p in target.parameters()]
    state = source.get_state()
    assert set(state) == set(source.state_dict())
    assert all(type(value) is np.ndarray for value in state.values())
    target.set_state(state)
    assert_unchanged(target, snapshot(source))
    assert [id(p) for p in target.parameters()] == identities
    assert [p.data_ptr() for p in target.parameters()] == addresses
    assert all(p.requires_grad for p in target.parameters())


def test_a_state_is_a_copy_and_takes_tensors_back_too() -> None:
    source, target = make(), make()
    state = source.get_state()
    before = {name: value.copy() for name, value in state.items()}
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.add_(1.0)
    assert all(np.array_equal(state[name], before[name]) for name in state)
    target.set_state(source.state_dict())
    assert_unchanged(target, snapshot(source))


def test_an_inference_state_leaves_out_the_value_function_and_keeps_it() -> None:
    source, target = make(), make()
    state = source.get_state(inference_only=True)
    assert set(source.get_state()) - set(state) == {
        name for name in source.state_dict() if name.startswith(("value_head.", "value_encoder."))
    }
    values_before = snapshot(target.value_head)
    target.set_state(state)
    assert_unchanged(target.value_head, values_before)
    batch = {"obs": torch.randn(3, 4)}
    torch.testing.assert_close(target.forward_inference(batch), source.forward_inference(batch))


def test_a_whole_state_can_be_taken_over_for_acting_alone() -> None:
    source, target = make(), make()
    before = snapshot(target)
    target.set_state(source.get_state(), inference_only=True)
    acting = source.get_state(inference_only=True)
    for name, value in snapshot(target).items():
        assert torch.equal(value, torch.from_numpy(acting[name]) if name in acting else before[name])
    with pytest.raises(StateError, match="has unexpected 'valu_head'"):
        target.set_state({**acting, "valu_head": np.zeros(1)}, inference_only=True)


def test_half_a_value_function_is_no_inference_state() -> None:
    module = make()
    state = module.get_state()
    del state["value_head.bias"]
    before = snapshot(module)
    with pytest.raises(StateError, match=r"lacks 'value_head\.bias'"):
        module.set_state(state)
    assert_unchanged(module, before)


def test_missing_and_unexpected_names_are_named() -> None:
    module = make()
    before = snapshot(module)
    state = {name: value + 1 for name, value in module.get_state().items()}
    state["extra"] = state.pop("policy_head.weight")
    with pytest.raises(StateError, match=r"ActorCritic: the state lacks 'policy_head\.weight' and has.*'extra'"):
        module.set_state(state)
    assert_unchanged(module, before)
    with pytest.raises(StateError, match="and 8 more"):
        module.set_state({})


def test_a_wrong_shape_is_named_with_both_shapes_and_changes_nothing() -> None:
    module, wider = make(), make(hidden_sizes=(64, 32))
    before = snapshot(module)
    state = {name: value + 1 for name, value in wider.get_state().items()}
    with pytest.raises(StateError, match=r"'encoder\.layers\.1\.weight' has shape \(64, 64\).*holds \(32, 64\)"):
        module.set_state(state)
    assert_unchanged(module, before)


def test_values_of_another_kind_are_refused() -> None:
    module = Tied()
    before = snapshot(module)
    for name, value in (("steps", np.array(1.5)), ("head.bias", np.array([1, 2])), ("head.bias", [0.0, 0.0])):
        with pytest.raises(StateError, match=f"'{name}'"):
            module.set_state({**module.get_state(), name: value})
    assert_unchanged(module, before)


def test_a_tied_layer_is_listed_once_and_restored_under_any_name() -> None:
    source = Tied()
    state = source.get_state()
    assert set(state) == {"first.weight", "first.bias", "head.weight", "head.bias", "steps"}
    renamed = {name.replace("first", "second"): value for name, value in state.items()}
    for given in (state, renamed, {**state, **renamed}):
        target = Tied()
        target.set_state(given)
        assert_unchanged(target, snapshot(source))
        assert target.second is target.first


def test_two_values_for_a_tied_layer_are_refused() -> None:
    module = Tied()
    before = snapshot(module)
    state = module.get_state()
    with pytest.raises(StateError, match=r"'first\.bias' and 'second\.bias' are one shared tensor"):
        module.set_state({**state, "second.bias": state["first.bias"] + 1})
    assert_unchanged(module, before)
    with_nan = {**state, "first.bias": np.full(3, np.nan, np.float32), "second.bias": np.full(3, np.nan, np.float32)}
    module.set_state(with_nan)


def test_state_that_is_no_tensor_is_refused() -> None:
    class WithExtra(Tied):
        def get_extra_state(self) -> Any:
            return {"counter": 3}

        def set_extra_state(self, state: Any) -> None:
            pass

    with pytest.raises(StateError, match="WithExtra holds extra state"):
        WithExtra().get_state()


def test_bfloat16_parameters_round_trip_as_float32() -> None:
    source, target = make().bfloat16(), make().bfloat16()
    state = source.get_state()
    assert state["policy_head.weight"].dtype == np.float32
    target.set_state(state)
    assert_unchanged(target, snapshot(source))


def test_modules_are_copied_and_pickled() -> None:
    source = make(lstm_size=4, normalize_observations=True)
    batch = {
        "obs": torch.randn(2, 3, 4),
        "state_in": {k: {n: torch.zeros(2, 4) for n in "hc"} for k in ("policy", "value")},
    }
    for copied in (copy.deepcopy(source), pickle.loads(pickle.dumps(source))):
        torch.testing.assert_close(copied.forward_train(batch), source.forward_train(batch))
        assert copied.action_distribution.input_size == 4
