"""Adversarial examples: FGSM where the gradient is known in closed form, the command, the figures, what is refused."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from twingrad import adversarial, sides
from twingrad.adversarial import ImageTarget, PlanarTarget, attack, fgsm, gradient_signs
from twingrad.cli.attack import _one_value_each, _remarks
from twingrad.data.images import IMAGE_KINDS, Images, open_images
from twingrad.data.philox import Stream
from twingrad.data.planar import planar
from twingrad.engine import to_tensors
from twingrad.errors import InputError
from twingrad.experiments import attack as attacks
from twingrad.format import Checkpoint, read_checkpoint, read_training
from twingrad.models.control_net import ControlNet
from twingrad.models.mlp import MultilayerPerceptron
from twingrad.report import attack_figures, figures
from twingrad.specs import ControlNetConfig, GPTConfig, MLPConfig, make_config, model_spec
from twingrad.training.classifier import classify, load_classifier, train_classifier
from twingrad.training.control import train_control
from twingrad.training.gpt import initial_params as gpt_params
from twingrad.training.settings import classifier_settings, control_settings, preset

EPSILONS = [0.0, 0.03, 0.1, 0.4]
SHORT = {"iterations": 100, "evaluate_every": 100, "evaluation_images": 50, "dtype": "float64", "learning_rate": 0.5}
CONTROL = {
    "dataset": "spiral2d",
    "network": "resnet",
    "method": "euler",
    "layers": 3,
    "samples": 30,
    "samples_test": 40,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a short training of an MLP on the digits in `mlp` and one of a control network in `control`."""
    folder = tmp_path_factory.mktemp("trained")
    settings = classifier_settings("mlp", {**preset("mlp", "cpu"), **SHORT, "hidden": [16]})
    train_classifier("mlp", settings, None, folder / "mlp", {}, lambda _: None)
    (folder / "control").mkdir()
    train_control(control_settings(CONTROL), 40, folder / "control" / "torch.h5", {}, lambda _: None)
    return folder


@pytest.fixture(scope="module")
def digits(trained):
    return open_images(None, trained / "mlp")


def checkpoint_in(folder, name="mlp"):
    return folder / "mlp" / "torch" / "last.h5" if name == "mlp" else folder / "control" / "torch.h5"


# ---- the formula


def linear(outputs, inputs, scale, loss="cross-entropy"):
    """A linear classifier with weights of that scale, and these weights."""
    W = scale * Stream(3, "W").normal(outputs * inputs).reshape(outputs, inputs)
    b = Stream(3, "b").normal(outputs)
    config = MLPConfig(sizes=[inputs, outputs], activation="relu", loss=loss)
    params = {"layers.0.weight": torch.from_numpy(W), "layers.0.bias": torch.from_numpy(b)}
    return MultilayerPerceptron(config, params), W, b


