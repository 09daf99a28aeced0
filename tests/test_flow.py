"""The transformer as a flow: what a side computes, the numbers made of it, the command, its file, figures and page."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from twingrad.control.runge_kutta import TABLEAUS
from twingrad.engine import MODELS, to_tensors
from twingrad.errors import InputError
from twingrad.experiments import flow, residual_stream
from twingrad.experiments.flow_numbers import (
    ORDERS,
    cosines,
    largest_differences,
    principal_plane,
    refinement_numbers,
    stream_numbers,
)
from twingrad.experiments.residual_stream import SCHEMES, solve, states
from twingrad.experiments.residual_stream import residual_stream as computed
from twingrad.fixtures.gpt import GPTRecipe
from twingrad.worker import VERBS

STEPS = [1, 2, 4, 8, 16]
VERSIONS = {"language": "Tongue 1.2", "framework": "Frame 3.4"}


def model_and_case(**changes: Any) -> tuple[Any, Any]:
    case = GPTRecipe("test", **{"layers": 2, "texts": 2, "tokens": 4, **changes}).make(seed=5)
    return MODELS["gpt"].model(case.config, to_tensors(case.groups["params"], torch.float64, torch.device("cpu"))), case


def arrays_of(**changes: Any) -> dict[str, Any]:
    model, case = model_and_case(**changes)
    return computed(model, case.groups["inputs"]["tokens"], case.groups["targets"]["targets"], STEPS)


@pytest.fixture(scope="module")
def small_steps() -> dict[str, Any]:
    """Time steps so small that every scheme shows its order on these grids."""
    return arrays_of(dt=0.2)


# ---- what a side computes


@pytest.mark.parametrize("changes", [{}, {"splitting": "strang"}, {"time_steps": "learned"}], ids=str)
@torch.no_grad()
def test_one_step_of_its_own_splitting_is_the_model(changes: dict[str, Any]) -> None:
    model, case = model_and_case(**changes)
    tokens = torch.tensor(case.groups["inputs"]["tokens"])
    stream = states(model, tokens)
    assert len(stream) == 1 + 2 * (3 if changes.get("splitting") else 2)
    logits = torch.nn.functional.linear(model.ln_f(stream[-1]), model.wte.weight)
    assert torch.allclose(logits, model(tokens), rtol=0, atol=1e-14)
    assert torch.equal(solve(model, tokens, SCHEMES[model.config.splitting], 1), stream[-1])


@torch.no_grad()
def test_one_block_in_two_steps_by_hand() -> None:
    model, case = model_and_case(layers=1, dt=0.6)
    tokens, block = torch.tensor(case.groups["inputs"]["tokens"]), model.h[0]
    x = states(model, tokens)[0]
    for _ in range(2):
        half = x + 0.15 * block.mlp(block.ln_2(x))
        half = half + 0.3 * block.attn(block.ln_1(half))
        x = half + 0.15 * block.mlp(block.ln_2(half))
    assert torch.allclose(solve(model, tokens, SCHEMES["strang"], 2), x, rtol=0, atol=1e-14)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_has_its_order(small_steps: dict[str, Any], scheme: str) -> None:
    found = refinement_numbers(small_steps)
    assert found["schemes"][scheme]["order"] == pytest.approx(ORDERS[scheme], abs=0.1)
    assert found["reference_check"] < 1e-7


def test_strang_of_flows_is_of_order_2_and_of_euler_steps_of_order_1(small_steps: dict[str, Any]) -> None:
    """Both are symmetric in the parts; what the parts are solved by makes the difference."""
    assert SCHEMES["strang"][1] == SCHEMES["strang-heun"][1]
    assert TABLEAUS[SCHEMES["strang-heun"][0]].w == (0.5, 0.5)
    errors = {name: refinement_numbers(small_steps)["schemes"][name]["errors"] for name in SCHEMES}
    assert errors["strang"][-2] / errors["strang"][-1] == pytest.approx(2, rel=0.1)
    assert errors["strang-heun"][-2] / errors["strang-heun"][-1] == pytest.approx(4, rel=0.1)


def test_losses_go_to_that_of_the_flow(small_steps: dict[str, Any]) -> None:
    found = refinement_numbers(small_steps)
    for one in found["schemes"].values():
        assert abs(one["losses"][-1] - found["reference_loss"]) < abs(one["losses"][0] - found["reference_loss"])
    assert found["schemes"]["lie"]["losses"][0] == pytest.approx(float(small_steps["loss"]), rel=1e-14)


# ---- numbers


def test_a_straight_way_is_as_long_as_its_end_is_far() -> None:
    step = np.array([3.0, 0.0, 4.0])
    raw = np.cumsum(np.broadcast_to(step, (5, 2, 3, 3)), axis=0)
    found = stream_numbers({"states": raw, "time_steps": np.ones(2), "loss": np.array(1.5)}, "lie")
    assert found["norms"] == [[5.0] * 3] * 4
    assert found["travelled"] == found["displaced"] == [[5.0 * k] * 3 for k in range(5)]
    assert found["straightness"] == [1.0] * 3
    assert np.allclose(found["cosines"], 1.0)
    assert found["block_cosines"] == pytest.approx(np.ones((1, 3)))
    assert found["explained"] == pytest.approx([1.0, 0.0], abs=1e-12)
    assert found["sublayers"] == ["attention", "mlp"] * 2


def test_cosines_of_right_angles_turns_and_nothing() -> None:
    updates = np.array([[[1.0, 0.0]], [[0.0, 2.0]], [[0.0, -1.0]], [[0.0, 0.0]]])
    assert cosines(updates) == [[0.0] * 3, [-1.0] * 3, [0.0] * 3]


def test_the_principal_plane_is_that_of_the_variance_whatever_the_sign() -> None:
    rng = np.random.default_rng(1)
    points = rng.normal(size=(4, 6, 3)) * np.array([0.1, 5.0, 1.0])
    plane, shares = principal_plane(points)
    mirrored, _ = principal_plane(-points)
    variances = plane.reshape(-1, 2).var(axis=0)
    assert shares == pytest.approx(variances / points.reshape(-1, 3).var(axis=0).sum())
    assert np.allclose(mirrored, -plane)
    assert np.corrcoef(plane[..., 0].ravel(), points[..., 1].ravel())[0, 1] > 0.9


def test_differences_of_sides_are_seen(small_steps: dict[str, Any]) -> None:
    other = {name: array.copy() for name, array in small_steps.items()}
    assert set(largest_differences(small_steps, other).values()) == {0.0}
    other["lie/final"][2] *= 1 + 1e-6
    other["states"][1, 0, 0, 0] += 1.0
    other["strang/losses"][0] *= 1 + 1e-7
    found = largest_differences(small_steps, other)
    assert found["solutions"] == pytest.approx(1e-6, rel=1e-3)
    assert found["losses"] == pytest.approx(1e-7, rel=1e-3)
    assert found["states"] > 1e-2


# ---- the experiment


def test_variants_cost_what_their_names_say() -> None:
    by_name = {one.name: one for one in flow.variants(5)}
    assert list(by_name) == ["lie-5", "strang-3", "lie-3", "learned-5", "simplex-5"]
    settings = by_name["strang-3"].settings({"width": 16, "iterations": 40}, 7)
    assert (settings.layers, settings.splitting, settings.seed, settings.evaluate_every) == (3, "strang", 7, 4)


def test_grids_are_powers_of_two() -> None:
    assert flow.grids(8) == [1, 2, 4, 8]
    for finest in (2, 6):
        with pytest.raises(InputError, match="--finest"):
            flow.grids(finest)


def test_a_model_is_needed_for_a_stream(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--part all trains some"):
        flow.models_of([], {}, tmp_path)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the command has run, on the PyTorch side alone."""
    folder = tmp_path_factory.mktemp("flow")
    text = folder / "text.txt"
    text.write_text("To be, or not to be: that is the question. " * 60, "utf-8")
    run(folder / "out", text)
    return folder / "out"


