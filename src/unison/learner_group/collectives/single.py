"""A world of one: nothing to exchange."""

from unison.learner.collective import Alone
from unison.learner_group.collectives.collective import Collective


class SingleCollective(Alone, Collective):
    """The Collective of a lone Learner."""

    def join(self, epoch: int) -> None:
        """Nobody to join."""

    def abort(self) -> None:
        """Nobody to tell."""

    @property
    def aborted(self) -> bool:
        """Never: nobody else can fail."""
        return False

    def close(self) -> None:
        """Nothing to free."""
