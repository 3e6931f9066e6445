"""Which runner a config asks for."""

from unison.config import AlgorithmConfig
from unison.learner_group.transports import make_runner_transport
from unison.sampling.local_runners import make_local_runner
from unison.sampling.runner import Runner
from unison.sampling.runner_group import RunnerGroup


def make_runner(config: AlgorithmConfig) -> Runner:
    """A runner in this process for `num_env_runners=0`, else that many in processes of their own."""
    return RunnerGroup(config, make_runner_transport) if config.num_env_runners else make_local_runner(config)