class InThisProcess:
    """In place of a worker: the same verbs, without a process to start."""

    def __init__(self, name: str, **_: Any) -> None:
        assert name == "torch"

    def __enter__(self) -> InThisProcess:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def request(self, verb: str, arguments: Any, progress: Any) -> Any:
        return VERBS[verb](json.loads(json.dumps(arguments)), progress)


def run(out: Path, text: Path) -> None:
    from typer.testing import CliRunner

    from twingrad.cli import app

    small = ["--layers", "2", "--iterations", "4", "--width", "8", "--context", "8", "--batch", "2"]
    stream = ["--windows", "2", "--finest", "4"]
    arguments = ["experiment", "flow", "--sides", "torch", "--text", str(text), "--out", str(out), *small, *stream]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda self, file, **_: file.write(b"a figure"))
        patch.setattr(flow, "Worker", InThisProcess)
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output


def test_the_command_trains_measures_and_draws(measured: Path) -> None:
    found = json.loads((measured / "flow.json").read_text("utf-8"))
    assert {one["variant"] for one in found["trainings"]} == {"lie-2", "strang-1", "lie-1", "learned-2", "simplex-2"}
    by_name = {one["variant"]: one for one in found["trainings"]}
    assert by_name["lie-2"]["dt"] == [1.0, 1.0]
    assert by_name["learned-2"]["dt"] != [1.0, 1.0]
    assert sum(by_name["simplex-2"]["dt"]) == pytest.approx(2.0, abs=1e-6)
    assert by_name["strang-1"]["parameters"] == by_name["lie-1"]["parameters"]
    assert by_name["strang-1"]["operations"] > by_name["lie-1"]["operations"]
    assert list(found["streams"]) == ["lie-2", "strang-1", "lie-learned-2"]
    assert (measured / "stream-lie-2.png").exists()
    assert (measured / "time_steps.png").exists()


