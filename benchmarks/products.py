"""Products by the processor's units for bfloat16, beside XLA's and torch's in float32.

    python benchmarks/products.py [--repeats 7] [--core 0]

The products that layers of width 64 to 1024 make, one thread on one core: forward (x @ W.T), the gradient of the
input (g @ W) and that of the weight (g.T @ x). Each is run in turn by torch, by XLA in the way that engine "xla" wrote
it before, and by Unison's own code: exact ones on a matrix unit, and "bf16", of numbers rounded to bfloat16; times are
medians, ratios medians of the ratios of each repeat. The error is the root mean square of the differences from
float64, relative to what is multiplied, in units of float32's rounding.
"""

import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from harness.machine import pin
from harness.options import make_parser
from harness.ratios import median_ratio
from harness.report import Report

SIZES = [(64, 64, 64), (256, 64, 64), (128, 256, 256), (256, 256, 256), (1024, 256, 256), (256, 1024, 1024)]
"""Rows, inputs and outputs of a layer."""
KINDS = {"x @ W.T": (False, True), "g @ W": (False, False), "g.T @ x": (True, False)}
SECONDS, LOOP = 0.05, 100
SMALLEST = 64


def main() -> None:
    """Measure and report."""
    arguments = make_parser(__doc__).parse_args()
    pin([arguments.core])
    os.environ |= {"JAX_PLATFORMS": "cpu", "PJRT_NPROC": "1"}
    import torch

    torch.set_num_threads(1)
    from unison.learner.engines.kernels.products import find_unit

    about = " ".join((__doc__ or "").split("\n\n")[-1].split())
    report = Report("products", "Products", about)
    if find_unit("bfloat16", 64, 64, 64) is not None:
        for sizes in SIZES[:2] if arguments.quick else SIZES:
            measure(report, sizes, arguments.repeats)
    else:
        report.notes.append("This processor has no unit for bfloat16 that Unison knows, or there is no C++ compiler.")
    report.show()
    for path in report.write(arguments.results):
        print(path)


def measure(report: Report, sizes: tuple[int, int, int], repeats: int) -> None:
    """Add the table of one layer."""
    rows, inputs, outputs = sizes
    shapes = {"x @ W.T": (rows, inputs, outputs), "g @ W": (rows, outputs, inputs), "g.T @ x": (outputs, rows, inputs)}
    table: list[list[str]] = []
    for kind, transposed in KINDS.items():
        a, b = operands(*shapes[kind], *transposed)
        calls = contenders(a, b, *transposed)
        times: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(repeats):
            for name, call in calls.items():
                times[name].append(timed(call))
        for name, call in calls.items():
            ratio = f"{median_ratio(times['torch'], times[name]):.2f}"
            off = error(np.asarray(call()), a.T if transposed[0] else a, b.T if transposed[1] else b)
            table.append([kind, name, f"{statistics.median(times[name]) * 1e6:,.1f}", f"{off:.2f}", ratio])
    report.add_table(f"{rows} rows, {inputs} to {outputs}", ["product", "by", "us", "error", "as fast as torch"], table)


def operands(rows: int, inner: int, columns: int, a_is_transposed: bool, b_is_transposed: bool) -> tuple[Any, Any]:
    """Matrices as they lie in memory."""
    draw = np.random.default_rng(0)
    a = draw.standard_normal((inner, rows) if a_is_transposed else (rows, inner), np.float32)
    b = draw.standard_normal((columns, inner) if b_is_transposed else (inner, columns), np.float32)
    return a, b


def contenders(a: Any, b: Any, a_is_transposed: bool, b_is_transposed: bool) -> dict[str, Callable[[], Any]]:
    """What gives the product, by name."""
    import jax
    import torch

    from unison.learner.engines.kernels.products import find_unit, product
    from unison.learner.engines.lowering.products import matmul_of_xla

    turned = {"a_is_transposed": a_is_transposed, "b_is_transposed": b_is_transposed}
    names = {"unison": find_unit("float32", *3 * [SMALLEST]), "unison, bf16": find_unit("bfloat16", *3 * [SMALLEST])}
    ours = {name: partial(product, unit, **turned) for name, unit in names.items() if unit is not None}

    def theirs(a: Any, b: Any) -> Any:
        a, b = (a.T if a_is_transposed else a), (b.T if b_is_transposed else b)
        return matmul_of_xla(a, b, a_is_transposed=a_is_transposed)

    left, right = torch.from_numpy(a), torch.from_numpy(b)
    left, right = left.t() if a_is_transposed else left, right.t() if b_is_transposed else right
    on_device = jax.device_put((a, b))

    def looped(multiply: Callable[[Any, Any], Any]) -> Callable[[], Any]:
        def step(_: Any, carried: Any) -> Any:
            a, b, found = jax.lax.optimization_barrier(carried)
            return a, b, multiply(a, b) + 0 * found[0, 0]

        @jax.jit
        def loop(a: Any, b: Any) -> Any:
            return jax.lax.fori_loop(0, LOOP, step, (a, b, multiply(a, b)))[2]

        return lambda: loop(*on_device).block_until_ready()

    def by_torch() -> Any:
        for _ in range(LOOP):
            found = left @ right
        return found

    return {"torch": by_torch, "XLA": looped(theirs), **{name: looped(own) for name, own in ours.items()}}


def timed(call: Callable[[], Any]) -> float:
    """Seconds of one product, the mean over a twentieth of a second at least."""
    call()
    count, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < SECONDS:
        call()
        count += LOOP
    return passed / count


def error(found: Any, a: Any, b: Any) -> float:
    """The distance from float64."""
    exact = a.astype(np.float64) @ b.astype(np.float64)
    scale = np.linalg.norm(a, axis=1)[:, None].astype(np.float64) * np.linalg.norm(b, axis=0)[None]
    return float(np.sqrt(np.mean(((found - exact) / scale) ** 2)) / np.finfo(np.float32).eps)


if __name__ == "__main__":
    main()
