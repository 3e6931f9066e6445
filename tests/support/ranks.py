"""Learners on real processes, one case after another, without starting processes for each."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from unison import AlgorithmConfig, MultiAgentRLModuleSpec
from unison.learner_group.processes import ProcessTransport
from unison.learner_group.transport import WorkerContext
from unison.learner_group.worker import learner_class

_UPDATES = {"batch": "update_from_batch", "episodes": "update_from_episodes"}


class Rank:
    """What each process hosts: it builds a Learner for each case."""

    def __init__(self, context: WorkerContext) -> None:
        self._collective = context.collective
        self._kept: dict[str, Any] = {}

    def run(
        self,
        config: AlgorithmConfig,
        spec: MultiAgentRLModuleSpec,
        state: Mapping[str, Any],
        updates: list[tuple[str, Any, dict[str, Any]]],
        keep: str = "",
    ) -> tuple[dict[str, Any], list[Any]]:
        """Build a Learner, give it `state`, run the updates; its state after them, and the results or errors.

        Sources other than "batch" and "episodes" are methods of the Learner, called with the arguments alone and
        the same random numbers everywhere. With a name in `keep`, the Learner of this name goes on, with all that
        it has compiled.
        """
        learner = self._kept.get(keep)
        if learner is None:
            learner = learner_class(config)(config=config, module_spec=spec, collective=self._collective)
            learner.build()
        if keep:
            self._kept[keep] = learner
        learner.set_state(state)
        outcomes: list[Any] = []
        for source, data, arguments in updates:
            if source == "batch" and self._collective.rank % 2:
                data = dict(reversed(list(data.items())))  # another order of modules on each shard
            if source not in _UPDATES:
                torch.manual_seed(len(outcomes))
                getattr(learner, source)(**arguments)
                continue
            method = getattr(learner, _UPDATES[source])
            try:
                outcomes.append(method(data, **arguments))
            except ArithmeticError as error:
                outcomes.append(f"{type(error).__name__}: {error}")
        return learner.get_state(), outcomes


@contextmanager
def ranks(number: int, timeout_s: float = 120.0) -> Iterator[ProcessTransport]:
    """`number` processes, each hosting a `Rank`."""
    transport = ProcessTransport(timeout_s=timeout_s)
    transport.start(Rank, number)
    try:
        yield transport
    finally:
        transport.stop()
