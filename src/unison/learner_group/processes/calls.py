"""The driver's books: who is asked what, through which memory, since when."""

from collections.abc import Iterable, Sequence

from unison.learner_group.crew import Member
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


class WorkerProcess(Member[ProcessCall]):
    """A worker that is a process; `legacy` is what those of its rank leave to each other."""

    def __init__(self, rank: int, pid: int, channel: Channel, legacy: list[Segment]) -> None:
        super().__init__(rank)
        self.pid, self.channel, self.legacy = pid, channel, legacy
        self.descriptor = channel.fileno()
        self.last_words = Segment()

    def ask(self, call: ProcessCall, header: Header, body: bytes, files: Sequence[int] = ()) -> None:
        """Send it a call. Raises PeerGone, or TimeoutError when it has stopped reading; the call is queued even so."""
        self.asked(call)
        self.channel.send(header, body, [*call.slot.descriptors_for(self.rank), *files])

    def answered(self) -> ProcessCall:
        """Its current call is over."""
        if self.was_warned:
            self.last_words.clear()
        return super().answered()
