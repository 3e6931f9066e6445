"""What a LearnerGroup costs, and what several Learners gain: works U4 and U5.

    python benchmarks/learner_group.py --peers DIR [--repeats 7] [--engine auto] [--learners 1 2] [--works U2]

U4: one update of 64 rows (Box(4) to Discrete(2), hidden 64,64), one pass: a Learner without a group, a group in this
process, and groups of Learner processes. U5: work U2 (see ppo_update.py) and larger ones, by 1 and by more
Learners of one thread each: how many times as fast they are. All on the same cores, in turn, beside RLlib. Between the
two: how long building takes, and recovering from a SIGKILL.
"""

import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryFile

from harness.contenders import SCRIPTS, Entry, Field, Measured, ratio
from harness.machine import available_cores
from harness.options import ENGINES, make_parser
from harness.ours import WORKS, Work, describe
from harness.processes import run_in_turn
from harness.report import Report, bar_chart

SMALL = Work(batch=64, minibatch=64, passes=1)
SHARED = {
    "U2": WORKS["U2"],
    "U2, minibatch 1024": replace(WORKS["U2"], minibatch=1024),
    "U2, hidden 1024,1024": replace(WORKS["U2"], hidden=(1024, 1024), passes=1),
    "U1": WORKS["U1"],
}


def main() -> None:
    """Measure and report."""
    parser = make_parser(__doc__)
    parser.add_argument("--engine", choices=ENGINES, default="auto", help="of Unison's Learners")
    parser.add_argument("--learners", nargs="+", type=int, default=[1, 2], help="processes (default: 1 2)")
    parser.add_argument("--works", nargs="+", choices=list(SHARED), default=list(SHARED), help="of U5 (default: all)")
    arguments = parser.parse_args()
    cores = available_cores()
    repeats = 2 if arguments.quick else arguments.repeats
    about = " ".join((__doc__ or "").split("\n\n")[-1].split())
    report = Report("learner_group", "LearnerGroups of 0, 1 and more processes", about)
    report.data["cores"] = cores
    if len(cores) < max(arguments.learners):
        report.notes.append(f"{max(arguments.learners)} Learners share {len(cores)} cores: the gain can't show here.")
    add_overhead(report, arguments.peers, arguments.engine, arguments.learners, cores, repeats)
    add_recovery(report, cores, repeats)
    for name in arguments.works[: 1 if arguments.quick else None]:
        add_scaling(report, name, SHARED[name], arguments.peers, arguments.engine, arguments.learners, cores, repeats)
    report.show()
    for path in report.write(arguments.results):
        print(path)


def entries(engine: str, learners: Sequence[int], *, local: bool) -> list[Entry]:
    """Both libraries: a bare Learner and the group in this process (if `local`), and groups of processes."""
    found: list[Entry] = []
    for library, script, interpreter, arguments in (
        ("unison", "unison_peer.py", None, (engine,)),
        ("RLlib", "rllib.py", "rllib", ()),
    ):
        if local:
            found.append(Entry(f"{library} Learner", script, interpreter, arguments))
            found.append(Entry(f"{library} group, this process", script, interpreter, arguments, {"group": True}))
        found += [
            Entry(f"{library} group, {n} process{'es' * (n > 1)}", script, interpreter, arguments, {"learners": n})
            for n in learners
        ]
    return found


def measure(report: Report, name: str, field: Field, work: Work, repeats: int) -> dict[str, Measured]:
    """Compare, and keep the data and who is missing."""
    with field:
        measured = field.compare(work.to_dict(), repeats)
    report.notes += [f"{name}: {who} left out: {reason}" for who, reason in field.missing.items()]
    report.data[name] = {who: {"seconds": m.seconds, **m.built} for who, m in measured.items()}
    print(f"{name} done", flush=True)
    return measured


def add_overhead(
    report: Report, peers: Path | None, engine: str, learners: Sequence[int], cores: list[int], repeats: int
) -> None:
    """U4: milliseconds of an update, and over that of a Learner without a group."""
    with TemporaryFile() as log:
        field = Field(entries(engine, learners, local=True), peers, cores, log)
        measured = measure(report, "U4", field, SMALL, repeats)
    rows: list[list[str]] = []
    for name, m in measured.items():
        alone = measured.get(f"{name.split()[0]} Learner")
        if alone is None:
            continue
        over = statistics.median(a - b for a, b in zip(m.seconds, alone.seconds, strict=True))
        rows.append([name, f"{m.median * 1e3:.3f}", "" if m is alone else f"{over * 1e3:.3f}"])
    report.add_table(f"U4: {describe(SMALL)}", ["who", "ms per update", "over a Learner alone"], rows)
    report.notes.append("U4's goals: at most 0.5 ms over a Learner alone with 1 process, 1 ms with 2.")
    if measured:
        values = [m.median * 1e3 for m in measured.values()]
        report.add_picture(
            "U4", bar_chart(list(measured), values, title="U4: an update of 64 rows", unit="milliseconds")
        )


def add_recovery(report: Report, cores: list[int], repeats: int) -> None:
    """What building costs, and how much longer an update takes in which Learners are killed."""
    rows: list[list[str]] = []
    for learners, killed in ((1, 1), (2, 1), (2, 2)):
        command = [sys.executable, str(SCRIPTS / "recovery.py"), str(learners), str(killed)]
        runs, failed = run_in_turn({"unison": command}, cores, max(2, repeats - 2))
        report.notes += [f"recovery of {killed} of {learners}: {reason}" for reason in failed.values()]
        for own in runs.values():
            parts = ("build_s", "second_build_s", "update_s", "update_with_loss_s")
            rows.append([f"{killed} of {learners}", *(f"{own.median_of(part) * 1e3:,.0f}" for part in parts)])
            report.data[f"recovery {killed} of {learners}"] = own.answers
    header = ["killed", "build ms", "build of a second group ms", "update ms", "update with SIGKILL in it ms"]
    report.add_table("Building, and recovering from SIGKILL (U2's network, eager)", header, rows)


def add_scaling(
    report: Report,
    name: str,
    work: Work,
    peers: Path | None,
    engine: str,
    learners: Sequence[int],
    cores: list[int],
    repeats: int,
) -> None:
    """U5: the speed of several Learners over that of one."""
    with TemporaryFile() as log:
        measured = measure(
            report, f"U5: {name}", Field(entries(engine, learners, local=False), peers, cores, log), work, repeats
        )
    rows: list[list[str]] = []
    for library in ("unison", "RLlib"):
        own = {who: m for who, m in measured.items() if who.startswith(library)}
        first = next(iter(own.values()), None)
        for who, m in own.items():
            speedup = f"{ratio(first, m):.2f}" if first is not None else ""
            rows.append([who, f"{m.median * 1e3:.2f}", f"{m.median / work.steps * 1e6:,.0f}", speedup])
    header = ["who", "ms per update", "us per step", "speed over the first"]
    report.add_table(f"U5, {name}: {describe(work)}", header, rows)


if __name__ == "__main__":
    main()
