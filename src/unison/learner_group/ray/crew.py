"""The workers of one group on a cluster: makes them, asks them, takes in what they answer, finds the dead and hung."""

import logging
import sys
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, final

from unison.errors import LearnerGroupError
from unison.learner_group.collectives import Meeting
from unison.learner_group.crew import STOPPED, Crew, Deadlines, Member
from unison.learner_group.failures import Failure, FailureKind
from unison.learner_group.ray.cluster import ActorGone, ActorHandle, RayCluster, Ref
from unison.learner_group.ray.references import lift
from unison.learner_group.ray.worker import NUM_KEPT, Answer, Message, Setup
from unison.learner_group.running_call import RunningCall

_END_S = 5.0  # for Ray to tell of the end of an actor
_PAUSE_S = 0.5  # before an actor is placed again
_log = logging.getLogger("unison")


class RayCall(RunningCall):
    """A call of actors.

    Args:
        objects: what the caller handed in by reference; a rank that waits for them is not silent.
    """

    def __init__(self, method: str, ranks: Iterable[int], objects: Sequence[Ref] = ()) -> None:
        super().__init__(method, ranks)
        self.answers: dict[int, Ref] = {}
        self.left: dict[int, Ref] = {}
        self.awaited = list(objects)


class RayRank(Member[RayCall]):
    """A worker that is an actor.

    Args:
        rank: of the worker.
        legacy: what those of its rank leave to each other, the oldest first.
        actor: its process; the call `end` ends with it.
    """

    def __init__(self, rank: int, legacy: "deque[Ref]", actor: ActorHandle) -> None:
        super().__init__(rank)
        self.legacy = legacy
        self.live_in(actor)

    def live_in(self, actor: ActorHandle) -> None:
        """From now on, this actor is the worker."""
        self.actor = actor
        self.end: Ref = actor.end.remote()
        self.pid: Ref = actor.pid.remote()
        self.stack: Ref = None

    def send(self, call: RayCall, task: str, number: int, message: "Message | Ref", objects: Sequence[Any]) -> None:
        """Send it a call, or the one that it has not answered once more."""
        serve = self.actor.serve.options(num_returns=2)
        call.answers[self.rank], call.left[self.rank] = serve.remote(task, number, message, *objects)


