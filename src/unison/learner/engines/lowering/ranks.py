"""The sum over the ranks, as a call from a program back to the host."""

from importlib import import_module
from typing import Any

import numpy as np
import torch

from unison.learner.engines.lowering.table import Array, Site, jax, lowers
from unison.learner.engines.rank_sums import sum_over_ranks_


@lowers("unison.sum_over_ranks.default")
def _sum_over_ranks(site: Site, x: Array, number: int) -> Array:
    def on_host(_: Any, total: Any, part: Any) -> None:
        # Views of the program's own memory: a callback on arrays would copy them several times.
        sums = np.asarray(total)
        np.copyto(sums, np.asarray(part))
        sum_over_ranks_(torch.as_tensor(sums), number)

    callbacks: Any = import_module("jax.experimental.buffer_callback")
    return callbacks.buffer_callback(on_host, jax.ShapeDtypeStruct(site.shape, site.dtype))(x)
