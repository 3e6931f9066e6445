"""The memory that ranks of one machine share, described for code that is not Python."""

import ctypes


class SharedBuffers(ctypes.Structure):
    """Where a rank lays down what is summed, and finds what the others lay down.

    learner_group/collectives/shared_memory.py fills it and tells how ranks take turns;
    engines/kernels/xla_sum.cpp, which has the same structure, takes turns as it does.
    """

    _fields_ = (
        ("rank", ctypes.c_int64),
        ("world_size", ctypes.c_int64),
        ("words", ctypes.c_void_p),  # the board, of which line 1 + r is rank r's
        ("line", ctypes.c_int64),  # words in each
        ("turn", ctypes.c_int64),  # the column of the turn that a rank takes
        ("arrived", ctypes.c_int64),  # of the turn that it has laid something down for
        ("bytes", ctypes.c_int64),  # of what it has laid down in even turns; the next one is for odd turns
        ("size", ctypes.c_int64),  # bytes that every buffer has room for; 0 while the ranks have not met in it
        ("buffers", ctypes.POINTER(ctypes.c_void_p)),  # of each rank for even turns, then of each for odd ones
    )

    size: int