def softmax(scores):
    e = np.exp(scores - scores.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


@pytest.mark.parametrize("loss", ["cross-entropy", "mse"])
def test_a_linear_classifier_of_images_against_the_formula(digits, loss):
    """∂L/∂x = Wᵀ (softmax(Wz + b) − y) / (n σ), or Wᵀ 2 (Wz + b − y) / (n σ), of z = (x − mean)/σ."""
    module, W, b = linear(10, 784, 0.05, loss)
    n, (mean,), (std,) = 130, digits.kind.mean, digits.kind.std
    x = digits.split("test")[0][:n].reshape(n, -1) / 255.0
    labels = digits.split("test")[1][:n].astype(int)

    def scores(x):
        return (x - mean) / std @ W.T + b

    slope = {"cross-entropy": softmax, "mse": lambda scores: 2.0 * scores}[loss](scores(x))
    slope[np.arange(n), labels] -= {"cross-entropy": 1.0, "mse": 2.0}[loss]
    signs = np.sign(slope @ W)

    seen = []
    examples = [129, 0, 100, 7]
    found = fgsm(ImageTarget(module, digits, "float64", "cpu"), EPSILONS, n, examples, seen.append)
    assert (found.kind, found.epsilons, found.vanished) == ("images", tuple(EPSILONS), 0)
    assert seen == [{"samples": 100, "of": n}, {"samples": n, "of": n}]
    assert np.array_equal(found.labels, labels)
    assert np.array_equal(found.signs, signs[examples])
    for row, epsilon in enumerate(EPSILONS):
        expected = softmax(scores(np.clip(x + epsilon * signs, 0.0, 1.0)))
        assert np.array_equal(found.predictions[row], expected.argmax(1))
        np.testing.assert_allclose(found.confidences[row], expected.max(1), rtol=1e-12)
        assert found.correct[row] == (expected.argmax(1) == labels).sum()
        assert found.accuracies[row] == found.correct[row] / n
    assert found.correct[0] > found.correct[3]


def test_images_are_clipped_and_else_moved_by_epsilon(digits):
    module, *_ = linear(10, 784, 0.05)
    target = ImageTarget(module, digits, "float64", "cpu")
    places = slice(5, 9)
    x, signs = digits.split("test")[0][places].reshape(4, -1) / 255.0, gradient_signs(target, places)
    moved = target.inputs(places, 0.3 * signs).numpy() * digits.kind.std + digits.kind.mean
    np.testing.assert_allclose(moved, np.clip(x + 0.3 * signs, 0.0, 1.0), atol=1e-14)
    free = (x + 0.3 * signs > 0.0) & (x + 0.3 * signs < 1.0)
    np.testing.assert_allclose(np.abs(moved - x)[free], 0.3)
    assert moved.min() >= -1e-15
    assert moved.max() <= 1.0 + 1e-15
    assert 0 < free.sum() < free.size


def test_a_linear_classifier_of_points_against_the_formula():
    """With K = b = 0 the states stay where they are: ∂J/∂y = (p − c) p (1 − p) Wᵀ / n, p = σ(W y + μ)."""
    W, mu = np.array([1.5, -0.4, 2.0]), 0.3
    params = {"K": np.zeros((2, 3, 3)), "b": np.zeros((2, 3)), "W": W[None], "mu": np.array([mu]), "dt": np.ones(2)}
    config = ControlNetConfig(network="odenet", method="kutta3", scale="mean")
    module = ControlNet(config, to_tensors(params, torch.float64, torch.device("cpu")))
    x, c = planar("squares2d", "test", 50, 4, d=3)
    found = fgsm(PlanarTarget(module, x, c, "float64", "cpu"), [0.0, 0.2, 5.0], 0, list(range(50)))

    def probability(x):
        return 1.0 / (1.0 + np.exp(-(x @ W + mu)))

    signs = np.sign((probability(x) - c)[:, None] * W[:2])
    assert found.kind == "planar"
    assert np.array_equal(found.signs, signs)
    assert np.array_equal(found.labels, c)
    for row, epsilon in enumerate(found.epsilons):
        p = probability(x + epsilon * np.pad(signs, ((0, 0), (0, 1))))
        assert np.array_equal(found.predictions[row], p > 0.5)
        np.testing.assert_allclose(found.confidences[row], np.where(p > 0.5, p, 1.0 - p), rtol=1e-12)
    assert found.correct[0] > found.correct[1] > found.correct[2] == 0


def test_epsilon_zero_is_no_attack(trained, digits):
    file = checkpoint_in(trained)
    for dtype in ("float64", "float32"):
        module = load_classifier(read_checkpoint(file), file, dtype, "cpu")
        clean = classify(module, digits, "test", 0, dtype, device=torch.device("cpu"))
        found = attack(file, None, trained / "mlp", [0.0, 0.1], dtype=dtype)
        assert np.array_equal(found.predictions[0], clean.predictions)
        np.testing.assert_allclose(found.confidences[0], clean.confidences, rtol=1e-5)
        assert found.accuracies[0] == clean.accuracy > 0.7 > found.accuracies[1]
    file = checkpoint_in(trained, "control")
    found, picture = attack(file, None, trained, [0.0]), read_training(file).picture
    assert np.array_equal(found.predictions[0], picture["prediction"] > 0.5)
    assert np.array_equal(found.labels, picture["c"])


def test_a_gradient_that_is_zero_moves_nothing(digits):
    config = MLPConfig(sizes=[784, 10], activation="relu", loss="mse")
    zeros = {"layers.0.weight": torch.zeros(10, 784).double(), "layers.0.bias": torch.arange(10.0).double()}
    found = fgsm(ImageTarget(MultilayerPerceptron(config, zeros), digits, "float64", "cpu"), [0.0, 1.0], 30, [2])
    assert found.vanished == 30
    assert not found.signs.any()
    assert np.array_equal(found.predictions[0], found.predictions[1])


# ---- what is refused


def said(action):
    with pytest.raises(InputError) as caught:
        action()
    return str(caught.value)


@pytest.mark.parametrize("epsilon", [-0.1, math.nan, math.inf])
def test_strengths_that_are_none(trained, epsilon):
    message = said(lambda: attack(checkpoint_in(trained), None, trained / "mlp", [0.1, epsilon]))
    assert message == f"epsilon: expected finite numbers from 0 on, found {epsilon!r}"


@pytest.mark.parametrize("place", [-1, 7])
def test_samples_that_are_none(trained, place):
    message = said(lambda: attack(checkpoint_in(trained), None, trained / "mlp", [0.1], count=7, examples=[0, place]))
    assert message == f"examples: expected numbers of samples from 0 to 6, found {place}"


def gpt_checkpoint(file):
    spec = model_spec("gpt", "")
    sizes = {"vocab": 5, "context": 4, "layers": 1, "heads": 1, "width": 4}
    config = make_config(spec, sizes, "")
    assert isinstance(config, GPTConfig)
    params = {name: array.astype(np.float64) for name, array in gpt_params(config, 1).items()}
    Checkpoint("gpt", config, {}, "torch", "float64", {}, {}, 0, "imported", params).write(file)


def test_files_and_images_that_do_not_fit(trained, tmp_path):
    gpt_checkpoint(tmp_path / "gpt.h5")
    message = said(lambda: attack(tmp_path / "gpt.h5", None, tmp_path, [0.1]))
    assert (
        message
        == f"{tmp_path}/gpt.h5, attribute model: expected a classifier of images, 'mlp' or 'resnet', found 'gpt'"
    )
    done, file = read_checkpoint(checkpoint_in(trained)), tmp_path / "other.h5"
    dataclasses.replace(done, data={"images": {**done.data["images"], "shape": [3, 32, 32]}}).write(file)
    message = said(lambda: attack(file, None, trained / "mlp", [0.1]))
    assert "expected images of shape [3, 32, 32]" in message
    assert "found shape [1, 28, 28]" in message
    file.write_bytes(checkpoint_in(trained, "control").read_bytes()[:-50])
    assert said(lambda: attack(file, None, tmp_path, [0.1])).startswith(f"{file}: expected a whole HDF5 file")
    control = checkpoint_in(trained, "control")
    message = said(lambda: attack(control, tmp_path, tmp_path, [0.1]))
    assert message.startswith(f"data: expected no images: {control} holds a control network")
    assert said(lambda: attack(tmp_path / "no.h5", None, tmp_path, [0.1])).endswith("found no such file")
    message = said(lambda: attack(control, None, tmp_path, [0.1], dtype="bfloat16"))
    assert message == "dtype: expected one of float64, float32, found 'bfloat16'"


# ---- the command


@pytest.fixture
def command(twingrad, _commands_share_a_worker, monkeypatch):
    """Runs the command with the shared side in place of one of its own and coarse figures: (status, stdout, stderr)."""
    monkeypatch.setattr(figures, "DPI", 30)
    return twingrad


@pytest.fixture
def no_figures(monkeypatch):
    monkeypatch.setattr(attack_figures, "draw_attack", lambda *_, **__: [])


def test_several_values_after_one_option():
    def parsed(*args):
        return list(_one_value_each(args))

    once = ["--epsilon", "1", "--epsilon", "2", "--epsilon", "-3"]
    assert parsed("--epsilon", "1", "2", "-3") == once
    assert parsed(*once) == once
    assert parsed("--epsilon=1", "2") == ["--epsilon=1", "--epsilon", "2"]
    assert parsed("--out", "a", "--epsilon", "1", "2", "--data", "b") == [
        *("--out", "a"),
        *("--epsilon", "1", "--epsilon", "2"),
        *("--data", "b"),
    ]
    assert parsed("--epsilon", "--out", "a") == ["--epsilon", "--out", "a"]


def test_the_command_on_images(command, trained, tmp_path):
    arguments = ("attack", "--checkpoint", trained / "mlp", "--epsilon", 0.1, 0.03, 0.4, "--out", tmp_path / "out")
    status, out, err = command(*arguments, "--sides", "torch", "--examples", 4)
    assert (status, err) == (0, "")
    expected = attack(checkpoint_in(trained), None, trained / "mlp", EPSILONS)
    rows = [f"{epsilon:>4g}    {accuracy:.4f}" for epsilon, accuracy in zip(EPSILONS, expected.accuracies, strict=True)]
    written = [f"{tmp_path}/out/{name}" for name in ("attack.json", "robustness.png", "adversarial.png")]
    assert [line.rstrip() for line in out.splitlines()] == [
        *("   ε  accuracy", "       PyTorch"),
        *rows,
        "FGSM in float64: mlp 784-16-10, 360 test images of TwinGrad's digits",
        *written,
    ]
    measured = json.loads((tmp_path / "out" / "attack.json").read_text())
    assert measured["command"].startswith("twingrad attack --checkpoint ")
    assert (measured["kind"], measured["data"], measured["dtype"]) == ("images", "digits", "float64")
    assert measured["epsilons"] == EPSILONS
    assert measured["labels"] == expected.labels.tolist()
    one = measured["sides"]["torch"]
    assert one["versions"]["framework"].startswith("PyTorch")
    for name in ("predictions", "confidences", "correct", "accuracies"):
        assert one[name] == getattr(expected, name).tolist(), name
    right = np.flatnonzero(expected.predictions[0] == expected.labels)[:4].tolist()
    assert measured["examples"] == right
    signs = attack(checkpoint_in(trained), None, trained / "mlp", [], examples=right).signs
    assert one["signs"] == signs.tolist()
    wrong = (expected.predictions != expected.labels)[:, right].mean(1)
    assert measured["shown_epsilon"] == EPSILONS[int(np.argmax(wrong > 0.5))]
    assert wrong[-1] > 0.5


def test_the_command_on_a_control_network(command, trained):
    arguments = ("attack", "--checkpoint", checkpoint_in(trained, "control"), "--epsilon", "0.1,0.3", "--shown", 0.2)
    status, out, err = command(*arguments, "--sides", "torch", "--count", 25)
    assert (status, err) == (0, "")
    folder = trained / "control" / "attack"
    assert "FGSM in float64: resnet, euler, 3 layers, 25 test points of spiral2d" in out
    assert out.endswith(f"{folder}/attack.json\n{folder}/robustness.png\n{folder}/regions.png\n")
    measured = json.loads((folder / "attack.json").read_text())
    assert measured["epsilons"] == [0.0, 0.1, 0.2, 0.3]
    assert measured["shown_epsilon"] == 0.2
    assert measured["examples"] == list(range(25))
    expected = attack(checkpoint_in(trained, "control"), None, trained, [0.0, 0.1, 0.2, 0.3], count=25)
    assert measured["sides"]["torch"]["accuracies"] == expected.accuracies.tolist()


@pytest.mark.usefixtures("no_figures")
def test_a_side_that_cannot_run_is_told(command, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(sides, "is_available", lambda name: name == "torch")
    arguments = ("attack", "--checkpoint", trained / "control", "--count", 5)
    status, out, _ = command(*arguments, "--out", tmp_path)
    assert status == 0
    assert "NOT RUN: Flux.jl: it cannot be had on this machine; 'twingrad doctor' says why" in out
    status, out, err = command(*arguments, "--out", tmp_path, "--sides", "flux")
    assert (status, out) == (2, "")
    assert err == "twingrad: side flux: it cannot be had on this machine; 'twingrad doctor' says why\n"
    file = json.loads((tmp_path / "attack.json").read_text())
    assert file["not_run"] == {"flux": "it cannot be had on this machine; 'twingrad doctor' says why"}
    assert file["epsilons"] == [0.0, 0.01, 0.02, 0.05, 0.1, 0.2]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (("--epsilon", "-0.1"), "--epsilon: expected finite numbers from 0 on, as 0.01 0.02, found '-0.1'"),
        (("--epsilon", "0.1", "-0.2"), "--epsilon: expected finite numbers from 0 on, as 0.01 0.02, found '-0.2'"),
        (("--epsilon", "0.1", "nan"), "--epsilon: expected finite numbers from 0 on, as 0.01 0.02, found 'nan'"),
        (("--epsilon", "0.1,,0.2"), "--epsilon: expected finite numbers from 0 on, as 0.01 0.02, found ''"),
        (("--epsilon", "much"), "--epsilon: expected finite numbers from 0 on, as 0.01 0.02, found 'much'"),
        (("--shown", "-1"), "--shown: expected finite numbers from 0 on, as 0.01 0.02, found '-1'"),
        (("--sides", "jax"), "side: expected one of torch, flux, found 'jax'"),
        (("--dtype", "bfloat16"), "--dtype: expected one of float64, float32, found 'bfloat16'"),
        (("--device", "tpu"), "device: expected one of cpu, cuda, found 'tpu'"),
        (("--data", "/no/such"), "/no/such: expected a folder with images, found no such folder"),
        (("--checkpoint", "/no/such"), "/no/such: expected a checkpoint or a folder with one, found none. "),
    ],
    ids=str,
)  # fmt: skip
def test_options_that_are_none(command, trained, tmp_path, changes, says):
    arguments = ("attack", "--checkpoint", trained / "mlp", "--out", tmp_path, "--sides", "torch", *changes)
    status, out, err = command(*arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"twingrad: {says}")


