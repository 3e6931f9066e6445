"""Which transport a config asks for."""

from collections.abc import Sequence
from functools import partial

import torch

from unison.config import AlgorithmConfig
from unison.learner_group.collectives import SharedMemoryMeeting, StoreMeeting
from unison.learner_group.collectives.torch_distributed import Backend
from unison.learner_group.inline import InlineTransport
from unison.learner_group.processes import ProcessTransport
from unison.learner_group.ray import RayTransport
from unison.learner_group.ray.cluster import is_in_use
from unison.learner_group.transport import Factory, Transport
from unison.learner_group.uninterrupted import Interruptible

_PRELOAD = ("unison.learner_group.worker", "unison.algorithms")
"""What every worker needs: imported once before any worker exists, so that a lost one is back in milliseconds."""
_COMPILER = "torch._dynamo"
_LONGEST_GRACE_S = 5.0


def start_transport(config: AlgorithmConfig, num_learners: int, factory: Factory) -> Transport:
    """A transport with `num_learners` Learners, or with the one in this process for 0; Ctrl-C may end its start."""
    transport = make_transport(config, num_learners)
    try:
        with Interruptible():
            transport.start(factory, max(1, num_learners))
    except BaseException:
        transport.stop()
        raise
    return transport


def make_transport(config: AlgorithmConfig, num_learners: int) -> Transport:
    """The transport for `num_learners` Learners: none at all for 0, else as the setting `backend` says."""
    if num_learners == 0:
        return InlineTransport()
    gpus = config.num_gpus_per_learner
    backend = choose_backend(gpus, num_learners, torch.cuda.device_count() if gpus else 0)
    return _make(
        config, num_learners, config.num_cpus_per_learner, gpus, backend, preload=_preload(config, num_learners)
    )


def make_runner_transport(config: AlgorithmConfig, num_runners: int) -> Transport:
    """The transport for one env runner, or for several. They share what the Learners' processes have imported."""
    preload = _preload(config, config.num_learners)
    return _make(config, num_runners, config.num_cpus_per_env_runner, config.num_gpus_per_env_runner, preload=preload)


def _preload(config: AlgorithmConfig, num_learners: int) -> tuple[str, ...]:
    """What to import for workers beside Learners in processes of their own, or in the driver's."""
    compiles = num_learners > 0 and config.engine == "inductor"  # "auto" may never come to that
    return (*_PRELOAD, _COMPILER) if compiles else _PRELOAD


def choose_backend(gpus_per_learner: float, num_learners: int, num_gpus: int) -> Backend | None:
    """What sums the gradients of ranks on one machine: NCCL between GPUs, Gloo where ranks share one.

    Returns:
        None on CPUs: there shared memory does.
    """
    if not gpus_per_learner:
        return None
    return "nccl" if num_learners <= num_gpus else "gloo"


def _make(
    config: AlgorithmConfig,
    num_workers: int,
    cpus: float,
    gpus: float,
    backend: Backend | None = None,
    *,
    preload: Sequence[str],
) -> Transport:
    num_threads, timeout_s = config.num_threads or 1, config.learner_timeout_s
    start_timeout_s, grace_s = config.learner_start_timeout_s, min(_LONGEST_GRACE_S, timeout_s / 2)
    if config.backend == "ray" or (config.backend == "auto" and is_in_use()):
        learners = config.num_learners * config.num_cpus_per_learner
        return RayTransport(
            num_cpus=cpus,
            num_gpus=gpus,
            placement_strategy=config.placement_strategy,
            total_cpus=max(learners, num_workers * cpus) + config.num_env_runners * config.num_cpus_per_env_runner,
            num_threads=num_threads,
            timeout_s=timeout_s,
            start_timeout_s=start_timeout_s,
            grace_s=grace_s,
        )
    return ProcessTransport(
        num_threads=num_threads,
        timeout_s=timeout_s,
        start_timeout_s=start_timeout_s,
        grace_s=grace_s,
        meeting=SharedMemoryMeeting if backend is None else partial(StoreMeeting, backend=backend),
        preload=preload,
    )
