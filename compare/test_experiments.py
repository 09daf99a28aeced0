"""Both sides solve the same flows alike, and find the same orders of convergence."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from twingrad import harness
from twingrad.experiments import orders
from twingrad.training.settings import control_settings

TRAINED = {"dataset": "squares2d", "network": "odenet", "method": "kutta4", "layers": 3, "d": 3}


@pytest.fixture
def measure(both_live: harness.Sides, monkeypatch: pytest.MonkeyPatch):
    """Asks both sides about a flow on four grids: what `orders.document` makes of it."""
    monkeypatch.setattr(orders, "Worker", lambda name, **_: nullcontext(both_live.workers[name]))

    def ask(flow: dict) -> dict:
        answers, not_run = orders.ask(list(both_live.workers), flow, orders.grids(8), threads=1, silence_seconds=300.0)
        assert not not_run
        return orders.document(answers, not_run, flow, "", "")

    return ask


@pytest.mark.parametrize(
    "flow",
    [
        {"seed": 1, "layers": 4, "dataset": "spiral2d", "points": 20},
        {"seed": 5, "layers": 1, "dataset": "donut1d", "points": 1},
    ],
)
def test_random_flows(flow: dict, measure) -> None:
    assert_alike(measure(flow))


@pytest.mark.parametrize("trainer", ["torch", "flux"])
def test_flows_of_networks_that_either_side_trained(
    trainer: str, measure, both_live: harness.Sides, tmp_path: Path
) -> None:
    file = tmp_path / f"{trainer}.h5"
    settings = control_settings({**TRAINED, "samples": 30, "samples_test": 20, "seed": 7})
    request = {"settings": settings.as_json(), "iterations": 20, "out": str(file)}
    both_live.workers[trainer].request("train-control", request)
    assert_alike(measure({"checkpoint": str(file), "points": 20}))


def assert_alike(measured: dict) -> None:
    [pair] = measured["agreement"]
    assert pair["agrees"], pair
    assert pair["errors"] <= 1e-12
    torch, flux = (measured["sides"][name]["methods"] for name in ("torch", "flux"))
    for method in orders.ORDERS:
        for kind in orders.KINDS:
            one, other = torch[method][kind], flux[method][kind]
            assert one["fitted"] == other["fitted"]
            assert one["order"] == pytest.approx(other["order"], abs=1e-3)
