"""A driver with a group for every moment, each in a thread of its own; all get stuck at theirs, until it is killed."""

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from support.learners import DISCRETE, OBS, make_columns
from support.traps import Trap, make_trapped
from unison import LearnerGroup, SingleAgentRLModuleSpec

SPEC = SingleAgentRLModuleSpec(observation_space=OBS, action_space=DISCRETE, model_config={"hidden_sizes": (8,)})


def update(group: LearnerGroup, folder: Path) -> None:
    group.update_from_batch(make_columns(40), minibatch_size=8)


MOMENTS: dict[str, Callable[[LearnerGroup, Path], object]] = {
    "before": update,
    "inside": update,
    "after": update,
    "saving": lambda group, folder: group.save_state(folder / "saved"),
    "adding": lambda group, folder: group.add_module(module_id="new", module_spec=SPEC),
    "building": lambda group, folder: make_trapped(Trap(folder), 2),
    "resizing": lambda group, folder: group.resize(3),
}


def run(moment: str, folder: Path, backend: str) -> None:
    folder.mkdir()
    trap = Trap(folder)
    group = make_trapped(trap, 2, backend=backend)
    group.save_state(folder / "saved")
    update(group, folder)
    (folder / "pids").write_text(" ".join(map(str, group.foreach_learner(pid_of))))
    trap.set("building" if moment == "resizing" else moment, "linger", 0)
    MOMENTS[moment](group, folder)


def pid_of(learner: object) -> int:
    return os.getpid()


if __name__ == "__main__":
    place, driver_backend, *moments = sys.argv[1:]
    for name in moments:
        threading.Thread(target=run, args=(name, Path(place) / name, driver_backend), daemon=True).start()
    while not all(Trap(Path(place) / name).sprung.exists() for name in moments):
        time.sleep(0.02)
    print("stuck", flush=True)
    time.sleep(1000)
