"""A worker: hosts one object and calls its methods as the driver says."""

import faulthandler
import os
import random
import signal
import socket
import sys
from typing import Any, NamedTuple

import numpy as np
import torch

from unison.learner_group.codec import Payload, decode, encode
from unison.learner_group.collectives import Collective, CollectiveAborted, Joiner
from unison.learner_group.complaint import Complaint
from unison.learner_group.processes.legacy import NUM_KEPT, SharedLegacy
from unison.learner_group.processes.wire import INLINE, INLINE_BYTES, RETAINED, Channel, Header, Kind, Packet, PeerGone
from unison.learner_group.shared_memory import Segment
from unison.learner_group.transport import Factory, WorkerContext

_FOREVER_S = 1e6
_PATIENCE_S = 0.001  # between two short updates in a row


class Setup(NamedTuple):
    """What a worker is told first. Its rank is in the header; the files of its last words, legacy and meeting too."""

    world_size: int
    num_threads: int
    joiner: Joiner
    factory: Factory


def main(descriptor: int) -> None:
    """Serve the driver at the other end of the socket until it closes it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    random.seed()
    np.random.seed()  # a fork repeats numpy's global state
    channel = Channel(socket.socket(fileno=descriptor))
    try:
        Worker(channel).serve()
    except PeerGone:
        pass
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


class Worker:
    """Holds the object, the collective, and the shared segments of each slot."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._hosted: Any = None
        self._collective: Collective | None = None
        self._slots: dict[int, tuple[Segment, Segment]] = {}

    def serve(self) -> None:
        """Answer packets in the order in which they come."""
        while True:
            self._answer(self._channel.receive_soon(_PATIENCE_S))

    def _answer(self, packet: Packet) -> None:
        header, flags = packet.header, 0
        if packet.descriptors:
            request, result = packet.descriptors[:2]
            self._slots[header.slot] = Segment(request), Segment(result)
        try:
            if header.flags & INLINE:
                answer, body = self._perform(packet, memoryview(bytearray(packet.body)))
            else:
                mapping = self._slots[header.slot][0].map(header.size, private=True)
                answer, body = self._perform(packet, memoryview(mapping))
                try:
                    mapping.close()
                except BufferError:  # the object keeps views of it: the driver must not write there again
                    flags = RETAINED
        except OSError as error:
            answer, body = _failed(error)
        answer = answer._replace(flags=answer.flags | flags, slot=header.slot, number=header.number)
        self._channel.send(answer, body, timeout=_FOREVER_S)

    def _perform(self, packet: Packet, memory: memoryview) -> tuple[Header, bytes]:
        """Do what the packet asks; nothing of the request is referred to afterwards, unless the object keeps it."""
        header = packet.header
        try:
            if header.kind == Kind.SETUP:
                self._set_up(decode(memory, header.skeleton), header.value, packet.descriptors[2:])
                return self._done(encode(None), header.slot)
            if self._collective is None:
                raise RuntimeError("This worker has no object: its factory failed.")
            self._collective.join(header.value)
            if self._collective.aborted:
                raise CollectiveAborted("It was called after another rank had failed, and did nothing.")
            method, arguments, keywords = decode(memory, header.skeleton)
            return self._done(encode(getattr(self._hosted, method)(*arguments, **keywords)), header.slot)
        except BaseException as error:  # whatever it is, the driver decides
            if self._collective is not None:
                self._collective.abort()
            return _failed(error)

    def _done(self, payload: Payload, slot: int) -> tuple[Header, bytes]:
        header = Header(Kind.DONE, skeleton=len(payload.skeleton), size=payload.size)
        if payload.size <= INLINE_BYTES:
            return header._replace(flags=INLINE), payload.join()
        payload.write(self._slots[slot][1])
        return header, b""

    def _set_up(self, setup: Setup, rank: int, descriptors: list[int]) -> None:
        last_words, *others = descriptors
        legacy, meeting = SharedLegacy([Segment(file) for file in others[:NUM_KEPT]]), others[NUM_KEPT:]
        faulthandler.enable(file=last_words)
        faulthandler.register(signal.SIGUSR1, file=last_words)
        torch.set_num_threads(setup.num_threads)
        self._collective = setup.joiner(rank, meeting)
        gpu = rank % max(1, torch.cuda.device_count())  # all processes see all GPUs
        self._hosted = setup.factory(WorkerContext(rank, setup.world_size, self._collective, legacy, gpu))


def _failed(error: BaseException) -> tuple[Header, bytes]:
    """An answer that tells of an exception."""
    payload = encode(Complaint.about(error))
    return Header(Kind.FAILED, INLINE, skeleton=len(payload.skeleton), size=payload.size), payload.join()
