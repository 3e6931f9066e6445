from collections.abc import Iterator

import pytest

from support.hosted import Hosted
from unison.learner_group.processes import ProcessTransport


@pytest.fixture(scope="module")
def pair() -> Iterator[ProcessTransport]:
    """Two workers with a Hosted object each, shared by the tests of a module."""
    transport = ProcessTransport(timeout_s=60.0)
    transport.start(Hosted, 2)
    yield transport
    transport.stop()
