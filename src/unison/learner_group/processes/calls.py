"""The driver's books: who is asked what, through which memory, since when."""

import time
from collections import deque
from collections.abc import Iterable, Sequence

from unison.learner_group.failures import Failure
from unison.learner_group.processes.wire import Channel, Header
from unison.learner_group.running_call import RunningCall
from unison.learner_group.shared_memory import Segment


class Slot:
    """The shared segments that one call at a time uses: the request, and a result per rank."""

    def __init__(self, index: int, num_workers: int) -> None:
        self.index = index
        self.request = Segment()
        self.results = [Segment() for _ in range(num_workers)]
        self.known_to: set[int] = set()

    def renew_request(self) -> None:
        """Leave the request's memory to a worker that still looks at it, and take another."""
        self.request = Segment()
        self.known_to.clear()

    def descriptors_for(self, rank: int) -> list[int]:
        """The segments' descriptors the first time that a worker needs them."""
        if rank in self.known_to:
            return []
        self.known_to.add(rank)
        return [self.request.descriptor, self.results[rank].descriptor]


class ProcessCall(RunningCall):
    """A call of worker processes."""

    def __init__(self, method: str, ranks: Iterable[int], number: int, slot: Slot) -> None:
        super().__init__(method, ranks)
        self.number, self.slot = number, slot
        self.request_is_retained = False


class WorkerProcess:
    """A worker as its driver knows it; `legacy` is what those of its rank leave to each other."""

    def __init__(self, rank: int, pid: int, channel: Channel, legacy: list[Segment]) -> None:
        self.rank, self.pid, self.channel, self.legacy = rank, pid, channel, legacy
        self.descriptor = channel.fileno()
        self.last_words = Segment()
        self.queue: deque[ProcessCall] = deque()
        self.failure: Failure | None = None  # set when it is lost
        self.busy_since = 0.0
        self.was_warned = False

    def ask(self, call: ProcessCall, header: Header, body: bytes, files: Sequence[int] = ()) -> None:
        """Send it a call. Raises PeerGone, or TimeoutError when it has stopped reading; the call is queued even so."""
        if not self.queue:
            self.busy_since, self.was_warned = time.monotonic(), False
        try:
            self.channel.send(header, body, [*call.slot.descriptors_for(self.rank), *files])
        finally:
            self.queue.append(call)

    def answered(self) -> ProcessCall:
        """Its current call is over."""
        if self.was_warned:
            self.last_words.clear()
        self.busy_since, self.was_warned = time.monotonic(), False
        return self.queue.popleft()
