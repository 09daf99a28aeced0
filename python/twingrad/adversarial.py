"""Adversarial examples by the fast gradient sign method (FGSM), on the PyTorch side.

A sample x becomes x + ε sign(∂L/∂x), L the model's own loss with the true label: of all perturbations whose
coordinates are at most ε, the one that raises the linearised loss most. Source: Goodfellow, Shlens, Szegedy,
"Explaining and harnessing adversarial examples", ICLR 2015, section 4.

The same file on the Julia side is `julia/src/adversarial.jl`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from .data.images import Images
from .data.planar import planar
from .engine import choose_device, choose_dtype, to_tensors
from .errors import InputError
from .format import hdf5, read_checkpoint, read_training
from .format.training import FORMAT as TRAINING_FORMAT
from .models.control_net import ControlNet
from .progress import Progress
from .specs import MODELS, Array, ControlNetConfig, check_arrays
from .training.classifier import as_read, images_for, likeliest, load_classifier
from .training.settings import control_settings

BATCH = 100
DTYPES = ("float64", "float32")


class Target:
    """A trained classifier and the samples to attack it with. Base class of one for each kind.

    `module` is the model in evaluation mode, `labels` (n,) int64 are the true classes, `coordinates` are those of a
    sample, all in one row, that an attack may change.
    """

    kind: ClassVar[str]
    coordinates: ClassVar[slice]
    module: Any
    labels: Array

    def inputs(self, places: slice, shift: Array | None = None) -> Tensor:
        """What the module reads where the coordinates of these samples are changed by `shift` (m, coordinates)."""
        raise NotImplementedError

    def targets(self, places: slice) -> Tensor:
        """The labels of these samples as the module's loss reads them."""
        raise NotImplementedError

    def likeliest(self, output: Tensor) -> tuple[Array, Array]:
        """The predicted classes (m,) of the module's output, and their probabilities (m,)."""
        raise NotImplementedError


class ImageTarget(Target):
    """A classifier of images and test images; ε is in units of pixels from 0 to 1, where the attack leaves them.

    The gradient by the pixels before normalisation has the signs of that by what the model reads, for standard
    deviations are positive.
    """

    kind, coordinates = "images", slice(None)

    def __init__(self, module: Any, images: Images, dtype: str, device: str) -> None:
        self.module, self.dtype, self.device = module, dtype, choose_device(device)
        self.pixels, labels = images.split("test")
        self.labels = labels.astype(np.int64)
        self.mean, self.std = (np.array(values)[:, None, None] for values in (images.kind.mean, images.kind.std))

    def inputs(self, places: slice, shift: Array | None = None) -> Tensor:
        """Normalised pixels; computed in float64, then rounded."""
        x = self.pixels[places] / 255.0
        if shift is not None:
            x = np.clip(x + shift.reshape(x.shape), 0.0, 1.0)
        normalised = ((x - self.mean) / self.std).astype(self.dtype)
        return torch.from_numpy(as_read(normalised, self.module.config)).to(self.device)

    def targets(self, places: slice) -> Tensor:
        """Classes, int64."""
        return torch.from_numpy(self.labels[places]).to(self.device)

    def likeliest(self, output: Tensor) -> tuple[Array, Array]:
        """The class with the largest score, and its probability by the softmax of the scores."""
        return likeliest(output)


class PlanarTarget(Target):
    """A control network and the test data of its training; ε is in units of the plane, which has no border.

    Where the state has more coordinates than the plane, they start at 0 and are left there.
    """

    kind, coordinates = "planar", slice(2)

    def __init__(self, module: ControlNet, x: Array, c: Array, dtype: str, device: str) -> None:
        self.module, self.dtype, self.device = module, choose_dtype(dtype), choose_device(device)
        self.x, self.labels = x, c.astype(np.int64)

    def inputs(self, places: slice, shift: Array | None = None) -> Tensor:
        """States at the start."""
        x = self.x[places].copy()
        if shift is not None:
            x[:, self.coordinates] += shift
        return torch.tensor(x, dtype=self.dtype, device=self.device)

    def targets(self, places: slice) -> Tensor:
        """Classes 0.0 and 1.0."""
        return torch.tensor(self.labels[places], dtype=self.dtype, device=self.device)

    def likeliest(self, output: Tensor) -> tuple[Array, Array]:
        """Class 1 where the prediction, which is its probability, exceeds 1/2."""
        prediction = output.detach().double().cpu().numpy()
        classes = (prediction > 0.5).astype(np.int64)
        return classes, np.where(classes == 1, prediction, 1.0 - prediction)


