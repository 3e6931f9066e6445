"""TorchRL's `ClipPPOLoss` in its usual loop."""

from typing import Any

import torch
import torchrl
from loop import tanh_network
from protocol import Contender, Update
from tensordict import TensorDict
from tensordict.nn import NormalParamExtractor, TensorDictModule
from torch import nn
from torchrl.modules import ProbabilisticActor, TanhNormal, ValueOperator
from torchrl.objectives import ClipPPOLoss
from work import ADAM_EPS, CLIP, ENTROPY_WEIGHT, LR, MAX_NORM, Work


def make_actor(work: Work) -> ProbabilisticActor:
    if work.is_discrete:
        network = TensorDictModule(tanh_network(work, work.num_actions), ["observation"], ["logits"])
        kind, inputs = torch.distributions.Categorical, ["logits"]
    else:
        whole = nn.Sequential(tanh_network(work, 2 * work.num_actions), NormalParamExtractor())
        network = TensorDictModule(whole, ["observation"], ["loc", "scale"])
        kind, inputs = TanhNormal, ["loc", "scale"]
    return ProbabilisticActor(network, in_keys=inputs, distribution_class=kind, return_log_prob=True)


def make_rows(work: Work) -> TensorDict:
    columns = {name: torch.as_tensor(column) for name, column in work.columns().items()}
    actions = columns["actions"]
    rows = {
        "observation": columns["obs"],
        "action": actions if work.is_discrete else actions.tanh() * 0.99,
        "action_log_prob": columns["action_logp"],
        "advantage": columns["advantages"].unsqueeze(-1),
        "value_target": columns["value_targets"].unsqueeze(-1),
        "state_value": columns["vf_preds"].unsqueeze(-1),
    }
    return TensorDict(rows, [work.batch])


def build(data: dict[str, Any]) -> Update:
    work = Work.from_dict(data)
    if work.modules > 1 or work.learners:
        raise NotImplementedError("TorchRL's loss is for one module")
    torch.set_num_threads(work.threads)
    critic = ValueOperator(tanh_network(work, 1), in_keys=["observation"])
    loss = ClipPPOLoss(
        make_actor(work), critic, clip_epsilon=CLIP, entropy_coeff=ENTROPY_WEIGHT, normalize_advantage=True
    )
    optimizer = torch.optim.Adam(loss.parameters(), lr=LR, eps=ADAM_EPS)
    rows = make_rows(work)

    def update() -> None:
        for _ in range(work.passes):
            order = torch.randperm(work.batch)
            for chosen in order.split(work.minibatch):
                out = loss(rows[chosen])
                (out["loss_objective"] + out["loss_critic"] + out["loss_entropy"]).backward()
                nn.utils.clip_grad_norm_(loss.parameters(), MAX_NORM)
                optimizer.step()
                optimizer.zero_grad()

    return update


if __name__ == "__main__":
    Contender(build, lambda: {"versions": {"torch": torch.__version__, "torchrl": torchrl.__version__}}).serve()
