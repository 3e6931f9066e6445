"""The collectives of torch.distributed between real processes."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from support.hosted import Hosted
from unison.learner_group.collectives import StoreMeeting
from unison.learner_group.failures import WorkerError
from unison.learner_group.processes import ProcessTransport


@pytest.fixture(scope="module")
def trio() -> Iterator[ProcessTransport]:
    transport = ProcessTransport(timeout_s=5.0, grace_s=2.0, meeting=StoreMeeting)
    transport.start(Hosted, 3)
    yield transport
    transport.stop()


def ask(transport: ProcessTransport, method: str, *arguments: Any) -> list[Any]:
    return transport.gather(transport.call(method, *arguments))


def test_sums(trio: ProcessTransport) -> None:
    for size in (1, 10_000):
        expected = sum(torch.randn(size, generator=torch.Generator().manual_seed(rank)) for rank in range(3))
        first, *others = ask(trio, "reduce", size)
        assert torch.allclose(first, torch.as_tensor(expected), atol=1e-5)
        assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize(
    ("how", "when"), [("SIGKILL", "between"), ("raise", "before"), ("raise", "between"), ("SIGSTOP", "between")]
)
def test_a_failed_rank_frees_the_others_and_all_go_on(trio: ProcessTransport, how: str, when: str) -> None:
    with pytest.raises(WorkerError) as caught:
        ask(trio, "misbehave", how, 1, when)
    assert caught.value.cause.rank == 1
    assert {caught.value.failures[rank].kind for rank in (0, 2)} == {"aborted"}
    trio.restart(trio.lost)
    first, *others = ask(trio, "reduce", 100)
    assert all(torch.equal(first, other) for other in others)


def test_only_loopback_is_listened_on(trio: ProcessTransport) -> None:
    ask(trio, "reduce", 10)
    inodes = set()
    for pid in (os.getpid(), *trio.pids):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            target = str(link.readlink()) if link.is_symlink() else ""
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    listening = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                listening.append(fields[1].split(":")[0])
    assert listening
    assert set(listening) <= {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}
