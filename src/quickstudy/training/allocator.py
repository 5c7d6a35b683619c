"""The C allocator, told to keep what it was given.

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

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # from glibc's malloc.h
KEEP_ALL = 2**31 - 1


@functools.cache
def keep_freed_memory() -> bool:
    """Sets the allocator up, once a process; says whether it did."""
    if os.environ.get("QUICKSTUDY_ALLOCATOR") == "default" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, KEEP_ALL))
