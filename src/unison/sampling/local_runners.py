"""Which runner of this process a config asks for."""

from unison.config import AlgorithmConfig
from unison.modules import MultiAgentRLModule, RLModule
from unison.sampling.env_runner import EnvRunner
from unison.sampling.local_runner import LocalRunner
from unison.sampling.multi_agent import MultiAgentEnvRunner


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
