"""A traced step goes on being right while the Learner changes around it."""

import gc
from typing import Any

import numpy as np
import pytest
import torch

from support.engines import CHOICE, VECTOR, Case, assert_agree, count_traces, with_encoders
from support.sac import SACCase, sac_batch
from unison import SingleAgentRLModuleSpec
from unison.algorithms import PPOLearner, SACLearner
from unison.types import ALL_MODULES

SPEC = SingleAgentRLModuleSpec(observation_space=VECTOR, action_space=CHOICE, model_config={"hidden_sizes": (16,)})


def both(case: Case) -> tuple[Any, Any]:
    return case.learner("eager"), case.learner("interpreted")


def update_both(case: Case, learners: tuple[Any, Any], seed: int) -> None:
    for learner in learners:
        results = case.update(learner, seed)
    assert results[ALL_MODULES]["engine"] == "interpreted", results[ALL_MODULES]
    assert_agree(*learners)


def test_weights_set_from_outside_are_used() -> None:
    case = Case(passes=2)
    learners = both(case)
    update_both(case, learners, 0)
    for learner in learners:
        state = learner.get_module_state()
        learner.set_module_state({m: {n: v * 0.5 for n, v in named.items()} for m, named in state.items()})
    update_both(case, learners, 1)


def test_a_loaded_state_is_used() -> None:
    case = Case(passes=2)
    learners = both(case)
    update_both(case, learners, 0)
    states = [learner.get_state() for learner in learners]
    update_both(case, learners, 1)
    for learner, state in zip(learners, states, strict=True):
        learner.set_state(state)
    update_both(case, learners, 2)


def test_parameters_that_move_in_memory_are_found() -> None:
    case = Case(passes=2)
    learners = both(case)
    update_both(case, learners, 0)
    for learner in learners:
        for parameter in learner.module["default_policy"].parameters():
            parameter.data = parameter.data.clone()
    update_both(case, learners, 1)


def test_learning_rate_and_options_are_followed() -> None:
    case = Case(passes=2)
    learners = both(case)
    update_both(case, learners, 0)
    for learner in learners:
        optimizer = learner.get_optimizer()
        learner._set_optimizer_lr(optimizer, 0.01)
        optimizer.param_groups[0]["betas"] = (0.5, 0.9)
    update_both(case, learners, 1)


def test_parameters_that_fall_out_of_step_are_followed() -> None:
    """Adam corrects the bias of each by its own count of steps."""
    case = Case(passes=2)
    learners = both(case)
    update_both(case, learners, 0)
    for learner in learners:
        optimizer = learner.get_optimizer()
        next(iter(optimizer.state.values()))["step"].fill_(1.0)
        learner.set_state(learner.get_state())
    update_both(case, learners, 1)


def test_a_hook_in_the_place_of_another_is_seen() -> None:
    case = Case(passes=2)
    learners = both(case)
    layers = [next(m for m in each.module.modules() if isinstance(m, torch.nn.Linear)) for each in learners]
    hooks = [layer.register_forward_hook(twice) for layer in layers]
    update_both(case, learners, 0)
    for layer, hook in zip(layers, hooks, strict=True):
        layer._forward_hooks[hook.id] = thrice
    update_both(case, learners, 1)


class Keeping(PPOLearner):
    """Its loss keeps a shorter way to what hangs elsewhere, when it first runs."""

    kept: Any = None
    what = staticmethod(lambda learner: learner.optimizers.get("default_policy", "default_optimizer"))

    def compute_loss_for_module(self, *, module_id: str, config: Any, batch: Any, fwd_out: Any) -> Any:
        if self.kept is None:
            self.kept = self.what(self)
        return super().compute_loss_for_module(module_id=module_id, config=config, batch=batch, fwd_out=fwd_out)


class KeepingAGroup(Keeping):
    what = staticmethod(lambda learner: learner.get_optimizer().param_groups[0])


class KeepingModules(Keeping):
    what = staticmethod(lambda learner: [learner.module["default_policy"].encoder])


