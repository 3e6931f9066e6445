from collections.abc import Iterator
from pathlib import Path

import pytest

from support.hosted import Hosted
from unison.learner_group.processes import ProcessTransport
from unison.learner_group.transport import WorkerContext

TIMEOUT_S = 2.0


@pytest.fixture(scope="module")
def veto(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """While this file exists, no object can be made."""
    return tmp_path_factory.mktemp("veto") / "veto"


@pytest.fixture(scope="module")
def trio(veto: Path) -> Iterator[ProcessTransport]:
    """Three workers that have to answer soon."""

    def factory(context: WorkerContext) -> Hosted:
        if veto.exists():
            raise RuntimeError("there is a veto")
        return Hosted(context)

    transport = ProcessTransport(timeout_s=TIMEOUT_S, grace_s=1.0)
    transport.start(factory, 3)
    yield transport
    transport.stop()
