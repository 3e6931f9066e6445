"""The reference engine: PyTorch as it comes, one step after another."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unison.data.columns import Columns
from unison.data.minibatches import Minibatch, PassColumns
from unison.data.plan import MinibatchPlan, Slot, rank_share
from unison.data.tensors import TensorColumns
from unison.learner.engines.engine import BeforeChange, Engine
from unison.learner.metrics import StepMetrics
from unison.learner.step import LOSS_SHARE, StepContext
from unison.types import ModuleID, tree_leaves

if TYPE_CHECKING:
    from unison.learner.torch_learner import TorchLearner

Counts = npt.NDArray[np.float64]


class EagerEngine(Engine):
    """Calls the Learner's hooks step by step."""

    name = "eager"
    fused = True

    def run(
        self,
        learner: "TorchLearner",
        plan: MinibatchPlan,
        columns: Mapping[ModuleID, TensorColumns],
        before_change: BeforeChange,
    ) -> list[StepMetrics]:
        """See Engine.run."""
        before_change({})
        collected: list[StepMetrics] = []
        for number, order in enumerate(plan.permutations(learner.generator), start=1):
            one_pass = EagerPass(learner, plan, columns, order, is_logged=number == plan.num_iters)
            collected = [one_pass.step(slot, slot.closes_step) for slot in one_pass.slots]
        return collected


class EagerPass:
    """One pass over the rows, to be stepped through.

    Args:
        learner: whose hooks run.
        plan: the plan of the update.
        columns: the whole batch.
        order: the order of each module's rows.
        is_logged: whether this pass's metrics are kept.
    """

    def __init__(
        self,
        learner: "TorchLearner",
        plan: MinibatchPlan,
        columns: Mapping[ModuleID, TensorColumns],
        order: Mapping[ModuleID, Tensor | None],
        *,
        is_logged: bool,
    ) -> None:
        self.slots = plan.slots()
        self._learner = learner
        self._plan = plan
        self._is_logged = is_logged
        self._passes = {m: _ModulePass(m, columns[m], order[m], plan, self.slots, learner) for m in columns}

    def step(self, slot: Slot, closes_step: bool) -> StepMetrics:
        """Run one minibatch; the optimizers step after it if it `closes_step`."""
        passes, plan = self._passes, self._plan
        batch = {m: passes[m].minibatch(slot) for m in slot.ranges if m in passes and passes[m].has_rows(slot)}
        modules = tuple(m for m in plan.window_rows(slot) if m in passes)
        self._learner.step = StepContext(modules, closes_step, self._is_logged)
        return self._learner._update(batch)[2]  # pyright: ignore[reportPrivateUsage]  # the API's name


class _ModulePass:
    """One module's minibatches of one pass, as this rank sees them."""

    def __init__(
        self,
        module_id: ModuleID,
        columns: TensorColumns,
        order: Tensor | None,
        plan: MinibatchPlan,
        slots: list[Slot],
        learner: "TorchLearner",
    ) -> None:
        rank, world_size = learner.collective.rank, learner.collective.world_size
        own = own_ranges(module_id, slots, rank, world_size)
        self._place = {index: i for i, index in enumerate(own)}
        self._rows = {index: stop - start for index, (start, stop) in own.items()}
        self._pass = PassColumns(columns, list(own.values()), order)
        self._shares: dict[int, Tensor] = {}
        if world_size > 1 or plan.accumulation_steps > 1:
            self._shares = loss_shares(module_id, columns, order, plan, slots, rank, world_size)

    def has_rows(self, slot: Slot) -> bool:
        """Whether this rank has rows in a minibatch."""
        return self._rows[slot.index] > 0

    def minibatch(self, slot: Slot) -> Minibatch:
        """This rank's rows of a minibatch."""
        share = self._shares.get(slot.index)
        return Minibatch(self._pass, self._place[slot.index], None if share is None else {LOSS_SHARE: share})


def own_ranges(module_id: ModuleID, slots: list[Slot], rank: int, world_size: int) -> dict[int, tuple[int, int]]:
    """The half-open range of a module's order that a rank takes in each minibatch, by the minibatch's index."""
    return {s.index: rank_share(*s.ranges[module_id], rank, world_size) for s in slots if module_id in s.ranges}


def loss_shares(
    module_id: ModuleID,
    columns: TensorColumns,
    order: Tensor | None,
    plan: MinibatchPlan,
    slots: list[Slot],
    rank: int,
    world_size: int,
) -> dict[int, Tensor]:
    """The valid rows of each own minibatch over those of its whole optimizer step (0-d each)."""
    own = own_ranges(module_id, slots, rank, world_size)
    before = _valid_before(columns.get(Columns.LOSS_MASK), order, plan.rows[module_id])
    windows: dict[int, float] = {}
    for slot in slots:
        if module_id in slot.ranges:
            window = slot.index // plan.accumulation_steps
            windows[window] = windows.get(window, 0.0) + _count(before, slot.ranges[module_id])
    shares = [_count(before, own[index]) / max(windows[index // plan.accumulation_steps], 1.0) for index in own]
    device = tree_leaves(columns[Columns.OBS])[0].device
    return dict(zip(own, torch.tensor(shares, dtype=torch.float32, device=device).unbind(), strict=True))


def _valid_before(mask: Any, order: Tensor | None, rows: int) -> Counts:
    """How many of a pass's valid rows come before each of its rows, and at last all of them."""
    if mask is None:
        return np.arange(rows + 1.0)
    valid = mask.reshape(rows, -1).sum(dim=1).to("cpu", torch.float64)
    return np.concatenate([np.zeros(1), (valid if order is None else valid[order]).cumsum(0).numpy()])


def _count(before: Counts, rows: tuple[int, int]) -> float:
    """The valid rows in a range."""
    return float(before[rows[1]] - before[rows[0]])
