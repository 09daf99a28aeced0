"""The paths by name, that trainings follow either, and what setup knows of a Manifest."""

import numpy as np
import pytest
import torch

from twingrad import engine, paths
from twingrad.errors import InputError
from twingrad.format import read_case
from twingrad.kernels.path import ChannelsLast, ControlPath, Reference, make_path
from twingrad.sides.setup import is_behind
from twingrad.training.classifier import train_classifier
from twingrad.training.control import train_control
from twingrad.training.settings import classifier_settings, control_settings, preset


def ignore(_):
    pass


def test_paths_have_names():
    assert isinstance(make_path("fast", "control_net"), ControlPath)
    assert isinstance(make_path("fast", "resnet"), ChannelsLast)
    for name, model in (("reference", "resnet"), ("reference", "control_net"), ("fast", "gpt")):
        assert type(make_path(name, model)) is Reference
    with pytest.raises(InputError, match=r"path: expected one of reference, fast, found 'quick'"):
        make_path("quick", "gpt")


def test_batches_of_two_sizes_take_turns_on_one_path():
    case = read_case(paths.cases() / "control_net-odenet-kutta3-spiral2d.h5")
    where = torch.float64, torch.device("cpu")
    model = engine.MODELS["control_net"].model(case.config, engine.to_tensors(case.groups["params"], *where))
    inputs, targets = (engine.to_tensors(case.groups[name], *where) for name in ("inputs", "targets"))
    path = make_path("fast", "control_net")
    for count in (len(targets["c"]), 2, len(targets["c"])):
        batch = {"x": inputs["x"][:count]}, {"c": targets["c"][:count]}
        expected, found = Reference().gradient(model, *batch), path.gradient(model, *batch)
        for name, grad in expected.grads.items():
            torch.testing.assert_close(found.grads[name], grad.detach(), rtol=1e-12, atol=1e-15)
        assert path.objective(model, *batch) == pytest.approx(float(expected.loss), rel=1e-13)
        torch.testing.assert_close(path.output(model, batch[0]), expected.output, rtol=1e-13, atol=0.0)


def test_a_control_network_trains_alike_on_both_paths(tmp_path):
    chosen = {"dataset": "spiral2d", "network": "odenet"}
    settings = control_settings({**chosen, "samples": 40, "samples_test": 20, "layers": 4, "method": "kutta4"})
    trained = [
        train_control(settings, 12, tmp_path / f"{path}.h5", {}, ignore, path=path) for path in ("reference", "fast")
    ]
    for name, array in trained[0].params.items():
        assert np.linalg.norm(array - trained[1].params[name]) <= 1e-11 * max(1.0, np.linalg.norm(array)), name
    assert trained[0].history["objective"] == pytest.approx(trained[1].history["objective"], rel=1e-11)


def test_a_resnet_trains_alike_on_both_paths_and_goes_on_on_the_other(tmp_path):
    few = {"batch": 4, "iterations": 4, "width": 2, "evaluation_images": 4, "dtype": "float64", "evaluate_every": 4}
    settings = classifier_settings("resnet", {**preset("resnet", "cpu"), **few})

    def train(out, path, until=None):
        return train_classifier("resnet", settings, None, tmp_path / out, {}, ignore, until=until, path=path)

    whole, fast = train("reference", "reference"), train("fast", "fast")
    train("both", "fast", until=2)
    both = train("both", "reference")
    for found in (fast, both):
        for name, array in whole.params.items():
            assert np.linalg.norm(array - found.params[name]) <= 1e-9 * max(1.0, np.linalg.norm(array)), name


def test_a_manifest_from_before_a_package_was_needed(tmp_path):
    assert not is_behind(tmp_path)
    (tmp_path / "Manifest.toml").write_text('[[deps.TwinGrad]]\ndeps = ["Flux", "HDF5"]\npath = "julia"\n')
    assert is_behind(tmp_path)
    needed = (paths.root() / "julia" / "Project.toml").read_text().split("[deps]")[1].split("[")[0]
    names = ", ".join(f'"{line.split(" ")[0]}"' for line in needed.strip().splitlines())
    (tmp_path / "Manifest.toml").write_text(f"[[deps.TwinGrad]]\ndeps = [{names}]\n")
    assert not is_behind(tmp_path)