def test_the_command_goes_on(measured: Path) -> None:
    file = measured / "training" / "lie-2-1" / "torch" / "last.h5"
    before = file.stat().st_mtime_ns
    run(measured, measured.parent / "text.txt")
    assert file.stat().st_mtime_ns == before


def two_sides(measured: Path) -> dict[str, Any]:
    """The document with a second side that found the same."""
    found: dict[str, Any] = json.loads((measured / "flow.json").read_text("utf-8"))
    found["sides"]["flux"] = {"title": "Flux.jl", "versions": VERSIONS}
    found["trainings"] += [{**one, "side": "flux"} for one in found["trainings"]]
    for stream in found["streams"].values():
        stream["sides"]["flux"] = stream["sides"]["torch"]
        pair = {"states": 1e-15, "solutions": 2e-15, "losses": 3e-16}
        stream["agreement"] = [{"sides": ["torch", "flux"], **pair, "agrees": True}]
    return found


@pytest.mark.parametrize("code", ["en", "fr"])
def test_the_report_has_its_tables_and_figures(measured: Path, tmp_path: Path, code: str) -> None:
    from twingrad.report.document import Picture, Table
    from twingrad.report.experiment_page import experiment_runs, experiment_section
    from twingrad.report.language import find_language

    folder = tmp_path / "experiments" / "flow"
    shutil.copytree(measured, folder)
    (folder / "flow.json").write_text(json.dumps(two_sides(measured)), "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda self, file, **_: file.write(b"a figure"))
        section = experiment_section(experiment_runs(tmp_path), find_language(code))
    (one,) = section.parts
    tables = {part.name: part for part in one.parts if isinstance(part, Table)}
    assert [len(table.rows) for table in tables.values()] == [5, 2, 4, 4, 3, 4, 4, 4]
    orders = tables["experiment-1-flow-1-refinement"]
    assert [column.head for column in orders.columns[2:4]] == ["PyTorch", "Flux.jl"]
    assert sum(isinstance(part, Picture) for part in one.parts) == 8


@pytest.mark.parametrize(
    ("message", "change"),
    [
        ("time steps of", lambda d: d["trainings"][0]["dt"].pop()),
        ("losses of", lambda d: d["trainings"][0]["loss_validation"].pop()),
        ("other sublayers", lambda d: d["streams"]["lie-2"]["sides"]["torch"]["norms"].pop()),
        (
            "other grids",
            lambda d: d["streams"]["lie-2"]["sides"]["torch"]["refinement"]["steps"].append(8),
        ),
        ("the document lacks", lambda d: d["trainings"][0].update(side="other")),
    ],
)
def test_a_damaged_document_is_refused(measured: Path, tmp_path: Path, message: str, change: Any) -> None:
    from twingrad.report.experiment_files import Flow, read_experiment

    found = two_sides(measured)
    change(found)
    file = tmp_path / "flow.json"
    file.write_text(json.dumps(found), "utf-8")
    with pytest.raises(InputError, match=message):
        read_experiment(file, Flow)


def test_a_stream_is_written_and_read(tmp_path: Path, small_steps: dict[str, Any]) -> None:
    residual_stream.write_stream(tmp_path / "s.h5", small_steps, VERSIONS)
    found = flow.read_stream(tmp_path / "s.h5")
    assert (found.side, found.versions) == ("torch", VERSIONS)
    assert all(np.array_equal(found.arrays[name], small_steps[name]) for name in small_steps)
