import copy
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from unison.errors import ModuleError, StateError
from unison.modules import ActorCritic, MultiAgentRLModule, RandomModule, RLModule
from unison.modules.module_state import ModuleState
from unison.types import ALL_MODULES, Tree

ODD_IDS = ["a.b", "a_b", "a/b", "", "keys", "training", "members", "ü %", "a%2Eb", "id:x", "0"]


def actor(inputs: int = 4) -> ActorCritic:
    return ActorCritic(
        observation_space=spaces.Box(-1, 1, (inputs,)),
        action_space=spaces.Discrete(2),
        model_config={"hidden_sizes": (6,)},
    )


def batch_for(*module_ids: str) -> dict[str, dict[str, Tensor]]:
    return {module_id: {"obs": torch.randn(3 + i, 4)} for i, module_id in enumerate(module_ids)}


class SharedEncoder(MultiAgentRLModule):
    def setup(self) -> None:
        self["b"].encoder = self["a"].encoder


class CentralCritic(MultiAgentRLModule):
    def setup(self) -> None:
        self.critic = nn.Linear(4 * len(self), 1)

    def forward_train(self, batch: Mapping[str, Mapping[str, Tree]]) -> dict[str, dict[str, Tree]]:
        outputs = super().forward_train(batch)
        values = self.critic(torch.cat([columns["obs"] for columns in batch.values()], -1)).squeeze(-1)
        return {module_id: {**columns, "vf_preds": values} for module_id, columns in outputs.items()}

    def compute_values(self, batch: Mapping[str, Mapping[str, Tree]]) -> dict[str, Tensor]:
        return {module_id: columns["vf_preds"] for module_id, columns in self.forward_train(batch).items()}


