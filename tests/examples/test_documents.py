"""What README and docs show runs as pasted, and what they point to is there."""

import math
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer

from unison import PPOConfig
from unison.cli.app import app
from unison.config.setter import catalog
from unison.registry import lookup

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)\)")
COMMAND = re.compile(r"^ {4}(?:\.venv/bin/|cd \w+ && |for .* do )?(unison .*)$", re.MULTILINE)


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def test_the_readmes_example_runs_as_pasted(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = python_blocks(ROOT / "README.md")
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {"__name__": "pasted"})
    assert 0.5 < float(capsys.readouterr().out) <= 1.0


def test_the_quickstart_runs_as_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"observation": np.zeros(4, np.float32)}
    for block in python_blocks(ROOT / "docs" / "quickstart.md"):
        exec(compile(block.replace("range(20)", "range(1)").replace("200_000", "2048"), "quickstart.md", "exec"), names)
    assert names["action"] in (0, 1)
    assert (tmp_path / "runs" / "cartpole" / "learning_curve.png").exists()


def test_what_how_to_shows_runs_as_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    config = PPOConfig().environment("CartPole-v1").rl_module(model_config={"hidden_sizes": (8,)})
    config.build_learner().save_state(tmp_path / "checkpoint")
    names: dict[str, Any] = {"observation": torch.zeros(4), "__name__": "pasted"}
    for block in python_blocks(ROOT / "docs" / "how_to.md"):
        exec(compile(block, "how_to.md", "exec"), names)
        trained = names["results"].get("learners", names["results"])["default_policy"]
        assert math.isfinite(trained["total_loss"])
    module = names["learner"].module["default_policy"]
    assert 0 < float((module.q[0].weight - module.target_q[0].weight).detach().abs().max()) < 0.1
    inputs, others = torch.randn(2, 5, 6)
    (ours, theirs), (our_other, their_other) = (
        (names["Laplace"](x), torch.distributions.Laplace(x[:, :3], x[:, 3:].exp())) for x in (inputs, others)
    )
    actions, log_probs = ours.sample_with_log_prob()
    torch.testing.assert_close(log_probs, theirs.log_prob(actions).sum(-1))
    torch.testing.assert_close(ours.entropy(), theirs.entropy().sum(-1))
    torch.testing.assert_close(ours.kl(our_other), torch.distributions.kl_divergence(theirs, their_other).sum(-1))


def test_the_page_on_many_agents_runs_as_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    names: dict[str, Any] = {}
    for block in python_blocks(ROOT / "docs" / "multi_agent.md"):
        exec(compile(block, "multi_agent.md", "exec"), names)
    assert min(names["results"]["env_runners"]["agent_return_mean"].values()) > 12  # Chance pays 2.
    assert names["action"] in (1, 2)
    assert (tmp_path / "team" / "manifest.json").exists()


def test_the_tests_that_the_docs_name_exist() -> None:
    named = [name for page in PAGES for name in re.findall(r"`(tests/[\w/]+\.py(?:::\w+)?)`", page.read_text("utf-8"))]
    assert len(named) > 40
    for name in named:
        path, _, test = name.partition("::")
        text = (ROOT / path).read_text(encoding="utf-8")
        assert re.search(rf"^(?:def|class) {test}\b", text, re.MULTILINE) if test else text, name


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = [target for target in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_commands_and_their_options_exist() -> None:
    command: Any = typer.main.get_command(app)
    shown = [line for page in PAGES for line in COMMAND.findall(page.read_text(encoding="utf-8"))]
    assert len(shown) > 8
    settings = catalog(lookup("config", "ppo"))
    for line in shown:
        words = shlex.split(line.partition(";")[0], comments=True)
        options = {name for option in command.commands[words[1]].params for name in option.opts + option.secondary_opts}
        assert {word for word in words if word.startswith("--")} <= options, line
        for assignment in [words[i + 1] for i, word in enumerate(words) if word == "--set"]:
            path = assignment.partition("=")[0].split(".")
            assert path[0] in settings.sections or path[0] in settings.setter_of, line
