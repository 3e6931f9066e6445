"""What hooks may log, and what is refused by name."""

from typing import Any

import numpy as np
import pytest
import torch

from support.engines import Case, run_both
from support.learners import make_columns, make_learner
from unison import ALL_MODULES
from unison.algorithms import PPOLearner
from unison.errors import ModuleError
from unison.learner import Metrics


@pytest.mark.parametrize("key", ["kl", "x", "entropy", ("kl",), ("a", "kl", "mean"), ("a", 1), ["a", "kl"], None])
def test_a_key_is_a_pair_of_strings(key: Any) -> None:
    metrics = Metrics()
    with pytest.raises(ModuleError, match=r"no pair of strings; give \(module_id, name\)") as caught:
        metrics.log_value(key, 1.0)
    assert repr(key) in str(caught.value)
    assert metrics.collect() == {}
    assert metrics.reductions == {}


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (torch.zeros(64), r"has shape \(64,\); log its mean"),
        (torch.zeros(0), r"has shape \(0,\); log its mean"),
        (np.zeros((2, 1)), r"has shape \(2, 1\); log its mean"),
        (torch.zeros((), dtype=torch.complex64), r"is a torch\.complex64; log a number"),
        ("high", "is a str; log a number"),
        (np.str_("high"), "is a str_; log a number"),
        (None, "is a NoneType; log a number"),
        ([1.0], "is a list; log a number"),
        (1j, "is a complex; log a number"),
    ],
)
def test_a_value_is_one_number(value: Any, fault: str) -> None:
    metrics = Metrics()
    with pytest.raises(ModuleError, match=rf"Module 'a': the metric 'kl' {fault}"):
        metrics.log_value(("a", "kl"), value)
    with pytest.raises(ModuleError, match="the metric 'kl'"):
        metrics.log_dict({"kl": value}, key="a")
    assert metrics.collect() == {}
    assert metrics.reductions == {}


NUMBERS: dict[str, Any] = {
    "float": 2.0,
    "int": 2,
    "bool": True,
    "scalar": np.float32(2.0),
    "flag": np.bool_(True),
    "array": np.full((1, 1), 2),
    "tensor": torch.tensor(2),
    "row": torch.full((1,), 2.0),
}


def test_numbers_of_every_kind_reach_the_results() -> None:
    class Logging(PPOLearner):
        def compute_loss(self, *, fwd_out: Any, batch: Any) -> Any:
            self.metrics.log_dict(NUMBERS, key=ALL_MODULES)
            return super().compute_loss(fwd_out=fwd_out, batch=batch)

    results = make_learner(cls=Logging).update_from_batch(make_columns(16), minibatch_size=8)
    expected = {name: 1.0 if name in ("bool", "flag") else 2.0 for name in NUMBERS}
    assert {name: results[ALL_MODULES][name] for name in NUMBERS} == expected


class Spread(PPOLearner):
    """Logs a tensor with one entry that is no scalar."""

    def compute_loss_for_module(self, *, module_id: str, config: Any, batch: Any, fwd_out: Any) -> Any:
        values = fwd_out["vf_preds"]
        self.metrics.log_value((module_id, "spread"), values.std(dim=0, keepdim=True))
        return super().compute_loss_for_module(module_id=module_id, config=config, batch=batch, fwd_out=fwd_out)


@pytest.mark.parametrize("engine", ["interpreted", "xla"])
def test_a_tensor_with_one_entry_is_logged_alike_by_compiled_engines(engine: str) -> None:
    if engine == "xla":
        pytest.importorskip("jax")
    run_both(Case(cls=Spread, updates=2), engine)


def test_the_fault_shows_in_the_update_and_the_next_one_is_sound() -> None:
    class Faulty(PPOLearner):
        wrong = True

        def compute_loss_for_module(self, *, module_id: str, config: Any, batch: Any, fwd_out: Any) -> Any:
            values = fwd_out["vf_preds"]
            self.metrics.log_value((module_id, "values"), values if self.wrong else values.mean())
            return super().compute_loss_for_module(module_id=module_id, config=config, batch=batch, fwd_out=fwd_out)

    learner = make_learner(cls=Faulty)
    with pytest.raises(ModuleError, match=r"'default_policy': the metric 'values' has shape \(16,\)"):
        learner.update_from_batch(make_columns(16))
    learner.wrong = False
    assert np.isfinite(learner.update_from_batch(make_columns(16))["default_policy"]["values"])


def test_an_unknown_reduction_is_refused() -> None:
    metrics = Metrics()
    with pytest.raises(ModuleError, match=r"metric 'kl' has reduce='avg'\. Known are: mean, step_mean, sum"):
        metrics.log_value(("a", "kl"), 1.0, reduce="avg")  # type: ignore[arg-type]
    with pytest.raises(ModuleError, match="Did you mean 'mean'"):
        metrics.log_dict({"kl": 1.0}, key="a", reduce="means")  # type: ignore[arg-type]
    assert metrics.collect() == {}
    assert metrics.reductions == {}
