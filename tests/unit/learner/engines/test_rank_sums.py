"""Each collective has a number of its own, whichever threads ask for it."""

import sys
import threading
from collections.abc import Iterator

import pytest

from unison.learner.collective import Alone
from unison.learner.engines.rank_sums import TracedCollective


@pytest.fixture
def _switching() -> Iterator[None]:
    """Threads take turns every microsecond."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@pytest.mark.usefixtures("_switching")
def test_threads_get_different_numbers() -> None:
    """Two collectives of one number would meet in each other's sums."""
    collectives = [[Alone() for _ in range(100)] for _ in range(4)]
    start, numbers = threading.Barrier(4), list[int]()

    def ask(mine: list[Alone]) -> None:
        start.wait(60)
        numbers.extend([TracedCollective(collective)._number for collective in mine])  # pyright: ignore

    threads = [threading.Thread(target=ask, args=(mine,)) for mine in collectives]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(numbers) == len(set(numbers)) == 400
