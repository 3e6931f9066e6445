"""Collectives through shared memory, for ranks on the CPUs of one machine.

Each rank owns two buffers, used in turns, and one line of a board of words. A sum is: copy into
the own buffer, advance the own word, wait until all words have advanced, read the others' buffers. A rank
that has reached turn t has seen all others at t-1, past their reading of turn t-2: so the buffer of turn
t-2 is free again, and one wait per sum is enough.

Every element is added in rank order, on every rank alike or once by one rank: sums are bit-identical.
Words only grow (a new epoch starts above all turns of the last one), so none is ever stale.
"""

import ctypes
import mmap
import os
import threading
import time
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch

from unison.learner.shared_buffers import SharedBuffers
from unison.learner_group.collectives.collective import (
    Collective,
    CollectiveAborted,
    CollectiveError,
    CollectiveTimeout,
    Joiner,
    Meeting,
)
from unison.learner_group.shared_memory import Segment

_LINE = 16  # int64 words per rank: 128 bytes, so that ranks never share a cache line
_ARRIVED, _REDUCED, _BYTES, _TURN = 0, 1, 2, 4  # columns of a line; bytes of even turns, and then those of odd ones
_EPOCH_TURNS = 1 << 40
_MOST_VIEWS = 256
_SLICED_FROM = 1 << 16  # from this many numbers on, 3 ranks and more add one slice each
_SPINS, _YIELD_S, _NAP_S = 300, 0.002, 0.0001


class SharedMemoryMeeting(Meeting):
    """The driver's part: makes the segments, aborts."""

    def __init__(self, world_size: int, timeout_s: float) -> None:
        self._segments = [Segment() for _ in range(1 + 2 * world_size)]
        self._segments[0].reserve((1 + world_size) * _LINE * 8)
        self._abort_word = _words(self._segments[0], 1)
        self._world_size, self._timeout_s = world_size, timeout_s
        self.descriptors = [segment.descriptor for segment in self._segments]

    def joiner(self) -> Joiner:
        """Makes a SharedMemoryCollective."""
        return partial(_join, world_size=self._world_size, timeout_s=self._timeout_s)

    def abort(self, epoch: int) -> None:
        """Ranks that wait see it within microseconds to a millisecond."""
        self._abort_word[0] = max(epoch, self._abort_word[0])

    def close(self) -> None:
        """Give up the descriptors; the memory goes with its last rank."""
        for segment in self._segments:
            segment.close()


def _join(rank: int, descriptors: Sequence[int], *, world_size: int, timeout_s: float) -> "SharedMemoryCollective":
    return SharedMemoryCollective(rank, world_size, [Segment(descriptor) for descriptor in descriptors], timeout_s)


def _words(segment: Segment, count: int) -> memoryview:
    return memoryview(segment.map(count * 8)).cast("q")


