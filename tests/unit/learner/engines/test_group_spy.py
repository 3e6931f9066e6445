"""Hooks that read an optimizer's settings as plain numbers get those of now, whatever runs the steps."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch

from support.engines import COMPILED, Case, assert_agree, assert_traced_once
from unison.algorithms import PPOLearner
from unison.types import ALL_MODULES


class Reading(PPOLearner):
    """Its gradients grow with the learning rate, which it registers as a number or as a tensor."""

    read: Callable[[Any, str], Any] = staticmethod(lambda learner, m: learner.get_optimizer(m).param_groups[0]["lr"])
    is_tensor = False

    def configure_optimizers_for_module(self, module_id: str, config: Any) -> None:
        params = self.get_parameters(self.module[module_id])
        rate = self._get_tensor_variable(1e-2) if self.is_tensor else 1e-2
        self.register_optimizer(
            module_id=module_id, optimizer=torch.optim.SGD(params, lr=rate), params=params, lr_or_lr_schedule=config.lr
        )

    def postprocess_gradients_for_module(self, *, module_id: str, config: Any, module_gradients_dict: Any) -> Any:
        rate = self.read(self, module_id)
        return {ref: gradient * (100 * rate) for ref, gradient in module_gradients_dict.items()}


class ReadingATensor(Reading):
    is_tensor = True


def reads(read: Callable[[Any, str], Any]) -> type[Reading]:
    return type("Reads", (Reading,), {"read": staticmethod(read)})


def both(case: Case, engine: str) -> tuple[Any, Any]:
    if engine == "xla":
        pytest.importorskip("jax")
    return case.learner("eager"), case.learner(engine)


def test_the_numbers_depend_on_what_is_read() -> None:
    case = Case(cls=Reading, lr=1e-2, passes=1)
    learners = case.learner("eager"), case.learner("eager")
    learners[1].read = lambda *_: 1e-2
    for learner in learners:
        learner._set_optimizer_lr(learner.get_optimizer(), 5e-2)
        case.update(learner, 0)
    with pytest.raises(AssertionError):
        assert_agree(*learners)


@pytest.mark.parametrize("engine", COMPILED)
def test_a_rate_that_is_set_is_seen(engine: str) -> None:
    case = Case(cls=Reading, lr=1e-2, passes=2)
    learners = both(case, engine)
    for seed in range(4):
        for learner in learners:
            if seed == 2:
                learner._set_optimizer_lr(learner.get_optimizer(), 5e-2)
            results = case.update(learner, seed)
        assert results[ALL_MODULES]["engine"] == engine, results
        assert_agree(*learners)


READS: dict[str, Callable[[Any, str], Any]] = {
    "get": lambda learner, m: learner.get_optimizer(m).param_groups[0].get("lr", 1.0),
    "items": lambda learner, m: dict(learner.get_optimizer(m).param_groups[0].items())["lr"],
    "copy": lambda learner, m: learner.get_optimizer(m).param_groups[0].copy()["lr"],
    "if it is a dict": lambda learner, m: (
        group["lr"] if isinstance(group := learner.get_optimizer(m).param_groups[0], dict) else 1.0
    ),
    "unpacked": lambda learner, m: {**learner.get_optimizer(m).param_groups[0]}["lr"],
    "of the Learner": lambda learner, m: learner._get_optimizer_lr(learner.get_optimizer(m)),
    "of the flat group": lambda learner, m: learner.optimizers.get(m, "default_optimizer").groups[0].options["lr"],
}


@pytest.mark.parametrize("way", READS)
def test_whichever_way_it_is_read(way: str) -> None:
    case = Case(cls=reads(READS[way]), lr=1e-2, passes=2)
    learners = both(case, "interpreted")
    for seed in range(3):
        for learner in learners:
            learner._set_optimizer_lr(learner.get_optimizer(), 1e-2 * (seed + 1))
            results = case.update(learner, seed)
        assert results[ALL_MODULES]["engine"] == "interpreted", results
        assert_agree(*learners)


@pytest.mark.parametrize("name", ["lr", "momentum"])
@pytest.mark.parametrize("engine", ["interpreted", "xla"])
def test_a_hook_may_read_the_optimizer_of_another_module(engine: str, name: str) -> None:
    case = Case(
        cls=reads(lambda learner, _: 0.01 + learner.get_optimizer("b").param_groups[0][name]), passes=2, lr=0.01
    )
    case.modules = ("a", "b")
    learners = both(case, engine)
    case.modules = ("a",)
    for seed in range(3):
        for learner in learners:
            learner.get_optimizer("b").param_groups[0][name] = 0.01 * seed
            results = case.update(learner, seed)
        assert results[ALL_MODULES]["engine"] == engine, results
        assert_agree(*learners)


@pytest.mark.parametrize("engine", ["interpreted", "xla"])
def test_a_rate_that_moves_all_the_time_is_left_to_the_eager_engine(
    engine: str, caplog: pytest.LogCaptureFixture
) -> None:
    case = Case(cls=Reading, lr=[[0, 1e-2], [10_000, 1e-3]], passes=1)
    learners = both(case, engine)
    with caplog.at_level(logging.WARNING, logger="unison"):
        for seed in range(9):
            for learner in learners:
                results = case.update(learner, seed)
    assert_agree(*learners)
    assert results[ALL_MODULES]["engine"] == "eager"
    (warning,) = [record.getMessage() for record in caplog.records if record.name == "unison"]
    assert "the setting 'lr' of optimizer 'default_optimizer' of module 'default_policy' changes" in warning
    assert "make it a tensor" in warning


@pytest.mark.parametrize("engine", ["interpreted", "xla"])
@pytest.mark.parametrize("cls", [ReadingATensor, PPOLearner])
def test_a_rate_that_is_a_tensor_or_is_not_read_moves_without_another_trace(
    cls: type[PPOLearner], engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(cls=cls, lr=[[0, 1e-2], [10_000, 1e-3]], passes=1)
    learners = both(case, engine)
    assert_traced_once(case, learners, 9, engine, monkeypatch)


def test_a_tensor_in_the_place_of_another_is_seen() -> None:
    case = Case(cls=ReadingATensor, lr=1e-2, passes=2)
    learners = both(case, "interpreted")
    for seed in range(3):
        for learner in learners:
            learner.get_optimizer().param_groups[0]["lr"] = torch.tensor(1e-2 * (seed + 1))
            case.update(learner, seed)
        assert_agree(*learners)


def test_a_hook_may_keep_a_group_and_change_it_after_the_steps() -> None:
    class Keeping(Reading):
        kept: Any = None

        def read(self, _: Any, module_id: str) -> Any:
            if self.kept is None:
                self.kept = self.get_optimizer(module_id).param_groups[0]
            return self.kept["lr"]

        def after_gradient_based_update(self, *, timesteps: Any) -> None:
            self.kept["lr"] = 0.02
            super().after_gradient_based_update(timesteps=timesteps)

    case = Case(cls=Keeping, lr=1e-2, passes=2)
    learners = both(case, "interpreted")
    for seed in range(3):
        for learner in learners:
            results = case.update(learner, seed)
            assert learner._get_optimizer_lr(learner.get_optimizer()) == 0.02
        assert_agree(*learners)
    assert results[ALL_MODULES]["engine"] == "interpreted"


def test_a_step_that_changes_settings_is_left_to_the_eager_engine() -> None:
    def halved(learner: Any, module_id: str) -> float:
        group = learner.get_optimizer(module_id).param_groups[0]
        group["lr"] *= 0.9
        return 1e-2

    case = Case(cls=reads(halved), passes=1, lr=1e-2)
    learners = both(case, "interpreted")
    for seed in range(3):
        for learner in learners:
            results = case.update(learner, seed)[ALL_MODULES]
        assert_agree(*learners)
        assert len({learner._get_optimizer_lr(learner.get_optimizer()) for learner in learners}) == 1
    assert results["engine"] == "eager"
    assert "test_group_spy.py:" in results["engine_reason"]
    assert "in halved changes the setting 'lr' of optimizer 'default_optimizer'" in results["engine_reason"]
