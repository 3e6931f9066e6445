from unison.errors import LearnerGroupError
from unison.learner_group.failures import Failure, WorkerError


def test_the_message_names_cause_traceback_and_the_others() -> None:
    error = WorkerError(
        "update",
        3,
        [
            Failure(2, "died", "killed by SIGKILL"),
            Failure(0, "aborted", "gave up"),
            Failure(1, "raised", "KeyError: 'obs'", "Traceback ...\nKeyError: 'obs'\n", KeyError("obs")),
        ],
    )
    assert isinstance(error, LearnerGroupError)
    assert str(error) == (
        "Rank 1 of 3 raised in 'update': KeyError: 'obs'\n"
        "Other ranks: rank 0 aborted: gave up; rank 2 died: killed by SIGKILL\n"
        "On rank 1:\nTraceback ...\nKeyError: 'obs'"
    )
    assert isinstance(error.__cause__, KeyError)
    assert error.lost == (2,)


def test_a_rank_that_only_gave_up_is_never_the_cause_of_others() -> None:
    error = WorkerError("update", 2, [Failure(0, "aborted", "gave up"), Failure(1, "hung", "silent")], {})
    assert error.cause.rank == 1
    assert error.__cause__ is None