def test_a_gpt_is_refused_by_the_command(command, tmp_path):
    gpt_checkpoint(tmp_path / "gpt.h5")
    status, out, err = command("attack", "--checkpoint", tmp_path / "gpt.h5", "--sides", "torch")
    assert (status, out) == (2, "")
    assert err.endswith("attribute model: expected a classifier of images, 'mlp' or 'resnet', found 'gpt'\n")


# ---- both sides in one document, and the figures


def reply_of(found):
    names = ("labels", "predictions", "confidences", "correct", "accuracies", "signs")
    lists = {name: getattr(found, name).tolist() for name in names}
    return {"kind": found.kind, "vanished": found.vanished, **lists}


def measured_by_two(file, folder, epsilons, examples, change=lambda reply: None):
    """The document of an attack on which the second side says what `change` makes of the first's reply."""
    reply = reply_of(adversarial.attack(file, None, folder, epsilons, examples=examples))
    other = json.loads(json.dumps(reply))
    change(other)
    answers = [attacks.Answer(name, {}, one) for name, one in (("torch", reply), ("flux", other))]
    return attacks.document(answers, examples, {}, {"model": "mlp 784-16-10", "data": "digits"}, epsilons, None)


def test_a_document_tells_where_the_sides_differ(trained):
    def change(reply):
        reply["vanished"] = 4
        reply["predictions"][1][3] += 1
        reply["predictions"][1][8] += 1
        reply["signs"][1][5] = 2

    measured = measured_by_two(checkpoint_in(trained), trained / "mlp", [0.0, 0.1], [0, 1], change)
    assert measured["classified_differently"] == [0, 2]
    assert measured["signs"] == {"compared": 2 * 784, "different": 1}
    assert list(_remarks({**measured, "dtype": "float32"})) == [
        "FGSM in float32: mlp 784-16-10, 360 test images of TwinGrad's digits",
        "Flux.jl: 4 samples have a gradient of exactly zero; no ε moves them",
        "signs of the examples' gradients on the sides: 1 of 1,568 coordinates differ",
    ]
    agreed = list(_remarks({**measured, "dtype": "float32", "signs": {"compared": 1568, "different": 0}}))
    assert agreed[-1] == "signs of the examples' gradients on the sides: equal in all 1,568"


