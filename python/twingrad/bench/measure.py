"""The PyTorch side's answers to the verb `bench`. Beside it: `julia/src/bench/measure.jl`.

One request is one visit to one workload: it is made ready, called once, and timed by `torch.utils.benchmark`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils.benchmark import Timer

from ..errors import InputError, one_of
from ..validation import validate
from .call import Call, Problem
from .cases import read_arrays
from .layers import layer_call, matmul_call
from .models import model_call
from .peers import PEERS
from .saved import OWN, Work

LEAST_SAMPLES = 3
KINDS: dict[str, Callable[[Problem], Call]] = {
    "model": model_call,
    "generate": model_call,
    "layer": layer_call,
    "ceiling": matmul_call,
}


class Ready:
    """A workload that was made ready and called once."""

    def __init__(self, work: Work, implementation: str, arrays: Path | None) -> None:
        groups = read_arrays(arrays) if arrays is not None else {"params": {}, "inputs": {}, "targets": {}}
        problem = Problem(work, groups)
        known = {OWN: KINDS[work.kind], **PEERS}
        if implementation not in known:
            raise InputError("implementation", expected=one_of(known), found=repr(implementation))
        self.call, self.device = known[implementation](problem), problem.device
        start = time.perf_counter()
        value = self.call.run()
        synchronize(self.device)
        self.first_call_seconds = time.perf_counter() - start
        self.checksum = self.call.checksum(value)


class Visits:
    """A worker's visits: what it made ready stays so until another workload is asked for."""

    def __init__(self) -> None:
        self._work: Work | None = None
        self._ready: dict[str, Ready] = {}
        self._compiled: dict[str, Ready] = {}

    def answer(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Visit the `workload` with the file `arrays`: at most `samples` samples in about `seconds`.

        With `first`, the first call and what a call allocates are told too.
        """
        fields = dict(arguments["workload"])
        implementation = fields.pop("implementation")
        work = validate(Work, fields, "workload")
        ready = self._get(work, implementation, arguments["arrays"])
        seconds, calls = sample(ready.call, ready.device, arguments["seconds"], arguments["samples"])
        first = bool(arguments["first"])
        return {
            "seconds": seconds,
            "calls": calls,
            "first_call_seconds": ready.first_call_seconds if first else None,
            "allocated_bytes": allocated_bytes(ready.call, ready.device) if first else None,
            "gc_share": None,
            "peak_bytes": peak_bytes(ready.device),
            "checksum": ready.checksum,
            "tool": f"torch.utils.benchmark {torch.__version__}",
        }

    def _get(self, work: Work, implementation: str, arrays: str | None) -> Ready:
        """A compiled model is kept for good, since each further copy of it would be compiled anew."""
        if work != self._work:
            self._work, self._ready = work, {}
            reset_peak()
        kept = self._compiled if implementation == "compile" else self._ready
        key = f"{work.name} {work.dtype} {work.device} {implementation}"
        if key not in kept:
            kept[key] = Ready(work, implementation, None if arrays is None else Path(arrays))
        return kept[key]


visit = Visits().answer
"""The answer to a request, by the visits of this process."""


class _EnoughError(Exception):
    """As many samples as were wanted."""


def sample(call: Call, device: torch.device, seconds: float, samples: int) -> tuple[list[float], int]:
    """Times of a call, or of one of what it makes, and how many of these a sample is the mean of.

    torch's Timer warms up, puts short calls together in blocks, switches Python's garbage collector off and
    synchronises CUDA after each block. At least `LEAST_SAMPLES` are taken, however long a call lasts.
    """
    start = time.perf_counter()
    call.run()
    synchronize(device)
    once = time.perf_counter() - start
    timer = Timer("run()", globals={"run": call.run}, num_threads=torch.get_num_threads())
    times: list[float] = []
    block = 1

    def keep(number: int, spent: float) -> Any:
        nonlocal block
        block = number
        times.append(spent / (number * call.units))
        if len(times) == samples:
            raise _EnoughError

    while len(times) < LEAST_SAMPLES:
        times.clear()
        with contextlib.suppress(_EnoughError):
            timer.blocked_autorange(keep, max(seconds, LEAST_SAMPLES * once))
        once *= 2.0
    return times, block * call.units


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def allocated_bytes(call: Call, device: torch.device) -> int:
    """The bytes of all tensors that one call, or the making of one token, allocates: freed ones count too."""
    if device.type == "cuda":
        before = _allocated_on_gpu(device)
        call.run()
        return (_allocated_on_gpu(device) - before) // call.units
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        call.run()
    events = profile.profiler.kineto_results.events()  # the summed events hold net sizes only
    sizes = [int(event.nbytes()) for event in events if event.name() == "[memory]"]
    return sum(size for size in sizes if size > 0) // call.units


def _allocated_on_gpu(device: torch.device) -> int:
    """All bytes that torch ever took there."""
    return int(torch.cuda.memory_stats(device)["allocated_bytes.all.allocated"])


def reset_peak() -> None:
    """Let the high-water marks of memory start from here, where the system has that."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_bytes(device: torch.device) -> int | None:
    """The high-water mark of the process's resident memory (Linux), or of the GPU's memory that torch took."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return None
