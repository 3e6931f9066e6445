"""The options that the comparing benchmarks share."""

import argparse
from pathlib import Path
from typing import get_args

from harness.machine import available_cores
from unison.config.sections import FrameworkSection

ENGINES: tuple[str, ...] = get_args(FrameworkSection.model_fields["engine"].annotation)


def make_parser(about: str | None) -> argparse.ArgumentParser:
    """A parser with --peers, --repeats, --core, --engines, --results and --quick."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, default=None, metavar="DIR", help="interpreters of setup_peers.sh")
    parser.add_argument("--repeats", type=int, default=7, help="repeats, the contenders in turn (default: 7)")
    parser.add_argument("--core", type=int, default=available_cores()[0], help="the core that all of them run on")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=_installed(), help="of Unison")
    parser.add_argument("--results", type=Path, default=None, metavar="DIR", help="default: benchmarks/results")
    parser.add_argument("--quick", action="store_true", help="a small part, to see that it runs")
    return parser


def _installed() -> list[str]:
    from importlib.util import find_spec

    return [engine for engine in ENGINES if engine != "xla" or find_spec("jax")]
