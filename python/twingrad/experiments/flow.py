"""The transformer read as a flow: trains GPTs on the sides, asks for their residual streams, compares, saves."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..bench.flops import gpt_forward
from ..errors import InputError, SideError
from ..files import make_folder
from ..format import hdf5, read_checkpoint
from ..format.checkpoint import Checkpoint
from ..format.result import now
from ..sides import Worker, is_available, side
from ..specs import MODELS, Arrays, GPTConfig
from ..training.settings import GPTSettings, gpt_settings, preset
from .flow_numbers import BOUNDS, ORDERS, largest_differences, refinement_numbers, stream_numbers

FORMAT = "twingrad-residual-stream"
DOCUMENT_FORMAT = "twingrad-flow"
COVERED = ("side", "versions", "created")
EVALUATIONS = 10
"""So often a training is evaluated."""

Told = Callable[[str, str, Mapping[str, Any]], None]
"""What is told of the progress: the side, what it is doing, and how far it is."""


@dataclass(frozen=True)
class Variant:
    """A GPT that is trained: its depth, its splitting, and where its time steps come from."""

    name: str
    layers: int
    splitting: str = "lie"
    time_steps: str = "fixed"

    def settings(self, shared: Mapping[str, Any], seed: int) -> GPTSettings:
        """The settings of its training."""
        own = {"layers": self.layers, "splitting": self.splitting, "time_steps": self.time_steps, "seed": seed}
        values = {**preset("gpt", "cpu"), **shared, **own}
        return gpt_settings({**values, "evaluate_every": max(values["iterations"] // EVALUATIONS, 1)})


def variants(layers: int) -> list[Variant]:
    """Lie splitting; Strang's at equal cost, and Lie's with as many parameters as that; learned time steps.

    A Strang block applies its MLP twice: 20 width² products to a token where a Lie block has 12. So three fifths of the
    layers cost the same.
    """
    fewer = max(round(0.6 * layers), 1)
    return [
        Variant(f"lie-{layers}", layers),
        Variant(f"strang-{fewer}", fewer, splitting="strang"),
        Variant(f"lie-{fewer}", fewer),
        Variant(f"learned-{layers}", layers, time_steps="learned"),
        Variant(f"simplex-{layers}", layers, time_steps="simplex"),
    ]


@dataclass(frozen=True)
class Stream:
    """What one side computed of one checkpoint: which side, with what, and the arrays of `residual_stream`."""

    side: str
    versions: Mapping[str, Any]
    arrays: Arrays


def read_stream(file: Path) -> Stream:
    """Read a side's answer; raises InputError where the file is damaged."""
    contents = hdf5.read_sealed(file, FORMAT, COVERED, ("steps", "states", "time_steps", "loss", "reference", *ORDERS))
    return Stream(contents.text("side"), contents.json_object("versions"), contents.arrays)


@dataclass(frozen=True)
class Asked:
    """How the sides are asked: names of the table of sides, `threads` and `silence_seconds` as `Worker` has them."""

    names: Sequence[str]
    threads: int
    silence_seconds: float
    told: Told = lambda *_: None

    def each(self, ask: Callable[[str, Worker], None]) -> dict[str, str]:
        """Ask the sides one after another; returns for each that did not run the reason."""
        not_run = {}
        for name in self.names:
            if not is_available(name):
                not_run[name] = "it cannot be had on this machine; 'twingrad doctor' says why"
                continue
            try:
                with Worker(name, threads=self.threads, silence_seconds=self.silence_seconds) as worker:
                    ask(name, worker)
            except SideError as error:
                not_run[name] = str(error)
        return not_run


Trained = dict[str, dict[tuple[Variant, int], tuple[Path, Checkpoint]]]
"""By side, variant and seed: the file of a training and what is in it."""
Models = dict[str, tuple[Path, GPTConfig]]
"""By name: the file of a model and its settings."""


@dataclass(frozen=True)
class Trainings:
    """Every variant trained from every seed, with settings in common, in FOLDER/VARIANT-SEED/SIDE."""

    variants: Sequence[Variant]
    seeds: Sequence[int]
    shared: Mapping[str, Any]
    folder: Path

    def __iter__(self) -> Iterator[tuple[Variant, int]]:
        return ((variant, seed) for seed in self.seeds for variant in self.variants)

    def train(self, text: Path, asked: Asked) -> dict[str, str]:
        """Train on the sides; trainings that are there already are gone on from.

        Returns for each side that did not run the reason; raises InputError for a bad request.
        """
        runs = [(which, which[0].settings(self.shared, which[1])) for which in self]

        def ask(name: str, worker: Worker) -> None:
            for (variant, seed), settings in runs:
                out = make_folder(self.place(variant, seed)).resolve()
                doing = f"training {variant.name}, seed {seed}"

                def show(state: Mapping[str, Any], doing: str = doing, total: int = settings.iterations) -> None:
                    asked.told(name, doing, {**state, "of": total})

                worker.request("train-gpt", {"settings": settings.as_json(), "text": str(text), "out": str(out)}, show)

        return asked.each(ask)

    def place(self, variant: Variant, seed: int) -> Path:
        """Where the trainings of a variant from one seed are."""
        return self.folder / f"{variant.name}-{seed}"

    def read(self, names: Sequence[str]) -> Trained:
        """The checkpoints that are there, of these sides; raises InputError where one is damaged."""
        found: Trained = {}
        for name in names:
            for variant, seed in self:
                file = self.place(variant, seed) / name / "last.h5"
                if file.exists():
                    found.setdefault(name, {})[variant, seed] = file, read_checkpoint(file)
        return found


