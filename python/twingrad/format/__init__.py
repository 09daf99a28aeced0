"""The files of `shared_fixtures/FORMAT.md`, read and written."""

from .case import Case, read_case, seal
from .result import Recorded, Result, read_recorded, read_result
from .training import Training, read_training

__all__ = [
    "Case",
    "Recorded",
    "Result",
    "Training",
    "read_case",
    "read_recorded",
    "read_result",
    "read_training",
    "seal",
]
