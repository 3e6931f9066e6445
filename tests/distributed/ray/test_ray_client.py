"""Training through `ray://`, from a process that is no node of the cluster."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("client_process.py")


def test_a_client_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private import ray_constants
    from ray.cluster_utils import Cluster

    monkeypatch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", False)  # listen on loopback only
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    path = os.pathsep.join([str(SCRIPT.parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    arguments = {"num_cpus": 3, "include_dashboard": False, "ray_client_server_port": port}
    cluster = Cluster(initialize_head=True, head_node_args=arguments)
    try:
        driver = subprocess.run(
            [sys.executable, str(SCRIPT)],
            env={**os.environ, "PYTHONPATH": path, "RAY_ADDRESS": f"ray://127.0.0.1:{port}"},
            capture_output=True,
            text=True,
            timeout=240,
        )
    finally:
        cluster.shutdown()
    assert driver.stdout.endswith("the same weights\n"), driver.stderr
