"""An exception on its way from a worker to the driver."""

import pickle
import traceback
from typing import NamedTuple

from unison.learner_group.codec import to_pickle
from unison.learner_group.collectives import CollectiveAborted
from unison.learner_group.failures import Failure

_LONGEST_TEXT = 8 << 10


class Complaint(NamedTuple):
    """Its text and its traceback; and the exception itself, where it can travel."""

    aborted: bool
    reason: str
    traceback: str
    pickled: bytes

    @classmethod
    def about(cls, error: BaseException) -> "Complaint":
        """The complaint of a worker that has caught `error`."""
        link: BaseException | None = error
        while link is not None and not isinstance(link, CollectiveAborted):
            link = link.__cause__ or link.__context__
        text = "".join(traceback.format_exception(error))
        reason = f"{type(error).__name__}: {error}"
        try:
            pickled = to_pickle(error.with_traceback(None))
            pickle.loads(pickled)
        except Exception:
            pickled = b""
        if len(pickled) > _LONGEST_TEXT:
            pickled = b""
        return cls(link is not None, _shortened(reason), _shortened(text), pickled)

    def failure(self, rank: int) -> Failure:
        """What the driver makes of it."""
        exception: BaseException | None = None
        if self.pickled:
            try:
                exception = pickle.loads(self.pickled)
            except Exception:
                exception = None
        return Failure(rank, "aborted" if self.aborted else "raised", self.reason, self.traceback, exception)


def _shortened(text: str) -> str:
    half = _LONGEST_TEXT // 8  # in bytes, a character may take 4
    return text if len(text) <= 2 * half else f"{text[:half]}\n[...]\n{text[-half:]}"
