"""Small sound files of every kind that TwinGrad reads, made by its own writers, to be broken by the audit."""

from __future__ import annotations

import base64
import gzip
import io
import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .. import engine
from ..bench.saved import Bench, Machine, Measured, Visit
from ..comparator import Check
from ..data.images import open_images
from ..data.text import open_corpus
from ..fixtures.control_net import ControlNetRecipe
from ..fixtures.generate import evaluated
from ..format import Case, Checkpoint, Recorded, Result, Training
from ..harness import Comparison, Source
from ..report.classified import Classified, ClassifiedBy, ClassifiedImages, write_classified
from ..specs.mlp import MLPConfig

DATE = "2025-06-01T09:30:00Z"
VERSIONS = {"language": "L 1", "framework": "F 2", "threads": 1}
TEXT = "Liberté, égalité, fraternité: Ω ≤ 2π, 𝄞.\n" * 8
IMAGES = 6


@dataclass(frozen=True)
class Sound:
    """A sound file, with what is beside it, by path from one folder.

    Args:
        name: what it is called.
        reader: the kind that it is read as, a name in `reading.READERS`.
        files: the bytes of all files.
        broken: which of them is to be broken.
        opened: what is given to the reader.
        protected: whether checksums make sure that nothing else than the sound contents can be read from it.
        guarded: whether only a process of its own guards from what the file may do to the library that reads it: one of
            HDF5's oldest format, which has no checksums.
        everywhere: whether every side reads it; else the PyTorch side alone.
    """

    name: str
    reader: str
    files: dict[str, bytes]
    broken: str
    opened: str
    protected: bool = True
    guarded: bool = False
    everywhere: bool = True

    def put(self, folder: Path) -> tuple[Path, Path]:
        """Write the files; what is opened, and the folder for tokens and images."""
        for name, data in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        return folder / self.opened, folder / "kept"


def sound_files(folder: Path) -> list[Sound]:
    """One of each kind; `folder` is for temporary files."""
    return [*_hdf5_files(folder), *_image_files(folder), *_text_files(folder), *_json_files(folder)]


# ---- HDF5


def _hdf5_files(folder: Path) -> Iterator[Sound]:
    case = ControlNetRecipe("odenet", "kutta3", "donut2d", "small", layers=2, samples=3).make(seed=99)
    arrays = engine.evaluate(case.model, case.config, case.groups)
    case = evaluated(case)
    common: dict[str, Any] = {"side": "torch", "dtype": "float64", "device": "cpu", "versions": VERSIONS}
    common |= {"source_digest": 64 * "0", "created": DATE}
    result = Result(case=case.name, case_digest=case.digest, arrays=arrays, **common)
    written: dict[str, Case | Result | Recorded | Training | Checkpoint] = {
        "case": case,
        "result": result,
        "recorded": Recorded(**common, results={case.name: result}),
        "training": _training(case),
        "checkpoint": _checkpoint(),
    }
    for name, one in written.items():
        one.write(folder / "x.h5")
        data = (folder / "x.h5").read_bytes()
        yield Sound(name, name, {"x.h5": data}, "x.h5", "x.h5", everywhere=name != "result")
        if name == "case":
            yield Sound("case as h5py writes it", "case", {"x.h5": _as_h5py_writes(data)}, "x.h5", "x.h5", guarded=True)


def _as_h5py_writes(data: bytes) -> bytes:
    """The contents of a file in the oldest format, without checksums, with text of variable length."""
    memory = io.BytesIO()
    with h5py.File(io.BytesIO(data)) as old, h5py.File(memory, "w") as new:
        for name, value in old.attrs.items():
            new.attrs[name] = value.decode() if isinstance(value, bytes) else value
        paths: list[str] = []
        old.visit(paths.append)
        for path in paths:
            if isinstance(old[path], h5py.Dataset):
                new[path] = old[path][()]
    return memory.getvalue()


def _training(case: Case) -> Training:
    numbers = np.linspace(0.5, 0.1, 4)
    evaluated = dict.fromkeys(("objective_test", "accuracy_train", "accuracy_test"), numbers[:2])
    picture = dict.fromkeys(("x", "c", "prediction", "trajectories", "grid_axis", "grid_prediction"), numbers)
    return Training(
        side="torch",
        versions=VERSIONS,
        settings={"network": "odenet", "seed": 1, "points": 0.5},
        iteration=3,
        step_constant=0.1,
        status="complete",
        params=dict(case.groups["params"]),
        initial=dict(case.groups["params"]),
        history={"objective": numbers, "step_constant": numbers[:3], "evaluated": np.array([0, 3]), **evaluated},
        picture=picture,
        created=DATE,
    )


