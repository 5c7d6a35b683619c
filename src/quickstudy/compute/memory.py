"""Free and peak memory of this machine's processor or of an accelerator."""

from __future__ import annotations

import sys

import torch


def peak_memory(device: torch.device | None = None) -> int:
    """The most memory that this process has held, in bytes; 0 where the system does not say."""
    if device is not None and device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def free_memory(device: torch.device | None = None) -> float:
    """The memory that can still be allocated, in bytes."""
    if device is not None and device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    import psutil  # only training asks

    return float(psutil.virtual_memory().available)
