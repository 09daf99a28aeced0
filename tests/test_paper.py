"""The paper's experiments: what is trained, what is told of it, that an interrupted run goes on, figures and report."""

from __future__ import annotations

import copy
import csv
import dataclasses
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from twingrad.errors import InputError, SideError
from twingrad.experiments import paper
from twingrad.experiments.paper import PARTS, Part, Run, curve_iterations, runs, statistics
from twingrad.format import Training, read_training
from twingrad.report import paper_figures
from twingrad.report.experiment_files import Paper, read_experiment
from twingrad.report.language import ENGLISH, Language
from twingrad.report.paper_figures import curves_figure, draw_paper, flows_figure, regions_figure, time_steps_figure
from twingrad.report.write import write_report
from twingrad.training.control import train_control

TINY = {
    part: Part(
        varied=one.varied,
        names=one.names,
        settings={**one.settings, "layers": 3, "samples": 20, "samples_test": 10},
        iterations={"donut1d": 30, "donut2d": 20, "squares2d": 20, "spiral2d": 40},
    )
    for part, one in PARTS.items()
}
TOLD = {"networks": ["net", "odenet"], "methods": ["euler", "kutta3"]}


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts, so small that they train in no time."""
    monkeypatch.setattr(paper, "PARTS", TINY)


@pytest.fixture
def command(twingrad, torch_worker, monkeypatch, tiny):
    """Runs `experiment paper` with the shared worker, where Julia is missing."""
    monkeypatch.setattr(paper, "Worker", lambda *_, **__: nullcontext(torch_worker))
    for place in ("twingrad.sides", "twingrad.experiments.paper"):
        monkeypatch.setattr(f"{place}.is_available", lambda name: name == "torch")
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **_: file.write(b"a figure"))
    small = ("--datasets", "spiral2d,donut1d", "--networks", "net,odenet", "--methods", "euler")
    return lambda *arguments: twingrad("experiment", "paper", *small, *arguments)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Run]]:
    """Trainings of two seeds on both sides, the Flux side's made of PyTorch's."""
    out = tmp_path_factory.mktemp("paper")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paper, "PARTS", TINY)
        chosen = runs(["networks", "methods"], [1, 2], datasets=["donut1d", "spiral2d"], names=TOLD)
        for run in chosen:
            folder = out / run.folder
            folder.mkdir(parents=True)
            versions = {"language": "Tongue 1.2", "framework": "Frame 3.4", "processor": "P"}
            one = train_control(run.settings, run.iterations, folder / "torch.h5", versions, lambda _: None)
            as_flux(one, run.seed).write(folder / "flux.h5")
    return out, chosen


def as_flux(training: Training, seed: int) -> Training:
    """A training that parts from this one at iteration 7, or with seed 2 not at all, and gets two more right."""
    objective, accuracy = training.history["objective"].copy(), training.history["accuracy_test"].copy()
    objective[1] *= 1 + 1e-9
    if seed == 1:
        objective[7:] *= 1 + 1e-3
        accuracy[-1] += 0.2
    history = {**training.history, "objective": objective, "accuracy_test": accuracy}
    return dataclasses.replace(training, side="flux", history=history)


@pytest.fixture
def measured(trained, tiny) -> dict[str, dict[str, Any]]:
    """By part what both sides gave."""
    out, chosen = trained
    return {part: paper.document(part, chosen, ["torch", "flux"], out, {}, "twingrad x") for part in PARTS}


# ---- what is trained


def test_the_sizes_of_the_paper():
    networks, methods = PARTS["networks"], PARTS["methods"]
    assert networks.iterations == {"donut1d": 5000, "donut2d": 8000, "squares2d": 8000, "spiral2d": 20_000}
    assert set(methods.iterations.values()) == {10_000}
    for run in runs(["networks"], [1]):
        assert (run.settings.layers, run.settings.samples, run.settings.method) == (20, 500, "euler")
        assert (run.settings.network, run.settings.dt) == (run.name, 0.0)
    for run in runs(["methods"], [1]):
        assert (run.settings.layers, run.settings.samples, run.settings.network) == (15, 1000, "resnet")
        assert (run.settings.method, run.settings.dt) == (run.name, 0.1)


def test_every_training_has_a_place_of_its_own():
    chosen = runs(["networks", "methods"], [3, 1])
    assert len({run.folder for run in chosen}) == len(chosen) == 2 * 4 * 4 * 2
    assert [run.seed for run in chosen] == [3] * 32 + [1] * 32
    assert Run("methods", "donut1d", "kutta3", 4, 1).folder == Path("methods/donut1d-kutta3-4")


def test_a_choice():
    names = {"networks": ["odenet"], "methods": []}
    chosen = runs(["networks"], [1, 1], datasets=["spiral2d", "donut1d"], names=names, scale=0.001, freeze=["W", "mu"])
    assert [(run.dataset, run.name, run.iterations) for run in chosen] == [
        ("donut1d", "odenet", 5),
        ("spiral2d", "odenet", 20),
    ]
    assert chosen[0].settings.freeze == ("W", "mu")
    assert runs(["networks"], [1], scale=0.0)[0].iterations == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--datasets", "moons"), "--datasets: expected one of donut1d, donut2d, squares2d, spiral2d, found 'moons'"),
        (("--networks", "unet"), "--networks: expected one of net, resnet, odenet, odenet-simplex, found 'unet'"),
        (("--methods", "rk4"), "--methods: expected one of euler, improved-euler, kutta3, kutta4, found 'rk4'"),
        (("--part", "all-of-it"), "--part: expected one of networks, methods, all, found 'all-of-it'"),
        (("--seeds", "1,x"), "--seeds: expected numbers with commas between, found '1,x'"),
        (("--side", "lux"), "side: expected one of torch, flux, found 'lux'"),
        (("--freeze", "Q"), "freeze.0: expected one of 'K'"),
    ],
)
def test_what_does_not_fit_is_one_line(twingrad, tmp_path, monkeypatch, options, says):
    monkeypatch.setattr(paper, "Worker", None)
    status, out, err = twingrad("experiment", "paper", "--out", tmp_path / "run", *options)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert says in err


def test_the_command_trains_tells_saves_draws_and_goes_on(command, tmp_path):
    status, out, err = command("--out", tmp_path, "--seeds", "1")
    assert (status, err) == (0, "")
    assert "NOT RUN: Flux.jl: it cannot be had on this machine" in out
    found = sorted(path.name for path in tmp_path.iterdir())
    networks = ["curves.png", "flows-torch.png", "regions.png", "time-steps.png"]
    expected = [f"paper-networks-{name}" for name in networks] + ["paper-networks.json", "training"]
    assert [name for name in found if "methods" not in name] == expected
    saved = json.loads((tmp_path / "paper-networks.json").read_text())
    assert (saved["seeds"], saved["names"], list(saved["not_run"])) == ([1], ["net", "odenet"], ["flux"])
    assert saved["iterations"] == {"donut1d": 30, "spiral2d": 40}
    row = next(line.split() for line in out.splitlines() if line.split()[:3] == ["spiral2d", "odenet", "PyTorch"])
    history = read_training(tmp_path / "training" / "networks" / "spiral2d-odenet-1" / "torch.h5").history
    assert row[3:] == [
        f"{history['objective'][-1]:.2e}",
        f"{history['accuracy_train'][-1]:.3f}",
        f"{history['accuracy_test'][-1]:.3f}",
    ]
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.h5")}
    assert len(stamps) == 2 * 2 + 2
    status, out, _ = command("--out", tmp_path, "--seeds", "1,2")
    assert status == 0
    assert "±" in out
    assert "…" not in out  # no cell is cut
    assert "means and standard deviations over the seeds 1, 2" in out
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert len(list(tmp_path.rglob("*.h5"))) == 2 * len(stamps)


def test_longer_trainings_go_on_from_shorter_ones(command, tmp_path):
    file = tmp_path / "training" / "networks" / "spiral2d-odenet-1" / "torch.h5"
    assert command("--out", tmp_path, "--seeds", "1", "--part", "networks", "--scale", "0.5")[0] == 0
    half = read_training(file)
    assert half.iteration == 20
    assert command("--out", tmp_path, "--seeds", "1", "--part", "networks")[0] == 0
    whole = read_training(file).history["objective"]
    assert len(whole) == 41
    assert np.array_equal(whole[:21], half.history["objective"])
    status, _, err = command("--out", tmp_path, "--seeds", "1", "--part", "networks", "--scale", "0.5")
    assert status == 2
    assert "attribute iteration: expected at most" in err


def test_a_side_that_fails_is_told(tiny, tmp_path, monkeypatch):
    class Failing:
        def request(self, *_):
            raise SideError("it died")

    monkeypatch.setattr(paper, "Worker", lambda *_, **__: nullcontext(Failing()))
    monkeypatch.setattr(paper, "is_available", lambda _: True)
    chosen = runs(["networks"], [1])
    not_run = paper.train(chosen, ["torch"], tmp_path, threads=1, silence_seconds=1.0)
    assert not_run == {"torch": "it died"}
    with pytest.raises(SideError, match="side torch: it died"):
        paper.document("networks", chosen, ["torch"], tmp_path, not_run, "")


# ---- what is told


def test_statistics():
    assert statistics([0.5]) == {"mean": 0.5, "deviation": None, "least": 0.5, "greatest": 0.5}
    found = statistics([1.0, 2.0, 6.0])
    assert (found["mean"], found["least"], found["greatest"]) == (3.0, 1.0, 6.0)
    assert found["deviation"] == pytest.approx(np.sqrt((4 + 1 + 9) / 2))


def test_a_curve_has_both_ends_and_no_place_twice():
    for iterations in (1, 30, 20_000):
        places = curve_iterations(iterations)
        assert (places[0], places[-1]) == (0, iterations)
        assert places == sorted(set(places))
        assert len(places) <= paper.CURVE_POINTS


def test_a_document_tells_what_the_files_hold(measured, trained):
    out, _ = trained
    one = measured["networks"]["sides"]["torch"]
    assert [(run["seed"], run["dataset"], run["name"]) for run in one["runs"]] == [
        (seed, dataset, name) for seed in (1, 2) for dataset in ("donut1d", "spiral2d") for name in ("net", "odenet")
    ]
    assert [run["seed"] for run in one["runs"] if "picture" in run] == [1] * 4
    for run in one["runs"]:
        training = read_training(out / "networks" / f"{run['dataset']}-{run['name']}-{run['seed']}" / "torch.h5")
        history, places = training.history, measured["networks"]["curve"][run["dataset"]]
        assert run["iteration"] == training.iteration
        assert run["objectives"] == [history["objective"][min(place, training.iteration)] for place in places]
        assert run["accuracies"][0] == history["accuracy_test"][0]
        assert run["accuracies"][-1] == run["accuracy_test"] == history["accuracy_test"][-1]
        assert run["accuracies"][places.index(15)] == history["accuracy_test"][1]  # that of iteration 10
        assert run["dt"] == training.params["dt"].tolist()
    summary = one["summary"][1]
    assert (summary["dataset"], summary["name"]) == ("donut1d", "odenet")
    expected = [run["objective"] for run in one["runs"] if (run["dataset"], run["name"]) == ("donut1d", "odenet")]
    assert summary["objective"] == statistics(expected)


def test_a_training_that_has_converged_stays_where_it_is(trained, tiny, tmp_path):
    out, chosen = trained
    run = chosen[0]
    whole = read_training(out / run.folder / "torch.h5")
    history = {name: whole.history[name][: 10 + extra] for name, extra in (("objective", 1), ("step_constant", 0))}
    history |= {name: whole.history[name][:2] for name in whole.history if name not in history}
    short = dataclasses.replace(whole, iteration=10, status="converged", history=history)
    found = paper._result(run, short, with_picture=False)
    places = curve_iterations(run.iterations)
    assert found["iteration"] == 10
    assert found["objectives"][places.index(10) :] == [history["objective"][10]] * (len(places) - places.index(10))


def test_how_the_sides_part(measured):
    for pair in measured["methods"]["pairs"]:
        assert pair["sides"] == ["torch", "flux"]
        assert pair["first_objective"] == 0.0
        assert pair["apart_at"] == (7 if pair["seed"] == 1 else None)
        assert pair["largest_objective"] == pytest.approx(0.001 / 1.001 if pair["seed"] == 1 else 1e-9, rel=1e-5)
        assert pair["last_objective"] == pytest.approx(0.001 / 1.001 if pair["seed"] == 1 else 0.0)
        assert pair["accuracy_test"] == pytest.approx(-0.2 if pair["seed"] == 1 else 0.0)


# ---- figures and report


def test_curves_are_medians_with_their_range(measured):
    document = measured["networks"]
    figure = curves_figure(document)
    panels = figure.get_axes()
    assert [panel.get_title() for panel in panels[:2]] == ["donut1d", "spiral2d"]
    lines = [line for line in panels[0].get_lines() if len(line.get_xdata()) > 2]
    assert len(lines) == 2 * 2
    seeds = [run["objectives"] for run in document["sides"]["flux"]["runs"][:5:4]]  # donut1d, net, both seeds
    assert np.array_equal(lines[1].get_ydata(), np.median(seeds, axis=0))
    assert np.array_equal(lines[1].get_xdata(), np.array(document["curve"]["donut1d"]) + 1)
    assert (lines[0].get_linestyle(), lines[1].get_linestyle()) == ("-", "--")
    band = panels[0].collections[1].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (np.min(seeds), np.max(seeds))


def test_a_part_has_its_figures(measured, tmp_path, monkeypatch):
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **_: file.write(b"a figure"))
    drawn = {part: [file.stem for file in draw_paper(measured[part], tmp_path)] for part in PARTS}
    shared = ("curves", "regions", "flows-torch", "flows-flux")
    assert drawn["networks"] == [f"paper-networks-{name}" for name in (*shared, "time-steps")]
    assert drawn["methods"] == [f"paper-methods-{name}" for name in shared]


def test_regions_flows_and_time_steps_show_the_first_seed_and_all(measured):
    document = measured["networks"]
    figure = regions_figure(document)
    accuracies = [document["sides"][name]["runs"][0]["accuracy_test"] for name in ("torch", "flux")]
    assert figure.get_axes()[0].get_title() == f"accuracy {accuracies[0]:.3f} | {accuracies[1]:.3f}"
    panel = flows_figure(document, "flux").get_axes()[1]
    ends = np.concatenate([group.get_offsets() for group in panel.collections[-2:]])
    states = document["sides"]["flux"]["runs"][1]["picture"]["states"]
    assert sorted(map(tuple, ends)) == sorted(map(tuple, states[-1]))
    panel = time_steps_figure(document).get_axes()[1]
    shown = [line.get_ydata().tolist() for line in panel.get_lines() if len(line.get_xdata()) == 3]
    assert shown == [run["dt"] for side in ("torch", "flux") for run in document["sides"][side]["runs"][3::4]]


def test_one_side_alone_is_drawn_and_told(trained, tiny, tmp_path):
    out, chosen = trained
    document = paper.document("methods", chosen, ["torch", "flux"], out, {"flux": "no Julia"}, "twingrad x")
    assert document["pairs"] == []
    for figure in (curves_figure(document), regions_figure(document), flows_figure(document, "torch")):
        figure.canvas.draw()


def rows(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text("utf-8").splitlines()))


@pytest.fixture
def report(measured, tmp_path, monkeypatch):
    """A report's folder with the experiment, and what writes the report in a language and gives the Markdown."""
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **_: file.write(b"a figure"))
    folder = tmp_path / "experiments" / "paper"
    folder.mkdir(parents=True)
    for part, document in measured.items():
        (folder / f"paper-{part}.json").write_text(json.dumps(document))

    def write(language: Language) -> str:
        write_report(tmp_path, language)
        return (tmp_path / "report.md").read_text("utf-8")

    return tmp_path, write


