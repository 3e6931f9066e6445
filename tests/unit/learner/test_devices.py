"""A Learner's state on another device than it was saved on: values, devices, Python types, and the numbers after."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from support.learners import assert_same, make_columns, make_config, make_learner, weights
from support.second_device import NAME, SecondTensor, on_second_device
from support.states import flat
from unison.algorithms import PPOLearner
from unison.checkpoint import BackgroundWriter, read_checkpoint

Make = Callable[[Any], torch.optim.Optimizer]
OPTIMIZERS: dict[str, Make] = {
    "adam": lambda params: torch.optim.Adam(params, betas=(0.8, 0.99)),
    "adam with tensors": lambda params: torch.optim.Adam(
        params, lr=torch.tensor(0.0, device=params[0].device), betas=(torch.tensor(0.8), torch.tensor(0.99))
    ),
    "sgd": lambda params: torch.optim.SGD(params, momentum=0.9, nesterov=True),
    "rmsprop": lambda params: torch.optim.RMSprop(params, momentum=0.5),
    # These step by themselves.
    "amsgrad": lambda params: torch.optim.AdamW(params, amsgrad=True),
    "nadam": lambda params: torch.optim.NAdam(params, foreach=False),
    "capturable nadam": lambda params: torch.optim.NAdam(
        params, foreach=False, capturable=params[0].device.type != "cpu"
    ),
    "asgd": lambda params: torch.optim.ASGD(params, foreach=False),
    "adagrad": lambda params: torch.optim.Adagrad(params, foreach=False),
    "own": lambda params: Own(params),
}


class Own(torch.optim.Optimizer):
    """An optimizer of one's own, that counts its steps in Python."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {"lr": 0.1, "decay": (0.9, 3)})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for options in self.param_groups:
            for p in options["params"]:
                entries = self.state[p]
                entries["count"] = entries.get("count", 0) + 1
                entries["mean"] = 0.9 * entries.get("mean", torch.zeros_like(p)) + 0.1 * p.grad
                p.sub_(entries["mean"] * (options["lr"] * options["decay"][0] ** entries["count"]))


class Placed(PPOLearner):
    """A Learner on a device, whose modules have an optimizer of one kind."""

    where = "cpu"
    kind = "adam"
    _device = property(lambda self: torch.device(self.where), lambda self, _: None)

    def configure_optimizers_for_module(self, module_id: str, config: Any) -> None:
        params = self.get_parameters(self.module[module_id])
        self.register_optimizer(
            module_id=module_id,
            optimizer=OPTIMIZERS[self.kind](params),
            params=params,
            lr_or_lr_schedule=[[0, 1e-2], [1000, 0.0]],
        )


def learner_on(where: str, kind: str = "adam", **settings: Any) -> Any:
    config = make_config(entropy_coeff=[[0, 0.1], [1000, 0.0]], use_kl_loss=True)
    return make_learner(config, cls=type("Placed", (Placed,), {"where": where, "kind": kind, **settings}))


def train(learner: Any, first: int, last: int) -> None:
    for number in range(first, last):
        learner.update_from_batch(make_columns(24, seed=number), minibatch_size=8)


def placed(learner: Any) -> dict[str, str]:
    """The device and the Python type of everything that an optimizer holds, by its path."""
    found: dict[str, str] = {}
    for (module_id, name), slot in learner.optimizers.slots.items():
        for ref, param in slot.refs.items():
            entries = {"parameter": param, **slot.optimizer.state[param]}
            found |= {f"{module_id}/{name}/{ref}/{entry}": kind(value) for entry, value in entries.items()}
        for number, options in enumerate(slot.optimizer.param_groups):
            settings = {k: v for k, v in options.items() if k != "params"}
            found |= {f"{module_id}/{name}/{number}/{setting}": kind(v) for setting, v in settings.items()}
    return found


def kind(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        # Where a single number is to lie, an optimizer says by refusing it elsewhere: "capturable" does.
        return f"tensor of {value.dtype}" + (f" on {value.device}, shape {tuple(value.shape)}" if value.dim() else "")
    return f"tuple of {[kind(item) for item in value]}" if isinstance(value, tuple) else type(value).__name__


CASES = [(here, there, optimizer) for here, there in (("cpu", NAME), (NAME, "cpu")) for optimizer in OPTIMIZERS]
CASES += [(NAME, NAME, "adam"), (NAME, NAME, "capturable nadam")]


@pytest.mark.parametrize(("here", "there", "optimizer"), CASES)
@on_second_device
def test_a_checkpoint_goes_on_alike_on_another_device(here: str, there: str, optimizer: str, tmp_path: Path) -> None:
    first, second, straight = (learner_on(device, optimizer) for device in (here, there, there))
    train(first, 0, 3)
    train(straight, 0, 3)
    first.save_state(tmp_path / "learner")
    second.load_state(tmp_path / "learner")
    for updates in (3, 5):
        train(second, 3, updates)
        train(straight, 3, updates)
        assert placed(second) == placed(straight)
        assert next(second.module.parameters()).device.type == there
        ours, theirs = second.get_state(), straight.get_state()
        if optimizer == "capturable nadam" and here != there:  # Its other way of computing a step rounds elsewhere.
            for name, value in flat(theirs).items():
                np.testing.assert_allclose(flat(ours)[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
        else:
            assert_same(flat(ours), flat(theirs))
        assert ours["learner"]["coefficients"] == theirs["learner"]["coefficients"]


@on_second_device
def test_the_devices_are_two() -> None:
    """Or the test above would show nothing."""
    learner = learner_on(NAME)
    assert {p.device.type for p in learner.module.parameters()} == {NAME}
    with pytest.raises(RuntimeError, match="two devices"):
        torch.zeros(3, device=NAME) + torch.zeros(3)
    parameter = next(learner.module.parameters())
    learner.optimizers.slots["default_policy", "default_optimizer"].optimizer.state[parameter]["exp_avg"] = (
        torch.zeros_like(parameter, device="cpu")
    )
    assert any("on cpu" in value for value in placed(learner).values())


@on_second_device
def test_a_module_and_its_optimizer_move_to_another_device_in_one_call(tmp_path: Path) -> None:
    first, second = learner_on("cpu"), learner_on(NAME)
    train(first, 0, 2)
    first.save_state(tmp_path / "learner")
    second.load_state(tmp_path / "learner", module_ids={"default_policy": "other"})
    theirs, ours = first.get_state(), second.get_state()
    assert_same(theirs["rl_module"]["default_policy"], ours["rl_module"]["other"])
    moments = [
        state["optimizer"][module_id]["default_optimizer"]["moments"]
        for state, module_id in ((theirs, "default_policy"), (ours, "other"))
    ]
    for name in moments[0]:
        assert_same(moments[0][name], moments[1][name])
    assert {p.device.type for p in second.module["other"].parameters()} == {NAME}
    second.load_state(tmp_path / "learner", components=["rl_module"])
    assert_same(weights(first), {n: v for n, v in weights(second).items() if n.startswith("default_policy/")})


@on_second_device
def test_tensors_of_a_device_are_saved_from_there(tmp_path: Path) -> None:
    here = torch.arange(6.0).reshape(2, 3).T
    there = here.to(NAME)
    assert isinstance(there, SecondTensor)
    with BackgroundWriter() as writer:
        writer.write(tmp_path / "c", {"part": {"w": there}}, {})
        there.zero_()
    saved = read_checkpoint(tmp_path / "c", tensors=True).parts["part"]["w"]
    assert saved.device.type == "cpu"
    assert torch.equal(saved, here)
