"""Which runner a config asks for."""

from unison.config import AlgorithmConfig
from unison.learner_group.transports import make_runner_transport
from unison.modules import MultiAgentRLModule, RLModule
from unison.sampling.env_runner import EnvRunner
from unison.sampling.local_runner import LocalRunner
from unison.sampling.multi_agent import MultiAgentEnvRunner
from unison.sampling.runner import Runner
from unison.sampling.runner_group import RunnerGroup


def make_runner(config: AlgorithmConfig) -> Runner:
    """A runner in this process for `num_env_runners=0`, else that many in processes of their own."""
    return RunnerGroup(config, make_runner_transport) if config.num_env_runners else make_local_runner(config)


def make_local_runner(
    config: AlgorithmConfig,
    *,
    module: RLModule | MultiAgentRLModule | None = None,
    worker_index: int = 0,
    evaluation: bool = False,
) -> LocalRunner:
    """The runner for the config's environment, of one agent or of many; see EnvRunner for the arguments."""
    kind = MultiAgentEnvRunner if config.is_multi_agent else EnvRunner
    return kind(config, module=module, worker_index=worker_index, evaluation=evaluation)
