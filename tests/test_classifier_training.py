"""Training classifiers: resumed equals uninterrupted, what an evaluation uses, and what is refused."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from twingrad.data.image_batches import TrainingOrder, pixel_values
from twingrad.data.images import open_images
from twingrad.errors import InputError, SideError
from twingrad.format import read_checkpoint
from twingrad.format.checkpoint import PER_EVALUATION, PER_STEP
from twingrad.models.resnet import ResNet
from twingrad.specs import MODELS, MLPConfig, ResNetConfig
from twingrad.training import run
from twingrad.training.classifier import (
    classify,
    evaluate_classifier,
    initial_params,
    load_classifier,
    train_classifier,
)
from twingrad.training.settings import classifier_settings, preset

SHORT = {"iterations": 6, "batch": 4, "evaluate_every": 4, "evaluation_images": 9, "warmup": 1, "dtype": "float64"}
SMALL = {
    "mlp": {**SHORT, "hidden": [5], "learning_rate": 0.05},
    "resnet": {**SHORT, "width": 1, "pad": 2, "learning_rate": 0.05},
}
# Of seed 1: drawn once, to be the same on every machine.
PINNED = {"layers.0.weight": -0.0231045, "conv1.weight": 0.3220081}


def settings_of(model, **changes):
    return classifier_settings(model, {**preset(model, "cpu"), **SMALL[model], **changes})


@pytest.fixture
def train(tmp_path):
    """Trains on the digits in a folder, with changes of the small settings."""

    def start(model, name, *, until=None, progress=lambda state: None, **changes):
        settings = settings_of(model, **changes)
        return train_classifier(model, settings, None, tmp_path / name, {"l": "Python"}, progress, until=until)

    return start


def equal(a, b):
    return a.keys() == b.keys() and all(np.array_equal(array, b[name]) for name, array in a.items())


def same_state(a, b):
    histories = [{name: values for name, values in one.history.items() if name != "seconds"} for one in (a, b)]
    groups = ("params", "first_moment", "second_moment")
    return equal(*histories) and all(equal(getattr(a, group), getattr(b, group)) for group in groups)


@pytest.mark.parametrize(
    ("model", "optimizer"),
    [("mlp", "gradient-descent"), ("mlp", "sgd"), ("mlp", "adam"), ("mlp", "adamw"), ("resnet", "sgd")],
)
def test_resumed_equals_uninterrupted(train, model, optimizer):
    whole = train(model, "whole", optimizer=optimizer)
    for until in (1, 4, 5, None):
        parts = train(model, "parts", optimizer=optimizer, until=until)
    assert same_state(parts, whole)
    assert (whole.iteration, whole.status) == (6, "complete")
    assert whole.history["evaluated"].tolist() == [0, 4, 6]
    assert bool(whole.second_moment) == optimizer.startswith("adam")


def test_accumulated_batches_are_the_joint_batch(train):
    whole, parts = train("mlp", "whole"), train("mlp", "parts", batch=2, accumulation=2)
    assert all(np.allclose(parts.params[name], array, rtol=1e-12, atol=1e-14) for name, array in whole.params.items())


def test_the_optimizers_differ_only_where_they_say(train):
    def trained(name, **changes):
        return train("mlp", name, **changes).params

    plain = trained("a", optimizer="gradient-descent", weight_decay=0.3, momentum=0.5)
    assert equal(plain, trained("b", optimizer="sgd", weight_decay=0.0, momentum=0.0))
    adam = trained("c", optimizer="adam", weight_decay=0.3)
    assert equal(adam, trained("d", optimizer="adamw", weight_decay=0.0))
    assert not equal(adam, trained("e", optimizer="adamw", weight_decay=0.3))
    assert not equal(plain, trained("f", optimizer="sgd", weight_decay=0.0, momentum=0.5))


def test_gradient_descent_takes_the_step_of_the_formula(train, tmp_path):
    """One step from the initial weights by W' = W - αG, G the mean over the batch of sample gradients."""
    rate = 0.25
    given = {"optimizer": "gradient-descent", "learning_rate": rate, "warmup": 0, "hidden": [], "batch": 3}
    done = train("mlp", "a", until=1, **given)
    data = open_images(None, tmp_path / "a")
    start = initial_params("mlp", done.config, 1)
    images, labels = data.split("train")
    places = TrainingOrder(data.train, 1).places(0, 3)
    x = pixel_values(images[places], data.kind, "float64").reshape(3, -1)
    scores = x @ start["layers.0.weight"].T + start["layers.0.bias"]
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    delta = (p - np.eye(10)[labels[places]]) / 3
    assert np.allclose(done.params["layers.0.weight"], start["layers.0.weight"] - rate * delta.T @ x, rtol=1e-12)
    assert np.allclose(done.params["layers.0.bias"], -rate * delta.sum(0), rtol=1e-12)


