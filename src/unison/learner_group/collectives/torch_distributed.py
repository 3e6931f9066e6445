"""Collectives of torch.distributed: Gloo between machines, NCCL between GPUs.

The ranks find each other through a key-value store that the driver keeps; it listens on loopback unless it is
given another address. Each epoch has a process group of its own, so that nothing of a failed one can disturb it.
"""

import contextlib
import datetime
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import distributed as _distributed

from unison.errors import LearnerGroupError
from unison.learner_group.collectives.collective import (
    Collective,
    CollectiveAborted,
    CollectiveError,
    CollectiveTimeout,
    Joiner,
    Meeting,
)

Backend = Literal["gloo", "nccl"]
distributed: Any = _distributed  # documents its stores and groups, but hides them from type checkers
LOOPBACK = "127.0.0.1"
_ABORTED_EPOCH = "aborted_epoch"
_LOOK_S = 0.05  # between looks into the store, while waiting
_EAGER_S, _NAP_S = 0.002, 0.0002


class StoreMeeting(Meeting):
    """The driver's part: keeps the store.

    Args:
        world_size: the number of ranks.
        timeout_s: how long a rank waits for the others.
        backend: gloo or nccl.
        host: the address of this machine to listen on, as the ranks can reach it.
    """

    descriptors = ()

    def __init__(self, world_size: int, timeout_s: float, *, backend: Backend = "gloo", host: str = LOOPBACK) -> None:
        self._world_size, self._timeout_s, self._host = world_size, timeout_s, host
        self._backend: Backend = backend
        listener = socket.create_server((host, 0))
        self._port = int(listener.getsockname()[1])
        self._store = distributed.TCPStore(
            host, self._port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach()
        )
        self._store.set(_ABORTED_EPOCH, "0")

    def joiner(self) -> Joiner:
        """Makes a TorchDistributedCollective."""
        return partial(
            _join,
            world_size=self._world_size,
            timeout_s=self._timeout_s,
            backend=self._backend,
            host=self._host,
            port=self._port,
        )

    def abort(self, epoch: int) -> None:
        """Ranks that wait see it within a twentieth of a second."""
        if epoch > int(self._store.get(_ABORTED_EPOCH)):
            self._store.set(_ABORTED_EPOCH, str(epoch))

    def close(self) -> None:
        """Close the store."""
        del self._store


def _join(
    rank: int, _: Sequence[int], *, world_size: int, timeout_s: float, backend: Backend, host: str, port: int
) -> "TorchDistributedCollective":
    store = distributed.TCPStore(
        host, port, is_master=False, wait_for_workers=False, timeout=datetime.timedelta(seconds=timeout_s)
    )
    return TorchDistributedCollective(rank, world_size, store, backend, timeout_s, _address_towards(host, port))


def _address_towards(host: str, port: int) -> str:
    """The address of this machine that the machine of the store, and so the other ranks, can reach."""
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        probe.connect(address)  # chooses an interface; no packet is sent
        return str(probe.getsockname()[0])


class TorchDistributedCollective(Collective):
    """One rank's part; made by the joiner of a StoreMeeting."""

    def __init__(self, rank: int, world_size: int, store: Any, backend: Backend, timeout_s: float, host: str) -> None:
        self.rank, self.world_size = rank, world_size
        self._store, self._timeout_s, self._host = store, timeout_s, host
        self._backend: Backend = backend
        self._epoch, self._turn = 1, 0
        self._group: Any = None
        self._left: list[Any] = []  # groups of failed epochs, whose threads may still wait for lost ranks

    def join(self, epoch: int) -> None:
        """Leave the old group; the new one forms at the first sum."""
        if epoch != self._epoch:
            self._epoch, self._turn = epoch, 0
            self._leave()

    def abort(self) -> None:
        """Write the epoch into the store."""
        if not self.aborted:
            self._store.set(_ABORTED_EPOCH, str(self._epoch))

    @property
    def aborted(self) -> bool:
        """Whether the aborted epoch in the store has reached this one."""
        return int(self._store.get(_ABORTED_EPOCH)) >= self._epoch

    def all_reduce_(self, tensor: torch.Tensor) -> torch.Tensor:
        """The backend's own sum."""
        carried = self._carried(tensor)
        self._sum(carried)
        return tensor if carried is tensor else tensor.copy_(carried)

    def close(self) -> None:
        """Leave the group."""
        self._leave()

    def _carried(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor where the backend can take it: NCCL on the GPU, Gloo in memory."""
        return tensor.to("cuda" if self._backend == "nccl" else "cpu")

    def _sum(self, tensor: torch.Tensor) -> None:
        self._turn += 1
        try:
            work = self._connected().allreduce([tensor])
            self._wait(work.is_completed)
            work.wait()
        except CollectiveError:
            self._leave()  # else it would go on, and write to memory that the caller may give up
            raise
        except RuntimeError as error:  # a peer's connection broke
            self._leave()
            raise self._gave_up() from error

    def _connected(self) -> Any:
        if self._group is None:
            store = distributed.PrefixStore(f"epoch_{self._epoch}", self._store)
            store.set(f"here_{self.rank}", "")
            keys = [f"here_{rank}" for rank in range(self.world_size)]
            self._wait(lambda: store.check(keys))
            self._group = _make_group(self._backend, store, self.rank, self.world_size, self._timeout_s, self._host)
            self._left.clear()  # all ranks are here: the lost ones are gone, and nothing waits for them any more
        return self._group

    def _leave(self) -> None:
        if self._group is not None:
            with contextlib.suppress(RuntimeError):
                self._group.abort()
            self._left.append(self._group)
            self._group = None

    def _wait(self, is_done: Callable[[], bool]) -> None:
        start = look = time.monotonic()
        progress = distributed.PrefixStore(f"progress_{self._epoch}", self._store)
        while not is_done():
            now = time.monotonic()
            if now - look > _LOOK_S:
                look = now
                progress.set(str(self.rank), str(self._turn))
                if self.aborted:
                    raise self._gave_up()
            if now - start > self._timeout_s:
                others = [rank for rank in range(self.world_size) if rank != self.rank]
                late = [r for r in others if not progress.check([str(r)]) or int(progress.get(str(r))) < self._turn]
                raise CollectiveTimeout(f"Rank {self.rank} waited {now - start:.1f} s for rank {late} in a sum.")
            time.sleep(0 if now - start < _EAGER_S else _NAP_S)

    def _gave_up(self) -> CollectiveAborted:
        return CollectiveAborted(f"Rank {self.rank} gave up a sum: another rank failed.")


def _make_group(backend: Backend, store: Any, rank: int, world_size: int, timeout_s: float, host: str) -> Any:
    patience = datetime.timedelta(seconds=2 * timeout_s)  # our own deadline comes first, and can name the rank
    if backend == "nccl":
        if not distributed.is_nccl_available():
            raise LearnerGroupError("This build of torch has no NCCL; install one with CUDA, or train on CPUs.")
        options = distributed.ProcessGroupNCCL.Options()
        options._timeout = patience
        return distributed.ProcessGroupNCCL(store, rank, world_size, options)
    options = distributed.ProcessGroupGloo._Options()
    options._timeout = patience
    options._devices = [distributed.ProcessGroupGloo.create_device(hostname=host)]
    return distributed.ProcessGroupGloo(store, rank, world_size, options)
