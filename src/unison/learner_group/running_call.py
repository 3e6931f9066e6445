"""A call of workers that live elsewhere, and what has come of it so far."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Self

from unison.learner_group.collectives import CollectiveTimeout
from unison.learner_group.failures import Failure
from unison.learner_group.transport import Call


class RunningCall(Call):
    """Collects the results and failures of its ranks."""

    def __init__(self, method: str, ranks: Iterable[int]) -> None:
        super().__init__(method, ranks)
        self.results: dict[int, Any] = {}
        self.failures: dict[int, Failure] = {}
        self.was_overdue = False

    @property
    def is_done(self) -> bool:
        """Whether every rank has answered or is gone."""
        return len(self.results) + len(self.failures) == len(self.ranks)

    def take(self, rank: int, failure: Failure | None, value: object) -> None:
        """What a rank has answered, or how it failed."""
        if failure:
            self.results.pop(rank, None)
            self.failures[rank] = failure
        else:
            self.results[rank] = value

    def refuse(self) -> Self:
        """It stands behind a call that has failed, and is not made."""
        reason = "it was called after another rank had failed, and did nothing"
        self.failures = {rank: Failure(rank, "aborted", reason) for rank in self.ranks}
        return self

    def failures_with_cause(self) -> list[Failure]:
        """Its failures; where ranks gave up for no other reason than being late, that is the cause."""
        failures = list(self.failures.values())
        late = [failure for failure in failures if isinstance(failure.exception, CollectiveTimeout)]
        if all(failure.kind == "aborted" for failure in failures) and (late or self.was_overdue):
            first = (late or failures)[0]
            reason = f"{first.reason} Nobody hung: allow more time, or look for ranks that wait for each other."
            failures[failures.index(first)] = replace(first, kind="raised", reason=reason)
        return failures
