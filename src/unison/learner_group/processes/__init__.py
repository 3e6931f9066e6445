"""Workers in processes of this machine."""

from unison.learner_group.processes.transport import ProcessTransport

__all__ = ["ProcessTransport"]
