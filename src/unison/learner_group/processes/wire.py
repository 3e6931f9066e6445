"""Packets between the driver, the nursery and the workers: a header, some bytes, some descriptors."""

import contextlib
import os
import select
import socket
import struct
import time
from array import array
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

_HEADER = struct.Struct("<BBHIQQQ")
_ANCILLARY_BYTES = socket.CMSG_SPACE(253 * array("i").itemsize)  # SCM_MAX_FD of Linux
INLINE_BYTES = 32 << 10
"""Payloads up to this size travel inside the packet, larger ones through shared memory."""


class Kind(IntEnum):
    """What a packet is about."""

    SETUP = 1  # driver to worker: who you are and how to make your object
    CALL = 2  # driver to worker: call a method
    DONE = 3  # worker to driver: its result
    FAILED = 4  # worker to driver: its exception
    SPAWN = 5  # driver to nursery: make a worker at the other end of this socket; answered with its pid
    KILL = 6  # driver to nursery: kill the worker with this pid
    DUMP = 7  # driver to nursery: have this worker write its stack to its last words
    EXITED = 8  # nursery to driver: pid and wait status of a worker that ended


class Header(NamedTuple):
    """The fixed part of a packet."""

    kind: int
    flags: int = 0
    slot: int = 0  # which pair of segments the call may use
    skeleton: int = 0  # bytes of the payload's skeleton
    number: int = 0  # of a call; a process id to and from the nursery
    value: int = 0  # the epoch of a call, the rank of a setup, the wait status of an exit
    size: int = 0  # bytes of the payload


INLINE, RETAINED = 1, 2
"""Flags: the payload is in this packet; the worker still holds views of the request."""


class Packet(NamedTuple):
    """What arrived."""

    header: Header
    body: bytes
    descriptors: list[int]


class PeerGone(Exception):
    """The process at the other end has ended, or closed its end."""


class Channel:
    """One end of a local socket that keeps packets whole and in order."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end

    @classmethod
    def pair(cls) -> tuple["Channel", socket.socket]:
        """A channel, and the bare other end for another process."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(ours), theirs

    def fileno(self) -> int:
        """The descriptor, for polling."""
        return self.socket.fileno()

    def send(self, header: Header, body: bytes = b"", descriptors: Sequence[int] = (), timeout: float = 60.0) -> None:
        """Send a packet; raises PeerGone, or TimeoutError when the other end has not read for `timeout` seconds."""
        parts = [_HEADER.pack(*header), body]
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))] if descriptors else []
        while True:
            try:
                self.socket.sendmsg(parts, ancillary, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
                return
            except BlockingIOError:
                poll = select.poll()
                poll.register(self.socket, select.POLLOUT)
                if not poll.poll(timeout * 1000):
                    raise TimeoutError(f"The other end has not read for {timeout} s.") from None
            except OSError as error:
                raise PeerGone(str(error)) from error

    def receive(self, *, wait: bool = True) -> Packet | None:
        """The next packet; None when there is none yet and `wait` is False. Raises PeerGone."""
        flags = socket.MSG_CMSG_CLOEXEC | (0 if wait else socket.MSG_DONTWAIT)
        try:
            data, ancillary, _, _ = self.socket.recvmsg(_HEADER.size + INLINE_BYTES, _ANCILLARY_BYTES, flags)
        except BlockingIOError:
            return None
        except OSError as error:
            raise PeerGone(str(error)) from error
        if not data:
            raise PeerGone("closed")
        descriptors = array("i")
        for _, _, files in ancillary:
            descriptors.frombytes(files)
        return Packet(Header(*_HEADER.unpack_from(data)), data[_HEADER.size :], list(descriptors))

    def receive_soon(self, patience_s: float) -> Packet:
        """The next packet, expected within `patience_s` seconds: until then without sleep, for waking takes long.

        Other processes may have the processor meanwhile. Raises PeerGone.
        """
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            if packet := self.receive(wait=False):
                return packet
            os.sched_yield()
        packet = self.receive()
        assert packet is not None
        return packet

    def close(self) -> None:
        """Close this end; the other one sees PeerGone, even if a fork of this process holds a copy."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
