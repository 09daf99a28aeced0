"""The command `twingrad`; one file for each kind of command."""

from . import compare, machine, report, text, train
from .app import app, main

__all__ = ["app", "compare", "machine", "main", "report", "text", "train"]
