"""The metrics of ranks that each saw a part of the rows are those of one that saw them all."""

from collections.abc import Callable
from typing import Any

import pytest

from support.rank_threads import World
from unison.learner.metrics import NUM_MODULE_STEPS_TRAINED, Reduction, StepMetrics, reduce_steps

RANKS = 3
KINDS: tuple[Reduction, ...] = ("mean", "step_mean", "sum")
Logged = Callable[[int, int], StepMetrics]
"""What a rank logs in a step."""


def everything(rank: int, step: int) -> StepMetrics:
    rows = float(10 * rank + step + 1)
    return {
        ("a", NUM_MODULE_STEPS_TRAINED): rows,
        ("a", "mean"): rows + 0.25,
        ("a", "step_mean"): float(step),
        ("a", "sum"): rows / 3,
    }


def modules_of_their_own(rank: int, step: int) -> StepMetrics:
    """No rows of module "a" on rank 1, which alone has rows of module "b"."""
    own = {(["a", "b", "a"][rank], name): value for (_, name), value in everything(rank, step).items()}
    return {("a", NUM_MODULE_STEPS_TRAINED): 0.0, ("b", NUM_MODULE_STEPS_TRAINED): 0.0, **own}


def more_than_the_table_holds(rank: int, step: int) -> StepMetrics:
    many = range(600 if rank == 2 else 2000)
    return {**everything(rank, step), **{("a", f"number {i}"): float(rank + i + step) for i in many}}


def reductions_of(step: StepMetrics) -> dict[tuple[str, str], Reduction]:
    return {key: next((kind for kind in KINDS if kind == key[1]), "mean") for key in step} | {
        key: "sum" for key in step if key[1] == NUM_MODULE_STEPS_TRAINED
    }


@pytest.mark.parametrize("logged", [everything, modules_of_their_own, more_than_the_table_holds])
def test_ranks_report_what_one_would(logged: Logged) -> None:
    steps = {rank: [logged(rank, step) for step in range(2)] for rank in range(RANKS)}
    kinds = {rank: {k: v for step in steps[rank] for k, v in reductions_of(step).items()} for rank in steps}

    def report(collective: Any) -> Any:
        return reduce_steps(steps[collective.rank], {}, kinds[collective.rank], 4, collective)

    reports = World(RANKS).run(report)
    assert all(each == reports[0] for each in reports)
    for module_id, found in reports[0].items():
        for name, value in found.items():
            assert value == pytest.approx(by_hand(module_id, name, steps))


def by_hand(module_id: str, name: str, steps: dict[int, list[StepMetrics]]) -> float:
    key, rows = (module_id, name), (module_id, NUM_MODULE_STEPS_TRAINED)
    parts = [(step[key], step[rows]) for own in steps.values() for step in own if key in step]
    if name in ("sum", NUM_MODULE_STEPS_TRAINED):
        return 4 * sum(float(value) for value, _ in parts)
    if name == "step_mean":
        return 0.5  # of the steps 0 and 1, alike on every rank
    return sum(float(value) * float(count) for value, count in parts) / sum(float(count) for _, count in parts)
