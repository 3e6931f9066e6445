from collections.abc import Iterator

import pytest

from support.traps import Trap, make_trapped
from unison import LearnerGroup

TIMEOUT_S, START_TIMEOUT_S = 2.0, 6.0


@pytest.fixture(scope="module")
def trap(tmp_path_factory: pytest.TempPathFactory) -> Trap:
    """That of all groups of a file."""
    return Trap(tmp_path_factory.mktemp("trap"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LearnerGroup]:
    """Two Learners that nothing happens to; it also keeps the process alive that makes workers quickly."""
    with make_trapped(Trap(tmp_path_factory.mktemp("none")), 2) as group:
        yield group


@pytest.fixture(scope="module")
def pair(undisturbed: LearnerGroup, trap: Trap) -> Iterator[LearnerGroup]:
    """Two Learners, for whom the trap is."""
    with make_trapped(trap, 2, learner_timeout_s=TIMEOUT_S, learner_start_timeout_s=START_TIMEOUT_S) as group:
        yield group