@pytest.mark.parametrize("cls", [Keeping, KeepingAGroup, KeepingModules])
def test_a_hook_may_keep_another_way_to_what_is_there(cls: Any) -> None:
    case = Case(cls=cls, passes=2)
    learners = both(case)
    for seed in range(3):
        update_both(case, learners, seed)
        assert all(learner.kept is not None for learner in learners)


def test_options_that_change_in_place_are_followed() -> None:
    case = Case(passes=2)
    learners = both(case)
    for learner in learners:
        learner.get_optimizer().param_groups[0]["betas"] = [0.9, 0.999]
    update_both(case, learners, 0)
    for learner in learners:
        learner.get_optimizer().param_groups[0]["betas"][0] = 0.5
    update_both(case, learners, 1)


def twice(module: Any, inputs: Any, output: Any) -> Any:
    return output * 2


def thrice(module: Any, inputs: Any, output: Any) -> Any:
    return output * 3


def replace_a_bias(layer: Any) -> None:
    layer.bias = torch.nn.Parameter(layer.bias.detach() + 1)


def hang_on_a_hook(layer: Any) -> None:
    layer.register_forward_hook(twice)


def put_other_hooks(layer: Any) -> None:
    layer._forward_hooks = type(layer._forward_hooks)({0: twice})


@pytest.mark.parametrize("change", [replace_a_bias, hang_on_a_hook, put_other_hooks])
def test_what_a_module_consists_of_is_followed(change: Any) -> None:
    case = Case(passes=2)
    learners = both(case)
    update_both(case, learners, 0)
    for learner in learners:
        layers = learner.module["default_policy"].modules()
        change(next(layer for layer in layers if isinstance(layer, torch.nn.Linear)))
    update_both(case, learners, 1)


def test_modules_come_and_go() -> None:
    case = Case(modules=("a", "b"), passes=2)
    learners = both(case)
    update_both(case, learners, 0)
    case.modules = ("a", "b", "c")
    for learner in learners:
        torch.manual_seed(0)
        learner.add_module(module_id="c", module_spec=SPEC, config_overrides={"clip_param": 0.4})
    update_both(case, learners, 1)
    case.modules = ("b", "c")
    for learner in learners:
        learner.remove_module("a")
    update_both(case, learners, 2)
    for learner in learners:
        torch.manual_seed(1)
        learner.remove_module("c")
        learner.add_module(module_id="c", module_spec=SPEC, config_overrides={"clip_param": 0.05})
    update_both(case, learners, 3)


def test_modules_that_are_gone_leave_nothing_in_the_engine() -> None:
    case = Case(modules=("a",), passes=2)
    learners = both(case)

    def live(number: int) -> None:
        guest = "again" if number % 4 else f"guest_{number}"
        case.modules = ("a", guest)
        for learner in learners:
            torch.manual_seed(number)
            learner.add_module(module_id=guest, module_spec=SPEC)
        update_both(case, learners, number)  # Stepped by the engine, however often it came before.
        case.modules = ("a",)
        for learner in learners:
            learner.remove_module(guest)

    def kept() -> Any:
        gc.collect()
        engine = learners[1].engine
        tensors = sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects())
        return len(engine._entries), len(engine._chains), len(engine._sightings), tensors

    for number in range(4):
        live(number)
    update_both(case, learners, 100)
    before = kept()
    for number in range(4, 11):  # The one that comes again does so more often than one may be traced anew.
        live(number)
    update_both(case, learners, 101)
    assert kept()[:3] == before[:3]
    assert kept()[3] <= before[3] + 5


