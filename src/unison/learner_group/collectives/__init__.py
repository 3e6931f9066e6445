"""What ranks do together: sums."""

from unison.learner_group.collectives.collective import (
    Collective,
    CollectiveAborted,
    CollectiveError,
    CollectiveTimeout,
    Joiner,
    Meeting,
)
from unison.learner_group.collectives.shared_memory import SharedMemoryCollective, SharedMemoryMeeting
from unison.learner_group.collectives.single import SingleCollective
from unison.learner_group.collectives.torch_distributed import StoreMeeting, TorchDistributedCollective

__all__ = [
    "Collective",
    "CollectiveAborted",
    "CollectiveError",
    "CollectiveTimeout",
    "Joiner",
    "Meeting",
    "SharedMemoryCollective",
    "SharedMemoryMeeting",
    "SingleCollective",
    "StoreMeeting",
    "TorchDistributedCollective",
]
