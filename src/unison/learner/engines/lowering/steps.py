"""All steps of an update as one function of JAX: a loop in which each picks its rows and moves the state."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from torch import Tensor, fx

from unison.learner.engines.lowering.graph import to_jax
from unison.learner.engines.lowering.pieces import Cuts, find_cuts, in_pieces, whole
from unison.learner.engines.lowering.table import DTYPES, Array, jax, jnp, lax
from unison.learner.engines.traced import TracedStep

_AT_ONCE = 1 << 26
"""Bytes up to which the rows of all steps are picked before the first, of all columns and all modules side by side."""
_SIDE_BY_SIDE = 18_000_000
"""Bytes of all values of a step up to which modules side by side are faster than one after another. Side by side they
share the cost of beginning each operation; with more, the second cache no longer holds what they work on."""
Rows = Callable[[Any], Array]
"""Gives a leaf's rows in the step of a number."""


@dataclass(frozen=True)
class _Step:
    """One step, called with a flat list of inputs, which takes and gives state that is cut like this."""

    run: Callable[[list[Any]], list[Any]]
    cuts: Mapping[int, Cuts]

    def cut(self, vectors: Any) -> list[Any]:
        return [in_pieces(vector, self.cuts) for vector in vectors]


class Steps:
    """The steps of an update, for one module and for several of the same make.

    Args:
        traced: one step.
    """

    def __init__(self, traced: TracedStep) -> None:
        module, state = traced.graph.module, traced.graph.inputs()[0]
        self._whole = _Step(to_jax(module), {})
        self._widest = 1 if _has_convolutions(module.graph) else max(1, _SIDE_BY_SIDE // _size(module.graph))
        self._gathers = traced.gathers
        self._kept = [not scratch for scratch in traced.scratch]
        self._num_metrics = traced.layout.num_metrics

        @cache
        def in_pieces_for(side_by_side: int) -> _Step:
            cuts = find_cuts(module.graph, state, side_by_side)
            return _Step(to_jax(module, cuts), cuts)

        self._in_pieces_for = in_pieces_for

    def update(
        self,
        state: Any,
        captured: Any,
        columns: Any,
        indices: Any,
        shares: Any,
        noise: Any,
        count: Any,
        room: Any,
        *,
        width: int = 1,
        most: Any = None,
    ) -> tuple[list[Array], Array, list[Array]]:
        """Take `count` steps, of at most as many as `room` is long; one of `width` side by side waits up to `most`.

        Returns:
            The new state, the metrics [room, M] and the other outputs of the last step.
        """
        inputs = (captured, self._rows(columns, indices, width), shares, noise)
        if room.shape[0] == 1:  # without a loop nothing of the state is copied to be carried through it
            new, row, left = self._take(self._whole, 0, state, *inputs)
            return new, row[None], left
        return self._loop(self._in_pieces_for(width), state, inputs, count, room.shape[0], most)

    def update_several(self, *inputs: Any) -> Any:
        """As `update`, for what lies along the first axis of each array: some side by side, and these in turn."""
        places = inputs[-1].shape[0]
        width = next(width for width in range(min(self._widest, places), 0, -1) if places % width == 0)

        def in_turns(array: Array) -> Array:
            return array.reshape(places // width, width, *array.shape[1:])

        def in_one_row(array: Array) -> Array:
            return array.reshape(places, *array.shape[2:])

        def turn(own: Any) -> Any:
            *_, counts, _ = own
            return jax.vmap(partial(self.update, width=width, most=jnp.max(counts)))(*own)

        return jax.tree.map(in_one_row, lax.map(turn, jax.tree.map(in_turns, inputs)))

    def _loop(self, step: _Step, state: Any, inputs: Any, count: Any, room: int, most: Any) -> Any:
        """Take `count` steps, or if that is given `most`, of which only the first `count` leave anything."""

        def body(number: Any, carry: Any) -> Any:
            carried, logged, left = carry

            def if_own(new: Array, old: Array) -> Array:
                return new if most is None else jnp.where(number < count, new, old)

            new, row, new_left = self._take(step, number, carried, *inputs)
            new, left = jax.tree.map(if_own, (step.cut(new), new_left), (carried, left))
            return new, logged.at[number].set(row), left

        shapes = jax.eval_shape(lambda: self._take(self._whole, 0, state, *inputs))
        logged = jnp.zeros((room, *shapes[1].shape), jnp.float32)
        left = [jnp.zeros(s.shape, s.dtype) for s in shapes[2]]
        new, logged, left = lax.fori_loop(0, count if most is None else most, body, (step.cut(state), logged, left))
        return [whole(vector) for vector in new], logged, left

    def _rows(self, columns: Any, indices: Any, width: int) -> list[Rows | None]:
        """For each leaf that is rows, what gives them; `width` of such modules are side by side."""
        found = {gather: (columns[gather[0]], indices[gather[1]]) for gather in self._gathers if gather}
        size = sum(index.size * column.nbytes // column.shape[0] for column, index in found.values())
        made = {gather: _rows_of(*pair, at_once=width * size <= _AT_ONCE) for gather, pair in found.items()}
        return [made[gather] if gather else None for gather in self._gathers]

    def _take(
        self, step: _Step, number: Any, carried: Any, captured: Any, rows: Any, shares: Any, noise: Any
    ) -> tuple[list[Any], Array, list[Array]]:
        places = iter(carried)
        state = [next(places) if keep else jnp.zeros(()) for keep in self._kept]  # nobody reads scratch
        leaves: list[Array] = []
        for pick, share in zip(rows, shares, strict=True):
            if pick is not None:
                leaves.append(pick(number))
            else:
                leaves.append(jnp.zeros(()) if share is None else share[number])
        results = step.run([*state, *captured, *leaves, *(n[number] for n in noise)])
        new = [result for result, keep in zip(results, self._kept, strict=False) if keep]
        outputs = [whole(result) for result in results[len(self._kept) :]]
        metrics = [output.astype(jnp.float32).reshape(()) for output in outputs[: self._num_metrics]]
        row = jnp.stack(metrics) if metrics else jnp.zeros((0,), jnp.float32)
        return new, row, outputs[self._num_metrics :]


def _rows_of(column: Array, index: Array, *, at_once: bool) -> Rows:
    """A column's rows by the index [steps, B] of each step."""
    if at_once:
        return column[index].__getitem__
    return lambda number: column[index[number]]


def _has_convolutions(graph: fx.Graph) -> bool:
    """Whether it has what XLA does slower for several modules at once than for each."""
    return any("convolution" in str(node.target) for node in graph.nodes)


def _size(graph: fx.Graph) -> int:
    """Bytes of all that a graph computes."""
    values = [node.meta.get("val") for node in graph.nodes if node.op == "call_function"]
    return max(
        1, sum(value.numel() * jnp.dtype(DTYPES[value.dtype]).itemsize for value in values if isinstance(value, Tensor))
    )
