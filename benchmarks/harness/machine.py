"""The machine that a benchmark runs on: which cores it takes, and what a result says of it."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def pin(cores: list[int]) -> None:
    """Let this process, and those that it starts, run on these cores alone (where the system can do it)."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def one_thread_environment() -> dict[str, str]:
    """The environment of a contender: this one with one thread for every library, and no GPU."""
    return {**os.environ, **dict.fromkeys(_ONE_THREAD, "1"), "CUDA_VISIBLE_DEVICES": ""}


def available_cores() -> list[int]:
    """The cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def describe_machine() -> dict[str, Any]:
    """Hardware, system and time, as a result shows them."""
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "simd": _vector_extensions(),
        "load_at_the_end": [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": package_versions("unison", "torch", "numpy", "gymnasium"),
    }


def package_versions(*names: str) -> dict[str, str]:
    """The versions of those packages that are installed."""
    found: dict[str, str] = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _cpu_name() -> str:
    return _cpu_field("model name") or platform.processor() or "unknown"


def _vector_extensions() -> str:
    flags = _cpu_field("flags").split()
    return " ".join(f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f in flags)


def _cpu_field(name: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore").splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), "")