@final
class RayCrew(Crew[RayRank, RayCall]):
    """Workers that are actors on a cluster."""

    def __init__(
        self, cluster: RayCluster, group: Any, resources: dict[str, float], meeting: Meeting, setup: Setup, d: Deadlines
    ) -> None:
        super().__init__(meeting, d)
        self._cluster, self._group, self._resources, self._setup = cluster, group, resources, setup

    def hire(self, ranks: Iterable[int]) -> None:
        """See Crew.hire."""
        ranks = tuple(ranks)
        self._make_room(ranks)
        call, message = RayCall("start", ranks), self._setup_message()
        left = {rank: self._still_there(rank) for rank in ranks}
        for rank in ranks:
            legacy: deque[Ref] = self.workers[rank].legacy if rank in self.workers else deque(maxlen=NUM_KEPT)
            self.workers[rank] = RayRank(rank, legacy, self._new_actor(rank))
        for rank in ranks:
            self._set_up(self.workers[rank], call, message, left[rank])
            self.workers[rank].asked(call)
        self._finish_hiring(call)

    def begin(self, method: str, arguments: tuple[Any, ...], keywords: dict[str, Any], ranks: Iterable[int]) -> RayCall:
        """See Crew.begin."""
        ranks = tuple(ranks)
        if self._refuses(method, ranks):
            return RayCall(method, ranks).refuse()
        objects: list[Ref] = []
        lifted = [lift(value, self._cluster.is_ref, objects) for value in arguments]
        lifted_keywords = {name: lift(value, self._cluster.is_ref, objects) for name, value in keywords.items()}
        message = self._message((method, lifted, lifted_keywords), f"The arguments of '{method}'")
        call = RayCall(method, ranks, objects)
        try:
            for rank in ranks:
                self.workers[rank].send(call, "call", self._epoch, message, objects)
                self.workers[rank].asked(call)
        except BaseException:  # some ranks wait for others that were not asked
            self._abort()
            raise
        return call

    def dismiss(self) -> None:
        """End all workers."""
        for worker in self.workers.values():
            if not worker.failure:
                self._lose(worker, "died", STOPPED, kill=True)
        if self._cluster.is_alive:
            self._meeting.close()

    def pids(self) -> list[int]:
        """The process ids, by rank, of workers that are not lost."""
        return [self._cluster.get(worker.pid) for _, worker in sorted(self.workers.items()) if not worker.failure]

    def _new_actor(self, rank: int) -> ActorHandle:
        return self._cluster.spawn(self._group, rank, self._resources)

    def _setup_message(self) -> "Message | Ref":
        return self._message(self._setup, "The factory of the workers' objects")

    def _set_up(self, worker: RayRank, call: RayCall, message: "Message | Ref", left: Sequence[Ref]) -> None:
        worker.send(call, "set_up", worker.rank, message, [list(sys.path), *left])

    def _still_there(self, rank: int) -> list[Ref]:
        """The legacy of a rank, the newest first, without what was lost with a node."""
        newest_first = list(reversed(self.workers[rank].legacy)) if rank in self.workers else []
        there = set(self._cluster.ready(newest_first, 0.0))
        return [ref for ref in newest_first if ref in there and self._cluster.is_intact(ref)]

    def _message(self, value: object, what: str) -> "Message | Ref":
        """Encoded once for all ranks; in the object store, unless it is small."""
        try:
            message = Message.of(value)
        except Exception as error:
            raise LearnerGroupError(f"{what} can't be sent to another process: {error}") from error
        return message if message.is_small else self._cluster.put(message)

    def _take_in(self, wait_s: float, limit_s: float) -> None:
        """See Crew."""
        alive = [worker for worker in self.workers.values() if not worker.failure]
        heads = {worker.queue[0].answers[worker.rank]: worker for worker in alive if worker.queue}
        there = set(self._cluster.ready([*heads, *(worker.end for worker in alive)], wait_s))
        for ref, worker in heads.items():
            if ref in there and not worker.failure:
                self._file(worker, ref)
        for worker in alive:  # what it answered before its end counts
            if worker.end in there and not worker.failure and not self._has_answered(worker):
                self._see_end(worker)
        for worker in alive:
            if worker.queue:
                self._wait_for_objects_of(worker)
        self._look_for_overdue(limit_s)

    def _has_answered(self, worker: RayRank) -> bool:
        return bool(worker.queue and self._cluster.ready([worker.queue[0].answers[worker.rank]], 0.0))

    def _wait_for_objects_of(self, worker: RayRank) -> None:
        """Time stands still until all that the caller handed in by reference has come to be."""
        call = worker.queue[0]
        if call.awaited:
            there = self._cluster.ready(call.awaited, 0.0)
            call.awaited = [ref for ref in call.awaited if ref not in there]
            worker.busy_since = time.monotonic()

    def _file(self, worker: RayRank, ref: Ref) -> None:
        value: Any = None
        failure: Failure | None = None
        try:
            answer: Answer = self._cluster.get(ref)
            value = answer.message.open()
            if answer.has_left:
                worker.legacy.append(worker.queue[0].left[worker.rank])
            if not answer.is_result:
                failure = value.failure(worker.rank)
        except ActorGone as error:
            if self._cluster.ready([worker.end], _END_S):
                self._see_end(worker)
                return
            failure = Failure(worker.rank, "raised", str(error), exception=error.__cause__)
        except Exception as error:
            # What a call raises by itself comes as an answer, so this is Ray's: an object is lost, or was never made.
            reason = (
                "What it was to work on can't be had there, or its result not here. A reference in the arguments may "
                "be to an object that was lost with its node, or whose task failed: make it again, and hand it in. "
                f"Ray says: {' '.join(str(error).split())}"
            )
            failure = Failure(worker.rank, "raised", reason, exception=LearnerGroupError(reason))
        self._close_call(worker, failure, value)

    def _see_end(self, worker: RayRank) -> None:
        """Its actor is gone, or out of reach: it is lost, unless it never ran.

        Until a cluster has missed a node, it places actors there; these are made again until the start is overdue.
        """
        try:
            self._cluster.get(worker.end)
        except ActorGone as error:
            if error.never_ran and [call.method for call in worker.queue] == ["start"]:
                _log.warning("Rank %d is placed again: %s", worker.rank, error)
                time.sleep(_PAUSE_S)
                message, left = self._setup_message(), self._still_there(worker.rank)
                worker.live_in(self._new_actor(worker.rank))
                self._set_up(worker, worker.queue[0], message, left)
            else:
                self._lose(worker, "died", str(error), kill=True)

    def _ask_for_stack(self, worker: RayRank) -> None:
        worker.stack = worker.actor.stack.remote()

    def _lose(self, worker: RayRank, kind: FailureKind, reason: str = "", *, kill: bool = False) -> None:
        """See Crew."""
        words = ""
        if kind == "hung":
            words = "(no stack: the process was stopped, or blocked, or has not begun)"
            if worker.stack is not None and self._cluster.ready([worker.stack], 0.0):
                words = self._cluster.get(worker.stack)
        if kill:
            self._cluster.kill(worker.actor)
        worker.failure = Failure(worker.rank, kind, reason, words)
        while worker.queue:
            self._close_call(worker, worker.failure)
