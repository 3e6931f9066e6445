"""A cluster reached from outside, through Ray's client server: `ray://`."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.hosted import wait_until

pytest.importorskip("ray", reason="Ray is an optional extra: pip install 'unison[ray]'")
TESTS = Path(__file__).parents[2]
# Runs at the start of each Python of the head node: the first server made for a driver ends at once.
FIRST_SERVER_ENDS = """
import os, pathlib
if b"--mode=specific-server" in pathlib.Path("/proc/self/cmdline").read_bytes().split(b"\\0"):
    try:
        pathlib.Path(__file__).with_name("ended").touch(exist_ok=False)
    except FileExistsError:
        pass
    else:
        os._exit(1)
"""


def free_ports(number: int) -> list[int]:
    """Ports of loopback that nobody listens to."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [end.getsockname()[1] for end in sockets]
    for end in sockets:
        end.close()
    return ports


def answers(port: int) -> bool:
    """Whether somebody listens."""
    with socket.socket() as end:
        return end.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """That of a driver; RAY_ADDRESS names a head node of its own."""
    port, client = free_ports(2)
    # Not pytest's own folder: paths of sockets have to be short.
    with tempfile.TemporaryDirectory(prefix="r", ignore_cleanup_errors=True) as folder:
        (tmp_path / "sitecustomize.py").write_text(FIRST_SERVER_ENDS)
        path = os.pathsep.join([str(tmp_path), str(TESTS), os.environ.get("PYTHONPATH", "")])
        own = {
            "RAY_TMPDIR": folder,
            "RAY_AUTH_MODE": "disabled",
            "RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S": "40",  # a busy machine takes long; so long its end goes unseen
            "PYTHONPATH": path,
        }
        command = [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=4"),
            *("--node-ip-address=127.0.0.1", f"--port={port}", f"--ray-client-server-port={client}"),
            *("--include-dashboard=false", "--disable-usage-stats"),
        ]
        with (tmp_path / "head.log").open("wb") as log:
            head = subprocess.Popen(command, env={**os.environ, **own}, stdout=log, stderr=log, start_new_session=True)
        try:
            assert wait_until(lambda: answers(client), 60.0), (tmp_path / "head.log").read_text()
            yield {**os.environ, **own, "RAY_ADDRESS": f"ray://127.0.0.1:{client}"}
        finally:
            os.killpg(head.pid, signal.SIGKILL)  # it would take half a minute to end by itself
            head.wait()


def logs_of_servers(folder: str) -> str:
    """What the head node's servers for drivers wrote."""
    return "\n".join(path.read_text() for path in Path(folder).glob("session_*/logs/ray_client_server*"))


def test_a_driver_outside_the_cluster_though_its_first_server_ended(
    environment: dict[str, str], tmp_path: Path
) -> None:
    script = Path(__file__).with_name("client_process.py")
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr + logs_of_servers(environment["RAY_TMPDIR"])
    assert (tmp_path / "ended").exists()
    assert "Asking again" in done.stderr
    assert "3 processes agree" in done.stdout
