"""The memory that a training may still take: of the device, or the container."""

from __future__ import annotations

from pathlib import Path

import psutil
import torch

#: Where Linux says what a container may take and takes: version 2 and 1.
CGROUP_FILES = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def free_bytes(device: torch.device | str = "cpu") -> int:
    """Return the free memory of a CUDA device, else of the machine, bytes: the smaller of system's and container's."""
    device = torch.device(device)
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    limits = [int(psutil.virtual_memory().available)]
    for most, taken in CGROUP_FILES:
        try:
            limits.append(int(Path(most).read_text()) - int(Path(taken).read_text()))
        except (OSError, ValueError):  # another system, or "max": no limit
            continue
    return max(min(limits), 0)
