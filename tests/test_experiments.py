"""Orders of convergence: errors against closed forms, fitted orders, the command, its file and its figure."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import imread

from twingrad.data.philox import Stream
from twingrad.data.planar import planar
from twingrad.errors import InputError, SideError
from twingrad.experiments import orders
from twingrad.experiments.convergence import (
    METHODS,
    Flow,
    convergence,
    flow_of,
    random_flow,
    refined,
    solve,
    trained_flow,
    write_convergence,
)
from twingrad.experiments.orders import Convergence, agreement, document, grids, observed_order, read_convergence
from twingrad.format import Training
from twingrad.report import figures
from twingrad.report.experiment_figures import METHODS as DRAWN
from twingrad.report.experiment_figures import convergence_figure, draw_convergence
from twingrad.sides import Worker
from twingrad.training.control import train_control
from twingrad.training.settings import control_settings

FLOW = {"seed": 1, "layers": 2, "dataset": "spiral2d", "points": 5}
VERSIONS = {"language": "Tongue 1.2", "framework": "Frame 3.4"}


@pytest.fixture(scope="module")
def measured() -> Convergence:
    """What the PyTorch side finds on five grids."""
    return Convergence("torch", VERSIONS, convergence(flow_of(FLOW), grids(16)))


@pytest.fixture(autouse=True)
def _coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "DPI", 40)


@pytest.fixture
def _unrendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rendering takes most of the time."""
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **_: file.write(b"a figure"))


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, Training]]:
    """A trained network of three layers: its file and what is in it."""

    def train(**changes: Any) -> tuple[Path, Training]:
        settings = {"dataset": "spiral2d", "network": "odenet", "method": "kutta3", "layers": 3, "d": 3}
        settings |= {"samples": 30, "samples_test": 20}
        file = tmp_path_factory.mktemp("trained") / "torch.h5"
        return file, train_control(control_settings(settings | changes), 5, file, VERSIONS, lambda _: None)

    return train


# ---- what a side computes


