"""Deeper networks that train worse, and the links that cure it: plain against residual networks as depth grows.

Source: He, Zhang, Ren, Sun, "Deep residual learning for image recognition", CVPR 2016, section 4.2 and figure 6.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np

from ..errors import InputError, SideError, one_of
from ..files import make_folder
from ..format import hdf5, read_checkpoint
from ..format.result import now
from ..sides import Worker, is_available, side
from ..specs.resnet import IMAGENET_BLOCKS, Variant
from ..training.settings import ClassifierSettings, classifier_settings, preset

DOCUMENT_FORMAT = "twingrad-degradation"
SMALL = {"width": 4, "batch": 16, "iterations": 300, "pad": 0, "flip": False}
"""What differs from the preset `cpu` of `train resnet`: networks so small that all of them train in minutes."""
LAST = 0.1
"""The training loss is the mean over this part of the steps, the last ones."""


@dataclass(frozen=True)
class Network:
    """One of the networks that are trained."""

    depth: int
    residual: bool
    seed: int

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"resnet{self.depth}-{'residual' if self.residual else 'plain'}-{self.seed}"

    def settings(self, shared: Mapping[str, Any]) -> ClassifierSettings:
        """The settings of its training."""
        own = {"variant": f"resnet{self.depth}", "residual": self.residual, "seed": self.seed}
        values = {**preset("resnet", "cpu"), **SMALL, **shared, **own}
        return classifier_settings("resnet", {**values, "evaluate_every": values["iterations"]})


def networks(depths: Sequence[int], seeds: Sequence[int]) -> list[Network]:
    """Plain and residual networks of each depth and seed; raises InputError for a depth that the family lacks."""
    known = [int(name.removeprefix("resnet")) for name in get_args(Variant) if name not in IMAGENET_BLOCKS]
    for depth in depths:
        if depth not in known:
            raise InputError("--depths", expected=one_of([str(one) for one in known]), found=str(depth))
    return [Network(depth, residual, seed) for seed in seeds for depth in depths for residual in (False, True)]


def train(
    chosen: Sequence[Network],
    names: Sequence[str],
    shared: Mapping[str, Any],
    data: Path | None,
    out: Path,
    *,
    threads: int,
    silence_seconds: float,
    on_progress: Callable[[str, Network, Mapping[str, Any]], None] = lambda *_: None,
) -> dict[str, str]:
    """Train the networks on the sides, one after another; trainings that are there already are gone on from.

    Args:
        chosen: what to train.
        names: names of the table of sides.
        shared: settings that all have in common, in place of those in `SMALL`.
        data: the folder with the images; None for the digits that come with TwinGrad.
        out: the folder; each training is in OUT/NETWORK/SIDE/last.h5.
        threads, silence_seconds: see `Worker`.
        on_progress: told the side, the network, and how far its training is.

    Returns:
        For each side that did not run the reason. Raises InputError for a bad request.
    """
    all_settings = {network: network.settings(shared).as_json() for network in chosen}
    not_run = {}
    for name in names:
        if not is_available(name):
            not_run[name] = "it cannot be had on this machine; 'twingrad doctor' says why"
            continue
        try:
            with Worker(name, threads=threads, silence_seconds=silence_seconds) as worker:
                for network, settings in all_settings.items():
                    place = str(make_folder(out / network.name).resolve())
                    where = {"data": None if data is None else str(data.resolve()), "out": place}
                    request = {"model": "resnet", "settings": settings, **where}
                    worker.request("train-classifier", request, partial(on_progress, name, network))
        except SideError as error:
            not_run[name] = str(error)
    return not_run


def document(
    chosen: Sequence[Network], names: Sequence[str], out: Path, not_run: Mapping[str, str], command: str
) -> dict[str, Any]:
    """What the trainings in `out` show, for the JSON file, the table and the figure; of the sides that ran."""
    ran = [name for name in names if name not in not_run]
    found = {
        name: {network: read_checkpoint(out / network.name / name / "last.h5") for network in chosen} for name in ran
    }
    if not found:
        raise SideError("; ".join(f"side {name}: {reason}" for name, reason in not_run.items()))
    one = next(iter(found[ran[0]].values()))
    shared = {name: value for name, value in one.settings.items() if name not in ("variant", "residual", "seed")}
    return {
        "format": DOCUMENT_FORMAT,
        "format_version": hdf5.FORMAT_VERSION,
        "created": now(),
        "command": command,
        "images": {name: one.data["images"][name] for name in ("name", "digest")},
        "settings": shared,
        "sides": {
            name: {
                "title": side(name).title,
                "versions": dict(next(iter(trained.values())).versions),
                "networks": [_result(network, checkpoint.history) for network, checkpoint in trained.items()],
            }
            for name, trained in found.items()
        },
        "not_run": dict(not_run),
    }


def _result(network: Network, history: Mapping[str, Any]) -> dict[str, Any]:
    losses = history["loss"]
    last = max(round(LAST * len(losses)), 1)
    evaluated = ("loss_train", "loss_test", "accuracy_train", "accuracy_test")
    return {
        **{"depth": network.depth, "residual": network.residual, "seed": network.seed},
        "training_loss": float(np.mean(losses[-last:])),
        **{name: float(history[name][-1]) for name in evaluated},
        "losses": losses.tolist(),
    }