def test_an_evaluation_uses_running_statistics_and_leaves_them_alone(train, tmp_path, monkeypatch):
    once = train("resnet", "a", evaluate_every=100)
    often = train("resnet", "b", evaluate_every=1)
    assert equal(once.params, often.params)
    data = open_images(None, tmp_path / "a")
    model = ResNet(once.config, {name: torch.tensor(array) for name, array in once.params.items()}).eval()
    pixels = pixel_values(data.split("test")[0][:9], data.kind, "float64")
    labels = torch.tensor(data.split("test")[1][:9].astype(np.int64))
    with torch.no_grad():
        logits = model(torch.tensor(pixels))
    assert once.history["loss_test"][-1] == pytest.approx(float(model.loss(logits, labels)), rel=1e-12)
    assert once.history["accuracy_test"][-1] == float((logits.argmax(1) == labels).double().mean())
    moved = [name for name in once.params if "running_" in name]
    assert moved
    assert all(np.any(once.params[name] != (1.0 if "var" in name else 0.0)) for name in moved)


def test_history_and_progress(train, monkeypatch):
    monkeypatch.setattr(run, "PROGRESS_SECONDS", -1.0)
    states = []
    done = train("mlp", "a", progress=lambda state: states.append(dict(state)))
    assert done.history.keys() == {*PER_STEP, *PER_EVALUATION["classifier"]}
    assert [state["iteration"] for state in states] == [1, 2, 3, 4, 5, 6, 6]
    assert states[-1]["loss"] == done.history["loss"][-1]
    assert states[-1]["accuracy_test"] == done.history["accuracy_test"][-1]
    assert states[-1]["images_per_second"] == pytest.approx(6 * 4 / done.history["seconds"].sum())


def test_the_data_are_told_in_the_checkpoint(train, tmp_path):
    done = train("mlp", "a", until=0)
    data = open_images(None, tmp_path / "a")
    assert done.data["images"] == {
        **{"name": "digits", "digest": data.digest, "shape": [1, 28, 28], "mean": [0.3054], "std": [0.3238]},
        "classes": list("0123456789"),
    }
    assert done.config == MLPConfig(sizes=[784, 5, 10], activation="sigmoid", loss="cross-entropy")


@pytest.mark.parametrize(
    ("model", "config", "gain"),
    [
        ("mlp", MLPConfig(sizes=[400, 50, 30], activation="relu", loss="mse"), 2.0),
        ("mlp", MLPConfig(sizes=[400, 50, 30], activation="sigmoid", loss="mse"), 1.0),
        ("resnet", ResNetConfig(variant="resnet18", width=8), None),
    ],
)
def test_initial_weights_have_the_stated_spread(model, config, gain):
    params = initial_params(model, config, 1)
    assert params.keys() == MODELS[model].params(config).keys()
    for name, array in params.items():
        if array.ndim == 1:
            assert np.all(array == (1.0 if name.endswith(("weight", "running_var")) else 0.0)), name
        elif array.size > 1000:
            fan = array.shape[1] if array.ndim == 2 else array.shape[0] * math.prod(array.shape[2:])
            variance = (gain or (2.0 if array.ndim == 4 else 1.0)) / fan
            assert np.var(array) == pytest.approx(variance, rel=6 / math.sqrt(array.size)), name


@pytest.mark.parametrize("model", ["mlp", "resnet"])
def test_initial_weights_are_pinned(model, train):
    (name, value), *_ = [(name, value) for name, value in PINNED.items() if name in train(model, "a", until=0).params]
    assert train(model, "a", until=0).params[name].flat[0] == pytest.approx(value, abs=1e-7)