def models_of(chosen: Sequence[Path], trained: Trained, folder: Path) -> Models:
    """The models whose streams are asked for: those that were chosen, or one of each kind of those that were trained.

    The latter are of the first seed, and of the first side alone, since every side gets the same models; without the
    simplex and the second of Lie's.
    Raises InputError where there is none, or one is no GPT.
    """
    found: Models = {}
    if chosen:
        checkpoints = {str(file): (file, read_checkpoint(file)) for file in chosen}
    elif trained:
        checkpoints = {}
        for (variant, _), one in next(iter(trained.values())).items():
            kind = f"{variant.splitting} {variant.time_steps}"
            if variant.time_steps != "simplex":
                checkpoints.setdefault(kind, one)
    else:
        hint = "--part all trains some."
        raise InputError("--checkpoint", expected="a mini-GPT", found=f"none, and no training in {folder}", hint=hint)
    for file, checkpoint in checkpoints.values():
        config = checkpoint.config
        if not isinstance(config, GPTConfig):
            raise InputError(f"{file}, attribute model", expected="'gpt'", found=repr(checkpoint.model))
        learned = [] if config.time_steps == "fixed" else [config.time_steps]
        name = "-".join([config.splitting, *learned, str(config.layers)])
        found[name if name not in found else f"{name} ({file})"] = file, config
    return found


def streams(
    models: Models, text: Path, folder: Path, windows: int, steps: Sequence[int], asked: Asked
) -> tuple[dict[str, list[Stream]], dict[str, str]]:
    """Ask the sides for the residual streams of models on `windows` windows of a text; its tokens are kept in `folder`.

    Returns the answers by name of the model, and for each side that did not run the reason.
    """
    found: dict[str, list[Stream]] = {name: [] for name in models}
    with tempfile.TemporaryDirectory(prefix="twingrad-") as temporary:

        def ask(side_name: str, worker: Worker) -> None:
            for place, (name, (file, _)) in enumerate(models.items()):
                out = Path(temporary) / f"{side_name}-{place}.h5"
                request = {
                    **{"checkpoint": str(file.resolve()), "text": str(text), "folder": str(folder.resolve())},
                    **{"windows": windows, "steps": list(steps), "out": str(out)},
                }
                worker.request("stream", request, partial(asked.told, side_name, f"stream of {name}"))
                found[name].append(read_stream(out))

        not_run = asked.each(ask)
    return found, not_run


def grids(finest: int) -> list[int]:
    """Steps in a block of each grid: 1, 2, 4, ..., `finest`; raises InputError where that is no such power of two."""
    steps = [2**k for k in range(finest.bit_length())]
    if steps[-1:] != [finest] or len(steps) < 3:
        raise InputError("--finest", expected="a power of two, at least 4", found=str(finest))
    return steps


def document(
    trained: Trained,
    answers: Mapping[str, Sequence[Stream]],
    models: Models,
    not_run: Mapping[str, str],
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything that was measured, for the JSON file, the tables and the figures.

    Args:
        trained: the trainings.
        answers: by name of a model, the sides' streams.
        models: the models.
        not_run: for each side that did not run the reason.
        about: `command`, `text` and `windows`.
    """
    versions = {stream.side: stream.versions for one in answers.values() for stream in one}
    versions |= {name: next(iter(found.values()))[1].versions for name, found in trained.items()}
    if not versions:
        raise SideError("; ".join(f"side {name}: {reason}" for name, reason in not_run.items()))
    return {
        "format": DOCUMENT_FORMAT,
        "format_version": hdf5.FORMAT_VERSION,
        "created": now(),
        **about,
        "orders": ORDERS,
        "sides": {name: {"title": side(name).title, "versions": dict(versions[name])} for name in versions},
        "trainings": [
            _training(name, *which, one) for name, found in trained.items() for which, (_, one) in found.items()
        ],
        "streams": {
            name: {
                "config": models[name][1].model_dump(mode="json"),
                "sides": {
                    stream.side: {
                        **stream_numbers(stream.arrays, models[name][1].splitting),
                        "refinement": refinement_numbers(stream.arrays),
                    }
                    for stream in found
                },
                "agreement": [_agreement(found[0], other) for other in found[1:]],
            }
            for name, found in answers.items()
            if found
        },
        "not_run": dict(not_run),
    }


def _training(name: str, variant: Variant, seed: int, checkpoint: Checkpoint) -> dict[str, Any]:
    config: Any = checkpoint.config
    history, specs = checkpoint.history, MODELS["gpt"].params(config)
    dt = checkpoint.params.get("dt", np.full(config.layers, config.dt))
    return {
        **{"side": name, "variant": variant.name, "seed": seed, "layers": config.layers},
        **{"splitting": config.splitting, "time_steps": config.time_steps},
        "iterations": checkpoint.iteration,
        "parameters": int(sum(np.prod([d for d in spec.dims if isinstance(d, int)]) for spec in specs.values())),
        "operations": gpt_forward(config.model_dump(), 1, config.context) // config.context,
        "dt": [float(step) for step in dt],
        "evaluated": history["evaluated"].tolist(),
        "loss_train": history["loss_train"].tolist(),
        "loss_validation": history["loss_validation"].tolist(),
    }


def _agreement(one: Stream, other: Stream) -> dict[str, Any]:
    found = largest_differences(one.arrays, other.arrays)
    agrees = all(found[kind] <= bound for kind, bound in BOUNDS.items())
    return {"sides": [one.side, other.side], **found, "bounds": dict(BOUNDS), "agrees": agrees}
