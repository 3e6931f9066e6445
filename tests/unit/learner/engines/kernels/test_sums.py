"""Sums of ranks in C++: what a rank lays down for the others is its vector, copied or streamed."""

import ctypes
import subprocess
from pathlib import Path

import numpy as np
import pytest

from unison.learner.engines.kernels import compiler

jax = pytest.importorskip("jax")
pytestmark = pytest.mark.skipif(compiler.find_compiler() is None, reason="needs a C++ compiler")
PROBE = """
#include "xla_sum.cpp"
extern "C" void lay(const float* given, float* buffer, Index start, Index count, int streamed) {
    streamed ? stream(given, buffer + start, count) : copy(given, buffer + start, count);
}
extern "C" void lay_often(const float* given, float* buffer, Index count, int times) {
    const std::vector<Stretch> vector{{0, count / 3, given, nullptr}, {count / 3, count - count / 3, given + count / 3,
                                                                       nullptr}};
    for (int i = 0; i < times; ++i) {
        std::fill_n(buffer, count, 0.0f);
        lay_down(vector, buffer, count);
    }
}
"""


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The source, with a door to what it has inside."""
    folder = tmp_path_factory.mktemp("probe")
    (folder / "probe.cpp").write_text(PROBE)
    sources = Path(compiler.__file__).parent
    command = [str(compiler.find_compiler()), "-O3", "-std=c++17", "-w", "-fPIC", "-shared"]
    command += [f"-I{jax.ffi.include_dir()}", f"-I{sources}", str(folder / "probe.cpp"), "-o", str(folder / "probe.so")]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(folder / "probe.so"))


def address(array: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]") -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


@pytest.mark.parametrize("streamed", [0, 1])
def test_a_vector_lies_where_it_is_to_and_nowhere_else(probe: ctypes.CDLL, streamed: int) -> None:
    for start in range(9):
        for count in (0, 1, 2, 3, 4, 5, 7, 8, 255, 256, 257, 1000):
            given = np.random.default_rng(count).standard_normal(count).astype(np.float32)
            buffer = np.full(1100, np.nan, np.float32)
            probe.lay(address(given), address(buffer), ctypes.c_int64(start), ctypes.c_int64(count), streamed)
            np.testing.assert_array_equal(buffer[start : start + count], given)
            assert np.isnan(buffer[:start]).all()
            assert np.isnan(buffer[start + count :]).all()


def test_stretches_are_laid_down_whole_time_after_time(probe: ctypes.CDLL) -> None:
    given = np.random.default_rng(0).standard_normal(100_001).astype(np.float32)
    for times in (1, 2, 64, 65, 66, 67):
        buffer = np.empty_like(given)
        probe.lay_often(address(given), address(buffer), ctypes.c_int64(len(given)), times)
        np.testing.assert_array_equal(buffer, given)
