"""Both sides attack the same trained classifiers and mislead them alike."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from twingrad import harness, sides
from twingrad.experiments import attack as attacks
from twingrad.training.settings import classifier_settings, control_settings, preset

EPSILONS = [0.0, 0.02, 0.1, 0.3]
CONFIDENCE_BOUND = 1e-12
SHORT = {"evaluate_every": 100, "evaluation_images": 10, "dtype": "float64", "warmup": 0}
CLASSIFIERS = {
    "mlp": {"hidden": [16], "iterations": 100, "learning_rate": 0.5},
    "resnet": {"width": 2, "iterations": 15, "learning_rate": 0.05},
}
CONTROLS = [
    {"dataset": "spiral2d", "network": "odenet", "method": "kutta4", "layers": 4, "d": 3},
    {"dataset": "donut2d", "network": "net", "method": "euler", "layers": 3},
]


@pytest.fixture
def attacked(both_live: harness.Sides, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """What `attacks.document` makes of an attack of both sides on the classifier in a file."""

    def ask(file: Path, count: int) -> dict:
        options = {"epsilons": EPSILONS, "count": count, "dtype": "float64", "device": "cpu"}
        request = {"checkpoint": str(file), "data": None, "folder": str(tmp_path), **options}
        monkeypatch.setattr(sides, "Worker", lambda name, **_: nullcontext(both_live.workers[name]))
        answers, examples, not_run = attacks.ask(list(both_live.workers), request, 6, threads=1, silence_seconds=900.0)
        assert not not_run
        return attacks.document(answers, examples, not_run, {}, EPSILONS, None)

    return ask


@pytest.mark.parametrize(("model", "trainer"), [("mlp", "torch"), ("mlp", "flux"), ("resnet", "torch")])
def test_classifiers_of_images(model: str, trainer: str, attacked, both_live: harness.Sides, tmp_path: Path) -> None:
    settings = classifier_settings(model, {**preset(model, "cpu"), **SHORT, **CLASSIFIERS[model]})
    request = {"model": model, "settings": settings.as_json(), "data": None, "out": str(tmp_path)}
    both_live.workers[trainer].request("train-classifier", request)
    assert_alike(attacked(tmp_path / trainer / "last.h5", 60))


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control["network"])
def test_control_networks(control: dict, attacked, both_live: harness.Sides, tmp_path: Path) -> None:
    settings = control_settings({**control, "samples": 60, "samples_test": 50, "seed": 7})
    request = {"settings": settings.as_json(), "iterations": 60, "out": str(tmp_path / "torch.h5")}
    both_live.workers["torch"].request("train-control", request)
    measured = attacked(tmp_path / "torch.h5", 0)
    assert measured["examples"] == list(range(50))
    assert_alike(measured)


def assert_alike(measured: dict) -> None:
    torch, flux = (measured["sides"][name] for name in ("torch", "flux"))
    assert measured["classified_differently"] == [0] * len(EPSILONS)
    assert measured["signs"]["different"] == 0
    for name in ("predictions", "correct", "accuracies", "vanished", "signs"):
        assert torch[name] == flux[name], name
    differences = np.abs(np.array(torch["confidences"]) - np.array(flux["confidences"]))
    assert differences.max() <= CONFIDENCE_BOUND
    assert torch["predictions"][0] != torch["predictions"][-1]
