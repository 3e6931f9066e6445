"""What a worker of a LearnerGroup hosts: a Learner, and what the group asks of it."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch

from unison.config import AlgorithmConfig
from unison.errors import ConfigError
from unison.learner import TorchLearner
from unison.learner.engines import make_engine
from unison.learner.learner import ShouldUpdate
from unison.learner.memento import Memento, resume, take_memento, wholly_or_not
from unison.learner_group.legacy import Legacy
from unison.learner_group.shared_memory import SharedMemoryError
from unison.learner_group.transport import WorkerContext
from unison.modules import MultiAgentRLModuleSpec, SingleAgentRLModuleSpec
from unison.registry import lookup
from unison.types import ModuleID


@dataclass
class LearnerFactory:
    """Makes the Learner of each rank, with the modules that were added and removed since the group began.

    Args:
        config: the settings of the group.
        module_spec: the modules to begin with.
        should_update: the rule of what trains: the setting `policies_to_train`, or what took its place.
        added: the arguments of `add_module`, by module id.
        removed: modules of the beginning that are gone, in the order in which they went.
    """

    config: AlgorithmConfig
    module_spec: SingleAgentRLModuleSpec | MultiAgentRLModuleSpec | None
    should_update: ShouldUpdate
    added: dict[ModuleID, dict[str, Any]] = field(default_factory=dict[ModuleID, dict[str, Any]])
    removed: dict[ModuleID, None] = field(default_factory=dict[ModuleID, None])

    def __call__(self, context: WorkerContext) -> "LearnerWorker":
        """The worker of one rank."""
        config = self.config
        if config.num_gpus_per_learner and context.world_size > 1:
            config = config.copy().resources(local_gpu_idx=config.local_gpu_idx + context.gpu)
            torch.cuda.set_device(config.local_gpu_idx)  # where NCCL takes what is not on a GPU
        learner = learner_class(config)(config=config, module_spec=self.module_spec, collective=context.collective)
        learner.build()
        for module_id in self.removed:
            learner.remove_module(module_id)
        for arguments in self.added.values():
            learner.add_module(**arguments)
        learner.restore_should_update(self.should_update)
        # Learners are alike: one of them writes down what it has learned.
        return LearnerWorker(learner, context.legacy if context.rank == 0 else None)


def learner_class(config: AlgorithmConfig) -> type[TorchLearner]:
    """The class of Learner that a config asks for, or that its algorithm has."""
    if config.learner_class is not None:
        return config.learner_class
    if config.algorithm_name is None:
        raise ConfigError(
            f"{type(config).__name__} names no algorithm. Use an algorithm's config, such as PPOConfig, or set "
            "training(learner_class=...)."
        )
    return lookup("learner", config.algorithm_name)


class Moment(NamedTuple):
    """How far a group has come: the updates in its Learners' state, and the changes from outside that it has made."""

    updates: int
    changes: int


class LearnerWorker:
    """The methods that a LearnerGroup calls by name, on every rank alike.

    Args:
        learner: built.
        legacy: where its state is left after each change.
    """

    def __init__(self, learner: TorchLearner, legacy: Legacy | None) -> None:
        self.learner = learner
        self._legacy = legacy
        self._num_changes = 0
        self._before_change: Memento | None = None
        """The state before the last thing that was done, where that is a change."""
        if legacy is not None and not legacy.find():
            self._leave()

    def update(self, source: str, data: Any, arguments: Mapping[str, Any], *, return_state: bool) -> dict[str, Any]:
        """One update from a "batch" or from "episodes"; rank 0 returns the results, and the weights if asked for."""
        method = self.learner.update_from_batch if source == "batch" else self.learner.update_from_episodes
        results: dict[str, Any] = dict(method(data, **arguments))
        self._before_change = None
        if self.learner.collective.rank > 0:
            return {}  # All ranks have the same results.
        self._leave(in_sync=True)
        return {"results": results, "state": self.learner.get_module_state() if return_state else None}

    def go_back(self, moment: Moment) -> bool:
        """Go back to a moment of the group, if what was done last here went beyond it; whether that worked."""
        if self._num_changes > moment.changes and self._before_change is not None:
            resume(self.learner, self._before_change)
            self._num_changes = moment.changes
        else:
            self.learner.undo_update(moment.updates)
        is_there = (self.learner.counters["num_updates"], self._num_changes) == moment
        return is_there or self.inherit(moment)

    def engine_runs(self) -> int:
        """How far the engine has come: what it compiles next depends on what it has seen."""
        return self.learner.engine.runs

    def renew_engine(self) -> None:
        """Let the engine begin as that of a rank that begins anew: by another engine it would round elsewhere."""
        self.learner.engine = make_engine(self.learner)

    def inherit(self, moment: Moment) -> bool:
        """Go on from what this rank has left at a moment; whether there is such a thing."""
        for num_changes, *left in [] if self._legacy is None else self._legacy.find():
            memento = Memento(*left)
            if (memento.num_updates, num_changes) == moment:
                resume(self.learner, memento)
                self._num_changes, self._before_change = num_changes, None
                return True
        return False

    def get_module_ids(self) -> list[ModuleID]:
        """The ids of the Learner's modules."""
        return self.learner.get_module_ids()

    def ensure_module(self, arguments: dict[str, Any]) -> None:
        """Add a module, unless it is there from an attempt that failed on another rank."""
        if arguments["module_id"] not in self.learner.module:
            self.learner.add_module(**arguments)
        self._leave()

    def drop_module(self, module_id: ModuleID) -> None:
        """Remove a module, unless it is gone from an attempt that failed on another rank."""
        if module_id in self.learner.module:
            self.learner.remove_module(module_id)
        with suppress(SharedMemoryError):  # What was left before serves too, and this may be to undo for lack of room.
            self._leave()

    def apply(self, number: int, function: Callable[..., Any], arguments: Mapping[str, Any]) -> tuple[Any, int]:
        """`function(learner, **arguments)`, which may change the Learner, and how many updates that has had since."""
        answer = self._change(number, partial(function, self.learner, **arguments))
        return answer, self.learner.counters["num_updates"]

    def ask(self, method: str, arguments: Mapping[str, Any]) -> Any:
        """A method of the Learner, by name, that changes nothing."""
        return getattr(self.learner, method)(**arguments)

    def change(self, number: int, method: str, arguments: Mapping[str, Any]) -> None:
        """A method of the Learner, by name, that changes it; the change of the group with this number."""
        self._change(number, partial(getattr(self.learner, method), **arguments))

    def _change(self, number: int, action: Callable[[], Any]) -> Any:
        """Do something wholly or not at all, and so that it can be gone back on."""
        last = self._num_changes
        try:
            with wholly_or_not(self.learner) as before:
                answer = action()
                self._num_changes = number
                self._leave()
        except BaseException:
            self._num_changes = last
            raise
        self._before_change = before
        return answer

    def _leave(self, *, in_sync: bool = False) -> None:
        if self._legacy is None:
            return
        if not in_sync:
            self.learner.optimizers.sync()
        self._legacy.leave((self._num_changes, *take_memento(self.learner)))
