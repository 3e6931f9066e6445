"""Two Learners on a compiling engine leave what one leaves; sums over the ranks happen within the program.

Programs of XLA share the threads of their process, so its ranks are processes: see test_equality_engines.py.
"""

import threading
from typing import Any

import numpy as np
import pytest
import torch

from support.engines import Case, assert_agree
from unison.types import ALL_MODULES


class Threads:
    """Two ranks in one process, that meet at barriers."""

    shared_buffers = None

    def __init__(self, rank: int, shared: dict[str, Any]) -> None:
        self.rank, self.world_size, self._shared = rank, 2, shared

    def all_reduce_(self, tensor: torch.Tensor) -> Any:
        self._shared[self.rank] = tensor.detach().clone()
        self._shared["barrier"].wait(60)
        tensor.copy_(self._shared[0] + self._shared[1])
        self._shared["barrier"].wait(60)
        return tensor


class Broken(Threads):
    def all_reduce_(self, tensor: torch.Tensor) -> Any:
        raise ConnectionError("rank 1 is gone")


def with_collective(case: Case, engine: str, collective: Threads) -> Any:
    alone = case.learner(engine)
    learner = type(alone)(config=alone.config, module_spec=None, module=alone.module, collective=collective)
    learner.build()
    return learner


def test_two_ranks_leave_what_one_leaves() -> None:
    engine = "inductor"
    case = Case(rows=32, minibatch=8, passes=3, updates=2)
    alone = case.learner("eager")
    shared: dict[str, Any] = {"barrier": threading.Barrier(2)}
    ranks = [with_collective(case, engine, Threads(rank, shared)) for rank in range(2)]
    results: dict[int, Any] = {}
    for seed in range(case.updates):
        case.update(alone, seed)

        def run(rank: int, seed: int = seed) -> None:
            results[rank] = case.update(ranks[rank], seed)

        threads = [threading.Thread(target=run, args=(rank,)) for rank in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(300)
        assert all(results[rank][ALL_MODULES]["engine"] == engine for rank in range(2)), results
    assert_agree(alone, ranks[0])
    for name, value in ranks[0].get_module_state()["default_policy"].items():
        np.testing.assert_array_equal(value, ranks[1].get_module_state()["default_policy"][name])


def test_a_rank_that_is_gone_raises_its_own_error() -> None:
    pytest.importorskip("jax")
    case = Case(passes=1)
    learner = with_collective(case, "xla", Broken(0, {}))
    before = learner.get_module_state()["default_policy"]
    with pytest.raises(ConnectionError, match="rank 1 is gone"):
        case.update(learner, 0)
    for name, value in learner.get_module_state()["default_policy"].items():
        np.testing.assert_array_equal(value, before[name])
