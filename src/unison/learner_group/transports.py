"""Which transport a config asks for."""

from unison.config import AlgorithmConfig
from unison.learner_group.inline import InlineTransport
from unison.learner_group.processes import ProcessTransport
from unison.learner_group.transport import Transport


def make_transport(config: AlgorithmConfig, num_learners: int) -> Transport:
    """The transport for `num_learners` Learners: none at all for 0, else as the setting `backend` says."""
    if num_learners == 0:
        return InlineTransport()
    return ProcessTransport(
        num_threads=config.num_threads or 1, timeout_s=config.learner_timeout_s, preload=("unison",)
    )
