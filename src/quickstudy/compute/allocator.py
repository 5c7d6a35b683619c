"""Makes the C allocator keep freed memory.

glibc hands large freed blocks back to the system at once, and the page faults of getting them again
can cost more than a training step's arithmetic. Training and evaluation therefore ask it once to
serve large blocks from its heap and to keep freed memory. ``QUICKSTUDY_ALLOCATOR=default`` in the
environment leaves everything as it is; other C libraries are left alone anyway.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # from glibc's malloc.h
KEEP_ALL = 2**31 - 1
TWO_HEAPS = 2**27
"""Bytes to keep free; with less, a thread would return its last heap of 64 MiB."""


@functools.cache
def keep_freed_memory() -> bool:
    """Configures the allocator, once per process; returns whether it succeeded."""
    if os.environ.get("QUICKSTUDY_ALLOCATOR") == "default" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    wanted = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: KEEP_ALL, M_TOP_PAD: TWO_HEAPS}
    return all(bool(mallopt(parameter, value)) for parameter, value in wanted.items())