@dataclass(frozen=True)
class Attack:
    """What a classifier makes of n samples that were attacked with each of k strengths.

    Args:
        kind: "images" or "planar".
        epsilons: the strengths.
        labels: (n,) int64, the true classes.
        predictions: (k, n) int64, the classes that the model says.
        confidences: (k, n) float64, its probabilities for them.
        signs: (samples asked for, coordinates) int8, the sign of the gradient at the clean sample.
        vanished: of how many samples the gradient is exactly zero, so that no ε moves them.
    """

    kind: str
    epsilons: tuple[float, ...]
    labels: Array
    predictions: Array
    confidences: Array
    signs: Array
    vanished: int

    @property
    def correct(self) -> Array:
        """How many samples are classified rightly at each ε (k,)."""
        right: Array = (self.predictions == self.labels).sum(1)
        return right

    @property
    def accuracies(self) -> Array:
        """The part of the samples that are classified rightly at each ε (k,)."""
        return self.correct / len(self.labels)


def attack(
    file: Path,
    place: Path | None,
    folder: Path,
    epsilons: Sequence[float],
    *,
    count: int = 0,
    dtype: str = "float64",
    device: str = "cpu",
    examples: Sequence[int] = (),
    progress: Progress = lambda _: None,
) -> Attack:
    """Attack the classifier in a file on its test data.

    Args:
        file: a checkpoint of a classifier of images, or the training file of a control network.
        place: the folder with the images; None for the digits that come with TwinGrad, and for a control network.
        folder: for the images file.
        epsilons: the strengths, each finite and from 0 on.
        count: how many of the first samples; all where that is 0.
        dtype: "float64" or "float32".
        device: "cpu" or "cuda".
        examples: the samples, counted from 0, whose gradients' signs are wanted.
        progress: called after each batch with the number of samples done and of all.

    Raises:
        InputError: a strength, a sample, the file or the images are not usable.
    """
    return fgsm(load_target(file, place, folder, dtype, device), epsilons, count, examples, progress)


def fgsm(
    target: Target,
    epsilons: Sequence[float],
    count: int = 0,
    examples: Sequence[int] = (),
    progress: Progress = lambda _: None,
) -> Attack:
    """Attack the first `count` samples of a target, all where that is 0; see `attack`."""
    for epsilon in epsilons:
        if not (math.isfinite(epsilon) and epsilon >= 0.0):
            raise InputError("epsilon", expected="finite numbers from 0 on", found=repr(epsilon))
    n = min(count, len(target.labels)) if count else len(target.labels)
    outside = next((place for place in examples if not 0 <= place < n), None)
    if outside is not None:
        raise InputError("examples", expected=f"numbers of samples from 0 to {n - 1}", found=repr(outside))
    predictions, confidences = np.empty((len(epsilons), n), np.int64), np.empty((len(epsilons), n))
    signs: dict[int, Array] = {}
    vanished = 0
    for first in range(0, n, BATCH):
        places = slice(first, min(first + BATCH, n))
        batch = gradient_signs(target, places)
        vanished += int((~batch.any(1)).sum())
        signs |= {place: batch[place - first] for place in examples if first <= place < places.stop}
        for row, epsilon in enumerate(epsilons):
            with torch.no_grad():
                output = target.module(target.inputs(places, epsilon * batch))
            predictions[row, places], confidences[row, places] = target.likeliest(output)
        progress({"samples": places.stop, "of": n})
    wanted = np.array([signs[place] for place in examples], np.int8)
    return Attack(target.kind, tuple(epsilons), target.labels[:n], predictions, confidences, wanted, vanished)


def gradient_signs(target: Target, places: slice) -> Array:
    """The sign of the loss' derivative by each coordinate that may change: (m, coordinates) int8 of -1, 0, 1."""
    x = target.inputs(places).requires_grad_()
    loss = target.module.loss(target.module(x), target.targets(places))
    (gradient,) = torch.autograd.grad(loss, x)
    rows = torch.sign(gradient).to(torch.int8).cpu().numpy().reshape(len(x), -1)
    signs: Array = rows[:, target.coordinates]
    return signs


def load_target(file: Path, place: Path | None, folder: Path, dtype: str, device: str) -> Target:
    """The classifier in a file and its test data; raises InputError where either is none. See `attack`."""
    if dtype not in DTYPES:
        raise InputError("dtype", expected=f"one of {', '.join(DTYPES)}", found=repr(dtype))
    if hdf5.format_of(file) == TRAINING_FORMAT:
        return _control_target(file, place, dtype, device)
    checkpoint = read_checkpoint(file)
    module = load_classifier(checkpoint, file, dtype, device)
    return ImageTarget(module, images_for(checkpoint, file, place, folder), dtype, device)


def _control_target(file: Path, place: Path | None, dtype: str, device: str) -> PlanarTarget:
    if place is not None:
        expected = f"no images: {file} holds a control network, which is attacked on its own test data"
        raise InputError("data", expected=expected, found=str(place))
    training = read_training(file)
    settings = control_settings(training.settings)
    config = ControlNetConfig(network=settings.network, method=settings.method, scale="mean")
    sizes = {"N": settings.layers, "d": settings.d}
    check_arrays(MODELS["control_net"].params(config), training.params, f"{file}, /params", sizes)
    params = to_tensors(training.params, choose_dtype(dtype), choose_device(device))
    x, c = planar(settings.dataset, "test", settings.samples_test, settings.seed, settings.d)
    return PlanarTarget(ControlNet(config, params), x, c, dtype, device)
