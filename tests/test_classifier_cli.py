"""The commands train mlp, train resnet and evaluate of a classifier."""

import re

import numpy as np
import pytest

from twingrad.format import read_checkpoint
from twingrad.training.classifier import evaluate_classifier

TINY = ("--iterations", 4, "--batch", 3, "--evaluate-every", 2, "--evaluation-images", 7, "--no-figures")


@pytest.fixture
def command(twingrad, _commands_share_a_worker):
    """Runs the command with the shared side in place of one of its own: (exit status, stdout, stderr)."""
    return twingrad


@pytest.mark.parametrize(
    ("model", "options"),
    [("mlp", ("--hidden", "4-3", "--activation", "relu")), ("resnet", ("--width", 1, "--plain", "--pad", 1))],
)
def test_training_tells_its_result_and_goes_on(command, tmp_path, model, options):
    arguments, file = ("train", model, "--out", tmp_path, *TINY, *options), tmp_path / "torch" / "last.h5"
    status, out, err = command(*arguments, "--until", 3)
    assert (status, err) == (0, "")
    saved = read_checkpoint(file)
    assert (saved.iteration, saved.status, saved.settings["iterations"]) == (3, "running", 4)
    assert out.startswith(f"{file}: running after 3 iterations, ")

    status, out, err = command(*arguments)
    assert (status, err) == (0, "")
    saved = read_checkpoint(file)
    assert (saved.iteration, saved.status, saved.model) == (4, "complete", model)
    last = {name: values[-1] for name, values in saved.history.items()}
    numbers = (
        f"loss {last['loss_train']:.4f} (test {last['loss_test']:.4f}), "
        f"accuracy {last['accuracy_train']:.4f} (test {last['accuracy_test']:.4f})\n"
    )
    start = re.escape(f"{file}: complete after 4 iterations, ")
    assert re.fullmatch(start + r"[\d,]+ images/s, " + re.escape(numbers), out)
    assert command(*arguments) == (0, out, "")


def test_options_become_settings(command, tmp_path):
    given = {"momentum": 0.5, "optimizer": "adamw", "learning_rate": 0.01, "beta2": 0.99, "pad": 3, "seed": 7}
    options = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", value)]
    options += ["--flip", "--hidden", "", "--loss", "mse", "--dtype", "float64"]
    assert command("train", "mlp", "--out", tmp_path, *TINY, "--until", 0, *options)[0] == 0
    saved = read_checkpoint(tmp_path / "torch" / "last.h5")
    assert saved.settings.items() >= {**given, "flip": True, "hidden": [], "loss": "mse", "dtype": "float64"}.items()
    assert saved.config.sizes == [784, 10]


def test_evaluate_gives_loss_and_accuracy_of_all_test_images(command, tmp_path):
    command("train", "mlp", "--out", tmp_path, *TINY)
    file = tmp_path / "torch" / "last.h5"
    found = evaluate_classifier(file, None, tmp_path, "float64", "cpu")
    assert len(found.labels) == 360
    status, out, err = command("evaluate", "--checkpoint", tmp_path, "--dtype", "float64")
    assert (status, err) == (0, "")
    accuracy = np.mean(found.predictions == found.labels)
    assert out == f"{file}: torch, test loss {found.loss!r}, accuracy {accuracy:.4f} of 360 images\n"


def test_evaluate_wants_the_data_of_the_model(command, tmp_path):
    command("train", "mlp", "--out", tmp_path, *TINY)
    file = tmp_path / "torch" / "last.h5"
    text = tmp_path / "text.txt"
    text.write_text("abc")
    status, _, err = command("evaluate", "--checkpoint", tmp_path, "--text", text)
    assert (status, err) == (2, f"twingrad: --text: expected nothing: {file} holds a classifier, found '{text}'\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("mlp", "--hidden", "16-x"), "--hidden: expected numbers with hyphens between, as 16-16, found '16-x'"),
        (("mlp", "--hidden", "16-0"), "train mlp, hidden"),
        (("mlp", "--side", "jax"), "side: expected "),
        (("mlp", "--preset", "gpu"), "preset: expected one of cpu, found 'gpu'"),
        (("resnet", "--variant", "resnet19"), "train resnet, variant: expected "),
        (("resnet", "--data", "nowhere"), "nowhere: expected a folder with images, found no such folder"),
    ],
)
def test_what_does_not_fit_is_one_line(command, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    model, *options = arguments
    status, out, err = command("train", model, "--out", "run", *TINY, *options)
    assert (status, out) == (2, "")
    assert err.startswith("twingrad: ")
    assert says in err
    assert err.count("\n") == 1


def test_torchrun_is_for_the_gpt_alone(command, tmp_path, monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    status, _, err = command("train", "mlp", "--out", tmp_path, *TINY)
    assert (status, err) == (
        2,
        "twingrad: train mlp: expected one process; torchrun trains a gpt alone, found torchrun\n",
    )
