"""Hooks that read plain values inside objects get those of now, whatever runs the steps."""

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from support.engines import COMPILED, Case, assert_agree, assert_traced_once, count_traces, with_encoders
from unison.algorithms import PPOLearner
from unison.types import ALL_MODULES


class Helper:
    """Holds a number; tests hang more on it."""

    def __init__(self, scale: Any = 1.0) -> None:
        self.scale = scale


@dataclass
class Inner:
    scale: float = 1.0


@dataclass
class Outer:
    inner: Inner = field(default_factory=Inner)


class Slotted:
    __slots__ = ("__hidden", "scale")

    def __init__(self, scale: Any = 1.0) -> None:
        self.scale = scale
        self.__hidden = 1.0

    def hide(self, value: float) -> None:
        self.__hidden = value

    @property
    def hidden(self) -> float:
        return self.__hidden


class Numbers(NamedTuple):
    scale: float
    helper: Helper


class Called(Helper):
    def __call__(self) -> float:
        return self.scale


class Weights(dict[str, float]):
    scale = 1.0


class ByItsClass:
    scale = 1.0


def schedule() -> Any:
    scheduler = torch.optim.lr_scheduler.LambdaLR(torch.optim.SGD([torch.zeros(1)], lr=1.0), lambda n: 1 / (1 + n))
    scheduler.optimizer.step()
    return scheduler


def cyclic() -> Any:
    helper: Any = Helper()
    helper.me = [helper]
    return helper


def lines(make: Callable[[], Any], read: str, change: str) -> Any:
    """What makes an object, what reads it and what changes it, from the ends of lines that begin with `self.held`."""

    def run(learner: Any) -> None:
        exec(f"self.held{change}", globals() | {"self": learner})

    return make, (lambda learner: eval(f"self.held{read}", {"self": learner})), run


WAYS: dict[str, Any] = {
    "object": lines(Helper, ".scale", ".scale = 0.25"),
    "another object": lines(Helper, ".scale", " = Helper(0.25)"),
    "namespace": lines(lambda: SimpleNamespace(scale=1.0), ".scale", ".scale = 0.25"),
    "nested dataclass": lines(Outer, ".inner.scale", ".inner.scale = 0.25"),
    "another dataclass": lines(Outer, ".inner.scale", ".inner = Inner(0.25)"),
    "list in an object": lines(lambda: Helper([1.0, 2.0]), ".scale[0]", ".scale[0] = 0.25"),
    "object in a dict": lines(lambda: {"a": [Helper()]}, "['a'][0].scale", "['a'][0].scale = 0.25"),
    "deque": lines(lambda: Helper(deque([1.0], maxlen=1)), ".scale[0]", ".scale.append(0.25)"),
    "set": lines(lambda: Helper({1.0}), ".scale.copy().pop()", ".scale = {0.25}"),
    "slots": lines(Slotted, ".scale", ".scale = 0.25"),
    "hidden slots": lines(Slotted, ".hidden", ".hide(0.25)"),
    "named tuple": lines(lambda: Numbers(1.0, Helper()), ".scale", " = Numbers(0.25, self.held.helper)"),
    "object in a named tuple": lines(lambda: Numbers(1.0, Helper()), ".helper.scale", ".helper.scale = 0.25"),
    "cycle": lines(cyclic, ".me[0].scale", ".scale = 0.25"),
    "called": lines(Called, "()", ".scale = 0.25"),
    "dict with attributes": lines(Weights, ".scale", ".scale = 0.25"),
    "its class": lines(type("Of", (ByItsClass,), {}), ".scale", ".__class__.scale = 0.25"),
    "large array": lines(lambda: Helper(np.ones(1_000_000)), ".scale[7]", ".scale[7] = 0.25"),
    "array of objects": lines(lambda: Helper(np.array([Helper()])), ".scale[0].scale", ".scale[0].scale = 0.25"),
    "scheduler": lines(schedule, ".get_last_lr()[0]", ".step()"),
    "module of its own": lines(lambda: torch.nn.Dropout(0.5), ".p", ".p = 0.25"),
    "tensor in slots": lines(lambda: Slotted(torch.ones(())), ".scale", ".scale = torch.full((), 0.25)"),
}


class Holding(PPOLearner):
    """Its loss reads what it holds."""

    held: Any = None
    read: Callable[[Any], Any]

    def compute_loss_for_module(self, *, module_id: str, config: Any, batch: Any, fwd_out: Any) -> Any:
        loss = super().compute_loss_for_module(module_id=module_id, config=config, batch=batch, fwd_out=fwd_out)
        return loss * self.read()


def both(engine: str, make: Callable[[], Any], read: Callable[[Any], Any]) -> tuple[Case, Any, Any]:
    """An eager Learner and one on `engine`; each holds an object of its own."""
    if engine == "xla":
        pytest.importorskip("jax")
    case = Case(cls=type("Reads", (Holding,), {"read": read}), optimizer="sgd", lr=1e-2, grad_clip=None, passes=2)
    learners = case.learner("eager"), case.learner(engine)
    for learner in learners:
        learner.held = make()
    return case, *learners


