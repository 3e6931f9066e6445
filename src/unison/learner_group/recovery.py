"""After a failure: survivors back to the group's last moment, lost ranks back from a survivor's state.

Where none survived, the first rank comes back from its legacy.
"""

from collections.abc import Collection

from unison.errors import LearnerGroupError
from unison.learner_group.failures import WorkerError
from unison.learner_group.transport import Transport
from unison.learner_group.worker import Moment


def recover(transport: Transport, error: WorkerError, moment: Moment, blank: set[int], *, allowed: int) -> int:
    """Make all ranks whole again, in the state of a moment.

    Args:
        transport: whose call failed.
        error: how.
        moment: what the whole group has finished.
        blank: ranks that have not got the group's state, since they were restarted or could not go back to it; kept
            up to date, also where this raises: they are no survivors.
        allowed: how many restarts are still allowed.

    Returns:
        The number of ranks that were restarted; the failed update may then be run again.

    Raises:
        LearnerGroupError: no restart is left, or no rank survived and its legacy is lost too.
        Exception: what a Learner raised by itself; running the update again would raise it again.
    """
    restarts = 0
    cause = error
    while True:
        blank |= set(transport.lost)
        survivors = [rank for rank in range(transport.num_workers) if rank not in blank]
        try:
            is_back = _call(transport, "go_back", moment, ranks=survivors)
            blank |= {rank for rank, done in zip(survivors, is_back, strict=True) if not done}
            survivors = [rank for rank in survivors if rank not in blank]
            lost = transport.lost
            if restarts + len(lost) > allowed:
                message = "Learners were lost more often than max_learner_restarts allows. "
                if survivors:
                    message += f"The state after {moment.updates} updates can be saved, and resize() goes on from it. "
                raise LearnerGroupError(f"{message}{cause}") from cause
            _level(transport, lost)
            if lost:
                restarts += len(lost)
                transport.restart(lost)
            if not survivors:
                if not _call(transport, "inherit", moment, ranks=(0,))[0]:
                    raise LearnerGroupError(
                        "No Learner survived, and what they left is lost with their machine; build a new group and "
                        f"load a checkpoint. {cause}"
                    ) from cause
                blank.remove(0)
                survivors = [0]
            if blank:
                state = _call(transport, "ask", "get_state", {}, ranks=survivors[:1])[0]
                _call(transport, "change", moment.changes, "set_state", {"state": state}, ranks=sorted(blank))
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


def _level(transport: Transport, lost: Collection[int]) -> None:
    """Have the engines of all ranks begin again, if one is lost or has not come as far as the others."""
    there = [rank for rank in range(transport.num_workers) if rank not in lost]
    if lost or len(set(_call(transport, "engine_runs", ranks=there))) > 1:
        _call(transport, "renew_engine", ranks=there)


def _call(transport: Transport, method: str, *args: object, ranks: Collection[int]) -> list[object]:
    return transport.gather(transport.call(method, *args, ranks=ranks))
