"""What a side made of test images, kept in OUT/SIDE/classified.json: figures and page need nothing else."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..data.images import Images
from ..errors import InputError
from ..files import make_folder, read_json, replacing
from ..format import Checkpoint, hdf5
from ..format.result import now
from ..sides import side as find_side
from ..sides import sides
from ..validation import validate

CLASSIFIED = "classified.json"
MOST_MISTAKES = 40
"""Of so many misclassified images the pixels are kept, those of which the model was surest."""

Ids = NDArray[np.int64]
Bytes = NDArray[np.uint8]


class _Entries(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class ClassifiedBy(_Entries):
    """The weights that classified: the side that trained them, after how many steps, and `weights_digest` of them."""

    model: Literal["mlp", "resnet"]
    side: str
    iteration: int = Field(ge=0)
    weights_digest: str


class ClassifiedImages(_Entries):
    """The images that were classified: their data set, the digest of its images file, shape (C, H, W), class names."""

    name: str
    digest: str
    shape: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=3, max_length=3)]
    classes: Annotated[list[str], Field(min_length=2)]


class Classified(_Entries):
    """What a side made of n test images: mean loss, accuracy, true and predicted classes, probabilities of the latter.

    `mistakes` are places of misclassified images, those of which the model was surest first, and `pixels` theirs.
    """

    format: Literal["twingrad-classified"] = "twingrad-classified"
    format_version: Literal[1] = 1
    created: str
    side: str
    versions: dict[str, Any]
    checkpoint: ClassifiedBy
    images: ClassifiedImages
    loss: float
    accuracy: float
    labels: Annotated[list[int], Field(min_length=1)]
    predictions: list[int]
    confidences: list[Annotated[float, Field(ge=0, le=1 + 1e-9)]]
    mistakes: list[int]
    pixels: str

    @model_validator(mode="after")
    def _fits(self) -> Classified:
        n, classes = len(self.labels), len(self.images.classes)
        for name in ("predictions", "confidences"):
            if (found := len(getattr(self, name))) != n:
                raise ValueError(f"{n} labels and {found} {name}")
        for name in ("labels", "predictions"):
            if outside := set(getattr(self, name)) - set(range(classes)):
                raise ValueError(f"{classes} classes and {min(outside)} among the {name}")
        if abs(self.accuracy - (right := 1.0 - self.wrong / n)) > 1e-9:
            raise ValueError(f"accuracy {self.accuracy} where {right} of the predictions are right")
        if self.mistakes != _surest(self.labels, self.predictions, self.confidences, len(self.mistakes)):
            raise ValueError("mistakes that are not the surest ones")
        try:
            self.pictures()
        except ValueError:
            raise ValueError(f"pixels that are not those of {len(self.mistakes)} images {self.images.shape}") from None
        return self

    @property
    def wrong(self) -> int:
        """How many images are misclassified."""
        return int(np.count_nonzero(np.array(self.labels) != np.array(self.predictions)))

    def pictures(self) -> Bytes:
        """The images at the places `mistakes`, (k, C, H, W)."""
        data = np.frombuffer(base64.b64decode(self.pixels, validate=True), np.uint8)
        return data.reshape(len(self.mistakes), *self.images.shape)

    def confusion(self) -> Ids:
        """How many images of class i were taken for class j, (classes, classes)."""
        classes = len(self.images.classes)
        pairs = classes * np.array(self.labels) + np.array(self.predictions)
        return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def weights_digest(checkpoint: Checkpoint) -> str:
    """SHA-256 of a checkpoint's weights: their names, dtypes, shapes and bytes as FORMAT.md's digests take them."""
    return hdf5.digest([], checkpoint.params)


def _surest(labels: Sequence[int], predictions: Sequence[int], confidences: Sequence[float], most: int) -> list[int]:
    """The places of at most so many misclassified images, those with the largest confidences first."""
    wrong = np.flatnonzero(np.array(labels) != np.array(predictions))
    order = np.argsort(-np.array(confidences)[wrong], kind="stable")
    places: list[int] = wrong[order][:most].tolist()
    return places


def from_reply(
    reply: Mapping[str, Any], side: str, checkpoint: Checkpoint, images: Images, versions: Mapping[str, Any]
) -> Classified:
    """What a side made of test images, to be kept and drawn.

    Args:
        reply: loss, accuracy, labels, predictions and confidences, as a worker answers the verb "classify".
        side: the side that answered.
        checkpoint: the model that classified.
        images: what it classified the test part of.
        versions: what computed.

    Raises InputError where the labels are not those of the images, or a number is not as it must be.
    """
    where, kind = f"side {side}, reply to classify", images.kind
    pixels, labels = images.split("test")
    if reply["labels"] != labels.tolist():
        expected, found = f"the labels of the {len(labels)} test images", f"{len(reply['labels'])} others"
        raise InputError(where, expected=expected, found=found)
    numbers = {name: reply[name] for name in ("loss", "accuracy", "labels", "predictions", "confidences")}
    mistakes = _surest(reply["labels"], reply["predictions"], reply["confidences"], MOST_MISTAKES)
    model = {"model": checkpoint.model, "side": checkpoint.side, "iteration": checkpoint.iteration}
    shown = {"name": kind.name, "digest": images.digest, "shape": list(kind.shape), "classes": list(kind.classes)}
    values = {
        **{"created": now(), "side": side, "versions": dict(versions)},
        **{"checkpoint": {**model, "weights_digest": weights_digest(checkpoint)}, "images": shown},
        **{**numbers, "mistakes": mistakes, "pixels": base64.b64encode(pixels[mistakes].tobytes()).decode()},
    }
    return validate(Classified, values, where)


def write_classified(out: Path, classified: Classified) -> Path:
    """Write OUT/SIDE/classified.json, atomically; raises InputError where that cannot be."""
    file = make_folder(Path(out) / classified.side) / CLASSIFIED
    with replacing(file) as temporary:
        temporary.write_text(classified.model_dump_json() + "\n", "utf-8")
    return file


def read_classified(out: Path) -> dict[str, Classified]:
    """What the sides made of the same test images, by OUT/SIDE/classified.json; empty where there is none.

    Raises InputError where one is damaged or of another side than its folder says, or the images differ.
    """
    files = {name: Path(out) / name / CLASSIFIED for name in sides()}
    found = {name: _read(file, name) for name, file in files.items() if file.exists()}
    for name, one in found.items():
        first = next(iter(found.values()))
        if (one.images, one.labels) != (first.images, first.labels):
            expected = f"the images that {find_side(first.side).title} classified, {first.images.digest}"
            hint = "Train again with the same --data to classify the same images, or choose another --out."
            raise InputError(f"{files[name]}, images", expected=expected, found=one.images.digest, hint=hint)
    return found


def _read(file: Path, name: str) -> Classified:
    found = validate(Classified, read_json(file), str(file))
    if found.side != name:
        raise InputError(f"{file}, side", expected=repr(name), found=repr(found.side))
    return found
