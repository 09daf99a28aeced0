"""The files of `shared_fixtures/FORMAT.md`, read and written."""

from .case import Case, read_case, seal
from .checkpoint import Checkpoint, find_checkpoint, read_checkpoint
from .result import Recorded, Result, read_recorded, read_result
from .training import Training, read_training

__all__ = [
    "Case",
    "Checkpoint",
    "Recorded",
    "Result",
    "Training",
    "find_checkpoint",
    "read_case",
    "read_checkpoint",
    "read_recorded",
    "read_result",
    "read_training",
    "seal",
]
