"""The command `twingrad`; one file for each kind of command."""

from . import (
    attack,
    audit,
    bench,
    compare,
    evaluate,
    experiment,
    experiment_flow,
    images,
    machine,
    models,
    report,
    text,
    train,
    train_images,
)
from .app import app, main

__all__ = [
    "app",
    "attack",
    "audit",
    "bench",
    "compare",
    "evaluate",
    "experiment",
    "experiment_flow",
    "images",
    "machine",
    "main",
    "models",
    "report",
    "text",
    "train",
    "train_images",
]