def texts(panel):
    return panel.get_title(), panel.get_xlabel(), panel.get_ylabel()


def test_the_sheet_shows_images_and_says_classes(trained, digits):
    epsilons, examples = [0.0, 0.1, 0.4], [4, 11]

    def change(reply):
        reply["confidences"][2][11] = 0.123

    measured = measured_by_two(checkpoint_in(trained), trained / "mlp", epsilons, examples, change)
    measured["shown_epsilon"] = 0.4
    figure = attack_figures.examples_figure(measured, digits)
    title = figure.get_suptitle()
    assert "ε = 0.4" in title
    assert "PyTorch and Flux.jl; one line where they agree" in title
    one, names = measured["sides"]["torch"], digits.kind.classes
    for row, place in enumerate(examples):
        original, added, moved = (panel.images[0].get_array() for panel in figure.axes[3 * row : 3 * row + 3])
        x = digits.split("test")[0][place, 0] / 255.0
        assert np.array_equal(original, x)
        assert np.array_equal(moved, np.clip(x + 0.4 * np.reshape(one["signs"][row], (28, 28)), 0.0, 1.0))
        assert np.array_equal(added, moved - x)
        left, _, right = (panel.xaxis.label for panel in figure.axes[3 * row : 3 * row + 3])
        for label, k in ((left, 0), (right, 2)):
            prediction, confidence = one["predictions"][k][place], one["confidences"][k][place]
            said = f"{names[prediction]} ({100 * confidence:.1f} %)"
            assert said.replace("100.0", "> 99.9") in label.get_text()
            assert label.get_weight() == ("bold" if prediction != measured["labels"][place] else "normal")
        assert (right.get_text().count("\n") == 1) == (place == 11)
    assert "Flux.jl: " in right.get_text()
    assert "12.3 %" in right.get_text()


