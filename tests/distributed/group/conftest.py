"""Processes that serve all cases of equality."""

from collections.abc import Iterator

import pytest

from support.ranks import ranks
from unison.learner_group.processes import ProcessTransport


@pytest.fixture(scope="session", params=[2, 3, 4])
def world(request: pytest.FixtureRequest) -> Iterator[ProcessTransport]:
    """2, 3 or 4 ranks."""
    with ranks(request.param) as transport:
        yield transport
