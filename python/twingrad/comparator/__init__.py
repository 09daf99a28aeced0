"""What counts as agreement, and whether there is any."""

from .bounds import CHECKS, Bounds, read_bounds
from .compare import Check, compare_array, compare_arrays, compare_case, relative_error

__all__ = [
    "CHECKS",
    "Bounds",
    "Check",
    "compare_array",
    "compare_arrays",
    "compare_case",
    "read_bounds",
    "relative_error",
]
