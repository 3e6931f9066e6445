"""An optimizer whose param groups changed after it was registered is refused by name, and nothing is half-applied."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from support.engines import Case, assert_agree, everything
from support.learners import assert_same, differ, weights
from unison.algorithms import PPOLearner
from unison.errors import OptimizerError

WHERE = "Optimizer 'default_optimizer' of module 'b'"


class Grouped(PPOLearner):
    """Two param groups for each module."""

    change: Callable[[Any], Any] | None = None

    def configure_optimizers_for_module(self, module_id: str, config: Any) -> None:
        params = self.get_parameters(self.module[module_id])
        groups = [{"params": params[:4], "lr": 1e-3}, {"params": params[4:], "lr": 1e-2}]
        self.register_optimizer(module_id=module_id, optimizer=torch.optim.Adam(groups), params=params)


class Changing(Grouped):
    def before_gradient_based_update(self, *, timesteps: Any) -> None:
        if self.change is not None:
            self._set_optimizer_lr(self.get_optimizer("a"), 0.5)
            self.change(self.get_optimizer("b"))


def add(optimizer: Any) -> None:
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(3))]})


def shorten(optimizer: Any) -> None:
    del optimizer.param_groups[0]["params"][2:]


def pop(optimizer: Any) -> None:
    optimizer.param_groups.pop()


def reverse(optimizer: Any) -> None:
    optimizer.param_groups.reverse()


def maximize(optimizer: Any) -> None:
    optimizer.param_groups[1]["maximize"] = True


CHANGES: list[tuple[Callable[[Any], None], str]] = [
    (add, r"registered with \[4, 4\] parameters.*now has \[4, 4, 1\].*register_optimizer"),
    (shorten, r"now has \[2, 4\].*requires_grad_"),
    (pop, r"now has \[4\]"),
    (reverse, "in another order"),
    (maximize, r"has maximize=True, which it did not have.*before register_optimizer"),
]


def trained(cls: type[Grouped], engine: str) -> tuple[Case, Any]:
    if engine == "xla":
        pytest.importorskip("jax")
    case = Case(cls=cls, modules=("a", "b"), passes=2)
    learner = case.learner(engine)
    assert case.update(learner, 0)["__all_modules__"]["engine"] == engine
    return case, learner


def rates(learner: Any) -> list[float]:
    return [group["lr"] for _, optimizer in learner.get_optimizers_for_module() for group in optimizer.param_groups]


@pytest.mark.parametrize("engine", ["eager", "interpreted", "xla"])
@pytest.mark.parametrize(("change", "message"), CHANGES)
def test_changed_param_groups_are_refused(change: Callable[[Any], None], message: str, engine: str) -> None:
    case, learner = trained(Grouped, engine)
    optimizer, before = learner.get_optimizer("b"), everything(learner)
    groups, held = list(optimizer.param_groups), [list(group["params"]) for group in optimizer.param_groups]
    learner._set_optimizer_lr(learner.get_optimizer("a"), 0.5)
    change(optimizer)
    for _ in range(2):
        with pytest.raises(OptimizerError, match=f"{WHERE} .*{message}"):
            case.update(learner, 1)
        for name, value in everything(learner).items():
            np.testing.assert_array_equal(value, before[name], err_msg=name)
    optimizer.param_groups[:] = groups
    for group, params in zip(groups, held, strict=True):
        group |= {"params": params, "maximize": False}
    twin = trained(Grouped, engine)[1]
    twin._set_optimizer_lr(twin.get_optimizer("a"), 0.5)
    for each in (learner, twin):
        case.update(each, 1)
    assert_agree(twin, learner, rtol=0, atol=0)


@pytest.mark.parametrize("engine", ["eager", "interpreted", "xla"])
@pytest.mark.parametrize(("change", "message"), CHANGES)
def test_a_hook_that_changes_them_is_undone(change: Callable[[Any], None], message: str, engine: str) -> None:
    case, learner = trained(Changing, engine)
    before, settings = everything(learner), rates(learner)
    learner.change = change
    for _ in range(2):
        with pytest.raises(OptimizerError, match=f"{WHERE} .*{message}"):
            case.update(learner, 1)
        assert rates(learner) == settings
        for name, value in everything(learner).items():
            np.testing.assert_array_equal(value, before[name], err_msg=name)
    learner.change = None
    twin = trained(Changing, engine)[1]
    for each in (learner, twin):
        case.update(each, 1)
    assert_agree(twin, learner, rtol=0, atol=0)


@pytest.mark.parametrize("change", [add, shorten, pop, reverse])
def test_states_are_neither_taken_nor_loaded(change: Callable[[Any], None]) -> None:
    learner = trained(Grouped, "eager")[1]
    state = learner.get_state()
    change(learner.get_optimizer("b"))
    for call in (learner.get_state, lambda: learner.set_state(state), learner.use_own_settings):
        with pytest.raises(OptimizerError, match=WHERE):
            call()


def test_a_module_without_rows_is_looked_at_too() -> None:
    case, learner = trained(Grouped, "eager")
    add(learner.get_optimizer("b"))
    case.modules = ("a",)
    with pytest.raises(OptimizerError, match=WHERE):
        case.update(learner, 1)


def test_equal_groups_in_the_place_of_the_old_ones_are_taken() -> None:
    case, learner = trained(Grouped, "eager")
    optimizer = learner.get_optimizer("b")
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    _, twin = trained(Grouped, "eager")
    for each in (learner, twin):
        case.update(each, 1)
    assert_same(weights(twin), weights(learner))


def test_an_optimizer_that_steps_by_itself_may_maximize() -> None:
    class Own(PPOLearner):
        def configure_optimizers_for_module(self, module_id: str, config: Any) -> None:
            params = self.get_parameters(self.module[module_id])
            self.register_optimizer(module_id=module_id, optimizer=torch.optim.Adagrad(params), params=params)

    case = Case(cls=Own, passes=1)
    down, up = case.learner("eager"), case.learner("eager")
    up.get_optimizer().param_groups[0]["maximize"] = True
    start = weights(up)
    for learner in (down, up):
        learner.update_from_batch(case.batch(learner, 0))
    for name, before in start.items():  # Adagrad's first step is as long, whatever the sign of the gradient.
        np.testing.assert_allclose(weights(up)[name] - before, before - weights(down)[name], atol=1e-6)
    assert differ(start, weights(up)) == set(start)