@pytest.mark.parametrize("kind", orders.KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_shows_its_order(measured: Convergence, method: str, kind: str) -> None:
    expected = {"euler": 1, "improved-euler": 2, "kutta3": 3, "kutta4": 4}[method]
    assert orders.ORDERS[method] == expected
    one = document([measured], {}, FLOW, "", "")["sides"]["torch"]["methods"][method][kind]
    assert one["order"] == pytest.approx(expected, abs=0.1)
    assert one["fitted"] == [1, 2, 3, 4]


def test_the_reference_is_the_flow_in_closed_form() -> None:
    """Where K is diagonal, u = k y + b obeys u' = k tanh u, which is sinh u(t) = exp(k t) sinh u(0)."""
    k, b, dt = np.array([[0.9, -1.3], [0.4, 1.1]]), np.array([[0.2, -0.1], [-0.5, 0.3]]), np.array([0.5, 0.25])
    x, c = planar("spiral2d", "test", 6, 1)
    params = {"K": np.stack([np.diag(row) for row in k]), "b": b, "W": np.ones((1, 2)), "mu": np.zeros(1), "dt": dt}
    exact = x
    for k_layer, b_layer, time in zip(k, b, dt, strict=True):
        exact = (np.arcsinh(np.exp(k_layer * time) * np.sinh(k_layer * exact + b_layer)) - b_layer) / k_layer
    found = convergence(Flow(params, x, c), [1, 16])
    error = np.abs(found["reference/state"] - exact).max() / np.abs(exact).max()
    assert error < 2e-12
    assert found["reference/state_check"] == pytest.approx(15 * error, rel=0.05)  # order 4: 16 times the error, less it
    for method in METHODS:
        errors = [np.abs(states - exact).max() / np.abs(exact).max() for states in found[f"{method}/states"]]
        assert found[f"{method}/state_errors"] == pytest.approx(errors, rel=1e-3, abs=2e-12)


def test_the_gradient_is_the_derivative_by_the_controls_of_the_flow() -> None:
    flow, h = random_flow(3, 2, "donut2d", 5), 1e-5
    _, gradient = solve(flow, "kutta3", 4)
    direction = Stream(3, "direction").normal(gradient.size).reshape(gradient.shape)

    def loss(h: float) -> float:
        moved = {"K": direction[..., :2], "b": direction[..., 2]}
        params = flow.params | {name: flow.params[name] + h * by for name, by in moved.items()}
        model = refined(dataclasses.replace(flow, params=params), "kutta3", 4).requires_grad_(False)
        return float(model.loss(model(torch.tensor(flow.x)), torch.tensor(flow.c)))

    assert np.sum(gradient * direction) == pytest.approx((loss(h) - loss(-h)) / (2 * h), rel=1e-8)


def test_refinement_leaves_the_controls_and_the_time_alone() -> None:
    flow = random_flow(2, 3, "donut2d", 1)
    fine = refined(flow, "euler", 4)
    assert fine.K.shape == (12, 2, 2)
    for k in range(12):
        assert np.array_equal(fine.K[k].detach(), flow.params["K"][k // 4])
        assert np.array_equal(fine.b[k].detach(), flow.params["b"][k // 4])
        assert fine.dt[k].item() == 1 / 3 / 4


def test_random_flows_are_what_format_md_says() -> None:
    flow = flow_of({**FLOW, "seed": 7})
    for name, shape in {"K": (2, 2, 2), "b": (2, 2), "W": (1, 2)}.items():
        assert np.array_equal(flow.params[name], Stream(7, f"depth/{name}").normal(np.prod(shape)).reshape(shape))
    assert (flow.params["mu"].tolist(), flow.params["dt"].tolist()) == ([0.0], [0.5, 0.5])
    x, c = planar("spiral2d", "test", 5, 7)
    assert np.array_equal(flow.x, x)
    assert np.array_equal(flow.c, c)


def test_one_step_a_layer_is_the_trained_network(training: Callable[..., tuple[Path, Training]]) -> None:
    file, trained = training()
    flow = flow_of({"checkpoint": str(file), "points": 20})
    states, gradient = solve(flow, "kutta3", 1)
    assert np.abs(states - trained.picture["trajectories"][-1]).max() < 1e-14
    assert np.array_equal(flow.c, trained.picture["c"])
    assert gradient.shape == (3, 3, 4)


def test_files_that_hold_no_flow_are_refused(training: Callable[..., tuple[Path, Training]], tmp_path: Path) -> None:
    file, trained = training()
    with pytest.raises(InputError, match=r"setting network: expected a network that discretises .* found 'net'"):
        trained_flow(training(network="net", method="euler")[0], 5)
    with pytest.raises(InputError, match="found no such file"):
        trained_flow(tmp_path / "none.h5", 5)
    dataclasses.replace(trained, params={**trained.params, "b": np.zeros((2, 3))}).write(tmp_path / "bad.h5")
    with pytest.raises(InputError, match=r"/params/b: expected shape \(N, d\) = \(3, 3\), found shape \(2, 3\)"):
        trained_flow(tmp_path / "bad.h5", 5)
    (tmp_path / "cut.h5").write_bytes(file.read_bytes()[:2000])
    with pytest.raises(InputError, match="damaged"):
        trained_flow(tmp_path / "cut.h5", 5)


def test_an_answer_survives_its_file(measured: Convergence, tmp_path: Path) -> None:
    write_convergence(tmp_path / "a.h5", measured.arrays, VERSIONS)
    read = read_convergence(tmp_path / "a.h5")
    assert (read.side, read.versions) == ("torch", VERSIONS)
    assert read.arrays.keys() == measured.arrays.keys()
    assert all(np.array_equal(array, measured.arrays[name]) for name, array in read.arrays.items())


# ---- what is made of it


@pytest.mark.parametrize(
    ("errors", "order", "fitted"),
    [
        ([3e-1, 3e-2, 3e-3, 3e-4, 3e-5, 3e-6], 1.0, [2, 3, 4, 5]),
        ([1e-1, 1e-4, 1e-7, 1e-10, 1e-13, 1e-15], 3.0, [0, 1, 2, 3]),
        ([7e3, 5e0, 1e0, 1e-2, 1e-4, 1e-6], 2.0, [3, 4, 5]),
        ([9e-1, 3e1, 1e-2, 1e-4, 1e-6, 1e-8], 2.0, [2, 3, 4, 5]),
        ([9e-1, 9e-1, 3e1, 1e-4, 1e-6, 0.0], 2.0, [3, 4]),
        ([2e0, 2e0, 2e0, 2e0, 2e0, 1e-1], None, []),
        ([0.0, 0.0, 0.0, 0.0, 0.0, 0.0], None, []),
    ],
)
def test_orders_are_fitted_to_the_finest_errors_that_mean_something(
    errors: list[float], order: float | None, fitted: list[int]
) -> None:
    found, places = observed_order(10.0 ** np.arange(6), np.array(errors), 1e-12)
    assert found == (None if order is None else pytest.approx(order, rel=1e-12))
    assert places == fitted


def test_a_rough_reference_raises_the_floor(measured: Convergence) -> None:
    rough = {**measured.arrays, "reference/state_check": np.array(1e-6)}
    methods = document([dataclasses.replace(measured, arrays=rough)], {}, FLOW, "", "")["sides"]["torch"]["methods"]
    assert len(methods["kutta4"]["state"]["fitted"]) < 4
    assert len(methods["kutta4"]["gradient"]["fitted"]) == 4
    assert len(methods["euler"]["state"]["fitted"]) == 4


@pytest.mark.parametrize(
    ("kind", "size", "agrees"), [("state", 1e-13, True), ("state", 1e-11, False), ("gradient", 1e-10, False)]
)
def test_sides_that_differ_disagree(measured: Convergence, kind: str, size: float, agrees: bool) -> None:
    arrays = {name: array.copy() for name, array in measured.arrays.items()}
    array = arrays[f"kutta3/{kind}s"][2]
    array.flat[1] += size * np.linalg.norm(array)
    arrays["euler/state_errors"][0] += 1e-9
    found = agreement(measured, Convergence("flux", VERSIONS, arrays))
    assert found["agrees"] == agrees
    assert found[kind] == pytest.approx(size, rel=1e-2)
    assert found["errors"] == pytest.approx(1e-9, rel=1e-3)


@pytest.mark.parametrize("finest", [0, -8, 1, 4, 12, 63])
def test_grids_that_double_nothing_are_refused(finest: int) -> None:
    with pytest.raises(InputError, match=f"--finest: expected a power of two, at least 8, found {finest}"):
        grids(finest)
    assert grids(8) == [1, 2, 4, 8]


# ---- the figure


def two_sides(measured: Convergence) -> dict[str, Any]:
    other = dataclasses.replace(measured, side="flux")
    return document([measured, other], {}, FLOW, "random controls (seed 1) on spiral2d, 2 layers", "twingrad")


def test_the_figure_shows_what_the_file_says(measured: Convergence, tmp_path: Path) -> None:
    file = orders.save(two_sides(measured), tmp_path / "convergence.json")
    read = json.loads(file.read_text())
    assert read == two_sides(measured) | {"created": read["created"]}
    figure = convergence_figure(read)
    for panel, kind in zip(figure.axes, orders.KINDS, strict=True):
        lines = [line for line in panel.get_lines() if line.get_linestyle() != "None" and line.get_marker() != "None"]
        assert len(lines) == 8
        shown = iter(lines)
        for method in METHODS:
            for name in ("torch", "flux"):
                line, curve = next(shown), read["sides"][name]["methods"][method][kind]
                assert line.get_xdata().tolist() == [2, 4, 8, 16, 32]
                assert line.get_ydata().tolist() == curve["errors"]
                assert line.get_markevery() == curve["fitted"]
                assert to_hex(line.get_color()) in DRAWN[method]
        slopes = [line for line in panel.get_lines() if line.get_marker() == "None"]
        for line, order in zip(slopes, (1, 2, 3, 4), strict=True):
            x, y = line.get_data()
            assert np.diff(np.log(y)) / np.diff(np.log(x)) == pytest.approx(-order)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[:2] == ["euler, PyTorch", "euler, Flux.jl"]
    assert labels[-2:] == ["expected order", "not in the fit"]
    assert "2 layers of 1 to 16 steps, 5 points" in figure.get_suptitle()


def test_a_figure_without_any_order_is_drawn(measured: Convergence, tmp_path: Path) -> None:
    """Where nothing converges since nothing is wrong: K = 0 makes every method exact."""
    flow = flow_of(FLOW)
    still = dataclasses.replace(flow, params={**flow.params, "K": np.zeros((2, 2, 2))})
    exact = Convergence("torch", VERSIONS, convergence(still, grids(8)))
    made = document([exact], {}, FLOW, "still", "twingrad")
    assert made["sides"]["torch"]["methods"]["euler"]["state"] == {
        "errors": pytest.approx([0.0] * 4, abs=1e-14),
        "order": None,
        "fitted": [],
    }
    image = imread(draw_convergence(made, tmp_path))
    assert image.shape[0] > 100
    assert image.std() > 0.01


# ---- the command


@pytest.fixture
def command(
    twingrad: Callable[..., tuple[int, str, str]], torch_worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Runs `experiment depth --part flow` with the shared worker, where Julia is missing."""
    monkeypatch.setattr(orders, "Worker", lambda *_, **__: nullcontext(torch_worker))
    for place in ("twingrad.sides", "twingrad.experiments.orders"):
        monkeypatch.setattr(f"{place}.is_available", lambda name: name == "torch")
    return lambda *arguments: twingrad("experiment", "depth", "--part", "flow", *arguments)


def test_the_command_measures_prints_saves_and_draws(
    command: Callable[..., tuple[int, str, str]], tmp_path: Path, measured: Convergence
) -> None:
    arguments = ("--out", tmp_path / "new" / "run", "--layers", 2, "--points", 5, "--finest", 8)
    status, out, err = command(*arguments)
    assert (status, err) == (0, "")
    assert sorted(file.name for file in (tmp_path / "new" / "run").iterdir()) == ["convergence.json", "convergence.png"]
    table = out.splitlines()[:6]
    assert max(len(line) for line in table) <= 80
    assert [line.split()[:2] for line in table[2:]] == [[method, str(order)] for method, order in orders.ORDERS.items()]
    assert "NOT RUN: Flux.jl: it cannot be had on this machine" in out
    assert "random controls (seed 1) on spiral2d, 2 layers of 1 to 8 steps, 5 points" in out
    saved = json.loads((tmp_path / "new" / "run" / "convergence.json").read_text())
    assert saved["command"].startswith("twingrad experiment depth --part flow --out ")
    assert saved["flow"] == FLOW
    assert (saved["steps"], saved["layers"], saved["agreement"], list(saved["not_run"])) == (grids(8), 2, [], ["flux"])
    assert saved["sides"]["torch"]["versions"]["framework"] == f"PyTorch {torch.__version__}"
    for method in METHODS:
        one, row = saved["sides"]["torch"]["methods"][method], next(line for line in table if line.startswith(method))
        assert row.split()[2:] == [f"{one[kind]['order']:.3f}" for kind in orders.KINDS]
        for kind in orders.KINDS:
            expected = measured.arrays[f"{method}/{kind}_errors"][:4]  # up to the errors of the two references
            assert one[kind]["errors"] == pytest.approx(expected, rel=1e-3)


@pytest.mark.usefixtures("_unrendered")
def test_the_command_takes_a_trained_network(
    command: Callable[..., tuple[int, str, str]], training: Callable[..., tuple[Path, Training]], tmp_path: Path
) -> None:
    file, _ = training()
    arguments = ("--out", tmp_path, "--checkpoint", file, "--sides", "torch", "--points", 3, "--finest", 8)
    status, out, err = command(*arguments)
    assert (status, err) == (0, "")
    assert "trained spiral2d, odenet, kutta3, 3 layers, d = 3 of 1 to 8 steps, 3 points" in out
    assert "NOT RUN" not in out
    assert json.loads((tmp_path / "convergence.json").read_text())["flow"] == {"checkpoint": str(file), "points": 3}


@pytest.mark.usefixtures("_unrendered")
@pytest.mark.parametrize("agrees", [True, False])
def test_sides_are_held_against_each_other(
    command: Callable[..., tuple[int, str, str]],
    measured: Convergence,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    agrees: bool,
) -> None:
    states = measured.arrays["euler/states"] * (1.0 if agrees else 1.0 + 1e-11)
    other = Convergence("flux", VERSIONS, {**measured.arrays, "euler/states": states})
    monkeypatch.setattr(orders, "ask", lambda *_, **__: ([measured, other], {}))
    status, out, _ = command("--out", tmp_path)
    assert status == (0 if agrees else 1)
    word, size = ("AGREE", "0.0e+00") if agrees else ("DISAGREE", "1.0e-11")
    assert f"\n{word}: PyTorch and Flux.jl, states to {size}, gradients to 0.0e+00, errors to 0.0e+00\n" in out
    assert max(len(line) for line in out.splitlines()[:6]) <= 80


@pytest.mark.usefixtures("_unrendered")
def test_a_side_that_fails_is_told_and_the_other_goes_on(
    command: Callable[..., tuple[int, str, str]],
    torch_worker: Worker,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def start(name: str, **_: object) -> object:
        if name == "flux":
            raise SideError("side flux: the worker died [inlined]")
        return nullcontext(torch_worker)

    for place in ("twingrad.sides", "twingrad.experiments.orders"):
        monkeypatch.setattr(f"{place}.is_available", lambda name: True)
    monkeypatch.setattr(orders, "Worker", start)
    small = ("--out", tmp_path, "--layers", 1, "--points", 1, "--finest", 8)
    status, out, _ = command(*small)
    assert status == 1
    assert "NOT RUN: Flux.jl: side flux: the worker died [inlined]" in out
    assert (tmp_path / "convergence.json").is_file()
    status, out, err = command(*small, "--sides", "flux")
    assert (status, out) == (2, "")
    assert "the worker died" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--part", "width"), "--part: expected one of flow, training, all, found 'width'"),
        (("--sides", "lux"), "side: expected one of torch, flux, found 'lux'"),
        (("--finest", 48), "--finest: expected a power of two, at least 8, found 48"),
        (("--dataset", "moons"), "--dataset: expected one of donut1d, donut2d, squares2d, spiral2d, found 'moons'"),
        (
            ("--checkpoint", "a.h5", "--seed", 0),
            "--checkpoint: expected no options of a random flow beside it, found --seed",
        ),
        (("--checkpoint", "none.h5"), "none.h5: expected a file of format twingrad-training, found no such file"),
        (("--sides", "flux"), "it cannot be had on this machine"),
    ],
)
def test_refused_input_is_one_line(
    command: Callable[..., tuple[int, str, str]], tmp_path: Path, arguments: tuple[object, ...], says: str
) -> None:
    status, out, err = command("--out", tmp_path, *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert says in err
    assert list(tmp_path.iterdir()) == []
