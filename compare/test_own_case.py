"""A case written from FORMAT.md alone, by its own example, runs on every live side and has the right gradient."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

from twingrad import harness, paths
from twingrad.engine import loss_function
from twingrad.fixtures.finite_differences import confirm
from twingrad.format import read_case


@pytest.fixture
def own_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    text = (paths.shared_fixtures() / "FORMAT.md").read_text("utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert "twingrad" not in re.findall(r"import ([^\n]*)", example)[0]
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "FORMAT.md", "exec"), {})
    return tmp_path / "my.h5"


def test_every_live_side_gives_the_right_gradient(own_case: Path, running: harness.Sides) -> None:
    case = read_case(own_case)
    assert case.oracle is None
    loss = loss_function(case.model, case.config)
    for name in running.workers:
        result = running.result(name, case, own_case, "float64", 0)
        found = confirm(loss, case.groups, result.arrays, seed=5)
        assert len(found) >= 6
        wrong = [one for one in found if not one.holds]
        assert not wrong, f"{name}: {wrong}"


def test_the_gradient_is_known_by_numpy_alone(own_case: Path, running: harness.Sides) -> None:
    """∂L/∂μ = 1/n Σ (p − c) p (1 − p), from nothing but the predictions and NumPy's own forward pass."""
    case = read_case(own_case)
    params, x, c = case.groups["params"], case.groups["inputs"]["x"], case.groups["targets"]["c"]
    y = x
    for K, b, dt in zip(params["K"], params["b"], params["dt"], strict=True):
        k1 = np.tanh(y @ K.T + b)
        k2 = np.tanh((y + dt / 2 * k1) @ K.T + b)
        k3 = np.tanh((y + dt / 2 * k2) @ K.T + b)
        k4 = np.tanh((y + dt * k3) @ K.T + b)
        y = y + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    p = 1 / (1 + np.exp(-(y @ params["W"][0] + params["mu"])))
    for name in running.workers:
        result = running.result(name, case, own_case, "float64", 0).arrays
        assert np.allclose(result["outputs/prediction"], p, rtol=1e-13)
        assert np.allclose(result["loss"], 0.5 * np.mean((p - c) ** 2), rtol=1e-13)
        assert np.allclose(result["grads/mu"], np.mean((p - c) * p * (1 - p)), rtol=1e-13)


def test_comparing_it_needs_no_recording(own_case: Path, both_live: harness.Sides) -> None:
    checks, failures = both_live.compare(own_case)
    assert not failures
    assert {check.check for check in checks} == {"sides", "manual", "fast", "steps"}
    assert all(check.passed for check in checks)
    assert os.listdir(own_case.parent) == ["my.h5"]  # noqa: PTH208