def _checkpoint() -> Checkpoint:
    config = MLPConfig(sizes=[2, 3, 2], activation="relu", loss="cross-entropy")
    draw = np.random.default_rng(1)
    shapes = {"layers.0.weight": (3, 2), "layers.0.bias": (3,), "layers.1.weight": (2, 3), "layers.1.bias": (2,)}
    groups = [{name: draw.standard_normal(shape).astype("f4") for name, shape in shapes.items()} for _ in range(3)]
    names = ("loss_train", "loss_test", "accuracy_train", "accuracy_test")
    return Checkpoint(
        model="mlp",
        config=config,
        data={"images": {"name": "digits", "shape": [1, 1, 2], "mean": [0.5], "std": [0.25]}},
        side="torch",
        dtype="float32",
        versions=VERSIONS,
        settings={"optimizer": "adamw", "batch": 2, "learning_rate": 0.01},
        iteration=2,
        status="complete",
        params=groups[0],
        first_moment=groups[1],
        second_moment=groups[2],
        history={
            **{name: draw.random(2) for name in ("loss", "learning_rate", "gradient_norm", "seconds")},
            **{"evaluated": np.array([2]), **{name: draw.random(1) for name in names}},
        },
        created=DATE,
    )


# ---- images and texts


def _idx() -> dict[str, bytes]:
    pixels = np.random.default_rng(2).integers(0, 256, (IMAGES, 28, 28), np.uint8)
    labels = np.arange(IMAGES, dtype=np.uint8)
    return {
        "images/mnist-t10k-images-idx3-ubyte": struct.pack(">4I", 2051, IMAGES, 28, 28) + pixels.tobytes(),
        "images/mnist-t10k-labels-idx1-ubyte": struct.pack(">2I", 2049, IMAGES) + labels.tobytes(),
    }


def _image_files(folder: Path) -> Iterator[Sound]:
    plain = _idx()
    packed = {f"{name}.gz": gzip.compress(data, mtime=0) for name, data in plain.items()}
    for name in plain:
        part = "images" if "images-idx3" in name else "labels"
        yield Sound(f"IDX {part}", "images", plain, name, "images", protected=False)
        yield Sound(f"packed IDX {part}", "images", packed, f"{name}.gz", "images")
    records = np.random.default_rng(3).integers(0, 10, (2, 3073), np.uint8)
    cifar = {"images/cifar-10-batches-bin/test_batch.bin": records.tobytes()}
    yield Sound("CIFAR-10", "images", cifar, next(iter(cifar)), "images", protected=False)
    source = Sound("", "images", plain, "", "images")
    yield from _kept(source, folder / "i", "images file", lambda opened, kept: open_images(opened, kept))


def _text_files(folder: Path) -> Iterator[Sound]:
    files = {"text.txt": TEXT.encode()}
    for tokenizer in ("char", "byte"):
        yield Sound(f"text, by {tokenizer}", tokenizer, files, "text.txt", "text.txt", protected=False)
    source = Sound("", "char", files, "", "text.txt")
    yield from _kept(source, folder / "t", "tokens file", lambda opened, kept: open_corpus(opened, "char", kept))


def _kept(source: Sound, folder: Path, name: str, keep: Callable[[Path, Path], object]) -> Iterator[Sound]:
    """What is kept beside a source, and its description; the sides must find that it is broken, and make it anew."""
    opened, kept = source.put(folder)
    keep(opened, kept)
    files = {**source.files, **{f"kept/{file.name}": file.read_bytes() for file in sorted(kept.iterdir())}}
    for path in files.keys() - source.files.keys():
        part = name if path.endswith(".bin") else f"{name}'s description"
        yield replace(source, name=part, files=files, broken=path)


# ---- JSON


def _json_files(folder: Path) -> Iterator[Sound]:
    source = Source(side="torch", live=True, versions=VERSIONS, created=DATE)
    checks = [Check("small", "float64", "oracle", "torch", "oracle", "grads/K", 1e-16, 1e-11)]
    documents: dict[str, Any] = {
        "comparison": Comparison([source], checks, [], DATE, "twingrad compare").as_json(),
        "bench": _bench().model_dump(mode="json"),
        **_experiments(),
    }
    for name, document in documents.items():
        files = {"x.json": json.dumps(document).encode()}
        yield Sound(name, name, files, "x.json", "x.json", protected=False, everywhere=False)
    written = write_classified(folder, _classified()).read_bytes()
    place = "torch/classified.json"
    yield Sound("classified", "classified", {place: written}, place, "", protected=False, everywhere=False)


def _bench() -> Bench:
    visit = Visit(
        side="torch", implementation="twingrad", round=0, seconds=[0.5, 0.25], calls=1, checksum=1.0, tool="t"
    )
    work: dict[str, Any] = {"kind": "model", "subject": "gpt", "quantity": "step", "config": {"layers": 1}}
    work |= {"dtype": "float64", "device": "cpu", "group": "gpt", "base": "gpt-step", "threads": 1}
    machine = Machine(
        processor="P", cores=2, memory_bytes=2**33, system="S", load_before=0.1, environment={"MKL_NUM_THREADS": None}
    )
    return Bench(
        created=DATE,
        command="twingrad bench",
        profile="quick",
        rounds=1,
        machine=machine,
        sides={"torch": VERSIONS},
        threads=[1],
        workloads=[Measured(name="gpt-step", visits=[visit], **work)],
    )


