"""Where each microsecond of an update goes: works U1 and U2, by part, beside the floor.

    python benchmarks/profile_step.py [--works U1 U2] [--engines eager xla] [--repeats 7] [--core 0]

Every part is charged with its own processor time alone. With the engine eager: forward pass, loss, backward pass,
gathering rows, clipping, optimizer, and the Python between them. With a compiled engine: its programs, and what is
around them. The floor is the matrix products of a step alone, each run by itself on this machine. Minima over the
repeats, since whatever disturbs a measurement adds to it.
"""

import time
from itertools import pairwise
from typing import Any

from harness.machine import pin
from harness.options import make_parser
from harness.ours import WORKS, Work, describe, spaces_of
from harness.report import Report
from harness.stopwatch import Stopwatch

AROUND_STEPS = "around the steps: checks, tensors, snapshot, results"
BETWEEN = "Python between the parts"
AROUND_PROGRAMS = "engine around its programs"
PROGRAMS = "compiled programs"


def main() -> None:
    """Measure and report."""
    parser = make_parser(__doc__)
    parser.add_argument("--works", nargs="+", choices=["U1", "U2"], default=["U1", "U2"])
    arguments = parser.parse_args()
    pin([arguments.core])
    import torch

    torch.set_num_threads(1)
    about = " ".join((__doc__ or "").split("\n\n")[-1].split())
    report = Report("profile_step", "Where the time of an update goes", about)
    for name in arguments.works:
        work = WORKS[name]
        floor = floor_of(work)
        for engine in arguments.engines:
            if engine == "auto":
                continue
            parts, ran = profile(work, engine, 2 if arguments.quick else arguments.repeats)
            if ran != engine:
                report.notes.append(f"{name}: engine {engine} left out: it ran {ran}")
                continue
            add_table(report, f"{name}, engine {engine}: {describe(work)}", parts, floor)
            report.data[f"{name} {engine}"] = {"us_per_step": parts, "floor_us": floor}
    report.show()
    for path in report.write(arguments.results):
        print(path)


def add_table(report: Report, title: str, parts: dict[str, float], floor: float) -> None:
    """Microseconds of a step, and shares of the whole."""
    total = sum(parts.values())
    rows = [[n, f"{t:,.1f}", f"{t / total:.0%}"] for n, t in sorted(parts.items(), key=lambda item: -item[1])]
    rows.append(["all", f"{total:,.1f}", "100%"])
    rows.append(["floor: its matrix products alone", f"{floor:,.1f}", f"{floor / total:.0%}"])
    report.add_table(title, ["part", "us per step", "share"], rows)


def profile(work: Work, engine: str, repeats: int) -> tuple[dict[str, float], str]:
    """Microseconds per step of each part, and the engine that ran."""
    from unison.algorithms import PPOConfig
    from unison.types import ALL_MODULES, DEFAULT_MODULE_ID

    config = (
        PPOConfig()
        .framework(engine=engine, num_threads=1)
        .rl_module(model_config={"hidden_sizes": list(work.hidden)})
        .training(entropy_coeff=0.01, train_batch_size=work.batch, minibatch_size=work.minibatch)
        .debugging(seed=0)
    )
    learner = config.build_learner(spaces={DEFAULT_MODULE_ID: spaces_of(work)})
    columns = work.columns()

    def update() -> dict[str, Any]:
        return learner.update_from_batch(columns, minibatch_size=work.minibatch, num_iters=work.passes)[ALL_MODULES]

    ran = [update() for _ in range(3)][-1]["engine"]
    if ran != engine:
        return {}, ran
    watch = Stopwatch()
    _instrument(watch, learner, engine)
    best: dict[str, float] = {}
    with watch:
        for _ in range(repeats + 1):
            watch.reset()
            with watch.section(AROUND_STEPS):
                update()
            for part, seconds in watch.seconds.items():
                best[part] = min(best.get(part, float("inf")), seconds / work.steps * 1e6)
    return best, ran


def _instrument(watch: Stopwatch, learner: Any, engine: str) -> None:
    """Time the hooks of an eager Learner, or the programs of a compiled one (hooks would change what is compiled)."""
    if engine == "eager":
        from unison.data.minibatches import PassColumns

        watch.wrap(learner.engine, "run", BETWEEN)
        watch.wrap(learner.module, "forward_train", "forward pass")
        watch.wrap(learner, "compute_loss", "loss and metrics")
        watch.wrap(learner, "compute_gradients", "backward pass")
        watch.wrap(learner, "postprocess_gradients", "clipping")
        watch.wrap(learner, "apply_gradients", "optimizer")
        watch.wrap(PassColumns, "part", "gathering rows")
        return
    watch.wrap(learner.engine, "run", AROUND_PROGRAMS)
    watch.wrap(learner.engine, "execute", PROGRAMS)


def floor_of(work: Work) -> float:
    """Microseconds of the matrix products of one step, by the faster of torch's two CPU libraries."""
    import torch

    best = float("inf")
    for precision in ("none", "bf16"):
        # "bf16" sends products through oneDNN; only where the processor has no bfloat16 units is it full precision.
        if precision == "bf16" and (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()):
            continue
        torch.backends.mkldnn.matmul.fp32_precision = precision
        best = min(best, sum(_product_us(*shape) for shape in _products(work)))
    torch.backends.mkldnn.matmul.fp32_precision = "none"
    return best


def _products(work: Work) -> list[tuple[int, int, int]]:
    """(m, k, n) of every product of a step."""
    rows, found = work.minibatch, []
    for outputs in (work.num_actions, 1):
        sizes = [work.observation, *work.hidden, outputs]
        for index, (into, out) in enumerate(pairwise(sizes)):
            found += [(rows, into, out), (into, rows, out)]
            if index:
                found.append((rows, out, into))
    return found


def _product_us(m: int, k: int, n: int) -> float:
    import torch

    left, right, out = torch.randn(m, k), torch.randn(k, n), torch.empty(m, n)
    best = float("inf")
    for _ in range(30):
        start = time.perf_counter()
        for _ in range(10):
            torch.mm(left, right, out=out)
        best = min(best, (time.perf_counter() - start) / 10)
    return best * 1e6


if __name__ == "__main__":
    main()
