"""After a failure: survivors back to the last whole update, lost ranks back from a survivor's state."""

from collections.abc import Collection

from unison.errors import LearnerGroupError
from unison.learner_group.failures import WorkerError
from unison.learner_group.transport import Transport


def recover(transport: Transport, error: WorkerError, *, num_updates: int, allowed: int) -> int:
    """Make all ranks whole again, in the state after `num_updates` updates.

    Args:
        transport: whose call failed.
        error: how.
        num_updates: the updates that the whole group has finished.
        allowed: how many restarts are still allowed.

    Returns:
        The number of ranks that were restarted; the failed update may then be run again.

    Raises:
        LearnerGroupError: no rank survived, or no restart is left.
        Exception: what a Learner raised by itself; running the update again would raise it again.
    """
    restarts = 0
    cause = error
    blank: set[int] = set()
    """Ranks that were restarted but have not got the state yet: they are no survivors."""
    while True:
        blank |= set(transport.lost)
        survivors = [rank for rank in range(transport.num_workers) if rank not in blank]
        if not survivors:
            raise LearnerGroupError(
                f"No Learner survived, so their state is lost; build a new group and load a checkpoint. {cause}"
            ) from cause
        try:
            _call(transport, "undo_update", num_updates, ranks=survivors)
            lost = transport.lost
            if restarts + len(lost) > allowed:
                raise LearnerGroupError(
                    f"Learners were lost more often than max_learner_restarts allows. The state after {num_updates} "
                    f"updates can still be saved, and resize() goes on from it. {cause}"
                ) from cause
            if lost:
                restarts += len(lost)
                transport.restart(lost)
            if blank:
                state = _call(transport, "call", "get_state", {}, ranks=survivors[:1])[0]
                _call(transport, "call", "set_state", {"state": state}, ranks=sorted(blank))
                blank.clear()
        except WorkerError as another:
            if another.cause.kind == "raised":
                raise original(another) from another
            cause = another
            continue
        if error.cause.kind == "raised":
            raise original(error) from error
        return restarts


def original(error: WorkerError) -> BaseException:
    """The exception that a Learner raised by itself, with a note of its rank; else `error`."""
    exception = error.cause.exception
    if error.cause.kind != "raised" or exception is None:
        return error
    exception.add_note(f"Raised on rank {error.cause.rank}:\n{error.cause.traceback.rstrip()}")
    return exception


def _call(transport: Transport, method: str, *args: object, ranks: Collection[int]) -> list[object]:
    return transport.gather(transport.call(method, *args, ranks=ranks))
