"""Training classifiers of images, on the PyTorch side.

The same file on the Julia side is `julia/src/training/classifier.jl`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..data.image_batches import TrainingOrder, evaluation_batch, training_batch
from ..data.images import Images, open_images
from ..data.philox import Stream
from ..engine import MODELS, choose_device, choose_dtype
from ..errors import InputError
from ..format.checkpoint import Checkpoint, read_checkpoint
from ..progress import Progress
from ..specs import MODELS as SPECS
from ..specs import Array, Arrays, MLPConfig, ModelConfig, ResNetConfig
from .distributed import Team
from .run import Run, Task, preemption
from .settings import CLASSIFIER_SETTINGS, ClassifierSettings

EVALUATION_BATCH = 250


def initial_params(model: str, config: ModelConfig, seed: int) -> Arrays:
    """Weights at the start: normal with variance 2/n where relu follows (He et al., ICCV 2015), else 1/n.

    n is how many numbers a unit of a linear map reads, and for a convolution how many units read one number of its
    input, as torchvision has it. Biases and running means are 0, batch norms' weights and running variances 1.
    """
    linear_gain = 2.0 if isinstance(config, MLPConfig) and config.activation == "relu" else 1.0
    params: Arrays = {}
    for name, spec in SPECS[model].params(config).items():
        shape = tuple(dim for dim in spec.dims if isinstance(dim, int))
        if len(shape) == 1:
            params[name] = np.full(shape, 1.0 if name.endswith(("weight", "running_var")) else 0.0)
            continue
        variance = 2.0 / (shape[0] * shape[2] * shape[3]) if len(shape) == 4 else linear_gain / shape[1]
        params[name] = math.sqrt(variance) * Stream(seed, f"init/{name}").normal(math.prod(shape)).reshape(shape)
    return params


def train_classifier(
    model: str,
    settings: ClassifierSettings,
    place: Path | None,
    out: Path,
    versions: Mapping[str, Any],
    progress: Progress,
    *,
    until: int | None = None,
    device: str = "cpu",
    compiled: bool = False,
    path: str = "fast",
) -> Checkpoint:
    """Train until `settings.iterations` steps are taken in all, going on from OUT/torch/last.h5 where it is there.

    Args:
        model: "mlp" or "resnet".
        settings: everything that determines the numbers.
        place: the folder with the images; None for the digits that come with TwinGrad.
        out: the folder for torch/last.h5 and the images file.
        versions: what computes, for the files.
        progress: called now and then with iteration, loss, the last evaluation and images per second.
        until: stop after this many steps; the learning rate still falls as for all of them.
        device: "cpu" or "cuda".
        compiled: whether torch.compile translates the model first.
        path: "fast", or "reference": automatic differentiation of the plain layers.

    Returns:
        The last checkpoint.

    Raises:
        InputError: settings, images or an earlier checkpoint in `out` do not fit.
        SideError: the loss is no longer finite; the earlier checkpoints stay as they are.
    """
    with preemption() as asked:
        task = ImageTask(model, settings, open_images(place, out))
        return Run(task, out, versions, Team(), device, compiled, path).train_until(until, progress, asked)


class ImageTask(Task):
    """A classifier, and images to train it on."""

    source, best, unit = "images", None, "images"
    settings: ClassifierSettings

    def __init__(self, model: str, settings: ClassifierSettings, images: Images) -> None:
        self.model, self.settings, self.images = model, settings, images
        kind = images.kind
        self.config = settings.config(kind.shape, len(kind.classes))
        self.order = TrainingOrder(images.train, settings.seed)
        self.units_per_step = settings.joint_batch
        self.data: Mapping[str, Any] = {
            "images": {
                **{"name": kind.name, "digest": images.digest, "shape": list(kind.shape)},
                **{"mean": list(kind.mean), "std": list(kind.std), "classes": list(kind.classes)},
            }
        }

    def initial_params(self) -> Arrays:
        """Weights at the start."""
        return initial_params(self.model, self.config, self.settings.seed)

    def blocks(self, model: Any) -> Iterable[nn.Module]:
        """None: no classifier is spread over processes."""
        return ()

    def training_batch(self, first: int, count: int) -> tuple[Array, Array]:
        """Pixels as the model reads them, and labels (count,)."""
        settings = self.settings
        dtype = "float64" if settings.dtype == "float64" else "float32"
        pixels, labels = training_batch(
            self.images, self.order, first, count, dtype, pad=settings.pad, flip=settings.flip
        )
        return as_read(pixels, self.config), labels

    def evaluate(self, module: nn.Module, where: Mapping[str, Any]) -> dict[str, float]:
        """Loss and accuracy on the first images of both parts, by the running statistics."""
        numbers: dict[str, float] = {}
        options = {"device": where["device"], "precision": where["precision"]}
        dtype = "float64" if self.settings.dtype == "float64" else "float32"
        module.eval()
        for part in ("train", "test"):
            found = classify(module, self.images, part, self.settings.evaluation_images, dtype, **options)
            numbers |= {f"loss_{part}": found.loss, f"accuracy_{part}": found.accuracy}
        module.train()
        return numbers


@dataclass(frozen=True)
class Classified:
    """What a classifier makes of n images: mean loss, predicted classes (n,) int64 and their probabilities (n,)."""

    loss: float
    labels: Array
    predictions: Array
    confidences: Array

    @property
    def accuracy(self) -> float:
        """The part of the predictions that are right."""
        return float(np.mean(self.predictions == self.labels))


@torch.no_grad()
def classify(
    module: Any,
    images: Images,
    part: str,
    count: int = 0,
    dtype: str = "float32",
    *,
    device: torch.device,
    precision: Callable[[], Any] = nullcontext,
) -> Classified:
    """Classify the first `count` images of a part, all where that is 0.

    Args:
        module: a classifier, in evaluation mode.
        images: what to classify.
        part: "train" or "test".
        count: how many.
        dtype: "float32" or "float64": of the pixels.
        device: where the module is.
        precision: a context for the forward pass.
    """
    n = len(images.split(part)[1])
    n, total, found = min(count, n) if count else n, 0.0, []
    for first in range(0, n, EVALUATION_BATCH):
        m = min(EVALUATION_BATCH, n - first)
        pixels, labels = evaluation_batch(images, part, first, m, dtype)
        inputs, targets = (torch.from_numpy(array).to(device) for array in (as_read(pixels, module.config), labels))
        with precision():
            scores = module(inputs)
            total += m * float(module.loss(scores, targets))
        found.append((labels, *likeliest(scores)))
    return Classified(total / n, *(np.concatenate(arrays) for arrays in zip(*found, strict=True)))


def likeliest(scores: Tensor) -> tuple[Array, Array]:
    """The class with the largest score, and its probability by the softmax of the scores, of each sample."""
    confidences, classes = torch.softmax(scores.double(), 1).max(1)
    return classes.cpu().numpy(), confidences.cpu().numpy()


def as_read(pixels: Array, config: ModelConfig) -> Array:
    """Pixels (n, C, H, W) in the shape that a model of these settings reads: for an MLP (n, C · H · W)."""
    return pixels if isinstance(config, ResNetConfig) else pixels.reshape(len(pixels), -1)


def evaluate_classifier(file: Path, place: Path | None, folder: Path, dtype: str, device: str) -> Classified:
    """Classify all test images in a folder with the model of a checkpoint; `folder` is for the images file."""
    checkpoint = read_checkpoint(file)
    module, where = load_classifier(checkpoint, file, dtype, device), choose_device(device)
    return classify(module, images_for(checkpoint, file, place, folder), "test", 0, dtype, device=where)


def load_classifier(checkpoint: Checkpoint, file: Path, dtype: str, device: str) -> Any:
    """The model of a checkpoint, in evaluation mode; raises InputError where it is no classifier of images."""
    if checkpoint.model not in CLASSIFIER_SETTINGS or "images" not in checkpoint.data:
        expected = "a classifier of images, 'mlp' or 'resnet'"
        raise InputError(f"{file}, attribute model", expected=expected, found=repr(checkpoint.model))
    kind, where = choose_dtype(dtype), choose_device(device)
    params = {name: torch.tensor(array, dtype=kind, device=where) for name, array in checkpoint.params.items()}
    return MODELS[checkpoint.model].model(checkpoint.config, params).eval()


def images_for(checkpoint: Checkpoint, file: Path, place: Path | None, folder: Path) -> Images:
    """The images in `place`; raises InputError where the checkpoint's model reads others.

    The digits that come with TwinGrad where `place` is None.
    """
    images, read = open_images(place, folder), checkpoint.data["images"]
    for name, found in (("shape", list(images.kind.shape)), ("classes", list(images.kind.classes))):
        if read.get(name) != found:
            expected = f"images of {name} {read.get(name)}, as {file} was trained on"
            raise InputError(str(place or images.kind.name), expected=expected, found=f"{name} {found}")
    return images
