"""The workers of one group on a cluster: makes them, asks them, takes in what they answer, finds the dead and hung."""

import sys
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from unison.errors import LearnerGroupError
from unison.learner_group.collectives import Meeting
from unison.learner_group.failures import Failure, FailureKind, WorkerError
from unison.learner_group.processes.crew import Deadlines
from unison.learner_group.ray.cluster import ActorGone, ActorHandle, RayCluster, Ref
from unison.learner_group.ray.references import lift
from unison.learner_group.ray.worker import NUM_KEPT, Answer, Message, Setup
from unison.learner_group.running_call import RunningCall

_LOOK_S = 0.1  # between looks for overdue workers
_END_S = 5.0  # for Ray to tell of the end of an actor


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


class RayRank:
    """A worker as its driver knows it.

    Args:
        rank: of the worker.
        actor: its process; the call `end` ends with it.
        legacy: what those of its rank leave to each other, the oldest first.
    """

    def __init__(self, rank: int, actor: ActorHandle, legacy: "deque[Ref]") -> None:
        self.rank, self.actor, self.legacy = rank, actor, legacy
        self.end: Ref = actor.end.remote()
        self.pid: Ref = actor.pid.remote()
        self.stack: Ref = None
        self.queue: deque[RayCall] = deque()
        self.failure: Failure | None = None  # set when it is lost
        self.busy_since = 0.0
        self.was_warned = False

    def ask(self, call: RayCall, task: str, number: int, message: "Message | Ref", objects: Sequence[Any]) -> None:
        """Send it a call."""
        if not self.queue:
            self.busy_since, self.was_warned = time.monotonic(), False
        serve = self.actor.serve.options(num_returns=2)
        call.answers[self.rank], call.left[self.rank] = serve.remote(task, number, message, *objects)
        self.queue.append(call)

    def answered(self) -> RayCall:
        """Its current call is over."""
        self.busy_since, self.was_warned = time.monotonic(), False
        return self.queue.popleft()


