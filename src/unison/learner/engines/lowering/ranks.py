"""The sum over the ranks: a function in C++, or where there is none a call from a program back to the host."""

from dataclasses import replace
from importlib import import_module
from typing import Any

import torch

from unison.learner.engines.lowering.pieces import Cuts, Pieces, whole
from unison.learner.engines.lowering.table import Array, Site, jax, jnp, lowers
from unison.learner.engines.rank_sums import IN_PROGRAMS, sum_over_ranks_


@lowers("unison.sum_over_ranks.default")
def _sum_over_ranks(site: Site, x: Array | Pieces, number: int) -> Array | Pieces:
    if site.is_bfloat16:  # all ranks sum as many bytes, by whatever engine
        return _on_host(replace(site, dtype=jnp.bfloat16), whole(x).astype(jnp.bfloat16), number).astype(site.dtype)
    if site.dtype == jnp.float32:
        pieces = x if isinstance(x, Pieces) else Pieces((x.reshape(-1),), Cuts(((0, x.size),), ()))
        sums = IN_PROGRAMS.operation(pieces.arrays, pieces.cuts.stretches, number)
        if sums is not None:
            return Pieces(tuple(sums), pieces.cuts) if isinstance(x, Pieces) else sums[0].reshape(site.shape)
    return _on_host(site, whole(x), number)


def _on_host(site: Site, x: Array, number: int) -> Array:
    def on_host(_: Any, total: Any, part: Any) -> None:
        # The program's own memory, both in one place: a callback on arrays would copy them several times.
        sum_over_ranks_(torch.from_dlpack(total), number)

    callbacks: Any = import_module("jax.experimental.buffer_callback")
    shape = jax.ShapeDtypeStruct(site.shape, site.dtype)
    return callbacks.buffer_callback(on_host, shape, input_output_aliases={0: 0})(x)
