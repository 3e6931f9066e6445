"""The workers of one group: hires them, asks them, takes in what they answer, finds the dead and the hung."""

import os
import pickle
import select
import time
from collections.abc import Iterable
from typing import Any, final

from unison.errors import LearnerGroupError
from unison.learner_group.codec import Payload, decode, encode
from unison.learner_group.collectives import Meeting
from unison.learner_group.crew import STOPPED, Crew, Deadlines
from unison.learner_group.failures import Failure, FailureKind
from unison.learner_group.processes.calls import ProcessCall, Slot, WorkerProcess
from unison.learner_group.processes.family import Family
from unison.learner_group.processes.legacy import NUM_KEPT
from unison.learner_group.processes.wire import INLINE, INLINE_BYTES, RETAINED, Header, Kind, Packet, PeerGone
from unison.learner_group.processes.worker import Setup
from unison.learner_group.shared_memory import Segment
from unison.learner_group.uninterrupted import Interruptible

_EAGER_S = 0.003  # after a call or an answer
_LARGEST_KEPT = 16 << 20  # a larger result is rare: its memory goes back to the system


@final
class ProcessCrew(Crew[WorkerProcess, ProcessCall]):
    """Workers that are processes of this machine."""

    def __init__(self, family: Family, meeting: Meeting, setup: Setup, deadlines: Deadlines) -> None:
        super().__init__(meeting, deadlines)
        self.family = family
        self._setup = setup
        self._slots: list[Slot] = []
        self._free: list[Slot] = []
        self._num_calls = 0
        self._poll = select.poll()
        self._by_descriptor: dict[int, WorkerProcess] = {}
        self._owner = os.getpid()
        self._num_cores = len(os.sched_getaffinity(0))

    def hire(self, ranks: Iterable[int]) -> None:
        """See Crew.hire."""
        ranks = tuple(ranks)
        if not ranks:
            return
        self._make_room(ranks)
        payload = _encoded(self._setup, "The factory of the workers' objects")
        call = self._new_call("start", ranks)
        header, body = self._request(Kind.SETUP, call, payload, 0, inline=True)
        for slot in self._slots:
            slot.known_to.difference_update(ranks)
        for rank in ranks:
            before = self.workers.get(rank)
            legacy = before.legacy if before else [Segment() for _ in range(NUM_KEPT)]
            worker = self.workers[rank] = WorkerProcess(rank, *self.family.spawn(), legacy)
            self._by_descriptor[worker.descriptor] = worker
            self._poll.register(worker.descriptor, select.POLLIN)
            own = [segment.descriptor for segment in (worker.last_words, *legacy)]
            self._ask(worker, call, header._replace(value=rank), body, [*own, *self._meeting.descriptors])
        self._finish_hiring(call)

    def begin(
        self, method: str, arguments: tuple[Any, ...], keywords: dict[str, Any], ranks: Iterable[int]
    ) -> ProcessCall:
        """See Crew.begin."""
        ranks = tuple(ranks)
        if self._refuses(method, ranks):
            call = self._new_call(method, ranks)
            self._free.append(call.slot)
            return call.refuse()
        payload = _encoded((method, arguments, keywords), f"The arguments of '{method}'")
        call = self._new_call(method, ranks)
        is_idle = not any(self.workers[rank].queue for rank in ranks)
        header, body = self._request(Kind.CALL, call, payload, self._epoch, inline=is_idle)
        try:
            for rank in ranks:
                self._ask(self.workers[rank], call, header, body)
        except BaseException:  # some ranks wait for others that were not asked
            self._abort()
            raise
        if not ranks:
            self._free.append(call.slot)
        return call

    @property
    def is_own(self) -> bool:
        """Whether this process hired them; a fork of that one did not."""
        return os.getpid() == self._owner

    def dismiss(self) -> None:
        """Let all workers go; idle ones end by themselves, and their Family sees to the others."""
        if not self.is_own:
            return
        for worker in self.workers.values():
            if not worker.failure:
                self._lose(worker, "died", STOPPED, kill=bool(worker.queue))
        self._meeting.close()

    def _new_call(self, method: str, ranks: tuple[int, ...]) -> ProcessCall:
        if not self._free:
            slot = Slot(len(self._slots), self._setup.world_size)
            self._slots.append(slot)
            self._free.append(slot)
        self._num_calls += 1
        return ProcessCall(method, ranks, self._num_calls, self._free.pop())

    def _request(
        self, kind: Kind, call: ProcessCall, payload: Payload, value: int, *, inline: bool
    ) -> tuple[Header, bytes]:
        """The packet of a call. Packets to busy workers stay small: so many fit into a channel that nobody waits."""
        inline = inline and payload.size <= INLINE_BYTES
        flags = INLINE if inline else 0
        header = Header(kind, flags, call.slot.index, len(payload.skeleton), call.number, value, payload.size)
        if inline:
            return header, payload.join()
        try:
            payload.write(call.slot.request)
        except BaseException:
            self._free.append(call.slot)
            raise
        return header, b""

    def _ask(
        self, worker: WorkerProcess, call: ProcessCall, header: Header, body: bytes, files: Iterable[int] = ()
    ) -> None:
        try:
            worker.ask(call, header, body, tuple(files))
        except PeerGone:
            self._lose(worker, "died")
        except TimeoutError as error:
            self._lose(worker, "hung", str(error), kill=True)

    def _take_in(self, wait_s: float, limit_s: float) -> None:
        """See Crew."""
        with Interruptible():
            told = self._awaited(wait_s)
        for descriptor, _ in told:
            worker = self._by_descriptor.get(descriptor)
            try:
                while worker and (packet := worker.channel.receive(wait=False)):
                    if worker.queue and packet.header.number == worker.queue[0].number:  # else its asking was cut short
                        self._file(worker, packet)
                    if not worker.queue:
                        break
            except PeerGone:
                if worker:
                    self._lose(worker, "died")
        self._look_for_overdue(limit_s)

    def _awaited(self, wait_s: float) -> list[tuple[int, int]]:
        """The descriptors that have something to tell, or none after `wait_s` seconds.

        Where the workers that are busy leave a core free, the first moments after a call and after an answer are spent
        without sleep: waking takes long.
        """
        start, until = time.monotonic(), 0.0
        num_busy = sum(bool(worker.queue) for worker in self.workers.values())
        if 0 < num_busy < self._num_cores:
            until = min(start + wait_s, max(worker.busy_since for worker in self.workers.values()) + _EAGER_S)
        while not (events := self._poll.poll(0)) and time.monotonic() < until:
            os.sched_yield()
        return events or self._poll.poll(max(0.0, start + wait_s - time.monotonic()) * 1000)

    def _file(self, worker: WorkerProcess, packet: Packet) -> None:
        header, call = packet.header, worker.queue[0]
        try:
            if header.flags & INLINE:
                memory = bytearray(packet.body)
            else:
                memory = call.slot.results[worker.rank].read(header.size)
                if header.size > _LARGEST_KEPT:
                    call.slot.results[worker.rank].clear()
            value = decode(memoryview(memory), header.skeleton)
            failure = value.failure(worker.rank) if header.kind == Kind.FAILED else None
        except Exception as error:
            reason = f"its result can't be read here: {error!r}"
            value, failure = None, Failure(worker.rank, "raised", reason, exception=error)
        call.request_is_retained |= bool(header.flags & RETAINED)
        self._close_call(worker, failure, value)

    def _call_is_over(self, call: ProcessCall) -> None:
        if call.request_is_retained:
            call.slot.renew_request()
        self._free.append(call.slot)

    def _ask_for_stack(self, worker: WorkerProcess) -> None:
        self.family.dump(worker.pid)

    def _lose(self, worker: WorkerProcess, kind: FailureKind, reason: str = "", *, kill: bool = False) -> None:
        """See Crew."""
        self._poll.unregister(worker.descriptor)
        del self._by_descriptor[worker.descriptor]
        if kill:
            self.family.kill(worker.pid)
        worker.channel.close()
        end = "" if reason == STOPPED else self.family.exit_of(worker.pid)
        words = worker.last_words.read().decode(errors="replace")
        if kind == "hung" and not words:
            words = "(no stack: the process was stopped, or blocked in the kernel)"
        worker.failure = Failure(worker.rank, kind, reason or end, words)
        while worker.queue:
            self._close_call(worker, worker.failure)


def _encoded(value: object, what: str) -> Payload:
    try:
        return encode(value)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise LearnerGroupError(f"{what} can't be sent to another process: {error}") from error
