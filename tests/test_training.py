"""Training: resumed equals uninterrupted, bad settings and foreign files are refused."""

import dataclasses

import numpy as np
import pytest

from twingrad.errors import InputError
from twingrad.format import read_training
from twingrad.training import control as training
from twingrad.training.settings import control_settings

SMALL = {"dataset": "spiral2d", "network": "odenet", "method": "euler", "layers": 3, "samples": 30, "samples_test": 20}


def train(tmp_path, iterations, name="torch.h5", **changes):
    settings = control_settings({**SMALL, **changes})
    return training.train_control(settings, iterations, tmp_path / name, {"language": "Python"}, lambda _: None)


def assert_equal(a, b):
    for group in ("params", "initial", "history", "picture"):
        one, two = getattr(a, group), getattr(b, group)
        assert one.keys() == two.keys()
        for name, array in one.items():
            assert np.array_equal(array, two[name]), f"{group}/{name}"
    assert (a.iteration, a.step_constant, a.status) == (b.iteration, b.step_constant, b.status)


@pytest.mark.parametrize("network", ["resnet", "odenet-simplex"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_resumed_equals_uninterrupted(tmp_path, network, dtype):
    whole = train(tmp_path, 23, "whole.h5", network=network, dtype=dtype)
    for iterations in (4, 11, 23):
        parts = train(tmp_path, iterations, "parts.h5", network=network, dtype=dtype)
    # The evaluations at the ends of the parts are those of the whole: evaluate_every fixes them, not the parts.
    assert_equal(whole, parts)
    assert_equal(read_training(tmp_path / "whole.h5"), whole)


def test_an_interrupted_training_goes_on(tmp_path, monkeypatch):
    whole = train(tmp_path, 30, "whole.h5")
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(training, "PROGRESS_SECONDS", 0.0)

    def interrupt(state):
        if state["iteration"] == 17:
            raise KeyboardInterrupt

    settings = control_settings(SMALL)
    with pytest.raises(KeyboardInterrupt):
        training.train_control(settings, 30, tmp_path / "parts.h5", {"language": "Python"}, interrupt)
    saved = read_training(tmp_path / "parts.h5")
    assert (saved.status, saved.iteration) == ("running", 16)
    assert saved.picture == {}
    assert_equal(whole, train(tmp_path, 30, "parts.h5"))


@pytest.mark.parametrize(("network", "dt", "expected"), [("resnet", 0.1, 0.1), ("odenet", 0.25, 0.25), ("net", 0, 1.0)])
def test_the_first_time_step(tmp_path, network, dt, expected):
    trained = train(tmp_path, 6, network=network, dt=dt)
    assert trained.initial["dt"].tolist() == [expected] * 3
    assert (trained.params["dt"].tolist() == [expected] * 3) == (network != "odenet")
    own = train(tmp_path, 6, "own.h5", network=network)
    assert own.initial["dt"].tolist() == [1.0 if network == "net" else 1 / 3] * 3
    assert (own.history["objective"][0] == trained.history["objective"][0]) == (network == "net")


@pytest.mark.parametrize("network", ["net", "odenet-simplex"])
def test_networks_with_time_steps_of_their_own_take_no_other(network):
    with pytest.raises(InputError, match=f"network '{network}' starts from time steps .* takes dt 0, not 0.1"):
        control_settings({**SMALL, "network": network, "dt": 0.1})


@pytest.mark.parametrize("dt", [-0.1, float("inf"), float("nan"), "x"])
def test_time_steps_that_are_none(dt):
    with pytest.raises(InputError, match="dt: expected"):
        control_settings({**SMALL, "dt": dt})


def test_a_file_from_before_a_setting_goes_on(tmp_path):
    whole = train(tmp_path, 9, "whole.h5")
    first = train(tmp_path, 4, "parts.h5")
    settings = {name: value for name, value in first.settings.items() if name != "dt"}
    dataclasses.replace(first, settings=settings).write(tmp_path / "parts.h5")
    with pytest.raises(InputError, match=r"setting dt: expected 0\.5, found 0\.0"):
        train(tmp_path, 9, "parts.h5", dt=0.5)
    assert_equal(train(tmp_path, 9, "parts.h5"), whole)


def test_a_complete_training_is_left_alone(tmp_path):
    train(tmp_path, 5)
    stamp = (tmp_path / "torch.h5").stat().st_mtime_ns
    assert train(tmp_path, 5).iteration == 5
    assert (tmp_path / "torch.h5").stat().st_mtime_ns == stamp


def test_the_history_is_complete(tmp_path):
    done = train(tmp_path, 25, evaluate_every=10)
    assert done.history["objective"].shape == (26,)
    assert done.history["evaluated"].tolist() == [0, 10, 20]
    assert np.all(np.diff(done.history["objective"]) <= 0)
    assert np.all((done.history["accuracy_test"] >= 0) & (done.history["accuracy_test"] <= 1))
    assert done.picture["trajectories"].shape == (4, 20, 2)
    assert np.array_equal(done.picture["trajectories"][0], done.picture["x"])
    assert done.picture["grid_prediction"].shape == (101, 101)


def test_both_gradients_train_alike(tmp_path):
    by_hand = train(tmp_path, 20, "a.h5", gradient="manual")
    automatic = train(tmp_path, 20, "b.h5", gradient="ad")
    assert np.allclose(by_hand.history["objective"], automatic.history["objective"], rtol=1e-10, atol=0)


def test_another_training_in_the_file_is_refused(tmp_path):
    done = train(tmp_path, 5)
    file = tmp_path / "torch.h5"
    with pytest.raises(InputError, match=r"torch.h5, setting seed: expected 2, found 1. Choose another --out"):
        train(tmp_path, 5, seed=2)
    with pytest.raises(InputError, match="attribute iteration: expected at most 3, found 5"):
        train(tmp_path, 3)
    dataclasses.replace(done, side="flux").write(file)
    with pytest.raises(InputError, match="attribute side: expected 'torch', found 'flux'"):
        train(tmp_path, 5)
    file.write_bytes(file.read_bytes()[:3000])
    with pytest.raises(InputError, match="damaged"):
        train(tmp_path, 5)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"dataset": "moons"},
            "dataset: expected one of 'donut1d', 'donut2d', 'squares2d' or 'spiral2d', found 'moons'",
        ),
        ({"network": "unet"}, "network: expected one of 'net', 'resnet', 'odenet' or 'odenet-simplex', found 'unet'"),
        ({"method": "rk4"}, "method: expected one of 'euler', 'improved-euler', 'kutta3' or 'kutta4', found 'rk4'"),
        ({"freeze": ("W", "w")}, "freeze.1: expected one of"),
        ({"layers": 0}, "layers: expected"),
        ({"network": "net", "method": "kutta4"}, "network 'net' is no time discretisation"),
    ],
)
def test_bad_settings_are_refused(changes, says):
    with pytest.raises(InputError) as caught:
        control_settings({**SMALL, **changes})
    assert says in str(caught.value)