class SharedMemoryCollective(Collective):
    """One rank's part; made by the joiner of a SharedMemoryMeeting."""

    def __init__(self, rank: int, world_size: int, segments: Sequence[Segment], timeout_s: float) -> None:
        self.rank, self.world_size = rank, world_size
        self._timeout_s = timeout_s
        self._words = _words(segments[0], (1 + world_size) * _LINE)  # line 0 holds the abort word
        self._segments = segments
        self._buffers: dict[tuple[int, int], torch.Tensor] = {}
        self._views: dict[tuple[int, int, torch.dtype], list[torch.Tensor]] = {}
        self._others = [other for other in range(world_size) if other != rank]
        self._fence = threading.Lock()
        self._fence.acquire()
        self._line = (1 + rank) * _LINE
        self._epoch = 0
        self.shared_buffers = self._shared = self._describe()
        self.join(1)

    def join(self, epoch: int) -> None:
        """Start counting turns above all those of earlier epochs."""
        if epoch != self._epoch:
            self._epoch = epoch
            self._words[self._line + _TURN] = epoch * _EPOCH_TURNS

    def abort(self) -> None:
        """Write the epoch into the abort word."""
        self._words[0] = max(self._epoch, self._words[0])

    @property
    def _turn(self) -> int:
        """It lies on the board, for whoever takes turns in this rank's place."""
        return self._words[self._line + _TURN]

    @property
    def aborted(self) -> bool:
        """Whether the abort word has reached this epoch."""
        return self._words[0] >= self._epoch

    def all_reduce_(self, tensor: torch.Tensor) -> torch.Tensor:
        """Add in rank order: the whole tensor on every rank, or a slice each where that is less work."""
        flat = _flat(tensor)
        self._meet(flat)
        parts = self._parts(flat)
        if self.world_size > 2 and flat.numel() >= _SLICED_FROM:
            self._reduce_sliced(flat, parts)
        else:
            if self.rank < 2:  # The own numbers are nearer than the buffer's, until a sum is written over them.
                parts = [flat if rank == self.rank else part for rank, part in enumerate(parts)]
            _add_up(parts, flat)
        self._offer_buffers()
        return tensor

    def close(self) -> None:
        """Drop the mappings."""
        self._shared.size = 0
        self._views.clear()
        self._buffers.clear()
        for segment in self._segments:
            segment.close()

    def _reduce_sliced(self, flat: torch.Tensor, parts: list[torch.Tensor]) -> None:
        """Add up the own slice, put it into the own buffer (where nobody else reads it before), collect the others."""
        bounds = [flat.numel() * rank // self.world_size for rank in range(self.world_size + 1)]
        slices = [slice(start, stop) for start, stop in pairwise(bounds)]
        mine = slices[self.rank]
        _add_up([part[mine] for part in parts], flat[mine])
        parts[self.rank][mine].copy_(flat[mine])
        self._advance(_REDUCED)
        for other in self._others:
            flat[slices[other]].copy_(parts[other][slices[other]])

    def _meet(self, flat: torch.Tensor) -> None:
        """Offer a tensor at the next turn, wait until all ranks are there, see that all came with as many bytes."""
        self._words[self._line + _TURN] += 1
        self._own_part(flat).copy_(flat)
        column = _BYTES + (self._turn & 1)
        self._words[self._line + column] = flat.nbytes
        self._advance(_ARRIVED)
        for other in self._others:
            theirs = self._words[(1 + other) * _LINE + column]
            if theirs != flat.nbytes:
                raise CollectiveError(
                    f"Rank {self.rank} came to sum {flat.nbytes} bytes while rank {other} came to sum {theirs}: "
                    "all ranks must sum tensors of equal sizes in the same order."
                )

    def _parts(self, like: torch.Tensor) -> list[torch.Tensor]:
        """The buffers of all ranks at this turn, seen as flat tensors like the one given."""
        key = (self._turn & 1, like.numel(), like.dtype)
        parts = self._views.get(key)
        if parts is None:
            if len(self._views) > _MOST_VIEWS:
                self._views.clear()
            parts = [self._part(rank, like) for rank in range(self.world_size)]
            self._views[key] = parts  # only now: making them may have cleared the views
        return parts

    def _own_part(self, like: torch.Tensor) -> torch.Tensor:
        """The own buffer at this turn; those of the others may not be there yet."""
        parts = self._views.get((self._turn & 1, like.numel(), like.dtype))
        return self._part(self.rank, like) if parts is None else parts[self.rank]

    def _part(self, rank: int, like: torch.Tensor) -> torch.Tensor:
        return self._buffer(rank, like.nbytes)[: like.nbytes].view(like.dtype)

    def _buffer(self, rank: int, size: int) -> torch.Tensor:
        """The bytes of a rank's buffer at this turn; its owner makes it longer before the others hear of it."""
        parity = self._turn & 1
        buffer = self._buffers.get((parity, rank))
        if buffer is None or buffer.numel() < size:
            segment = self._segments[1 + 2 * rank + parity]
            length = -(-max(size, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
            if rank == self.rank:
                segment.reserve(length)
            buffer = self._buffers[parity, rank] = torch.frombuffer(segment.map(length), dtype=torch.uint8)
            self._views.clear()
            self._shared.size = 0
        return buffer

    def _describe(self) -> SharedBuffers:
        """Everything but the buffers, which the ranks have yet to make."""
        return SharedBuffers(
            rank=self.rank,
            world_size=self.world_size,
            words=torch.frombuffer(self._words, dtype=torch.int64).data_ptr(),
            line=_LINE,
            turn=_TURN,
            arrived=_ARRIVED,
            bytes=_BYTES,
        )

    def _offer_buffers(self) -> None:
        """Let code that is not Python sum what all buffers have room for, the way `_add_up` does for two and more."""
        if self._shared.size or not self._others or len(self._buffers) < 2 * self.world_size:
            return
        order = [self._buffers[parity, rank] for parity in (0, 1) for rank in range(self.world_size)]
        self._shared.buffers = (ctypes.c_void_p * len(order))(*(buffer.data_ptr() for buffer in order))
        size = min(buffer.numel() for buffer in order)
        self._shared.size = size if self.world_size == 2 else min(size, (_SLICED_FROM - 1) * 4)

    def _advance(self, column: int) -> None:
        """Publish what was written, then wait until all other ranks have got as far."""
        words, turn = self._words, self._turn
        self._order_memory()
        words[self._line + column] = turn
        for other in self._others:
            index = (1 + other) * _LINE + column
            for _ in range(_SPINS):
                if words[index] >= turn:
                    break
            else:
                self._wait(index, column)
        self._order_memory()

    def _order_memory(self) -> None:
        """Keep memory accesses before this line before those after it, also on processors that reorder them.

        A release of a lock followed by an acquire orders both sides of it: neither moves across the pair.
        """
        self._fence.release()
        self._fence.acquire()

    def _wait(self, index: int, column: int) -> None:
        start = time.monotonic()
        while self._words[index] < self._turn:
            if self.aborted:
                raise CollectiveAborted(f"Rank {self.rank} gave up a sum: another rank failed.")
            waited = time.monotonic() - start
            if waited > self._timeout_s:
                late = [r for r in self._others if self._words[(1 + r) * _LINE + column] < self._turn]
                raise CollectiveTimeout(f"Rank {self.rank} waited {waited:.1f} s for rank {late} in a sum.")
            if waited < _YIELD_S:
                os.sched_yield()
            else:
                time.sleep(_NAP_S)


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor as one row of numbers."""
    if not (tensor.is_cpu and tensor.is_contiguous()):
        raise CollectiveError(
            "A sum through shared memory needs a contiguous CPU tensor, not one with strides "
            f"{tensor.stride()} on {tensor.device}; use the collective 'nccl' on GPUs."
        )
    return tensor if tensor.ndim == 1 else tensor.view(-1)


def _add_up(parts: Sequence[torch.Tensor], out: torch.Tensor) -> None:
    if len(parts) == 1:
        out.copy_(parts[0])
        return
    torch.add(parts[0], parts[1], out=out)
    for part in parts[2:]:
        out.add_(part)