def test_the_report_in_both_languages(report, measured):
    out, write = report
    english = write(ENGLISH)
    assert "### Benning et al. 2019: Runge-Kutta methods" in english
    assert "resnet, 3 layers, Δt = 0.1, 20 samples, seeds 1, 2" in english
    assert english.count("paper-networks-time-steps.png") == english.count("paper-methods-flows-flux.png") == 1
    table = rows(out / "tables" / "experiment-1-paper.csv")
    assert [(row["dataset"], row["network"], row["side"]) for row in table[:3]] == [
        ("donut1d", "net", "PyTorch"),
        ("donut1d", "net", "Flux.jl"),
        ("donut1d", "odenet", "PyTorch"),
    ]
    summary = measured["networks"]["sides"]["flux"]["summary"][0]
    assert float(table[1]["accuracy_test_mean"]) == summary["accuracy_test"]["mean"]
    assert float(table[1]["objective_deviation"]) == summary["objective"]["deviation"]
    assert float(table[1]["accuracy_test_greatest"]) == summary["accuracy_test"]["greatest"]
    apart = rows(out / "tables" / "experiment-2-paper-sides.csv")
    assert (apart[0]["method"], apart[0]["parted"], apart[0]["apart_at"]) == ("euler", "1", "7")
    assert float(apart[0]["largest_objective"]) == pytest.approx(0.001 / 1.001)
    assert float(apart[0]["accuracy_mean"]) == pytest.approx(-0.1)
    assert float(apart[0]["accuracy_largest"]) == pytest.approx(0.2)
    french = write(Language("fr"))
    assert "quatre réseaux" in french
    assert "Δt = 0,1" in french
    assert "écart type" in french


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda content: content["sides"]["torch"]["runs"].pop(), "side torch: other trainings"),
        (lambda content: content["sides"]["flux"]["runs"][0]["objectives"].pop(), "side flux: curves of other lengths"),
        (lambda content: content["sides"]["flux"]["runs"][0].pop("picture"), "side flux: no picture of seed 1"),
        (lambda content: content["sides"]["torch"]["runs"][0]["dt"].pop(), "side torch: 2 time steps of 3 layers"),
        (lambda content: content["sides"]["torch"]["summary"].reverse(), "side torch: a summary of other trainings"),
        (lambda content: content["pairs"].pop(), "pairs of other trainings"),
        (lambda content: content["sides"]["torch"]["runs"][0]["picture"]["labels"].pop(), "states of other samples"),
        (lambda content: content["sides"]["torch"]["runs"][0]["picture"]["grid_axis"].pop(), "predictions on another"),
        (lambda content: content.update(seeds=[]), "seeds: expected"),
        (lambda content: content.update(sides={}, pairs=[]), "sides: expected a side that ran, found none"),
    ],
)
def test_a_damaged_document_is_refused(measured, tmp_path, change, says):
    content = copy.deepcopy(measured["networks"])
    change(content)
    file = tmp_path / "paper-networks.json"
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=says):
        read_experiment(file, Paper)


def test_what_is_read_is_what_was_saved(measured, tmp_path):
    file = tmp_path / "paper-methods.json"
    file.write_text(json.dumps(measured["methods"]))
    read = read_experiment(file, Paper)
    assert paper_figures.paper_title(read.model_dump()) == paper_figures.paper_title(measured["methods"])
    assert read.sides["flux"].runs[0].objectives == measured["methods"]["sides"]["flux"]["runs"][0]["objectives"]
