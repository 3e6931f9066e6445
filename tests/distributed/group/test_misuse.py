"""A group in the hands of several threads, of a fork, of a pickler."""

import copy
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from support.learners import DISCRETE, OBS, make_columns, make_config
from unison import LearnerGroup
from unison.errors import LearnerGroupError

SCRIPT = """
import os
from support.learners import DISCRETE, OBS, make_columns, make_config

def of_main(learner):
    return os.getpid()

config = make_config().resources(num_learners=2, backend="processes")
group = config.build_learner_group(spaces={"default_policy": (OBS, DISCRETE)})
group.update_from_batch(make_columns(40))
assert len(set(group.foreach_learner(of_main))) == 2
print("trained", flush=True)
"""
"""Read from the standard input: `__main__` has no file and no guard, and nothing is shut down."""


@pytest.fixture(scope="module")
def group() -> Iterator[LearnerGroup]:
    config = make_config().resources(num_learners=2, backend="processes")
    with config.build_learner_group(spaces={"default_policy": (OBS, DISCRETE)}) as group:
        yield group


def test_threads_take_turns(group: LearnerGroup) -> None:
    counts: list[float] = []
    before = group.get_stats()["trained"]

    def train() -> None:
        for number in range(10):
            results = group.update_from_batch(make_columns(40, number))
            counts.append(results["__all_modules__"]["num_updates"])
            group.get_weights()

    threads = [threading.Thread(target=train) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(counts) == [before + 1 + number for number in range(30)]
    assert group.get_stats()["trained"] == before + 30


def test_a_fork_of_the_driver_has_no_learners(group: LearnerGroup) -> None:
    before = group.get_stats()["trained"]
    child = os.fork()
    if child == 0:
        code = 1
        try:
            group.update_from_batch(make_columns(40))
        except LearnerGroupError as error:
            code = 0 if "of the process that this one was forked from" in str(error) else 2
        finally:
            group.shutdown()
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    group.update_from_batch(make_columns(40))
    assert group.get_stats()["trained"] == before + 1


def send_itself(group: LearnerGroup) -> Any:
    return group.foreach_learner(lambda learner: len(group))


@pytest.mark.parametrize("take", [pickle.dumps, copy.deepcopy, send_itself])
def test_a_group_cannot_be_pickled(group: LearnerGroup, take: Any) -> None:
    with pytest.raises(LearnerGroupError, match="A LearnerGroup can't be pickled or copied; hand on its config"):
        take(group)


def test_a_script_from_the_standard_input() -> None:
    path = os.pathsep.join(sys.path)
    driver = subprocess.run(
        [sys.executable, "-"], input=SCRIPT, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert driver.stdout == "trained\n", driver.stderr
    assert driver.returncode == 0