def test_a_program_serves_whatever_was_updated_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of several Learners keeps what its last update found, which is no place where the next finds the same."""
    monkeypatch.setattr(SACLearner, "distributed", True)
    traces = count_traces(monkeypatch)
    learner = SACCase(modules=("a", "b")).learner("interpreted")
    for modules, size in (("ab", 8), ("ab", 4), ("ab", 4), ("a", 4), ("ab", 4), ("b", 4), ("ab", 4)):
        learner.update_from_batch({m: sac_batch(8, ord(m)) for m in modules}, minibatch_size=size)
    assert len(traces) == 4  # Each module at each size.


def test_batches_of_ever_other_sizes_are_not_all_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unison.learner.engines.compiled._MAX_CHAINS", 4)
    case = Case(passes=1)
    learner = case.learner("interpreted")
    batch = case.batch(learner, 0)["default_policy"]
    for rows in range(8, 20):
        columns = {name: column[:rows] for name, column in batch.items()}
        learner.update_from_batch({"default_policy": columns}, minibatch_size=8)
    assert len(learner.engine._chains) == 4


def test_a_failed_update_changes_nothing() -> None:
    case = Case(passes=1, nan_policy="raise")
    learners = both(case)
    update_both(case, learners, 0)
    before = learners[1].get_state()
    batch = case.batch(learners[1], 1)
    batch["default_policy"]["advantages"][3] = np.nan
    with pytest.raises(ArithmeticError, match="default_policy"):
        learners[1].update_from_batch(batch, minibatch_size=8)
    after = learners[1].get_state()
    for name, value in before["rl_module"]["default_policy"].items():
        np.testing.assert_array_equal(after["rl_module"]["default_policy"][name], value)
    learners[0].generator.set_state(learners[1].generator.get_state())
    update_both(case, learners, 2)


@pytest.mark.parametrize("policy", ["skip", "zero"])
def test_non_finite_gradients_are_treated_alike(policy: str) -> None:
    case = Case(passes=2, nan_policy=policy)
    learners = both(case)
    batch = case.batch(learners[0], 0)
    batch["default_policy"]["value_targets"][5] = np.inf
    found = [learner.update_from_batch(batch, minibatch_size=8, num_iters=2) for learner in learners]
    counted = [f["default_policy"]["num_non_finite_steps"] for f in found]
    assert counted == [2.0, 2.0]
    assert found[0]["default_policy"]["non_finite_parameters"] == found[1]["default_policy"]["non_finite_parameters"]
    assert_agree(*learners)


def test_a_module_with_fewer_rows_or_none() -> None:
    case = Case(modules=("a", "b"), passes=2)
    learners = both(case)
    for seed, rows in enumerate([(32, 8), (32, None), (8, 32), (30, 32), (30, 32)]):
        for learner in learners:
            batch = {
                m: {name: column[:n] for name, column in case.batch(learner, seed)[m].items()}
                for m, n in zip(case.modules, rows, strict=True)
                if n is not None
            }
            learner.update_from_batch(batch, minibatch_size=8, num_iters=2)
        assert_agree(*learners)


class Scaled(PPOLearner):
    """Its loss reads numbers that classes hold."""

    scale = 1.0

    def compute_loss_for_module(self, *, module_id: str, config: Any, batch: Any, fwd_out: Any) -> Any:
        loss = super().compute_loss_for_module(module_id=module_id, config=config, batch=batch, fwd_out=fwd_out)
        return loss * self.scale * self.module[module_id].encoder.scale


class ScaledEncoder(torch.nn.Module):
    scale = 1.0

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.inner, self.output_size = encoder, encoder.output_size

    def forward(self, observations: Any) -> Any:
        return self.inner(observations)


class WithScaledEncoders(Scaled):
    def _make_module(self) -> Any:
        return with_encoders(super()._make_module(), ScaledEncoder)


@pytest.mark.parametrize("where", ["the learner", "its class", "a module", "the class of a module"])
def test_numbers_that_classes_hold_are_followed(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(cls=WithScaledEncoders, optimizer="sgd", lr=1e-2, grad_clip=None, passes=2)
    learners = both(case)
    for seed in range(4):
        if seed == 2:
            for learner in learners:
                encoder: Any = learner.module["default_policy"].encoder
                place = {"the learner": learner, "its class": Scaled, "a module": encoder}.get(where, ScaledEncoder)
                monkeypatch.setattr(place, "scale", 0.25)
        update_both(case, learners, seed)
