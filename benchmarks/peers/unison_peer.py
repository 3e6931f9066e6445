"""Unison's Learner, or its LearnerGroup where the work asks for one; the argument names the engine."""

import sys
import time
from typing import Any

import torch
from protocol import Contender, Update
from work import ADAM_EPS, ENTROPY_WEIGHT, LR, MAX_NORM, Work, spaces_of

from unison.algorithms import PPOConfig
from unison.data import MultiAgentBatch
from unison.types import ALL_MODULES

ENGINE = sys.argv[1] if len(sys.argv) > 1 else "auto"
WARM_UP_S = 90.0
results: dict[str, Any] = {}
"""Of the last update."""


def make_config(work: Work, engine: str) -> PPOConfig:
    return (
        PPOConfig()
        .framework(engine=engine, num_threads=work.threads)
        .rl_module(model_config={"hidden_sizes": list(work.hidden)})
        .multi_agent(policies=work.module_ids)
        .training(
            lr=LR,
            optimizer={"name": "adam", "eps": ADAM_EPS},
            grad_clip=MAX_NORM,
            entropy_coeff=ENTROPY_WEIGHT,
            train_batch_size=work.batch,
            minibatch_size=work.minibatch,
        )
        .resources(num_learners=work.learners)
        .debugging(seed=0)
    )


def build(data: dict[str, Any]) -> Update:
    group = data.get("group", False) or data["learners"] > 0
    work = Work.from_dict(data)
    config = make_config(work, ENGINE)
    spaces = dict.fromkeys(work.module_ids, spaces_of(work))
    if group:
        learner: Any = config.build_learner_group(spaces=spaces)
    else:
        learner = config.build_learner(spaces=spaces)
    batch = MultiAgentBatch({m: work.columns(i) for i, m in enumerate(work.module_ids)}, work.batch)

    def update() -> None:
        results.update(
            learner.update_from_batch(batch, minibatch_size=work.minibatch, num_iters=work.passes)[ALL_MODULES]
        )

    return update


def warm(update: Update) -> None:
    """Give `auto` the time to measure and to compile."""
    start = time.perf_counter()
    while ENGINE == "auto" and time.perf_counter() - start < WARM_UP_S and not _has_decided():
        update()


def _has_decided() -> bool:
    reason = str(results.get("engine_reason", ""))
    return not any(words in reason for words in ("still short", "being compiled"))


def about() -> dict[str, Any]:
    said = {name: value for name, value in results.items() if name.startswith("engine")}
    return {"versions": {"torch": torch.__version__}, "said": said}


if __name__ == "__main__":
    Contender(build, about, warm).serve()