def _experiments() -> dict[str, dict[str, Any]]:
    about = {"format_version": 1, "created": DATE, "command": "twingrad", "not_run": {}}
    side = {"title": "PyTorch", "versions": VERSIONS}
    curve = {"errors": [1e-2, 1e-3], "order": 3.3, "fitted": [0, 1]}
    network = {"depth": 20, "residual": True, "seed": 1, "training_loss": 0.5, "losses": [2.0, 0.5]}
    return {
        "convergence": {
            **{**about, "format": "twingrad-orders", "title": "T", "flow": {"points": 3}, "layers": 4, "steps": [1, 2]},
            **{"expected": {"euler": 1}, "sides": {"torch": {**side, "methods": {"euler": {"state": curve}}}}},
        },
        "degradation": {
            **{**about, "format": "twingrad-degradation", "images": {"name": "digits"}},
            "settings": {"width": 4, "batch": 16, "iterations": 2},
            "sides": {"torch": {**side, "networks": [network]}},
        },
        "attack": {
            **{**about, "format": "twingrad-attack", "dtype": "float64", "model": "mlp", "data": "digits"},
            **{"kind": "images", "epsilons": [0.0, 0.1], "labels": [1, 2], "classified_differently": [0, 0]},
            "sides": {"torch": {**side, "accuracies": [1.0, 0.5]}},
        },
        "paper": _paper(about, side),
        "flow": _flow(about, side),
    }


def _flow(about: dict[str, Any], side: dict[str, Any]) -> dict[str, Any]:
    own = {"side": "torch", "variant": "lie-1", "seed": 1, "layers": 1, "splitting": "lie", "time_steps": "fixed"}
    training = {**own, "iterations": 2, "parameters": 5, "operations": 7, "dt": [1.0]}
    three, scheme = [0.5, 0.75, 1.0], {"errors": [0.5, 0.25], "losses": [1.5, 1.25], "order": 1.0, "fitted": [0, 1]}
    stream = {
        "sublayers": ["attention", "mlp"],
        **{name: [three, three] for name in ("norms", "relative")},
        **{name: [three, three, three] for name in ("travelled", "displaced")},
        **{"cosines": [three], "block_cosines": [], "straightness": three},
        **{
            "plane": [[[0.5, 0.5], [1.0, 0.5], [1.0, 1.5]]],
            "explained": [0.75, 0.25],
            "time_steps": [1.0],
            "loss": 1.5,
        },
        "refinement": {"steps": [1, 2], "reference_loss": 1.5, "schemes": {"lie": scheme}},
    }
    return {
        **{**about, "format": "twingrad-flow", "text": "a text", "orders": {"lie": 1}, "sides": {"torch": side}},
        "trainings": [{**training, "evaluated": [0, 2], "loss_validation": [1.5, 1.25]}],
        "streams": {"lie-1": {"sides": {"torch": stream}, "agreement": []}},
    }


def _paper(about: dict[str, Any], side: dict[str, Any]) -> dict[str, Any]:
    statistics = {"mean": 0.5, "deviation": None, "least": 0.5, "greatest": 0.5}
    measured = ("iteration", "objective", "objective_test", "accuracy_train", "accuracy_test")
    trained = {"dataset": "donut1d", "name": "odenet"}
    picture = {"labels": [1], "states": [[[0.5, 0.5]], [[1.0, 0.5]]], "normal": [1.0, 0.5], "offset": 0.5}
    picture |= {"grid_axis": [-1.0, 1.0], "grid_prediction": [[0.25, 0.5], [0.5, 0.75]]}
    run = {**trained, "seed": 1, "accuracy_test": 0.5, "dt": [1.5], "objectives": [0.5], "accuracies": [0.5]}
    return {
        **{**about, "format": "twingrad-paper", "part": "networks", "varied": "network", "names": ["odenet"]},
        "settings": {"method": "euler", "layers": 1, "samples": 2, "samples_test": 2, "freeze": ["mu"]},
        **{"seeds": [1], "iterations": {"donut1d": 2}, "curve": {"donut1d": [0]}, "apart": 1e-6, "pairs": []},
        "sides": {
            "torch": {
                **side,
                "runs": [{**run, "picture": picture}],
                "summary": [{**trained, **dict.fromkeys(measured, statistics)}],
            }
        },
    }


def _classified() -> Classified:
    pixels = base64.b64encode(bytes(range(4))).decode()
    return Classified(
        created=DATE,
        side="torch",
        versions=VERSIONS,
        checkpoint=ClassifiedBy(model="mlp", side="torch", iteration=2, weights_digest=64 * "0"),
        images=ClassifiedImages(name="digits", digest=64 * "0", shape=[1, 2, 2], classes=["0", "1"]),
        loss=0.5,
        accuracy=0.5,
        labels=[0, 1],
        predictions=[0, 0],
        confidences=[0.75, 0.5],
        mistakes=[1],
        pixels=pixels,
    )