def test_classify_gives_classes_probabilities_and_the_mean_loss(train, tmp_path):
    done = train("mlp", "a")
    file = tmp_path / "a" / "torch" / "last.h5"
    found = evaluate_classifier(file, None, tmp_path / "a", "float64", "cpu")
    data = open_images(None, tmp_path / "a")
    images, labels = data.split("test")
    model = load_classifier(done, file, "float64", "cpu")
    with torch.no_grad():
        scores = model(torch.tensor(pixel_values(images, data.kind, "float64").reshape(len(images), -1)))
    p = torch.softmax(scores, 1).numpy()
    assert np.array_equal(found.labels, labels)
    assert found.labels.dtype == np.int64
    assert np.array_equal(found.predictions, p.argmax(1))
    assert np.allclose(found.confidences, p.max(1), rtol=1e-12)
    assert found.loss == pytest.approx(-np.log(p[np.arange(len(labels)), labels]).mean(), rel=1e-12)
    assert found.accuracy == np.mean(p.argmax(1) == labels)
    first = classify(model, data, "test", 7, "float64", device=torch.device("cpu"))
    assert np.array_equal(first.predictions, found.predictions[:7])


def test_a_diverged_training_leaves_the_earlier_checkpoint(train, tmp_path):
    train("mlp", "a", until=1, learning_rate=1e300, loss="mse", optimizer="gradient-descent", warmup=5, iterations=9)
    file = tmp_path / "a" / "torch" / "last.h5"
    before = file.read_bytes()
    with pytest.raises(SideError, match=r"the loss is .* Try a smaller --learning-rate"):
        train("mlp", "a", learning_rate=1e300, loss="mse", optimizer="gradient-descent", warmup=5, iterations=9)
    assert file.read_bytes() == before


def test_another_training_is_not_gone_on_from(train, tmp_path):
    done = train("mlp", "a", until=2)
    file = tmp_path / "a" / "torch" / "last.h5"
    for changes, says in (
        ({"hidden": [6]}, f"{file}, setting hidden: expected [6], found [5]. Choose another --out"),
        ({"momentum": 0.5}, f"{file}, setting momentum: expected 0.5, found 0.9. Choose another --out"),
    ):
        with pytest.raises(InputError) as caught:
            train("mlp", "a", **changes)
        assert str(caught.value).startswith(says)
    with pytest.raises(InputError) as caught:
        train("resnet", "a")
    assert str(caught.value).startswith(f"{file}, attribute model: expected 'resnet', found 'mlp'. Choose another")
    images = {"images": {**done.data["images"], "digest": "0" * 64}}
    dataclasses.replace(done, data=images).write(file)
    with pytest.raises(InputError) as caught:
        train("mlp", "a")
    assert f"{file}, attribute data: expected the images of SHA-256 " in str(caught.value)


def test_images_of_another_shape_are_refused(train, tmp_path):
    done = train("mlp", "a")
    file = tmp_path / "a" / "torch" / "last.h5"
    images = {"images": {**done.data["images"], "shape": [3, 32, 32]}}
    dataclasses.replace(done, data=images).write(file)
    with pytest.raises(InputError) as caught:
        evaluate_classifier(file, None, tmp_path / "a", "float64", "cpu")
    assert str(caught.value) == (
        f"digits: expected images of shape [3, 32, 32], as {file} was trained on, found shape [1, 28, 28]"
    )


def test_a_checkpoint_without_images_is_no_classifier(train, tmp_path):
    done = train("mlp", "a", until=0)
    file = tmp_path / "x.h5"
    dataclasses.replace(done, data={}).write(file)
    with pytest.raises(InputError, match="expected a classifier of images, 'mlp' or 'resnet', found 'mlp'"):
        load_classifier(read_checkpoint(file), file, "float32", "cpu")


@pytest.mark.parametrize(
    ("model", "changes", "says"),
    [
        ("mlp", {"hidden": [0]}, "train mlp, hidden"),
        ("mlp", {"activation": "tanh"}, "train mlp, activation: expected "),
        ("mlp", {"optimizer": "lion"}, "train mlp, optimizer: expected "),
        ("mlp", {"learning_rate": math.nan}, "train mlp, learning_rate"),
        ("resnet", {"variant": "resnet21"}, "train resnet, variant: expected "),
        ("resnet", {"hidden": [3]}, "train resnet, hidden"),
        ("resnet", {"momentum": 1.0}, "train resnet, momentum"),
        ("resnet", {"pad": -1}, "train resnet, pad"),
    ],
)
def test_settings_that_do_not_fit_are_refused(model, changes, says):
    with pytest.raises(InputError) as caught:
        settings_of(model, **changes)
    assert str(caught.value).startswith(says)
