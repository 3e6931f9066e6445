"""Which transport a config gets, and what it says where Ray is not installed."""

import sys
from types import ModuleType

import pytest

from support.learners import make_config
from unison.errors import MissingExtraError
from unison.learner_group.inline import InlineTransport
from unison.learner_group.processes import ProcessTransport
from unison.learner_group.ray import RayTransport
from unison.learner_group.transport import Transport
from unison.learner_group.transports import choose_backend, make_runner_transport, make_transport


class Connected(ModuleType):
    """Stands for a Ray that this process is connected to."""

    @staticmethod
    def is_initialized() -> bool:
        return True


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delitem(sys.modules, "ray", raising=False)


@pytest.mark.parametrize(("backend", "kind"), [("auto", ProcessTransport), ("ray", RayTransport)])
def test_the_setting_decides(backend: str, kind: type[Transport]) -> None:
    config = make_config().resources(backend=backend)
    assert type(make_transport(config, 2)) is kind
    assert type(make_runner_transport(config, 1)) is kind
    assert type(make_transport(config, 0)) is InlineTransport


def test_auto_takes_a_cluster_that_is_named_or_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    processes = make_config().resources(backend="processes")
    with monkeypatch.context() as patch:
        patch.setenv("RAY_ADDRESS", "auto")
        assert type(make_transport(make_config(), 2)) is RayTransport
        assert type(make_transport(processes, 2)) is ProcessTransport
    monkeypatch.setitem(sys.modules, "ray", Connected("ray"))
    assert type(make_runner_transport(make_config(), 1)) is RayTransport
    assert type(make_runner_transport(processes, 1)) is ProcessTransport


def test_without_ray_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    config = make_config().resources(backend="ray", num_learners=2)
    transport = make_transport(config, 2)
    with pytest.raises(MissingExtraError, match=r"unison\[ray\]"):
        transport.start(lambda context: context, 2)
    transport.stop()


@pytest.mark.parametrize(
    ("gpus_each", "learners", "gpus", "backend"),
    [(0, 4, 0, None), (0, 2, 8, None), (1, 2, 2, "nccl"), (1, 4, 8, "nccl"), (0.5, 4, 2, "gloo"), (1, 1, 1, "nccl")],
)
def test_gradients_of_gpus_are_summed_by_nccl(gpus_each: float, learners: int, gpus: int, backend: str | None) -> None:
    assert choose_backend(gpus_each, learners, gpus) == backend
