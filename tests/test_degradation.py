"""Plain against residual networks: what is trained, what is told, and that an interrupted run goes on."""

import json
from contextlib import nullcontext

import numpy as np
import pytest

from twingrad.errors import InputError
from twingrad.experiments import degradation
from twingrad.experiments.degradation import Network, networks
from twingrad.format import read_checkpoint


@pytest.fixture
def command(twingrad, torch_worker, monkeypatch):
    """Runs `experiment depth --part training` with the shared worker, where Julia is missing."""
    monkeypatch.setattr(degradation, "Worker", lambda *_, **__: nullcontext(torch_worker))
    for place in ("twingrad.sides", "twingrad.experiments.degradation"):
        monkeypatch.setattr(f"{place}.is_available", lambda name: name == "torch")
    sizes = ("--width", 1, "--batch", 2, "--iterations", 4, "--depths", "20")
    return lambda *arguments: twingrad("experiment", "depth", "--part", "training", *sizes, *arguments)


def test_networks_differ_in_depth_link_and_seed_alone():
    chosen = networks([20, 32], [1, 2])
    assert len(chosen) == len({network.name for network in chosen}) == 8
    settings = [network.settings({"iterations": 7}) for network in chosen]
    own = {"variant", "residual", "seed"}
    assert len({one.model_copy(update={"variant": "resnet20", "residual": True, "seed": 1}) for one in settings}) == 1
    assert {tuple(getattr(one, name) for name in sorted(own)) for one in settings} == {
        (residual, seed, variant)
        for residual in (True, False)
        for seed in (1, 2)
        for variant in ("resnet20", "resnet32")
    }
    assert {(one.iterations, one.evaluate_every, one.width, one.batch) for one in settings} == {(7, 7, 4, 16)}


def test_a_depth_that_the_family_lacks_is_refused():
    with pytest.raises(InputError) as caught:
        networks([20, 21], [1])
    assert str(caught.value) == "--depths: expected one of 20, 32, 44, 56, 110, found 21"


def test_the_command_trains_tells_saves_draws_and_goes_on(command, tmp_path):
    status, out, err = command("--out", tmp_path)
    assert (status, err) == (0, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["degradation.json", "degradation.png", "training"]
    assert "NOT RUN: Flux.jl: it cannot be had on this machine" in out
    saved = json.loads((tmp_path / "degradation.json").read_text())
    assert list(saved["not_run"]) == ["flux"]
    assert saved["images"]["name"] == "digits"
    row = next(line for line in out.splitlines() if line.split()[:1] == ["20"])
    found = saved["sides"]["torch"]["networks"]
    assert [(one["depth"], one["residual"]) for one in found] == [(20, False), (20, True)]
    assert row.split()[1:] == [f"{one['training_loss']:.3f}" for one in found]
    for one, residual in zip(found, (False, True), strict=True):
        file = tmp_path / "training" / Network(20, residual, 1).name / "torch" / "last.h5"
        history = read_checkpoint(file).history
        assert one["losses"] == history["loss"].tolist()
        assert one["training_loss"] == history["loss"][-1]  # a tenth of 4 steps is one
        assert one["accuracy_test"] == history["accuracy_test"][-1]
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("last.h5")}
    assert command("--out", tmp_path)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("last.h5")} == stamps


def test_the_training_loss_is_the_mean_of_the_last_tenth():
    names = ("loss_train", "loss_test", "accuracy_train", "accuracy_test")
    history = {"loss": np.arange(30.0), **{name: np.array([0.5]) for name in names}}
    assert degradation._result(Network(20, True, 1), history)["training_loss"] == np.mean([27.0, 28.0, 29.0])


@pytest.mark.parametrize("options", [("--depths", "20,x"), ("--seeds", ""), ("--depths", "21"), ("--data", "nowhere")])
def test_what_does_not_fit_is_one_line(command, tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    status, out, err = command("--out", tmp_path / "run", *options)
    assert (status, out) == (2, "")
    assert err.startswith("twingrad: ")
    assert err.count("\n") == 1
    assert "expected" in err
