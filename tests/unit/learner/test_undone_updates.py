"""An update that fails leaves no trace, wherever it does and whatever runs its steps."""

import copy
from typing import Any

import numpy as np
import pytest
import torch

from support.engines import Case
from support.states import flat
from unison import SingleAgentRLModuleSpec
from unison.algorithms import PPOLearner
from unison.learner.engines import xla
from unison.learner.snapshot import Snapshot

WIDE = {"hidden_sizes": (64, 64)}


class Failing(PPOLearner):
    """Changes a module and fails, before the steps or after them."""

    moment = ""

    def after_gradient_based_update(self, *, timesteps: Any) -> None:
        super().after_gradient_based_update(timesteps=timesteps)
        self.spoil("after")

    def spoil(self, moment: str) -> None:
        if self.moment == moment:
            with torch.no_grad():
                for parameter in self.module.parameters():
                    parameter.add_(1.0)
            raise RuntimeError("from user code")


class FailingBefore(Failing):
    def before_gradient_based_update(self, *, timesteps: Any) -> None:
        self._set_optimizer_lr(self.get_optimizer("a"), 0.5)
        self.spoil("before")


class FailingWhileCompleting(Failing):
    def complete_columns(self, columns: Any) -> Any:
        self.spoil("while completing")
        return super().complete_columns(columns)


def assert_same_state(first: Any, second: Any) -> None:
    for name, value in flat(first).items():
        np.testing.assert_array_equal(value, flat(second)[name], err_msg=name)
    assert first["learner"]["counters"] == second["learner"]["counters"]
    np.testing.assert_array_equal(first["learner"]["generator"], second["learner"]["generator"])


def trained(cls: type[PPOLearner], engine: str, modules: tuple[str, ...]) -> tuple[Case, Any, Any]:
    """A Learner after two updates, and its state."""
    if engine == "xla":
        pytest.importorskip("jax")
    case = Case(modules=modules, model=WIDE, passes=2, cls=cls)
    learner = case.learner(engine)
    for seed in range(2):
        results = case.update(learner, seed)
    assert results["__all_modules__"]["engine"] == engine, results
    return case, learner, copy.deepcopy(learner.get_state())


@pytest.mark.parametrize("modules", [("a",), ("a", "b", "c")], ids=len)
@pytest.mark.parametrize("engine", ["eager", "interpreted", "xla"])
@pytest.mark.parametrize(
    ("cls", "moment"),
    [
        (Failing, "after"),
        (FailingBefore, "before"),
        (FailingBefore, "after"),
        (FailingWhileCompleting, "while completing"),
    ],
)
def test_hooks_that_fail_leave_no_trace(cls: type[Failing], moment: str, engine: str, modules: tuple[str, ...]) -> None:
    case, learner, before = trained(cls, engine, modules)
    wanted = case.update(learner, 2)["a"]["total_loss"]
    learner.set_state(before)
    learner.moment = moment
    for _ in range(2):  # the second finds the memory of the first
        with pytest.raises(RuntimeError, match="from user code"):
            case.update(learner, 2)
        assert_same_state(before, learner.get_state())
    learner.moment = ""
    assert case.update(learner, 2)["a"]["total_loss"] == wanted


@pytest.mark.parametrize("modules", [("a",), ("a", "b", "c")], ids=len)
def test_an_interrupt_between_the_new_state_and_the_results_leaves_no_trace(
    modules: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    case, learner, before = trained(PPOLearner, "xla", modules)
    changed: list[bool] = []

    def interrupted(*_: Any) -> Any:
        changed.append(any(not np.array_equal(v, flat(before)[n]) for n, v in flat(learner.get_state()).items()))
        raise KeyboardInterrupt

    monkeypatch.setattr(xla, "Outputs", interrupted)
    with pytest.raises(KeyboardInterrupt):
        case.update(learner, 2)
    assert changed == [True]
    assert_same_state(before, learner.get_state())


@pytest.mark.parametrize("modules", [("a",), ("a", "b", "c")], ids=len)
@pytest.mark.parametrize("engine", ["eager", "xla"])
def test_one_of_several_learners_goes_back_an_update(
    engine: str, modules: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PPOLearner, "distributed", True)
    case, learner, before = trained(PPOLearner, engine, modules)
    for seed in (2, 3):
        before = copy.deepcopy(learner.get_state())
        case.update(learner, seed)
    learner.undo_update(3)
    assert_same_state(before, learner.get_state())


@pytest.mark.parametrize("change", ["set_state", "add_module", "remove_module"])
def test_what_has_changed_from_outside_since_an_update_is_not_undone(
    change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PPOLearner, "distributed", True)
    _, learner, state = trained(PPOLearner, "eager", ("a", "b"))
    module = learner.module["a"]
    spec = SingleAgentRLModuleSpec(type(module), module.observation_space, module.action_space, module.model_config)
    if change == "set_state":
        learner.set_state(state)
    elif change == "add_module":
        learner.add_module(module_id="c", module_spec=spec)
    else:
        learner.remove_module("b")
    before = copy.deepcopy(learner.get_state())
    learner.undo_update(0)
    assert_same_state(before, learner.get_state())


def test_a_failed_update_puts_the_place_in_the_schedules_back() -> None:
    case, learner, before = trained(Failing, "eager", ("a",))
    learner.moment = "after"
    with pytest.raises(RuntimeError, match="from user code"):
        case.update(learner, 2)
    assert learner.get_state()["learner"]["schedule_step"] == before["learner"]["schedule_step"]


class Replacing(Failing):
    """Puts other tensors in the place of those that it finds, then fails after the steps."""

    def before_gradient_based_update(self, *, timesteps: Any) -> None:
        optimizer = self.get_optimizer("a")
        if self.moment == "":
            return
        for p in self.module.parameters():
            p.data = p.data.clone()
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))


