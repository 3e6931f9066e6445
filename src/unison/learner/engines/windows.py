"""The optimizer steps of a pass, and the shapes that a program for one of them is made for."""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from unison.data.plan import MinibatchPlan, Slot, rank_share
from unison.data.tensors import TensorColumns
from unison.learner.metrics import StepMetrics
from unison.learner.step import LOSS_SHARE, StepContext
from unison.types import ModuleID, tree_items, tree_map

if TYPE_CHECKING:
    from unison.learner.torch_learner import TorchLearner

Rows: TypeAlias = tuple[tuple[ModuleID, int], ...]
Signature: TypeAlias = tuple[tuple[ModuleID, ...], tuple[Rows, ...], bool]
"""Which modules step, how many rows of each are in each minibatch of the window, and whether every rank has some."""
Orders: TypeAlias = Sequence[Mapping[ModuleID, Tensor | None]]
"""For each pass, the order of each module's rows, or None for the given order."""
Minibatches: TypeAlias = list[dict[ModuleID, dict[str, Any]]]


@dataclass(frozen=True)
class Window:
    """The minibatches of one optimizer step, as this rank sees them.

    Args:
        modules: those whose optimizers step.
        slots: the minibatches.
        ranges: for each of them, the half-open range of each module's order.
        is_for_all: whether every rank has rows in it; otherwise all step eagerly, or they would not stay bit-identical.
    """

    modules: tuple[ModuleID, ...]
    slots: tuple[Slot, ...]
    ranges: tuple[dict[ModuleID, tuple[int, int]], ...]
    is_for_all: bool

    @property
    def signature(self) -> Signature:
        """What decides which program runs it: alike on every rank, so that all of them step by the same engine."""
        rows = tuple(
            tuple((m, stop - start) for m, (start, stop) in slot.ranges.items() if m in self.modules)
            for slot in self.slots
        )
        return self.modules, rows, self.is_for_all


def windows_of_pass(plan: MinibatchPlan, rank: int, world_size: int, only: ModuleID | None = None) -> list[Window]:
    """The optimizer steps of one pass, in order.

    Args:
        plan: the plan of the update.
        rank: this Learner's place.
        world_size: the number of Learners.
        only: leave out all other modules.
    """
    gathered: dict[int, list[Slot]] = {}
    for slot in plan.slots():
        if only is None or only in slot.ranges:
            gathered.setdefault(slot.index // plan.accumulation_steps, []).append(slot)
    windows: list[Window] = []
    for slots in gathered.values():
        modules = (only,) if only is not None else tuple(plan.window_rows(slots[0]))
        shares = [_share(slots, each, world_size, only) for each in range(world_size)]
        windows.append(Window(modules, tuple(slots), shares[rank], all(any(share) for share in shares)))
    return windows


def _share(
    slots: Sequence[Slot], rank: int, world_size: int, only: ModuleID | None
) -> tuple[dict[ModuleID, tuple[int, int]], ...]:
    """The ranges of a rank in minibatches, without those that are empty."""
    ranges: list[dict[ModuleID, tuple[int, int]]] = []
    for slot in slots:
        own = {m: rank_share(*slot.ranges[m], rank, world_size) for m in slot.ranges if only in (None, m)}
        ranges.append({m: (start, stop) for m, (start, stop) in own.items() if stop > start})
    return tuple(ranges)


def window_step(learner: "TorchLearner", window: Window) -> Callable[[Minibatches], list[StepMetrics]]:
    """The function that a program is made of: all minibatches of one optimizer step."""

    def step(minibatches: Minibatches) -> list[StepMetrics]:
        logged: list[StepMetrics] = []
        for index, minibatch in enumerate(minibatches):
            learner.step = StepContext(window.modules, index == len(minibatches) - 1, True)
            logged.append(learner._update(minibatch)[2])  # pyright: ignore[reportPrivateUsage]  # the API's name
        return logged

    return step


def example_minibatches(columns: Mapping[ModuleID, TensorColumns], window: Window, shared: bool) -> Minibatches:
    """The minibatches of a window in the given order of rows; with loss shares if `shared`."""
    made: Minibatches = []
    for part in window.ranges:
        minibatch: dict[ModuleID, dict[str, Any]] = {}
        for module_id, (start, stop) in part.items():
            rows = {n: tree_map(lambda t, a=start, b=stop: t[a:b].clone(), c) for n, c in columns[module_id].items()}
            if shared:
                device = next(t for c in rows.values() for _, t in tree_items(c)).device
                rows[LOSS_SHARE] = torch.ones((), device=device) / len(window.ranges)
            minibatch[module_id] = rows
        made.append(minibatch)
    return made


@dataclass(frozen=True)
class Leaf:
    """One tensor of a window's minibatches: column (and path in its tree) of a module in minibatch `slot`."""

    slot: int
    module_id: ModuleID
    column: str
    path: str

    @property
    def is_share(self) -> bool:
        """Whether it is the loss share."""
        return self.column == LOSS_SHARE

    def tensor(self, columns: Mapping[ModuleID, TensorColumns]) -> Tensor:
        """Its column in the whole batch."""
        column = columns[self.module_id][self.column]
        return column if isinstance(column, Tensor) else next(t for path, t in tree_items(column) if path == self.path)


def leaves(minibatches: Minibatches) -> list[tuple[Leaf, Tensor]]:
    """The tensors of a window's minibatches, in a fixed order."""
    return [
        (Leaf(slot, module_id, column, path), tensor)
        for slot, minibatch in enumerate(minibatches)
        for module_id, rows in minibatch.items()
        for column, tree in rows.items()
        for path, tensor in tree_items(tree)
    ]


@dataclass
class Stretch:
    """Steps of an update that one program takes in a row.

    Args:
        steps: for each the number of its pass, and its window.
    """

    steps: list[tuple[int, Window]]
    _places: dict[tuple[int, ModuleID], slice | Tensor] = field(default_factory=dict[Any, Any])

    def before(self, number: int) -> int:
        """How many of the steps belong to passes before pass `number`."""
        return bisect_left(self.steps, number, key=itemgetter(0))

    def rows(self, leaf: Leaf, orders: Orders, total: int) -> Tensor:
        """The rows [steps, rows] that each step takes of a module in one of its minibatches, out of `total`."""
        found = [orders[number][leaf.module_id] for number in range(self.steps[-1][0] + 1)]
        whole = torch.cat([torch.arange(total) if order is None else order for order in found])
        key = leaf.slot, leaf.module_id
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = self._find(leaf, total)
        return whole[place].view(len(self.steps), -1)

    def _find(self, leaf: Leaf, total: int) -> slice | Tensor:
        """Where these rows lie in the orders of all passes."""
        ranges = [window.ranges[leaf.slot][leaf.module_id] for _, window in self.steps]
        starts = [number * total + start for (number, _), (start, _) in zip(self.steps, ranges, strict=True)]
        size, begin = ranges[0][1] - ranges[0][0], starts[0]
        stop = begin + len(starts) * size
        if starts == list(range(begin, stop, size)):
            return slice(begin, stop)
        return torch.tensor(starts)[:, None] + torch.arange(size)
