"""Learners that fail as they are told: on one rank, once, at a given moment of their life."""

import json
import resource
import time
from pathlib import Path
from typing import Any

from support.hosted import misbehave
from support.learners import DISCRETE, OBS, assert_same, make_columns, make_config
from unison import LearnerGroup
from unison.algorithms import PPOLearner

SHARED_LIMIT = 4096
"""Bytes: where shared memory is full, no segment can be written beyond."""
KINDS = {"kill": "SIGKILL", "stop": "SIGSTOP", "raise": "raise", "memory": "memory"}


class Trap:
    """A file that says who is to fail, how and when; whoever does takes it away."""

    def __init__(self, folder: Path) -> None:
        self.file, self.sprung = folder / "trap", folder / "sprung"

    def set(self, moment: str, fault: str, *ranks: int) -> None:
        """Let `ranks` fail."""
        for rank in ranks:
            Path(f"{self.file}{rank}").write_text(json.dumps([moment, fault]))

    def lift(self) -> None:
        """Nobody is to fail any more."""
        for file in self.file.parent.glob(f"{self.file.name}*"):
            file.unlink()

    def spring(self, moment: str, rank: int) -> None:
        """Fail, if this is the moment."""
        file = Path(f"{self.file}{rank}")
        if not file.exists() or json.loads(file.read_text())[0] != moment:
            return
        fault = json.loads(file.read_text())[1]
        if fault == "kill-always":
            misbehave("SIGKILL")
        file.unlink()
        if fault == "full":
            resource.setrlimit(resource.RLIMIT_FSIZE, (SHARED_LIMIT, resource.RLIM_INFINITY))
        elif fault == "linger":
            self.sprung.touch()
            time.sleep(1000)
        else:
            misbehave(KINDS[fault])


class TrappedLearner(PPOLearner):
    """Looks for a trap at every moment that the matrix of faults knows."""

    steps = 0

    def _spring(self, moment: str) -> None:
        folder = self.config.model_config["custom_model_config"]["trap"]
        Trap(Path(folder)).spring(moment, self.collective.rank)

    def build(self) -> None:
        self._spring("building")
        super().build()

    def before_gradient_based_update(self, *, timesteps: Any) -> None:
        self.steps = 0
        self._spring("before")
        super().before_gradient_based_update(timesteps=timesteps)

    def _update(self, batch: Any) -> Any:
        self.steps += 1
        if self.steps == 3:
            self._spring("inside")
        return super()._update(batch)

    def after_gradient_based_update(self, *, timesteps: Any) -> None:
        super().after_gradient_based_update(timesteps=timesteps)
        self._spring("after")

    def get_state(self, *args: Any, **kwargs: Any) -> Any:
        self._spring("saving")
        return super().get_state(*args, **kwargs)

    def add_module(self, **kwargs: Any) -> None:
        self._spring("adding")
        super().add_module(**kwargs)


def make_trapped(
    trap: Trap, num_learners: int, *, backend: str = "processes", placement_strategy: str = "PACK", **faults: Any
) -> LearnerGroup:
    """A group whose Learners look for `trap`."""
    config = make_config(learner_class=TrappedLearner)
    config.resources(num_learners=num_learners, backend=backend, placement_strategy=placement_strategy)
    config.rl_module(
        model_config={"hidden_sizes": (64, 64), "custom_model_config": {"trap": str(trap.file.parent)}}
    ).fault_tolerance(**faults)
    return config.build_learner_group(spaces={"default_policy": (OBS, DISCRETE)})


def state_of(learner: Any) -> dict[str, Any]:
    """Weights, moments and counters by name, copied."""
    state = PPOLearner.get_state(learner)
    flat = {f"{m}/{n}": v.copy() for m, named in state["rl_module"].items() for n, v in named.items()}
    for m, slots in state["optimizer"].items():
        for saved in slots.values():
            flat |= {f"{m}/{n}/{k}": v.copy() for n, values in saved["moments"].items() for k, v in values.items()}
    rest = state["learner"]
    flat |= {f"counters/{name}": value for name, value in rest["counters"].items()}
    return flat | {"counters/schedule_step": rest["schedule_step"], "counters/generator": rest["generator"].copy()}


def states(group: LearnerGroup) -> dict[str, Any]:
    """The state of all Learners, which is one and the same."""
    first, *others = group.foreach_learner(state_of)
    for other in others:
        assert_same(first, other)
    return first


def update(group: LearnerGroup, number: int) -> Any:
    """One update on a batch of its own."""
    return group.update_from_batch(make_columns(40, number), minibatch_size=8, num_iters=2)


def lift_limit(learner: Any) -> None:
    """There is room for shared memory again."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def update_often(learner: Any, number: int) -> None:
    """Several updates, with a trap before the last one."""
    for count in range(number):
        if count == number - 1:
            learner._spring("between")
        learner.update_from_batch(make_columns(40, count))