def test_the_sheet_shows_colours():
    draw = np.random.default_rng(2)
    bytes_, labels = draw.integers(0, 256, (4, 3, 32, 32), np.uint8), np.array([0, 1, 2, 3], np.uint8)
    images = Images(IMAGE_KINDS["cifar10"], bytes_, labels, 2, "")
    signs = draw.integers(-1, 2, (1, 3 * 32 * 32))
    reply = {"kind": "images", "vanished": 0, "labels": [2, 3], "predictions": [[2, 2], [2, 2]], "correct": [1, 1]}
    reply |= {"confidences": [[0.9999, 0.5], [0.6, 0.7]], "accuracies": [0.5, 0.5], "signs": signs.tolist()}
    about = {"model": "resnet20", "data": "cifar10"}
    measured = attacks.document([attacks.Answer("flux", {}, reply)], [1], {}, about, [0.0, 0.25], None)
    figure = attack_figures.examples_figure(measured, images)
    assert figure.get_suptitle() == "Adversarial examples, ε = 0.25\nresnet20, 2 test images of CIFAR-10\nFlux.jl"
    original, added, moved = (panel.images[0].get_array() for panel in figure.axes)
    x, step = bytes_[3].transpose(1, 2, 0) / 255.0, 0.25 * signs.reshape(3, 32, 32).transpose(1, 2, 0)
    np.testing.assert_allclose(original, x)
    np.testing.assert_allclose(moved, np.clip(x + step, 0.0, 1.0))
    np.testing.assert_allclose(added, 0.5 + 2.0 * (np.clip(x + step, 0.0, 1.0) - x))
    assert texts(figure.axes[0]) == ("original", "bird (50.0 %)", "cat")
    assert texts(figure.axes[2]) == ("adversarial", "bird (70.0 %)", "")


