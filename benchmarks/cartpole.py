"""PPO on CartPole-v1 from the start of the process to its end: work U7.

    python benchmarks/cartpole.py --peers DIR [--steps 100000] [--repeats 5] [--engines auto eager xla]

100,000 steps, 8 environments, the settings of RL Baselines3 Zoo: 32 steps of each environment a batch, minibatch 256,
20 passes, GAE 0.8, discount 0.98, no entropy bonus, learning rate from 1e-3 linearly to 0 (the clip range too, where
a library can: Unison and RLlib keep it at 0.2). Whole processes on one core with one thread, in turn: interpreter,
imports, building, learning, ending. Each library is called by a short script through its own Python interface, without
evaluations, files or plots. "sync" steps Gymnasium's single environments in turn, as Stable-Baselines3's
DummyVecEnv and RLlib do; "vector" steps the vector version of CartPole that Gymnasium registers, which is Gymnasium's
work and open to everybody, but used by neither peer. "as shipped" is `unison train` as a user calls it, with
its tuned settings, evaluations, checkpoints, logs and plot.
"""

import statistics
import sys

from harness.contenders import SCRIPTS, Entry, cpu_ratio, ratio
from harness.options import make_parser
from harness.processes import Runs, run_in_turn
from harness.report import Report, bar_chart

GOAL = 3


def main() -> None:
    """Measure and report."""
    parser = make_parser(__doc__)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.set_defaults(repeats=5)
    arguments = parser.parse_args()
    steps = str(5_000 if arguments.quick else arguments.steps)
    commands = {
        f"unison {e}, {name}": [sys.executable, str(SCRIPTS / "cartpole_unison.py"), steps, e, mode]
        for e in arguments.engines
        for name, mode in MODES
    }
    commands["unison train, as shipped"] = [sys.executable, str(SCRIPTS / "cartpole_shipped.py"), steps]
    missing: dict[str, str] = {}
    for entry in (Entry("SB3", "cartpole_sb3.py", "torch"), Entry("RLlib", "cartpole_rllib.py", "rllib")):
        python = entry.find_python(arguments.peers)
        if python is None:
            missing[entry.name] = "not installed: benchmarks/setup_peers.sh DIR, then --peers DIR"
        else:
            commands[entry.name] = [str(python), str(SCRIPTS / entry.script), steps]
    repeats = 1 if arguments.quick else arguments.repeats
    runs, failed = run_in_turn(commands, [arguments.core], repeats, warm_up=True)
    report = make_report(runs, {**missing, **failed}, int(steps))
    report.show()
    for path in report.write(arguments.results):
        print(path)


MODES = (("sync", "sync"), ("vector", "vector_entry_point"))


def make_report(runs: dict[str, Runs], missing: dict[str, str], steps: int) -> Report:
    """The table, the chart and the verdict."""
    about = " ".join((__doc__ or "").split("\n\n")[-1].split())
    report = Report("cartpole", f"PPO on CartPole-v1, {steps:,} steps, from start to end", about)
    rival = runs.get("SB3")
    rows: list[list[str]] = []
    ratios: dict[str, float] = {}
    for name, own in runs.items():
        cells = ["", ""]
        if rival is not None and own is not rival:
            by_time = ratio(rival, own)
            cells = [f"{by_time:.2f}", f"{cpu_ratio(rival, own):.2f}"]
            ratios[name] = by_time
        learning = own.median_of("learning_s")
        speeds = [f"{own.answers[0]['steps'] / own.median:,.0f}", f"{own.answers[0]['steps'] / learning:,.0f}"]
        rows.append([name, f"{own.median:.2f}", f"{statistics.median(own.cpu_seconds):.2f}", *speeds, *cells])
    header = ["who", "process s", "CPU s", "steps/s of the process", "steps/s of learning", "as fast as SB3", "by CPU"]
    report.add_table("", header, rows)
    if ratios:
        best = max(ratios, key=lambda name: ratios[name])
        verdict = "reached" if ratios[best] >= GOAL else "missed"
        report.notes.append(f"{best} is {ratios[best]:.2f} times as fast as SB3; the goal of {GOAL} is {verdict}.")
    report.notes += [f"{name} left out: {reason}" for name, reason in missing.items()]
    report.data["runs"] = {
        name: {"seconds": own.seconds, "cpu_seconds": own.cpu_seconds, "answers": own.answers}
        for name, own in runs.items()
    }
    if runs:
        speeds_of_all = [steps / own.median for own in runs.values()]
        report.add_picture("", bar_chart(list(runs), speeds_of_all, title=report.title, unit="steps per second"))
    return report


if __name__ == "__main__":
    main()
