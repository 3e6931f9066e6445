"""The replay as a part of checkpoints, where that is asked for."""

import logging
from typing import Any, final

from unison.data.replay import ReplayBuffer

logger = logging.getLogger("unison")
_REMEDY = (
    "To save it with each checkpoint, begin the run with checkpointing(save_replay=True); on the command line: "
    "--set save_replay=true."
)


@final
class SavedReplay:
    """Saves and loads a replay, or warns once that it does not.

    Args:
        replay: the replay.
        saved: whether checkpoints hold it.
        needed: environment steps that it must hold before updates begin.
    """

    def __init__(self, replay: ReplayBuffer, *, saved: bool, needed: int) -> None:
        self._replay = replay
        self._saved = saved
        self._needed = needed
        self._warned = False

    def get_state(self) -> Any:
        """The replay's state, or None."""
        if self._saved:
            return self._replay.get_state()
        if not self._warned:
            self._warned = True
            logger.warning(
                "Checkpoints do not hold the replay (%s steps now): a run resumed from one fills a new one. %s",
                f"{len(self._replay):,}",
                _REMEDY,
            )
        return None

    def check_state(self, state: Any) -> None:
        """Raise StateError if a state is of another capacity."""
        if state is not None:
            self._replay.check_state(state)

    def set_state(self, state: Any) -> None:
        """Take over a replay; without one, begin with none."""
        if state is None:
            self._replay.clear()
            self._warned = True
            logger.warning(
                "The checkpoint holds no replay: the run first collects %s environment steps, and updates nothing till "
                "then. %s",
                f"{self._needed:,}",
                _REMEDY,
            )
        else:
            self._replay.set_state(state)
