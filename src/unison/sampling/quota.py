"""A number shared out evenly, such as one of whole episodes to environments."""

from collections.abc import Iterable
from typing import final

from unison.sampling.running import Finished


def even_shares(number: int, count: int) -> list[int]:
    """Whole shares of a number, as even as can be; the first ones are the greater."""
    share, rest = divmod(number, max(1, count))
    return [share + (index < rest) for index in range(count)]


@final
class Quota:
    """So many episodes of each environment; those that an environment runs beyond its share do not count.

    Taking whichever episodes end first would favour short ones.

    Args:
        num_episodes: of all environments together.
        num_envs: E.
    """

    def __init__(self, num_episodes: int, num_envs: int) -> None:
        self._open = even_shares(num_episodes, num_envs)
        self.episodes: list[Finished] = []

    @property
    def is_met(self) -> bool:
        """Whether every environment has given its share."""
        return not any(self._open)

    @property
    def open_envs(self) -> list[int]:
        """The environments that have not given their share yet."""
        return [index for index, owed in enumerate(self._open) if owed]

    @property
    def ids(self) -> list[str]:
        """The ids of the episodes that count."""
        return [episode.id_ for episode in self.episodes]

    def take(self, finished: Iterable[Finished]) -> None:
        """Count episodes that have ended."""
        for episode in finished:
            if self._open[episode.env_index] > 0:
                self._open[episode.env_index] -= 1
                self.episodes.append(episode)

    def would_be_met(self, finished: Iterable[Finished]) -> bool:
        """Whether `take` would meet the quota."""
        left = list(self._open)
        for episode in finished:
            left[episode.env_index] = max(0, left[episode.env_index] - 1)
        return not any(left)