class ReplacingTheRest(Failing):
    """Puts other tensors in the place of those that no optimizer moves, then fails after the steps."""

    def configure_optimizers_for_module(self, module_id: str, config: Any) -> None:
        self.module[module_id].register_buffer("mean", torch.zeros(2))
        self.module[module_id].register_buffer("spread", torch.ones(2))
        params = self.get_parameters(self.module[module_id])[2:]
        self.register_optimizer(module_id=module_id, optimizer=torch.optim.Adam(params, lr=1e-3), params=params)

    def after_gradient_based_update(self, *, timesteps: Any) -> None:
        if self.moment:
            for module_id in self.module:
                module: Any = self.module[module_id]
                parameter = self.get_parameters(module)[0]
                parameter.data = parameter.data + 1
                module.mean = module.mean + 1
                module.spread.data = module.spread + 1
        super().after_gradient_based_update(timesteps=timesteps)


class InStepAgain(Failing):
    """Puts all parameters at the same step, then fails after the steps."""

    def before_gradient_based_update(self, *, timesteps: Any) -> None:
        if self.moment:
            for entry in self.get_optimizer("a").state.values():
                entry["step"].fill_(5.0)
            self.set_state(self.get_state("optimizer"))


@pytest.mark.parametrize("engine", ["eager", "interpreted", "xla"])
@pytest.mark.parametrize("cls", [Replacing, ReplacingTheRest, InStepAgain])
def test_a_hook_that_replaces_what_it_finds_leaves_no_trace(cls: type[Failing], engine: str) -> None:
    case, learner, _ = trained(cls, engine, ("a",))
    next(iter(learner.get_optimizer("a").state.values()))["step"].fill_(1.0)
    learner.set_state(learner.get_state())
    before = copy.deepcopy(learner.get_state())
    learner.moment = "after"
    with pytest.raises(RuntimeError, match="from user code"):
        case.update(learner, 2)
    assert_same_state(before, learner.get_state())
    learner.moment = ""
    twin = case.learner(engine)
    twin.set_state(before)
    for each in (learner, twin):
        case.update(each, 2)
    assert_same_state(twin.get_state(), learner.get_state())


def test_a_trace_that_fails_for_good_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(modules=("a",), passes=2)
    learner = case.learner("interpreted")
    before = copy.deepcopy(learner.get_state())

    def dies(*_: Any, **__: Any) -> Any:
        with torch.no_grad():
            next(learner.module.parameters()).add_(1.0)
        raise KeyboardInterrupt

    monkeypatch.setattr("unison.learner.engines.compiled.trace_step", dies)
    with pytest.raises(KeyboardInterrupt):
        case.update(learner, 0)
    assert_same_state(before, learner.get_state())


def test_a_snapshot_takes_copies_that_exist() -> None:
    learner = Case(model=WIDE).learner("eager")
    snapshot = Snapshot(learner, ["default_policy"])
    group = next(iter(learner.optimizers.slots.values())).groups[0]
    kept, wrong = group.parameters.clone(), torch.zeros(3)
    snapshot.take({group.parameters.data_ptr(): kept, group.count.data_ptr(): wrong})
    snapshot.take({group.parameters.data_ptr(): wrong})  # has all it needs
    before, count = group.parameters.clone(), group.count.clone()
    assert all(copied is not kept for copied in snapshot.memory)
    group.parameters.zero_()
    group.count.fill_(7.0)
    snapshot.restore()
    assert torch.equal(group.parameters, before)
    assert torch.equal(group.count, count)
