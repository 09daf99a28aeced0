"""The command `twingrad`; one file for each kind of command."""

from . import attack, compare, evaluate, experiment, images, machine, models, report, text, train, train_images
from .app import app, main

__all__ = [
    "app",
    "attack",
    "compare",
    "evaluate",
    "experiment",
    "images",
    "machine",
    "main",
    "models",
    "report",
    "text",
    "train",
    "train_images",
]
