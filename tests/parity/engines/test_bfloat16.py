"""With precision="bf16" XLA multiplies rounded numbers, as torch does, and is no further from float32 than torch."""

from typing import Any

import numpy as np
import pytest
import torch

from support.engines import Case, everything
from support.sac import BOX, CHOICE, OBS, sac_batch, sac_config
from unison import SACConfig
from unison.types import ALL_MODULES

pytest.importorskip("jax")

CASES: dict[str, dict[str, Any]] = {
    "wide": {"rows": 256, "minibatch": 64, "model": {"hidden_sizes": (64, 64)}},
    "small": {"model": {"hidden_sizes": (16,)}},
    "modules": {"modules": ("a", "b"), "rows": 256, "minibatch": 64, "model": {"hidden_sizes": (64, 64)}},
}


def learned(case: Case, engine: str) -> dict[str, np.ndarray[Any, Any]]:
    """How far each weight has moved from where it began."""
    learner = case.learner(engine)
    before = everything(learner)
    assert case.update(learner, 0)[ALL_MODULES]["engine"] == engine
    after = everything(learner)
    return {name: after[name] - before[name] for name in after if name.endswith("weight")}


def distance(first: dict[str, Any], second: dict[str, Any]) -> float:
    """Of all weights' moves, relative to the second's length."""
    off = sum(float(np.square(first[name] - second[name]).sum()) for name in second)
    return (off / sum(float(np.square(moved).sum()) for moved in second.values())) ** 0.5


@pytest.mark.parametrize("has_unit", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_as_close_to_float32_as_eager(name: str, has_unit: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the processor has no unit for it."""
    if not has_unit:
        monkeypatch.setattr("unison.learner.engines.lowering.products.find_unit", lambda *_: None)
    full = learned(Case(**CASES[name]), "eager")
    case = Case(**CASES[name], configure=lambda config: config.framework(precision="bf16"))
    eager, xla = learned(case, "eager"), learned(case, "xla")
    rounding = distance(eager, full)
    assert 0.2 * rounding < distance(xla, full) < 1.3 * rounding
    assert distance(xla, eager) < 2 * rounding  # either is that far from float32


@pytest.mark.parametrize("offset", [0.0, -20.0, -150.0])
def test_values_far_from_zero(offset: float) -> None:
    """A step of bfloat16 at -150 is 1, as large as an error of the critic: layers give rounded numbers as in torch."""
    config = SACConfig().framework(engine="xla", precision="bf16").debugging(seed=0)
    learner = config.build_learner(spaces={"default_policy": (OBS, BOX)})
    with torch.no_grad():
        for name, parameter in learner.module["default_policy"].named_parameters():
            if "critic" in name and name.endswith("bias") and parameter.numel() == 1:
                parameter.fill_(offset)
    batch = sac_batch(64, 0)
    batch["rewards"] += np.float32(0.01 * offset)
    results = learner.update_from_batch(batch, minibatch_size=32)
    assert results[ALL_MODULES]["engine"] == "xla", results[ALL_MODULES]


@pytest.mark.parametrize(
    "case", [{"rows": 30}, {"model": {"lstm_size": 8, "cell": "gru"}, "time": 3, "rows": 8, "minibatch": 12}]
)
def test_rounding_is_not_taken_for_a_wrong_program(case: dict[str, Any]) -> None:
    """Adam's first step takes the sign of a gradient alone, which rounding may turn."""
    made = Case(**case, configure=lambda config: config.framework(precision="bf16"))
    learner = made.learner("xla")
    results = [made.update(learner, seed)[ALL_MODULES] for seed in range(2)]
    assert (results[1]["engine"], results[1].get("engine_reason")) == ("xla", None)


@pytest.mark.parametrize("engine", ["eager", "xla"])
def test_choices_have_their_log_probabilities_in_float32(engine: str) -> None:
    """At 1.1 nats a step of bfloat16 is 0.008, a third of what the temperature is learned from."""
    found: dict[str, Any] = {}
    for precision in ("float32", "bf16"):
        config = sac_config(shuffle_batch_per_epoch=False).framework(engine=engine, precision=precision)
        learner = config.build_learner(spaces={"default_policy": (OBS, CHOICE)})
        results = learner.update_from_batch(sac_batch(64, 0, CHOICE))
        assert results[ALL_MODULES]["engine"] == engine, results[ALL_MODULES]
        found[precision] = results["default_policy"]
    for name in ("entropy", "gradients_alpha_global_norm"):
        np.testing.assert_allclose(found["bf16"][name], found["float32"][name], rtol=1e-3)
