"""Anonymous shared memory: files without a name, so that no kill of any process leaves one behind."""

import mmap
import os
import sys

from unison.errors import LearnerGroupError


class SharedMemoryError(LearnerGroupError):
    """The machine, or this process, has no room for more shared memory; names how much was asked for."""


class Segment:
    """One anonymous file in memory, shared by handing its descriptor to another process.

    The kernel frees it when the last process that holds or maps it is gone, however that process ends.
    It counts as memory of the processes (and of their container), not against the size of /dev/shm.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        """Make a segment, or take over the descriptor of one."""
        if not sys.platform.startswith("linux"):
            raise LearnerGroupError("Worker processes need Linux; use num_learners=0 or backend='ray' elsewhere.")
        self.descriptor = os.memfd_create("unison") if descriptor is None else descriptor

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return os.fstat(self.descriptor).st_size

    def reserve(self, size: int) -> None:
        """Make the segment at least `size` bytes long, backed by memory (a later access can't fail)."""
        if self.size < size:
            try:
                os.posix_fallocate(self.descriptor, 0, size)
            except OSError as error:
                raise _no_room(size, error) from error

    def write(self, data: bytes | memoryview, offset: int) -> None:
        """Copy bytes into the segment, which grows as needed."""
        view, size = memoryview(data), len(data)
        try:
            while view:
                written = os.pwrite(self.descriptor, view, offset)
                view, offset = view[written:], offset + written
        except OSError as error:
            raise _no_room(size, error) from error

    def read(self, size: int | None = None) -> bytearray:
        """A copy of the first `size` bytes, or of all."""
        size = self.size if size is None else size
        data = bytearray(size)
        view = memoryview(data)
        while view:
            count = os.preadv(self.descriptor, [view], size - len(view))
            if count == 0:
                raise LearnerGroupError(f"A shared segment lacks {len(view)} of the {size} bytes that it should hold.")
            view = view[count:]
        return data

    def clear(self) -> None:
        """Make it empty, also for a process that appends to it."""
        os.lseek(self.descriptor, 0, os.SEEK_SET)
        os.ftruncate(self.descriptor, 0)

    def map(self, size: int, *, private: bool = False) -> mmap.mmap:
        """Map the first `size` bytes; a private mapping keeps what is written to it to itself."""
        return mmap.mmap(self.descriptor, size, access=mmap.ACCESS_COPY if private else mmap.ACCESS_WRITE)

    def close(self) -> None:
        """Give up the descriptor; mappings live on."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __del__(self) -> None:
        self.close()


def _no_room(size: int, error: OSError) -> SharedMemoryError:
    return SharedMemoryError(
        f"No room for {size:,} bytes of shared memory: {error.strerror}. Use smaller batches or fewer Learners, "
        "or raise the memory limit of this machine, container or process (ulimit -f, cgroup memory)."
    )
