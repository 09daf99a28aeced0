"""Both sides solve the same flows alike, find the same orders of convergence, and train the paper's networks alike."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from twingrad import harness
from twingrad.experiments import flow as transformer
from twingrad.experiments import orders, paper
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


@pytest.mark.parametrize("part", paper.PARTS)
def test_the_experiments_of_the_paper(
    part: str, both_live: harness.Sides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first steps of a network or method on each data set, from the same numbers."""
    monkeypatch.setattr(paper, "Worker", lambda name, **_: nullcontext(both_live.workers[name]))
    names, sides = {"networks": ["resnet", "odenet-simplex"], "methods": ["euler", "kutta3"]}, list(both_live.workers)
    chosen = paper.runs([part], [1, 2], datasets=["donut1d", "spiral2d"], names=names, scale=0.001)
    assert paper.train(chosen, sides, tmp_path, threads=1, silence_seconds=300.0) == {}
    measured = paper.document(part, chosen, sides, tmp_path, {}, "")
    assert len(measured["pairs"]) == len(chosen) == 8
    for pair in measured["pairs"]:
        assert pair["first_objective"] <= 1e-15, pair
        assert pair["apart_at"] is None, pair
        assert pair["accuracy_test"] == 0.0, pair
    torch, flux = (measured["sides"][name] for name in ("torch", "flux"))
    assert [one["iteration"] for one in torch["summary"]] == [one["iteration"] for one in flux["summary"]]
    for one, other in zip(torch["runs"], flux["runs"], strict=True):
        assert one["objectives"] == pytest.approx(other["objectives"], rel=1e-12)
        assert one["dt"] == pytest.approx(other["dt"], rel=1e-12)


def test_both_sides_solve_the_flow_of_a_mini_gpt_alike(
    both_live: harness.Sides, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With time steps that were learned, by either side's training, of either splitting."""
    monkeypatch.setattr(transformer, "Worker", lambda name, **_: nullcontext(both_live.workers[name]))
    text = tmp_path / "text.txt"
    text.write_text("To be, or not to be: that is the question. " * 20, "utf-8")
    small = {"width": 8, "context": 8, "heads": 2, "batch": 2, "iterations": 3, "dtype": "float64"}
    variants = [
        transformer.Variant("a", 2, time_steps="simplex"),
        transformer.Variant("b", 1, splitting="strang", time_steps="learned"),
    ]
    asked = transformer.Asked(list(both_live.workers), threads=1, silence_seconds=300.0)
    trainings = transformer.Trainings(variants, [1], small, tmp_path)
    assert trainings.train(text, asked) == {}
    trained = trainings.read(asked.names)
    for one, other in zip(trained["torch"].values(), trained["flux"].values(), strict=True):
        assert one[1].params["dt"] == pytest.approx(other[1].params["dt"], rel=1e-12)
        assert set(one[1].params["dt"]) != {1.0}
    for side, chosen in trained.items():
        models = transformer.models_of([file for file, _ in chosen.values()], {}, tmp_path)
        answers, not_run = transformer.streams(models, text, tmp_path, 2, transformer.grids(8), asked)
        measured = transformer.document(trained, answers, models, not_run, {"text": side})
        for stream in measured["streams"].values():
            [pair] = stream["agreement"]
            assert pair["agrees"], pair
            torch, flux = (stream["sides"][name]["refinement"]["schemes"] for name in ("torch", "flux"))
            assert torch["strang-heun"]["errors"] == pytest.approx(flux["strang-heun"]["errors"], rel=1e-9)
