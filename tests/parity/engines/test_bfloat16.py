"""With precision="bf16" XLA multiplies rounded numbers, as torch does, and is no further from float32 than torch."""

from typing import Any

import numpy as np
import pytest
import torch

from support.engines import Case, everything
from support.sac import BOX, OBS, sac_batch
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
