"""What no program can honour runs eagerly, with one warning that names the line and the reason in the results."""

import logging
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from support.engines import Case, assert_agree
from unison.algorithms import PPOLearner
from unison.types import ALL_MODULES


def learner_with(change: Callable[[Any, Any], Any]) -> type[PPOLearner]:
    """A Learner whose loss is PPO's times what `change(self, loss)` gives."""

    class Changed(PPOLearner):
        def compute_loss_for_module(self, *, module_id: str, config: Any, batch: Any, fwd_out: Any) -> Any:
            loss = super().compute_loss_for_module(module_id=module_id, config=config, batch=batch, fwd_out=fwd_out)
            return loss * change(self, loss)

    return Changed


def counts(self: Any, _: Any) -> Any:
    self.calls = getattr(self, "calls", 0) + 1
    return 1.0


def counts_in_a_dict(self: Any, _: Any) -> Any:
    self.stats = getattr(self, "stats", {})
    self.stats["n"] = self.stats.get("n", 0) + 1
    return 1.0


REFUSED: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "item": (lambda _, loss: 1.0 if loss.item() > 0 else 2.0, "reads the value of a tensor"),
    "branch": (lambda _, loss: 1.0 if loss > 0 else 2.0, "reads the value of a tensor"),
    "numpy": (lambda _, loss: float(np.sign(loss.detach().numpy())), "reads the value of a tensor"),
    "tolist": (lambda _, loss: 1.0 + 0.0 * loss.detach().tolist(), "reads the value of a tensor"),
    "mask": (lambda _, loss: loss.detach().reshape(1)[loss.reshape(1) > -1e9].sum(), "a shape that depends on values"),
    "python_random": (lambda _, __: 1.0 + random.random(), "something else each time"),
    "numpy_random": (lambda _, __: 1.0 + np.random.default_rng().random(), "something else each time"),
    "counter": (counts, "self.calls"),
    "counter_in_a_dict": (counts_in_a_dict, "self.stats['n']"),
    "multinomial": (
        lambda _, loss: torch.multinomial(torch.stack([loss, loss]).detach().abs(), 1).sum() * 0 + 1.0,
        "draws random numbers",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_steps_eagerly_and_says_why(name: str, caplog: pytest.LogCaptureFixture) -> None:
    change, reason = REFUSED[name]
    learner = Case(cls=learner_with(change)).learner("interpreted")
    with caplog.at_level(logging.WARNING, logger="unison"):
        results = [Case().update(learner, seed)[ALL_MODULES] for seed in range(2)]
    assert [r["engine"] for r in results] == ["eager", "eager"]
    assert all(reason in r["engine_reason"] for r in results), results[0]["engine_reason"]
    warnings = [record.getMessage() for record in caplog.records if record.name == "unison"]
    assert len(warnings) == 1
    if name not in ("python_random", "counter_in_a_dict"):
        assert "test_fallback.py:" in warnings[0]


def test_a_refused_trace_leaves_no_trace() -> None:
    cls = learner_with(counts)
    eager, refused = Case(cls=cls).learner("eager"), Case(cls=cls).learner("interpreted")
    for learner in (eager, refused):
        Case().update(learner, 0)
    assert eager.calls == refused.calls == 20
    assert_agree(eager, refused, rtol=0, atol=0)


def test_an_optimizer_without_a_rule_steps_eagerly() -> None:
    class Exotic(PPOLearner):
        def configure_optimizers_for_module(self, module_id: str, config: Any) -> None:
            params = self.get_parameters(self.module[module_id])
            self.register_optimizer(
                module_id=module_id, optimizer=torch.optim.Adagrad(params), params=params, lr_or_lr_schedule=1e-3
            )

    results = Case().update(Case(cls=Exotic).learner("interpreted"), 0)[ALL_MODULES]
    assert results["engine"] == "eager"
    assert "steps by its own code: no update rule for Adagrad" in results["engine_reason"]


def test_a_number_on_self_that_moves_is_found_out() -> None:
    class Moving(PPOLearner):
        weight = 1.0

        def build(self) -> None:
            super().build()
            self.weight = 1.0

        def compute_loss_for_module(self, *, module_id: str, config: Any, batch: Any, fwd_out: Any) -> Any:
            loss = super().compute_loss_for_module(module_id=module_id, config=config, batch=batch, fwd_out=fwd_out)
            return loss * self.weight

        def after_gradient_based_update(self, *, timesteps: Any) -> None:
            super().after_gradient_based_update(timesteps=timesteps)
            self.weight = self.weight * 0.5

    case = Case(cls=Moving, passes=1)
    eager, compiled = case.learner("eager"), case.learner("interpreted")
    for seed in range(9):
        case.update(eager, seed)
        results = case.update(compiled, seed)[ALL_MODULES]
    assert results["engine"] == "eager"
    assert "'weight'" in results["engine_reason"]
    assert_agree(eager, compiled)


def test_whole_batches_of_changing_length_are_not_compiled_each_time() -> None:
    case = Case(minibatch=10_000, passes=2)
    learner = case.learner("interpreted")
    engines = [case.update(learner, 0, rows=rows)[ALL_MODULES]["engine"] for rows in (20, 21, 22, 23, 20)]
    assert engines == ["interpreted", "eager", "eager", "eager", "interpreted"]
