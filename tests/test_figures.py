"""The figures of trainings: what is drawn, that it is drawn the same again, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from twingrad.errors import InputError
from twingrad.format import Training
from twingrad.report import figures
from twingrad.report.figures import draw_training, read_trainings, run_title

ALL = ["decision.png", "trajectories.png", "time_steps.png", "curves.png"]


@pytest.fixture(autouse=True)
def _coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "DPI", 40)


def training(side: str = "torch", *, iterations: int = 12, status: str = "complete", **settings: Any) -> Training:
    """A small training with plausible numbers."""
    values = {"dataset": "donut2d", "network": "odenet", "method": "euler", "layers": 3, "d": 2} | settings
    N, d, samples, grid = values["layers"], values["d"], 10, 7
    rng = np.random.default_rng(5)
    axis = np.linspace(-1.2, 1.2, grid)
    evaluated = np.arange(0, iterations + 1, 5)
    picture = {
        "x": rng.uniform(-1, 1, (samples, 2)),
        "c": np.arange(samples) % 2.0,
        "prediction": rng.uniform(size=samples),
        "trajectories": rng.normal(size=(N + 1, samples, d)),
        "grid_axis": axis,
        "grid_prediction": 1 / (1 + np.exp(-5 * np.add.outer(axis, axis))),
    }
    return Training(
        side=side,
        versions={"language": "Tongue 1.2", "framework": "Frame 3.4"},
        settings=values,
        iteration=iterations,
        step_constant=0.1,
        status=status,
        params={
            "K": rng.normal(size=(N, d, d)),
            "b": np.zeros((N, d)),
            "W": rng.normal(size=(1, d)),
            "mu": np.array([0.2]),
            "dt": rng.normal(size=N),
        },
        initial={"dt": np.full(N, 1 / N)},
        history={
            "objective": 0.1 / np.arange(1.0, iterations + 2),
            "step_constant": 0.1 * 0.99 ** np.arange(iterations),
            "evaluated": evaluated,
            "objective_test": 0.12 / (1.0 + evaluated),
            "accuracy_train": np.linspace(0.5, 0.9, len(evaluated)),
            "accuracy_test": np.linspace(0.5, 0.8, len(evaluated)),
        },
        picture={} if status == "running" else picture,
        created="2025-01-02T03:04:05Z",
    )


def texts(name: str, *trainings: Training) -> str:
    """Everything that a figure says."""
    figure = figures.FIGURES[name](trainings)
    assert figure is not None
    found = [figure._suptitle.get_text()] if figure._suptitle else []
    for legend in [*figure.legends, *(panel.get_legend() for panel in figure.axes)]:
        found += [text.get_text() for text in legend.get_texts()] if legend else []
    for panel in figure.axes:
        found += [panel.get_title(), panel.get_xlabel(), panel.get_ylabel()]
    return "\n".join(found)


def test_two_sides_on_one_sheet(tmp_path: Path) -> None:
    training("torch").write(tmp_path / "torch.h5")
    training("flux").write(tmp_path / "flux.h5")
    files = draw_training(tmp_path)
    assert [file.name for file in files] == ALL
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*ALL, "torch.h5", "flux.h5"])
    for file in files:
        pixels = imread(file)
        assert pixels.shape[0] > 4 * figures.DPI
        assert pixels.shape[1] > 8 * figures.DPI
        assert pixels[..., :3].std() > 0.03
        assert b"Software" not in file.read_bytes()


def test_the_same_training_draws_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training().write(tmp_path / "torch.h5")
    monkeypatch.setattr(figures, "FIGURES", {"time_steps": figures.FIGURES["time_steps"]})
    first, second = (draw_training(tmp_path)[0].read_bytes() for _ in range(2))
    assert first == second


def test_both_sides_are_named_and_their_accuracy_told() -> None:
    both = training("torch"), training("flux")
    for name in figures.FIGURES:
        said = texts(name, *both)
        assert "PyTorch" in said
        assert "Flux.jl" in said
        assert "donut2d, odenet, euler, 3 layers" in said
    wrong = np.sum((both[0].picture["prediction"] > 0.5) != (both[0].picture["c"] > 0.5))
    assert f"{10 - wrong} of 10 right" in texts("decision", *both)
    assert "wrongly classified" in texts("decision", *both)


def test_trajectories_say_which_samples_they_show(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "all 10 test samples" in texts("trajectories", training())
    monkeypatch.setattr(figures, "MAX_TRAJECTORIES", 4)
    assert "the first 4 of 10 test samples" in texts("trajectories", training())


def test_the_hyperplane_is_drawn_in_the_plane_only() -> None:
    assert r"$W y + \mu = 0$" in texts("trajectories", training())
    assert "W y" not in texts("trajectories", training(d=3))
    flat = training()
    assert "W y" not in texts("trajectories", replace(flat, params=flat.params | {"W": np.zeros((1, 2))}))


def test_time_steps_that_are_not_learned() -> None:
    assert "not learned" in texts("time_steps", training(network="resnet"))
    assert "not learned" in texts("time_steps", training(freeze=["dt"]))
    assert "not learned" not in texts("time_steps", training())


@pytest.fixture
def unrendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rendering takes most of the time."""
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **_: file.write(b"a figure"))


