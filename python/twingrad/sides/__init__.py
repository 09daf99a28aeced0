"""The sides: what computes results, each in a process of its own."""

from .locate_julia import find_julia
from .table import Side, side, sides, source_digest
from .worker_process import Worker, is_available

__all__ = ["Side", "Worker", "find_julia", "is_available", "side", "sides", "source_digest"]
