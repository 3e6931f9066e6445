"""A worker on a Ray cluster: hosts one object and calls its methods as the driver says."""

import os
import sys
import threading
import traceback
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from unison.learner_group.codec import decode, encode
from unison.learner_group.collectives import Collective, CollectiveAborted, Joiner
from unison.learner_group.complaint import Complaint
from unison.learner_group.legacy import Legacy
from unison.learner_group.ray.references import fill
from unison.learner_group.transport import Factory, WorkerContext

NUM_KEPT = 3
"""Values of a legacy."""
_INLINE_BYTES = 64 << 10  # Ray sends less than 100 KiB beside the call, not through its store


class Message(NamedTuple):
    """An encoded object: the bytes of the skeleton's size, then its arrays."""

    skeleton: int
    body: "bytes | np.ndarray[Any, Any]"

    @classmethod
    def of(cls, value: object) -> "Message":
        """Encode; arrays of a large object are kept out of the pickle, and go through the store as they are."""
        payload = encode(value)
        body = payload.join()
        large = len(body) > _INLINE_BYTES
        return cls(len(payload.skeleton), np.frombuffer(body, np.uint8) if large else body)

    @property
    def is_small(self) -> bool:
        """Whether it should travel beside the call."""
        return isinstance(self.body, bytes)

    def open(self) -> Any:
        """The object again; its arrays are writable, and belong to whoever opened it."""
        return decode(memoryview(bytearray(self.body)), self.skeleton)


class Answer(NamedTuple):
    """What a call came to: its result, or a Complaint; and whether something new was left meanwhile."""

    is_result: bool
    message: Message
    has_left: bool


class StoredLegacy(Legacy):
    """Goes to the driver beside each answer, which keeps a reference to it in the object store.

    Args:
        found: what was left before, the newest first.
    """

    def __init__(self, found: Sequence["Message"]) -> None:
        self._found = list(found)
        self.fresh: Message | None = None
        """What was left since the last answer."""

    def leave(self, value: Any) -> None:
        """Take a copy."""
        self.fresh = Message.of(value)
        self._found = [self.fresh, *self._found][:NUM_KEPT]

    def find(self) -> list[Any]:
        """Open them all."""
        return [message.open() for message in self._found]


class Setup(NamedTuple):
    """What a worker is told first."""

    world_size: int
    num_threads: int
    joiner: Joiner
    factory: Factory


class RayWorker:
    """Holds the object and the collective. `serve` runs in one thread; `pid`, `stack` and `end` in others."""

    def __init__(self) -> None:
        self._hosted: Any = None
        self._legacy = StoredLegacy([])
        self._collective: Collective | None = None
        self._failed_epoch = 0
        self._thread: int | None = None

    def serve(self, task: str, number: int, message: Message, *objects: Any) -> tuple[Answer, Message | None]:
        """Set up as rank `number`, or call a method in epoch `number`; the answer, and what was left meanwhile."""
        self._thread = threading.get_ident()
        try:
            is_result, told = True, Message.of(getattr(self, f"_{task}")(number, message, objects))
        except BaseException as error:  # whatever it is, the driver decides
            if task == "call":
                self._failed_epoch = number
            if self._collective is not None:
                self._collective.abort()
            is_result, told = False, Message.of(Complaint.about(error))
        fresh, self._legacy.fresh = self._legacy.fresh, None
        return Answer(is_result, told, fresh is not None), fresh

    def pid(self) -> int:
        """The process id."""
        return os.getpid()

    def stack(self) -> str:
        """Where `serve` is."""
        frame = sys._current_frames().get(self._thread or 0)  # pyright: ignore[reportPrivateUsage]  (documented)
        return "".join(traceback.format_stack(frame)) if frame else ""

    def end(self) -> None:
        """Returns never: this call ends with the process, and so tells of its end."""
        threading.Event().wait()

    def _set_up(self, rank: int, message: Message, objects: Sequence[Any]) -> None:
        # Each part by itself: what it is made of may only be found with the driver's path.
        sys.path += [place for place in objects[0] if place not in sys.path and os.path.isdir(place)]
        setup: Setup = message.open()
        torch.set_num_threads(setup.num_threads)
        self._collective = setup.joiner(rank, ())
        self._legacy = StoredLegacy(objects[1:])
        self._hosted = setup.factory(WorkerContext(rank, setup.world_size, self._collective, self._legacy))

    def _call(self, epoch: int, message: Message, objects: Sequence[Any]) -> Any:
        if self._collective is None:
            raise RuntimeError("This worker has no object: its factory failed.")
        self._collective.join(epoch)
        if epoch <= self._failed_epoch or self._collective.aborted:
            raise CollectiveAborted("It was called after a failure, and did nothing.")
        method, arguments, keywords = message.open()
        owned = [Message.of(value).open() for value in objects]  # in the store, they are read-only
        arguments = [fill(value, owned) for value in arguments]
        keywords = {name: fill(value, owned) for name, value in keywords.items()}
        return getattr(self._hosted, method)(*arguments, **keywords)
