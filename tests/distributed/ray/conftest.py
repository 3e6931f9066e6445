"""A Ray cluster of two nodes, on loopback."""

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("ray", reason="Ray is an optional extra: pip install 'unison[ray]'")

QUICK = {"health_check_period_ms": 500, "health_check_timeout_ms": 2000, "health_check_failure_threshold": 3}
"""A node that is gone is missed after two seconds, not fifteen; one that is silent after eight, not 45."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of three CPUs each; RAY_ADDRESS names them, and nobody is connected yet."""
    from ray._private import ray_constants
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", False)  # listen on loopback only
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # the same for the processes that it starts
        nodes = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 5, "include_dashboard": False, "_system_config": QUICK},
        )
        try:
            nodes.add_node(num_cpus=5)
            patch.setenv("RAY_ADDRESS", nodes.address)
            yield nodes
        finally:
            nodes.shutdown()