class RayCrew:
    """All workers, by rank. A worker that is lost stays here, with its failure, until there is another for its rank."""

    def __init__(
        self, cluster: RayCluster, group: Any, resources: dict[str, float], meeting: Meeting, setup: Setup, d: Deadlines
    ) -> None:
        self.workers: dict[int, RayRank] = {}
        self._cluster, self._group, self._resources = cluster, group, resources
        self._meeting, self._setup, self._deadlines = meeting, setup, d
        self._epoch, self._is_aborted, self._is_told = 1, False, False

    def hire(self, ranks: Iterable[int]) -> None:
        """Make workers for `ranks`, in place of those there, and have them make their objects."""
        ranks = tuple(ranks)
        for rank in ranks:
            if rank in self.workers and not self.workers[rank].failure:
                self._lose(self.workers[rank], "died", "it is being replaced", kill=True)
        if self.workers:
            self._abort()  # newcomers count from the start of an epoch: it must be a new one
        self._renew_epoch()
        call = RayCall("start", ranks)
        message = self._message(self._setup, "The factory of the workers' objects")
        for rank in ranks:
            legacy: deque[Ref] = self.workers[rank].legacy if rank in self.workers else deque(maxlen=NUM_KEPT)
            self.workers[rank] = RayRank(rank, self._cluster.spawn(self._group, rank, self._resources), legacy)
        for rank in ranks:
            self.workers[rank].ask(call, "set_up", rank, message, [list(sys.path), *self._still_there(rank)])
        self.wait(call, self._deadlines.start)
        self._settle(self._deadlines.start)
        for rank, failure in call.failures.items():
            if not failure.is_lost:
                self._lose(self.workers[rank], "died", f"its object could not be made: {failure.reason}", kill=True)
        if call.failures:
            self._is_told = True
            raise WorkerError("start", len(self.workers), call.failures_with_cause(), call.results)

    def begin(self, method: str, arguments: tuple[Any, ...], keywords: dict[str, Any], ranks: Iterable[int]) -> RayCall:
        """Send a call to `ranks`; raises WorkerError, and sends nothing, if one of them is lost.

        A call behind one that has failed fails too, until the caller has been told.
        """
        self._take_in(0.0, self._deadlines.call)
        ranks = tuple(ranks)
        lost = [failure for rank in ranks if (failure := self.workers[rank].failure)]
        if lost:
            self._is_told = True
            raise WorkerError(method, len(self.workers), lost)
        if self._is_aborted and not self._is_told:
            return _refused(method, ranks)
        self._renew_epoch()
        objects: list[Ref] = []
        lifted = [lift(value, self._cluster.is_ref, objects) for value in arguments]
        lifted_keywords = {name: lift(value, self._cluster.is_ref, objects) for name, value in keywords.items()}
        message = self._message((method, lifted, lifted_keywords), f"The arguments of '{method}'")
        call = RayCall(method, ranks, objects)
        try:
            for rank in ranks:
                self.workers[rank].ask(call, "call", self._epoch, message, objects)
        except BaseException:  # Ctrl-C: some ranks wait for others that were not asked
            self._abort()
            raise
        return call

    def wait(self, call: RayCall, limit_s: float, until: float | None = None) -> bool:
        """Whether the call is over, if need be after waiting for its end or for the time `until`."""
        while not call.is_done:
            left = _LOOK_S if until is None else min(_LOOK_S, until - time.monotonic())
            self._take_in(max(left, 0.0), limit_s)
            if left <= 0:
                break
        return call.is_done

    def results(self, call: RayCall) -> list[Any]:
        """What a call that is over returned, by rank; raises WorkerError once no worker is busy any more."""
        if call.failures:
            self._settle(self._deadlines.call)
            self._is_told = True
            raise WorkerError(call.method, len(self.workers), call.failures_with_cause(), call.results)
        return [call.results[rank] for rank in call.ranks]

    def dismiss(self) -> None:
        """End all workers."""
        for worker in self.workers.values():
            if not worker.failure:
                self._lose(worker, "died", "the transport was stopped", kill=True)
        if self._cluster.is_alive:
            self._meeting.close()

    def pids(self) -> list[int]:
        """The process ids, by rank, of workers that are not lost."""
        return [self._cluster.get(worker.pid) for _, worker in sorted(self.workers.items()) if not worker.failure]

    def _still_there(self, rank: int) -> list[Ref]:
        """The legacy of a rank, the newest first, without what was lost with a node."""
        newest_first = list(reversed(self.workers[rank].legacy))
        there = set(self._cluster.ready(newest_first, 0.0))
        return [ref for ref in newest_first if ref in there and self._cluster.is_intact(ref)]

    def _message(self, value: object, what: str) -> "Message | Ref":
        """Encoded once for all ranks; in the object store, unless it is small."""
        try:
            message = Message.of(value)
        except Exception as error:
            raise LearnerGroupError(f"{what} can't be sent to another process: {error}") from error
        return message if message.is_small else self._cluster.put(message)

    def _renew_epoch(self) -> None:
        """After a failure, begin an epoch that knows nothing of the last one; for that, nobody may be busy."""
        if self._is_aborted:
            self._settle(self._deadlines.call)
            self._epoch += 1
            self._is_aborted = False

    def _settle(self, limit_s: float) -> None:
        while any(worker.queue for worker in self.workers.values()):
            self._take_in(_LOOK_S, limit_s)

    def _abort(self) -> None:
        if not self._is_aborted:
            self._is_aborted, self._is_told = True, False
        self._meeting.abort(self._epoch)

    def _take_in(self, wait_s: float, limit_s: float) -> None:
        """Take in all answers that are there, waiting for the first one; then look for those overdue."""
        alive = [worker for worker in self.workers.values() if not worker.failure]
        heads = {worker.queue[0].answers[worker.rank]: worker for worker in alive if worker.queue}
        ends = {worker.end: worker for worker in alive}
        there = set(self._cluster.ready([*heads, *ends], wait_s))
        for ref, worker in heads.items():
            if ref in there and not worker.failure:
                self._file(worker, ref)
        for ref, worker in ends.items():  # what it answered before its end counts
            if ref in there and not worker.failure and not self._has_answered(worker):
                self._lose(worker, "died")
        now = time.monotonic()
        for worker in alive:
            if worker.queue and not worker.failure and self._has_its_objects(worker):
                silence = now - worker.busy_since
                if silence > limit_s:
                    self._remind(worker, silence - limit_s)

    def _has_answered(self, worker: RayRank) -> bool:
        return bool(worker.queue and self._cluster.ready([worker.queue[0].answers[worker.rank]], 0.0))

    def _has_its_objects(self, worker: RayRank) -> bool:
        """Whether all that the caller handed in by reference has come to be; until then, time stands still."""
        call = worker.queue[0]
        if call.awaited:
            there = self._cluster.ready(call.awaited, 0.0)
            call.awaited = [ref for ref in call.awaited if ref not in there]
            worker.busy_since = time.monotonic()
        return not call.awaited

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
                self._lose(worker, "died")
                return
            failure = Failure(worker.rank, "raised", str(error), exception=error.__cause__)
        except Exception as error:
            reason = f"its arguments can't be read there, or its result here: {error!r}"
            failure = Failure(worker.rank, "raised", reason, exception=error)
        self._close_call(worker, failure, value)

    def _close_call(self, worker: RayRank, failure: Failure | None, value: object = None) -> None:
        call = worker.queue[0]
        if failure:
            call.results.pop(worker.rank, None)
            call.failures[worker.rank] = failure
            self._abort()
        else:
            call.results[worker.rank] = value
        worker.answered()

    def _remind(self, worker: RayRank, overdue_s: float) -> None:
        """Overdue: it may only wait for another rank, so first abort; whoever stays silent after that has hung."""
        if not worker.was_warned:
            worker.was_warned = worker.queue[0].was_overdue = True
            self._abort()
            worker.stack = worker.actor.stack.remote()
        elif overdue_s > self._deadlines.grace:
            silence = time.monotonic() - worker.busy_since
            self._lose(worker, "hung", f"it did not answer for {silence:.1f} s, and was killed", kill=True)

    def _lose(self, worker: RayRank, kind: FailureKind, reason: str = "", *, kill: bool = False) -> None:
        """The worker is gone, or will be in a moment."""
        words = ""
        if kind == "hung":
            words = "(no stack: the process was stopped, or blocked, or has not begun)"
            if worker.stack is not None and self._cluster.ready([worker.stack], 0.0):
                words = self._cluster.get(worker.stack)
        if kill:
            self._cluster.kill(worker.actor)
        elif not reason:
            try:
                self._cluster.get(worker.end)
            except ActorGone as error:
                reason = str(error)
        worker.failure = Failure(worker.rank, kind, reason, words)
        while worker.queue:
            self._close_call(worker, worker.failure)


def _refused(method: str, ranks: tuple[int, ...]) -> RayCall:
    call = RayCall(method, ranks)
    reason = "it was called after another rank had failed, and did nothing"
    call.failures = {rank: Failure(rank, "aborted", reason) for rank in ranks}
    return call