@pytest.mark.usefixtures("unrendered")
def test_a_running_training_has_time_steps_and_curves(tmp_path: Path) -> None:
    training(status="running").write(tmp_path / "torch.h5")
    assert [file.name for file in draw_training(tmp_path)] == ["time_steps.png", "curves.png"]


def test_extremes_draw_without_warnings(tmp_path: Path) -> None:
    still = training(iterations=0, layers=1)
    still = replace(
        still,
        picture=still.picture
        | {
            "grid_prediction": np.ones((7, 7)),
            "prediction": np.ones(10),
            "c": np.ones(10),
            "trajectories": np.zeros((2, 10, 2)),
        },
        history=still.history | {"objective": np.zeros(1)},
    )
    still.write(tmp_path / "torch.h5")
    assert len(draw_training(tmp_path)) == 4


def test_titles() -> None:
    assert run_title(training(layers=1)) == "donut2d, odenet, euler, 1 layer"
    assert run_title(training(d=3)) == "donut2d, odenet, euler, 3 layers, d = 3"


def test_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected a training file: torch\.h5 or flux\.h5, found none"):
        draw_training(tmp_path)


def test_sides_of_different_trainings(tmp_path: Path) -> None:
    training("torch").write(tmp_path / "torch.h5")
    training("flux", seed=2).write(tmp_path / "flux.h5")
    with pytest.raises(InputError, match=r"flux\.h5, setting seed: expected 1 as on .* PyTorch, found 2"):
        read_trainings(tmp_path)


def test_settings_that_no_training_has(tmp_path: Path) -> None:
    training(dataset="moons").write(tmp_path / "torch.h5")
    with pytest.raises(InputError, match=r"torch\.h5, attribute settings .*dataset\): .* found 'moons'"):
        read_trainings(tmp_path)


def test_a_file_of_another_side(tmp_path: Path) -> None:
    training("flux").write(tmp_path / "torch.h5")
    with pytest.raises(InputError, match=r"attribute side: expected 'torch', found 'flux'"):
        read_trainings(tmp_path)


@pytest.mark.parametrize(
    ("path", "array", "message"),
    [
        ("picture/trajectories", np.zeros((2, 10, 4)), r"shape \(4, 10, 2\), found shape \(2, 10, 4\)"),
        ("picture/grid_prediction", np.zeros((7, 6)), r"shape \(7, 7\), found shape \(7, 6\)"),
        ("params/dt", np.zeros(2), r"shape \(3,\), found shape \(2,\)"),
        ("history/accuracy_test", np.zeros(1), r"shape \(3,\), found shape \(1,\)"),
    ],
)
def test_misshapen_arrays(tmp_path: Path, path: str, array: Any, message: str) -> None:
    group, name = path.split("/")
    good = training()
    replace(good, **{group: getattr(good, group) | {name: array}}).write(tmp_path / "torch.h5")
    with pytest.raises(InputError, match=f"/{path}: expected {message}"):
        read_trainings(tmp_path)


@pytest.mark.usefixtures("unrendered")
def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    training().write(tmp_path / "torch.h5")
    (tmp_path / "decision.png").mkdir()
    with pytest.raises(InputError, match=r"decision\.png: expected a place to write to"):
        draw_training(tmp_path)
    assert not list(tmp_path.glob(".*"))


def test_no_framework_and_no_global_figures_are_loaded() -> None:
    program = "import sys, twingrad.report.write; print({'torch', 'juliacall', 'matplotlib.pyplot'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
