"""Every task of the learning curves is solved with every seed; takes an hour, so only where UNISON_CURVES is set."""

import os
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TASKS = (
    "CartPole-v1",
    "Acrobot-v1",
    "Pendulum-v1",
    "Catch",
    "CartPole-v1 without velocities",
    "SAC Pendulum-v1",
    "SAC Pendulum-v1, bf16, 8 and 8",
    "SAC CartPole-v1",
)


@pytest.mark.skipif("UNISON_CURVES" not in os.environ, reason="set UNISON_CURVES=1 to train all tasks")
@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("seed", range(5))
def test_the_goal_is_reached_within_the_budget(name: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from harness.tasks import TASKS as KNOWN
    from harness.tasks import train

    curve = train(KNOWN[name], seed, until_solved=True)
    assert curve.reached is not None, list(zip(curve.steps, curve.returns, strict=True))
    assert set(KNOWN) == set(TASKS)
