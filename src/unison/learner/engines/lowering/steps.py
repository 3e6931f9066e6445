"""All steps of an update as one function of JAX: a loop in which each picks its rows and moves the state."""

from collections.abc import Callable
from typing import Any

from unison.learner.engines.lowering.graph import to_jax
from unison.learner.engines.lowering.pieces import find_cuts, in_pieces, whole
from unison.learner.engines.lowering.table import Array, jax, jnp, lax
from unison.learner.engines.traced import TracedStep

_AT_ONCE = 1 << 25
"""Bytes up to which the rows of all steps are picked before the first."""
Rows = Callable[[Any], Array]
"""Gives a leaf's rows in the step of a number."""


class Steps:
    """The steps of an update, for one module and for several of the same make.

    Args:
        traced: one step.
    """

    def __init__(self, traced: TracedStep) -> None:
        module = traced.graph.module
        self._cuts = find_cuts(module.graph, traced.graph.inputs()[0])
        self._step, self._step_in_pieces = to_jax(module), to_jax(module, self._cuts)
        self._gathers = traced.gathers
        self._kept = [not scratch for scratch in traced.scratch]
        self._num_metrics = traced.layout.num_metrics

    def update(
        self, state: Any, captured: Any, columns: Any, indices: Any, shares: Any, noise: Any, count: Any, room: Any
    ) -> tuple[list[Array], Array, list[Array]]:
        """Take `count` steps, of at most as many as `room` is long.

        Returns:
            The new state, the metrics [room, M] and the other outputs of the last step.
        """
        inputs = (captured, self._rows(columns, indices), shares, noise)
        if room.shape[0] == 1:  # without a loop nothing of the state is copied to be carried through it
            new, row, left = self._take(self._step, 0, state, *inputs)
            return new, row[None], left

        def cut(vectors: Any) -> list[Any]:
            return [in_pieces(vector, self._cuts) for vector in vectors]

        def body(number: Any, carry: Any) -> Any:
            carried, logged, _ = carry
            new, row, left = self._take(self._step_in_pieces, number, carried, *inputs)
            return cut(new), logged.at[number].set(row), left

        shapes = jax.eval_shape(lambda: self._take(self._step, 0, state, *inputs))
        logged = jnp.zeros((room.shape[0], *shapes[1].shape), jnp.float32)
        left = [jnp.zeros(s.shape, s.dtype) for s in shapes[2]]
        new, logged, left = lax.fori_loop(0, count, body, (cut(state), logged, left))
        return [whole(vector) for vector in new], logged, left

    def update_several(self, *inputs: Any) -> Any:
        """As `update`, for what lies side by side along the first axis of each array."""

        def update(own: Any) -> Any:
            return self.update(*own)

        return lax.map(update, inputs)

    def _rows(self, columns: Any, indices: Any) -> list[Rows | None]:
        made = {gather: _rows_of(columns[gather[0]], indices[gather[1]]) for gather in self._gathers if gather}
        return [made[gather] if gather else None for gather in self._gathers]

    def _take(
        self, step: Any, number: Any, carried: Any, captured: Any, rows: Any, shares: Any, noise: Any
    ) -> tuple[list[Any], Array, list[Array]]:
        places = iter(carried)
        state = [next(places) if keep else jnp.zeros(()) for keep in self._kept]  # nobody reads scratch
        leaves: list[Array] = []
        for pick, share in zip(rows, shares, strict=True):
            if pick is not None:
                leaves.append(pick(number))
            else:
                leaves.append(jnp.zeros(()) if share is None else share[number])
        results = step([*state, *captured, *leaves, *(n[number] for n in noise)])
        new = [result for result, keep in zip(results, self._kept, strict=False) if keep]
        outputs = [whole(result) for result in results[len(self._kept) :]]
        metrics = [output.astype(jnp.float32).reshape(()) for output in outputs[: self._num_metrics]]
        row = jnp.stack(metrics) if metrics else jnp.zeros((0,), jnp.float32)
        return new, row, outputs[self._num_metrics :]


def _rows_of(column: Array, index: Array) -> Rows:
    """A column's rows by the index [steps, B] of each step."""
    if index.size * column.nbytes > _AT_ONCE * column.shape[0]:
        return lambda number: column[index[number]]
    return column[index].__getitem__