def numbers(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def assert_same(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_it_is_a_mapping_of_ids_to_modules() -> None:
    modules = {"a": actor(), "b": RandomModule(action_space=spaces.Discrete(2))}
    marl = MultiAgentRLModule(modules)
    assert list(marl) == list(marl.keys()) == ["a", "b"]
    assert dict(marl.items()) == modules
    assert list(marl.values()) == list(modules.values())
    assert len(marl) == 2
    assert "a" in marl
    assert "c" not in marl
    assert marl["b"] is marl.get("b") is modules["b"]
    assert marl.get("c") is None
    assert marl.get("c", modules["a"]) is modules["a"]
    with pytest.raises(ModuleError, match=r"no module 'c'. Known: \['a', 'b'\]"):
        marl["c"]


def test_a_batch_goes_through_the_modules_that_it_names() -> None:
    marl = MultiAgentRLModule({module_id: actor() for module_id in "abc"})
    batch = batch_for("c", "a")
    for name in ("forward_inference", "forward_exploration", "forward_train", "forward", "compute_values"):
        outputs = getattr(marl, name)(batch)
        assert list(outputs) == ["c", "a"]
        for module_id in batch:
            torch.testing.assert_close(outputs[module_id], getattr(marl[module_id], name)(batch[module_id]))
    with pytest.raises(ModuleError, match="no module 'x'"):
        marl(batch_for("x"))


def test_ids_may_hold_any_characters() -> None:
    marl = MultiAgentRLModule({module_id: actor() for module_id in ODD_IDS})
    assert len(list(marl.parameters())) == 8 * len(ODD_IDS)
    outputs = torch.func.functional_call(marl, dict(marl.named_parameters()), (batch_for(*ODD_IDS),))
    assert list(outputs) == ODD_IDS
    other = MultiAgentRLModule({module_id: actor() for module_id in ODD_IDS})
    other.set_state(marl.get_state())
    assert_same(numbers(other), numbers(marl))


def test_modules_come_and_go_without_residue() -> None:
    marl = MultiAgentRLModule({"a": actor()})
    before = numbers(marl)
    added = actor()
    marl.add_module("b.c", added)
    assert list(marl) == ["a", "b.c"]
    with pytest.raises(ModuleError, match=r"a module 'b\.c' already"):
        marl.add_module("b.c", actor())
    replacement = actor()
    marl.add_module("b.c", replacement, override=True)
    assert marl["b.c"] is replacement
    assert marl.remove_module("b.c") is replacement
    assert_same(numbers(marl), before)
    assert list(marl) == ["a"]
    with pytest.raises(ModuleError, match=r"no module 'b\.c'"):
        marl.remove_module("b.c")


def test_only_rl_modules_and_free_ids_are_taken() -> None:
    marl = MultiAgentRLModule()
    with pytest.raises(ModuleError, match="must be an RLModule, not Linear"):
        marl.add_module("a", nn.Linear(1, 1))
    with pytest.raises(ModuleError, match="stands for all modules"):
        marl.add_module(ALL_MODULES, actor())


def test_states_round_trip_in_whole_and_in_part() -> None:
    marl, other = (
        MultiAgentRLModule({"a": actor(), "b": actor(5), "r": RandomModule(action_space=spaces.Discrete(2))})
        for _ in range(2)
    )
    state = marl.get_state()
    assert list(state) == ["a", "b", "r"]
    assert state["r"] == {}
    kept = numbers(other["a"])
    other.set_state(marl.get_state(module_ids=["b"]))
    assert_same(numbers(other["b"]), numbers(marl["b"]))
    assert_same(numbers(other["a"]), kept)
    other.set_state(state)
    assert_same(numbers(other), numbers(marl))
    acting = marl.get_state(inference_only=True)
    assert not any(name.startswith("value") for names in acting.values() for name in names)
    other.set_state(acting)


def test_setting_what_acting_needs_keeps_the_rest() -> None:
    marl, other = (CentralCritic({"a": actor(), "b": actor()}) for _ in range(2))
    before = numbers(other)
    other.set_state(marl.get_state(), inference_only=True)
    kept = {name for name, value in numbers(other).items() if torch.equal(value, before[name])}
    assert kept == {name for name in before if "value" in name or name.startswith("critic") or name.endswith("bias")}
    acting = other.get_state(inference_only=True)
    assert all(np.array_equal(marl[m].get_state()[name], acting[m][name]) for m in acting for name in acting[m])
    with pytest.raises(StateError, match="Module 'b': ActorCritic: the state has unexpected 'x'"):
        other.set_state({"b": {**marl["b"].get_state(), "x": np.zeros(1)}}, inference_only=True)


def test_a_state_that_does_not_fit_one_module_changes_none() -> None:
    marl, other = MultiAgentRLModule({"a": actor(), "b": actor()}), MultiAgentRLModule({"a": actor(), "b": actor(5)})
    before = numbers(marl)
    with pytest.raises(StateError, match=r"Module 'b': ActorCritic: 'encoder\.layers\.0\.weight' has shape \(6, 4\)"):
        marl.set_state(other.get_state())
    with pytest.raises(ModuleError, match="no module 'x'"):
        marl.set_state({"a": other["a"].get_state(), "x": {}})
    with pytest.raises(ModuleError, match="no module 'x'"):
        marl.get_state(["x"])
    with pytest.raises(ModuleError, match=r"module_ids='ab' is a string; give a list of ids: \['ab'\]"):
        marl.get_state("ab")
    with pytest.raises(StateError, match=f"Module '{ALL_MODULES}': MultiAgentRLModule: the state has unexpected 'w'"):
        marl.set_state({"a": other["a"].get_state(), ALL_MODULES: {"w": np.zeros(1)}})
    assert_same(numbers(marl), before)


class TestSharedEncoder:
    def make(self) -> SharedEncoder:
        return SharedEncoder({"a": actor(), "b": actor(), "c": actor()})

    def test_it_is_saved_once_and_restored_wholly(self) -> None:
        marl, other = self.make(), self.make()
        state = marl.get_state()
        assert "encoder.layers.0.weight" in state["a"]
        assert not any(name.startswith("encoder.") for name in state["b"])
        other.set_state(state)
        assert_same(numbers(other), numbers(marl))
        assert other["b"].encoder is other["a"].encoder

    def test_it_is_found_under_either_module(self) -> None:
        marl, other = self.make(), self.make()
        alone = marl.get_state(module_ids=["b"])
        assert "encoder.layers.0.weight" in alone["b"]
        other.set_state(alone)
        assert_same(numbers(other["b"]), numbers(marl["b"]))
        assert_same(numbers(other["a"].encoder), numbers(marl["a"].encoder))
        swapped = marl.get_state()
        swapped["b"].update(
            {
                name: swapped["a"].pop(name)
                for name in list(swapped["a"])
                if "value" not in name and name.startswith("encoder.")
            }
        )
        third = self.make()
        third.set_state(swapped)
        assert_same(numbers(third), numbers(marl))

    def test_a_part_that_lacks_it_is_refused_with_a_hint(self) -> None:
        marl = self.make()
        before = numbers(marl)
        with pytest.raises(StateError, match=r"Module 'b'.*lacks.*is shared with module 'a'.*load both"):
            marl.set_state({"b": marl.get_state()["b"]})
        assert_same(numbers(marl), before)

    def test_two_values_for_it_are_refused(self) -> None:
        marl = self.make()
        before = numbers(marl)
        states = {module_id: {k: v + 1 for k, v in marl[module_id].get_state().items()} for module_id in "ab"}
        states["b"]["encoder.layers.0.bias"] += 1
        with pytest.raises(StateError, match="one shared tensor"):
            marl.set_state(states)
        assert_same(numbers(marl), before)

    def test_its_parameters_belong_to_the_first_module(self) -> None:
        marl = self.make()
        parameters = marl.parameters_by_module()
        every = [id(p) for names in parameters.values() for p in names.values()]
        assert sorted(every) == sorted(id(p) for p in marl.parameters())
        assert "encoder.layers.0.weight" in parameters["a"]
        assert "encoder.layers.0.weight" not in parameters["b"]
        assert "encoder.layers.0.weight" in parameters["c"]
        assert marl.shared_parameters() == {
            "b": {name: ("a", name) for name in parameters["a"] if name.startswith("encoder.")}
        }

    def test_it_outlives_the_module_that_it_belonged_to(self) -> None:
        marl = self.make()
        marl.remove_module("a")
        assert "encoder.layers.0.weight" in marl.get_state()["b"]
        assert not marl.shared_parameters()

    def test_copies_still_share(self) -> None:
        for copied in (copy.deepcopy(self.make()), pickle.loads(pickle.dumps(self.make()))):
            assert copied["b"].encoder is copied["a"].encoder
            assert copied["b"] is copied.members["id:b"]


class TestCentralCritic:
    def test_it_is_run_trained_and_saved_with_the_modules(self) -> None:
        marl, other = (CentralCritic({"a": actor(), "b": actor()}) for _ in range(2))
        batch = {"a": {"obs": torch.randn(3, 4)}, "b": {"obs": torch.randn(3, 4)}}
        outputs = marl(batch)
        outputs["a"]["vf_preds"].sum().backward()
        assert marl.critic.weight.grad is not None
        torch.testing.assert_close(marl.compute_values(batch)["b"], outputs["b"]["vf_preds"])
        assert list(marl.parameters_by_module()[ALL_MODULES]) == ["critic.weight", "critic.bias"]
        state = marl.get_state()
        assert set(state[ALL_MODULES]) == {"critic.weight", "critic.bias"}
        other.set_state(state)
        assert_same(numbers(other), numbers(marl))

    def test_acting_does_not_need_it(self) -> None:
        marl = CentralCritic({"a": actor()})
        assert list(marl.get_state(inference_only=True)) == ["a"]
        assert list(marl.get_state(module_ids=["a"])) == ["a"]
        assert list(marl.get_state(module_ids=[ALL_MODULES])) == [ALL_MODULES]
        marl.set_state(marl.get_state(inference_only=True))

    def test_a_critic_made_of_a_modules_layers_belongs_to_that_module(self) -> None:
        class Borrowed(MultiAgentRLModule):
            def setup(self) -> None:
                self.critic = self["a"].value_head

        marl = Borrowed({"a": actor()})
        assert ALL_MODULES not in marl.get_state()
        assert ALL_MODULES not in marl.parameters_by_module()


def test_a_module_with_a_state_of_its_own_keeps_it() -> None:
    class Counting(RLModule):
        def setup(self) -> None:
            self.calls = 0

        def forward_inference(self, batch: Mapping[str, Tree]) -> dict[str, Tree]:
            self.calls += 1
            return {"actions": torch.zeros(len(batch["obs"]), dtype=torch.int64)}

        def get_state(self, inference_only: bool = False) -> ModuleState:
            return {"calls": np.array(self.calls)}

        def set_state(self, state: Mapping[str, Any]) -> None:
            self.calls = int(state["calls"])

    marl, other = (MultiAgentRLModule({"a": actor(), "scripted": Counting()}) for _ in range(2))
    marl.forward_inference(batch_for("scripted"))
    other.set_state(marl.get_state())
    scripted = other["scripted"]
    assert isinstance(scripted, Counting)
    assert scripted.calls == 1
    assert_same(numbers(other["a"]), numbers(marl["a"]))
