"""A parameter frozen in a built Learner has no gradient and rests; the others train on, as torch.optim would do it."""

import copy
from typing import Any

import numpy as np
import pytest
import torch

from support.engines import Case, assert_agree, everything
from support.learners import make_columns, make_config, make_learner
from support.rank_threads import World
from unison.algorithms import PPOLearner
from unison.types import ALL_MODULES

OPTIMIZERS: dict[str, Any] = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1),
    "sgd": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9, weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-2, momentum=0.9, weight_decay=0.1),
    "adagrad (own step)": lambda p: torch.optim.Adagrad(p, lr=1e-2, weight_decay=0.1),
}
DECAYING: dict[str, Any] = {"optimizer": {"name": "adamw", "weight_decay": 0.1}, "lr": 1e-2, "passes": 2}


class Recording(PPOLearner):
    """Keeps the gradients of the last step."""

    make: Any = None

    def configure_optimizers_for_module(self, module_id: str, config: Any) -> None:
        params = self.get_parameters(self.module[module_id])
        self.register_optimizer(module_id=module_id, optimizer=self.make(params), params=params)

    def postprocess_gradients(self, gradients: Any) -> Any:
        self.seen = {ref: gradient.clone() for ref, gradient in gradients.items()}
        return super().postprocess_gradients(gradients)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_others_move_as_torch_moves_them(name: str) -> None:
    cls = type("Learner", (Recording,), {"make": staticmethod(OPTIMIZERS[name])})
    learner = make_learner(make_config(grad_clip=None), cls=cls)
    module = learner.module["default_policy"]
    reference = copy.deepcopy(module)
    optimizer = OPTIMIZERS[name](list(reference.parameters()))
    for number in range(6):
        if number in (2, 4):  # Frozen for two updates in between.
            for p in module.encoder.parameters():
                p.requires_grad_(number == 4)
        learner.update_from_batch(make_columns(16))
        for ref, p in reference.named_parameters():
            p.grad = learner.seen.get(f"default_policy/{ref}")
        optimizer.step()
        assert len(learner.seen) == len(learner.optimizers.get("default_policy", "default_optimizer").refs) - (
            2 if number in (2, 3) else 0
        )
        for (ref, ours), theirs in zip(module.named_parameters(), reference.parameters(), strict=True):
            torch.testing.assert_close(ours.data, theirs.data, rtol=1e-5, atol=1e-6, msg=ref)


def freeze(learner: Any, is_frozen: bool) -> None:
    for p in learner.module["a"].encoder.parameters():
        p.requires_grad_(not is_frozen)


CASES: dict[str, Case] = {
    "one module": Case(modules=("a",), **DECAYING),
    "two modules": Case(modules=("a", "b"), **DECAYING),
    "accumulation": Case(modules=("a",), gradient_accumulation_steps=2, **DECAYING),
    "clip by norm": Case(modules=("a",), grad_clip_by="norm", **DECAYING),
}


@pytest.mark.parametrize(
    ("name", "engine"), [*((name, "interpreted") for name in CASES), ("one module", "xla"), ("accumulation", "xla")]
)
def test_engines_agree(name: str, engine: str) -> None:
    if engine == "xla":
        pytest.importorskip("jax")
    case = CASES[name]
    learners = case.learner("eager"), case.learner(engine)
    for seed in range(6):
        for learner in learners:
            if seed in (2, 4):
                freeze(learner, seed == 2)
            before = everything(learner)
            results = case.update(learner, seed)
            after = everything(learner)
            rested = [n for n in before if "a/encoder" in n and np.array_equal(before[n], after[n])]
            assert len(rested) == (2 if seed in (2, 3) else 0)
        assert results[ALL_MODULES]["engine"] == engine
        assert_agree(*learners)


def test_ranks_leave_what_one_leaves() -> None:
    case = Case(modules=("a",), **DECAYING)
    # Not made by the threads: the weights of all are drawn from one generator.
    alone, *made_for_ranks = (case.learner("eager") for _ in range(3))

    def trained(learner: Any) -> Any:
        for seed in range(3):
            freeze(learner, seed == 1)
            case.update(learner, seed)
        return learner

    def as_rank(collective: Any) -> Any:
        made = made_for_ranks[collective.rank]
        learner = type(made)(config=made.config, module_spec=None, module=made.module, collective=collective)
        learner.build()
        return trained(learner)

    trained(alone)
    for rank in World(2).run(as_rank):
        assert_agree(alone, rank)


class Halves(PPOLearner):
    """Two optimizers."""

    first = "a/first/0/"

    def configure_optimizers_for_module(self, module_id: str, config: Any) -> None:
        params = self.get_parameters(self.module[module_id])
        for name, half in (("first", params[:4]), ("second", params[4:])):
            optimizer = torch.optim.AdamW(half, lr=1e-2, weight_decay=0.1)
            self.register_optimizer(module_id=module_id, optimizer_name=name, optimizer=optimizer, params=half)


class Groups(PPOLearner):
    """Two param groups of one optimizer."""

    first = "a/default_optimizer/0/"

    def configure_optimizers_for_module(self, module_id: str, config: Any) -> None:
        params = self.get_parameters(self.module[module_id])
        groups = [{"params": params[:4]}, {"params": params[4:]}]
        optimizer = torch.optim.AdamW(groups, lr=1e-2, weight_decay=0.1)
        self.register_optimizer(module_id=module_id, optimizer=optimizer, params=params)


@pytest.mark.parametrize("cls", [Halves, Groups])
def test_what_is_wholly_frozen_rests(cls: Any) -> None:
    case = Case(modules=("a",), cls=cls, passes=2)
    learners = case.learner("eager"), case.learner("interpreted")
    for seed in range(4):
        for learner in learners:
            for p in list(learner.module["a"].parameters())[:4]:
                p.requires_grad_(seed != 1)
            before = everything(learner)
            results = case.update(learner, seed)
            moved = [n for n, v in everything(learner).items() if n.startswith(cls.first) and (v != before[n]).any()]
            assert bool(moved) == (seed != 1)
        assert results[ALL_MODULES]["engine"] == "interpreted"
        assert_agree(*learners)
