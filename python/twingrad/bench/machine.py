"""The machine that a run is on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from .saved import Machine
from .summary import TAKEN_OUT

ENVIRONMENT = (
    *TAKEN_OUT,
    *("OMP_PROC_BIND", "KMP_AFFINITY", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY"),
    *("JULIA_CPU_TARGET", "LD_PRELOAD", "CUDA_VISIBLE_DEVICES"),
)
"""Variables that decide which kernels run, and where."""


def this_machine() -> Machine:
    """What the samples of a run depend on."""
    return Machine(
        processor=processor(),
        cores=cores(),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0,
        system=platform.platform(),
        load_before=os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0,
        environment={name: os.environ.get(name) for name in ENVIRONMENT},
    )


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The processor's name for people."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