def check_changes(engine: str, make: Any, read: Any, change: Any) -> None:
    case, *learners = both(engine, make, read)
    for seed in range(4):
        for learner in learners:
            if seed == 2:
                change(learner)
            results = case.update(learner, seed)
        assert results[ALL_MODULES]["engine"] == engine, results
        assert_agree(*learners)


@pytest.mark.parametrize("name", WAYS)
def test_values_that_objects_hold_are_followed(name: str) -> None:
    check_changes("interpreted", *WAYS[name])


@pytest.mark.parametrize("engine", COMPILED)
def test_compilers_follow_them_too(engine: str) -> None:
    check_changes(engine, *WAYS["nested dataclass"])


class HoldingEncoder(torch.nn.Module):
    """An encoder that reads what it holds."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.inner, self.output_size = encoder, encoder.output_size
        self.held, self.weights, self.function = Helper(), [1.0], float

    def forward(self, observations: Any) -> Any:
        return self.inner(observations) * self.held.scale * self.weights[0] * self.function(True)


class InModules(Holding):
    def _make_module(self) -> Any:
        return with_encoders(super()._make_module(), HoldingEncoder)


@pytest.mark.parametrize("change", [".held.scale = 0.25", ".weights[0] = 0.25", ".function = lambda _: 0.25"])
@pytest.mark.parametrize("engine", ["interpreted", "xla"])
def test_values_that_modules_hold_are_followed(engine: str, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.Holding", InModules)
    change = f".module['default_policy'].encoder{change}"
    check_changes(engine, Helper, lambda _: 1.0, lambda learner: exec(f"self{change}", {"self": learner}))


@pytest.mark.parametrize("engine", ["interpreted", "xla"])
def test_a_value_that_moves_all_the_time_is_left_to_the_eager_engine(
    engine: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, *learners = both(engine, Outer, lambda learner: learner.held.inner.scale)
    traces = count_traces(monkeypatch)
    with caplog.at_level(logging.WARNING, logger="unison"):
        for seed in range(9):
            for learner in learners:
                learner.held.inner.scale *= 0.9
                results = case.update(learner, seed)
            assert_agree(*learners)
    assert results[ALL_MODULES]["engine"] == "eager"
    assert len(traces) == 6
    (warning,) = [record.getMessage() for record in caplog.records if record.name == "unison"]
    assert "the attribute 'held.inner.scale' of the Learner, read at " in warning
    assert "test_objects.py:" in warning
    assert "make it a tensor" in warning


def test_what_holds_too_much_is_left_to_the_eager_engine() -> None:
    for held in ([0.0] * 60_000, chain(100), [np.zeros(8_000_000)]):
        case, *learners = both("interpreted", lambda held=held: Helper(held), lambda learner: learner.held.scale and 1)
        for seed in range(2):
            for learner in learners:
                results = case.update(learner, seed)[ALL_MODULES]
        assert results["engine"] == "eager"
        assert "test_objects.py:" in results["engine_reason"]
        assert "reads self.held, which holds too much" in results["engine_reason"]
        assert_agree(*learners)


def chain(length: int) -> Any:
    link = None
    for _ in range(length):
        link = Helper(link)
    return link


class Lazy(Helper):
    """Fails if anybody asks for more than it is asked for by the loss."""

    def __init__(self, learner: Any) -> None:
        super().__init__()
        self.learner = learner

    @property
    def costly(self) -> float:
        raise AssertionError("nobody asked for this")

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"nobody asked for {name}")


@pytest.mark.parametrize("engine", ["interpreted", "xla"])
def test_looking_runs_no_code_and_sees_no_change_where_there_is_none(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, *learners = both(engine, Helper, lambda learner: learner.held.scale)
    for learner in learners:
        learner.held = Lazy(learner)
        learner.held.arrays, learner.held.numbers = np.ones(3), [1.0, float("nan"), np.float32(2)]
    assert_traced_once(case, learners, 4, engine, monkeypatch)


def counts(helper: Any) -> float:
    helper.scale += 1
    return 1.0


STEPWISE: dict[str, Any] = {
    "slots": (Slotted, lambda learner: counts(learner.held), "self.held.scale"),
    "called": (Called, lambda learner: counts(learner.held), "self.held.scale"),
    "namespace": (lambda: SimpleNamespace(scale=1.0), lambda learner: counts(learner.held), "self.held.scale"),
    "scheduler": (schedule, lambda learner: learner.held.step() or 1.0, "self.held."),
    "deque": (deque, lambda learner: learner.held.append(1) or 1.0, "'held'"),
    "array": (lambda: np.ones(1), lambda learner: learner.held.__iadd__(1) is None or 1.0, "'held'"),
}


@pytest.mark.parametrize("name", STEPWISE)
def test_a_step_that_changes_an_object_is_left_to_the_eager_engine(name: str) -> None:
    make, read, what = STEPWISE[name]
    case, *learners = both("interpreted", make, read)
    for seed in range(2):
        for learner in learners:
            results = case.update(learner, seed)[ALL_MODULES]
        assert results["engine"] == "eager"
        assert what in results["engine_reason"], results
        assert_agree(*learners)
    held = [learner.held for learner in learners]
    if name in ("slots", "called", "namespace"):
        assert held[0].scale == held[1].scale == 17.0
