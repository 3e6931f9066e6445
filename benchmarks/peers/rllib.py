"""RLlib's Learner, or its LearnerGroup where the work asks for Learner processes."""

from typing import Any

import numpy as np
import ray
import torch
from protocol import Contender, Update
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from work import ENTROPY_WEIGHT, LR, MAX_NORM, Work, spaces_of


def make_config(work: Work) -> PPOConfig:
    observation, action = spaces_of(work)
    model = DefaultModelConfig(fcnet_hiddens=list(work.hidden), fcnet_activation="tanh", vf_share_layers=False)
    spec = RLModuleSpec(observation_space=observation, action_space=action, model_config=model)
    ids = work.module_ids
    return (
        PPOConfig()
        .environment(observation_space=observation, action_space=action)
        .multi_agent(policies=set(ids), policy_mapping_fn=lambda agent_id, *_, **__: agent_id)
        .training(
            lr=LR, grad_clip=MAX_NORM, grad_clip_by="global_norm", use_kl_loss=False, entropy_coeff=ENTROPY_WEIGHT
        )
        .rl_module(rl_module_spec=MultiRLModuleSpec(rl_module_specs=dict.fromkeys(ids, spec)))
        .learners(num_learners=work.learners)
    )


def make_learner(work: Work, *, group: bool) -> Any:
    spaces = dict.fromkeys(work.module_ids, spaces_of(work))
    if not group:
        learner = make_config(work).build_learner(spaces=spaces)
        learner.build()
        return learner
    if work.learners and not ray.is_initialized():
        ray.init(num_cpus=work.learners + 2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    return make_config(work).build_learner_group(spaces=spaces)


def build(data: dict[str, Any]) -> Update:
    group = data.get("group", False) or data["learners"] > 0
    work = Work.from_dict(data)
    torch.set_num_threads(work.threads)
    learner = make_learner(work, group=group)
    rows = work.batch
    flags = {
        "rewards": np.ones(rows, np.float32),
        "terminateds": np.zeros(rows, bool),
        "truncateds": np.zeros(rows, bool),
        "loss_mask": np.ones(rows, bool),
    }
    columns = {module_id: {**work.columns(i), **flags} for i, module_id in enumerate(work.module_ids)}

    def update() -> None:
        # An update changes the batch that it is given, so each gets its own.
        batches = {m: SampleBatch({name: c.copy() for name, c in own.items()}) for m, own in columns.items()}
        learner.update(
            batch=MultiAgentBatch(batches, rows),
            minibatch_size=work.minibatch // max(1, work.learners),
            num_epochs=work.passes,
            shuffle_batch_per_epoch=True,
            timesteps={"num_env_steps_sampled_lifetime": 1},
        )

    return update


if __name__ == "__main__":
    Contender(build, lambda: {"versions": {"torch": torch.__version__, "ray": ray.__version__}}).serve()