def test_curves_of_both_sides(trained):
    measured = measured_by_two(checkpoint_in(trained), trained / "mlp", [0.0, 0.1], [0])
    figure = attack_figures.robustness_figure(measured)
    lines = figure.axes[0].lines
    assert [line.get_label() for line in lines] == ["PyTorch", "Flux.jl"]
    for line, one in zip(lines, measured["sides"].values(), strict=True):
        assert line.get_xdata().tolist() == [0.0, 0.1]
        assert line.get_ydata().tolist() == one["accuracies"]
    assert lines[0].get_linewidth() > lines[1].get_linewidth()


@pytest.mark.parametrize("ended", [True, False])
def test_regions_with_points_and_arrows(trained, ended):
    file = checkpoint_in(trained, "control")
    training, places = read_training(file), list(range(40))
    measured = measured_by_two(file, trained, [0.0, 0.25], places)
    measured |= {"model": "resnet", "data": "spiral2d", "shown_epsilon": 0.25}
    if not ended:
        training = dataclasses.replace(training, picture={}, status="running")
    figure = attack_figures.regions_figure(measured, training)
    panels = [panel for panel in figure.axes if panel.get_xlabel() == "$y_1$"]
    assert len(figure.axes) == len(panels) + ended
    for panel, one in zip(panels, measured["sides"].values(), strict=True):
        assert (
            texts(panel)[0] == f"{one['title']}: {one['correct'][1]} of 40 right (accuracy {one['accuracies'][1]:.3f})"
        )
        arrows = [thing for thing in panel.collections if type(thing).__name__ == "Quiver"]
        moves = np.concatenate([np.stack([arrow.U, arrow.V], 1) for arrow in arrows])
        labels = np.array(measured["labels"])
        order = np.concatenate([np.flatnonzero(labels == label) for label in (0, 1)])
        np.testing.assert_allclose(moves, 0.25 * np.array(one["signs"])[order], atol=1e-15)
        rings = panel.collections[-1].get_offsets()
        x = planar("spiral2d", "test", 40, 1)[0] + 0.25 * np.array(one["signs"])
        wrong = np.array(one["predictions"][1]) != labels
        assert 0 < wrong.sum() < 40
        np.testing.assert_allclose(rings, x[wrong])


def test_examples_are_right_ones_first():
    reply = {"kind": "images", "labels": [1, 2, 3, 4], "predictions": [[0, 2, 0, 4], [0, 0, 3, 0]]}
    assert attacks.choose_examples(reply, 3) == [1, 3, 0]
    assert attacks.choose_epsilon([0.0, 0.2], reply, [1, 3]) == 0.2
    assert attacks.choose_epsilon([0.0, 0.2], reply, [1, 2]) == 0.2
    assert attacks.choose_epsilon([0.0, 0.2], reply, [0, 2, 1]) == 0.2
    reply["predictions"] += [[1, 2, 3, 0], [0, 0, 0, 0]]
    assert [attacks.choose_epsilon([0.0, 0.2, 0.3, 0.4], reply, chosen) for chosen in ([1, 2], [0, 1])] == [0.4, 0.2]
