"""Evaluation in one call."""

from typing import Any

from unison.config import AlgorithmConfig
from unison.modules import MultiAgentRLModule, RLModule
from unison.sampling.local_runners import make_local_runner


def evaluate(
    config: AlgorithmConfig,
    module: RLModule | MultiAgentRLModule,
    *,
    num_episodes: int | None = None,
    explore: bool | None = None,
) -> dict[str, Any]:
    """Run a module for whole episodes on environments of its own.

    Args:
        config: environments and evaluation settings.
        module: what acts; a copy of it does.
        num_episodes: exactly so many; None: `evaluation_duration`.
        explore: whether actions are drawn; None: `evaluation_explore`, by default False.

    Returns:
        As `LocalRunner.evaluate`.

    Raises:
        EnvironmentFailure: an environment failed and may not be made anew.
    """
    runner = make_local_runner(config, module=module, evaluation=True)
    try:
        return runner.evaluate(num_episodes, explore=explore)
    finally:
        runner.stop()
