"""Trainings on text, drawn and on the page: what is shown, what is said to be missing, and what is refused."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from test_page import text, write_page
from twingrad.errors import InputError
from twingrad.format import Checkpoint, read_checkpoint
from twingrad.report import figures, text_figures
from twingrad.report.curves import smoothed
from twingrad.report.text_figures import draw_text_training, read_text_trainings, text_curves
from twingrad.report.text_page import SAMPLE_LENGTH
from twingrad.training.gpt import train_gpt
from twingrad.training.settings import gpt_settings, preset

TINY = {"layers": 1, "heads": 1, "width": 8, "context": 8, "batch": 2, "iterations": 6, "evaluate_every": 3}
VERSIONS = {"framework": "Frame 3.4", "language": "Tongue 1.2", "processor": "P", "device": "no GPU", "threads": 1}
NASTY = "<script>&$x^"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Six steps on a text whose name is meant to do harm."""
    folder = tmp_path_factory.mktemp("trained")
    file = folder / NASTY
    file.write_text("".join(f"{k} and {k * k}, " for k in range(200)))
    settings = gpt_settings({**preset("gpt", "cpu"), **TINY, "evaluation_windows": 4})
    return train_gpt(settings, file, folder, VERSIONS, lambda state: None)


@pytest.fixture(autouse=True)
def _coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "DPI", 40)


@pytest.fixture
def unrendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rendering takes most of the time."""
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **_: file.write(b"a figure"))


def put(folder: Path, *trainings: Checkpoint) -> Path:
    """The folder as `twingrad train gpt --out FOLDER` leaves it."""
    for training in trainings:
        (folder / training.side).mkdir(parents=True, exist_ok=True)
        training.write(folder / training.side / "last.h5")
    return folder


def flux(of: Checkpoint, **history: Any) -> Checkpoint:
    """The same training on the other side, with another history where told."""
    return replace(of, side="flux", history=dict(of.history) | history)


def cut(of: Checkpoint, steps: int, evaluations: int) -> Checkpoint:
    """The training as it was after so many steps and evaluations."""
    per_step = ("loss", "learning_rate", "gradient_norm", "seconds")
    kept = {name: values[: steps if name in per_step else evaluations] for name, values in of.history.items()}
    return replace(of, iteration=steps, status="running", history=kept)


def longer(of: Checkpoint, steps: int) -> Checkpoint:
    """A training of as many steps, with an invented history."""
    history = {
        "loss": 1 + np.exp(-np.arange(steps) / 30),
        "learning_rate": np.full(steps, 1e-3),
        "gradient_norm": np.ones(steps),
        "seconds": np.full(steps, 0.01),
        "evaluated": np.arange(0, steps + 1, 50),
    }
    history |= dict.fromkeys(("loss_train", "loss_validation"), 2.0 - history["evaluated"] / steps)
    return replace(of, iteration=steps, settings={**of.settings, "iterations": steps}, history=history)


def words(figure: Figure) -> str:
    """Everything that a figure says."""
    found = [figure._suptitle.get_text()] if figure._suptitle else []
    found += [entry.get_text() for legend in figure.legends for entry in legend.get_texts()]
    for panel in figure.axes:
        found += [panel.get_title(), panel.get_xlabel(), panel.get_ylabel(), *(text.get_text() for text in panel.texts)]
    return "\n".join(found)


def test_two_sides_in_one_figure(tmp_path: Path, trained: Checkpoint) -> None:
    file = draw_text_training(put(tmp_path, trained, flux(trained)))
    assert file == tmp_path / "curves.png"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "flux", "torch"]
    pixels = imread(file)
    assert pixels.shape[1] > 12 * figures.DPI
    assert pixels[..., :3].std() > 0.03
    assert b"Software" not in file.read_bytes()


def test_what_the_figure_says(trained: Checkpoint) -> None:
    figure = text_curves([trained, flux(trained)])
    said = words(figure)
    assert f"Mini-GPT on {NASTY} by characters\n1 layer, 1 head, width 8, context 8, batch 2, 1,072 parameters" in said
    assert "Frame 3.4, Tongue 1.2; Frame 3.4, Tongue 1.2" in said
    for name in ("PyTorch", "Flux.jl"):
        for curve in ("training loss", "validation loss", "norm and rate", "tokens per second"):
            assert f"{curve}, {name}" in said
    assert "nats per token" in said
    assert "before they are cut to 1" in said
    assert "iteration" in said
    assert "conditions" not in said
    assert "no step yet" not in said
    loss, norm, speed, rate = figure.axes
    assert speed.get_ylim()[0] == rate.get_ylim()[0] == 0
    assert norm.get_yscale() == "log"
    validation = next(line for line in loss.lines if str(line.get_label()).startswith("validation"))
    assert list(validation.get_xdata()) == [0, 3, 6]
    np.testing.assert_array_equal(validation.get_ydata(), trained.history["loss_validation"])


def test_equal_curves_remain_both_visible(trained: Checkpoint) -> None:
    for panel in text_curves([trained, flux(trained)]).axes:
        below, above = panel.lines[0], panel.lines[-1]
        assert below.get_linewidth() > 2 * above.get_linewidth()
        assert (below.get_linestyle(), above.get_linestyle()) == ("-", "--")
        assert below.get_color() != above.get_color()


def test_long_trainings_are_smoothed(trained: Checkpoint) -> None:
    figure = text_curves([longer(trained, 400)])
    assert "pale: each step; line: mean of 11" in words(figure)
    assert "median and quartiles of 11 steps" in words(figure)
    assert len(figure.axes[0].lines) == 3
    assert len(figure.axes[2].lines[0].get_xdata()) == 37


def test_smoothed() -> None:
    np.testing.assert_allclose(smoothed(np.arange(9.0) ** 2, 1), np.arange(9.0) ** 2)
    line = smoothed(np.arange(9.0), 5)
    np.testing.assert_allclose(line, [0, 1, 2, 3, 4, 5, 6, 6.5, 7])
    assert smoothed(np.zeros(0), 5).shape == (0,)


def test_speeds_of_unlike_machines(trained: Checkpoint) -> None:
    other = replace(flux(trained), versions=VERSIONS | {"processor": "Q"})
    assert "not under the same conditions" in words(text_curves([trained, other]))


def test_hardly_begun_and_a_name_that_the_font_lacks(tmp_path: Path, trained: Checkpoint) -> None:
    begun = cut(trained, 0, 0)
    begun = replace(begun, data={**trained.data, "text": {"name": "源氏\n物語" + "x" * 99}})
    draw_text_training(put(tmp_path, begun))
    assert words(text_curves([begun, flux(begun)])).count("no step yet") == 3
    assert words(text_curves([begun, flux(cut(trained, 1, 1))])).count("no step yet") == 0
    assert text_figures.text_name(begun) == "源氏 物語" + "x" * 55 + "…"
    assert text_figures.run_title(replace(trained, data={})) == "a text without a name by characters"


@pytest.mark.usefixtures("unrendered")
def test_the_page(tmp_path: Path, trained: Checkpoint) -> None:
    loss, validation = trained.history["loss"], trained.history["loss_validation"]
    other = flux(trained, loss=loss * (1 + 1e-6 * (np.arange(6) == 3)), loss_validation=validation + 1e-3)
    put(tmp_path / "training" / "numbers", trained, other)
    html = write_page(tmp_path).read_text("utf-8")
    said = text(html)
    assert "Trained on text" in said
    assert f"{NASTY} by characters Folder training/numbers : 1 layer, 1 head, width 8, context 8, batch 2" in said
    for title, values in (("PyTorch", validation), ("Flux.jl", validation + 1e-3)):
        assert f"{title}: Frame 3.4, Tongue 1.2, on P, CPU, threads: 1." in said
        best, at = values.min(), 3 * int(values.argmin())
        numbers = f"{trained.history['loss_train'][-1]:.4f} {values[-1]:.4f} {best:.4f} at {at}"
        assert f"{title} 6 of 6 complete {numbers}" in said
    middle = np.median(16 / trained.history["seconds"])
    assert f" {middle:,.0f} " in said
    assert re.search(r" [\d,]+ – [\d,]+ 0\.\d s 1,072 ", said)
    assert "PyTorch and Flux.jl 1.0e-06 (6 steps) 1.0e-06 (6 steps) 1.0e-03" in said
    assert "not to be compared" not in said
    assert "has not trained here" not in said
    assert "There is no text by PyTorch and Flux.jl: torch/sample.txt and flux/sample.txt" in said
    assert "<script" not in html
    assert not re.search(r"https?://|<link|@import|url\(", html)
    assert re.findall(r'src="(data:image/png;base64,)', html) == ["data:image/png;base64,"]
    assert len(re.findall(r'<img [^>]*alt="[^"]+"', html)) == 1
    assert html.count("<table") == html.count("<caption>") == 2
    assert set(re.findall(r'href="#([^"]+)"', html)) <= set(re.findall(r'id="([^"]+)"', html))


@pytest.mark.usefixtures("unrendered")
def test_the_first_steps_of_long_trainings(tmp_path: Path, trained: Checkpoint) -> None:
    long = longer(trained, 150)
    loss = long.history["loss"].copy()
    loss[9] *= 1 + 1e-9
    loss[99] *= 1 + 1e-7
    loss[100] *= 2
    put(tmp_path / "training" / "long", long, replace(flux(long, loss=loss), versions=VERSIONS | {"processor": "Q"}))
    said = text(write_page(tmp_path).read_text("utf-8"))
    assert "PyTorch and Flux.jl 1.0e-09 1.0e-07 0" in said
    assert "The speeds are not to be compared: the processor differed (PyTorch: P; Flux.jl: Q)." in said


@pytest.mark.usefixtures("unrendered")
def test_one_side_and_hardly_begun(tmp_path: Path, trained: Checkpoint) -> None:
    put(tmp_path / "training" / "begun", cut(trained, 0, 0))
    (tmp_path / "training" / "empty").mkdir()
    said = text(write_page(tmp_path).read_text("utf-8"))
    assert "Flux.jl has not trained here: there is no flux/last.h5." in said
    assert "PyTorch 0 of 6 running – – – – – 0.0 s 1,072" in said
    assert "How far the sides are apart." not in said
    assert "empty" not in said
    put(tmp_path / "training" / "begun", flux(cut(trained, 0, 0)))
    assert "PyTorch and Flux.jl – – –" in text(write_page(tmp_path).read_text("utf-8"))


@pytest.mark.usefixtures("unrendered")
def test_samples(tmp_path: Path, trained: Checkpoint) -> None:
    folder = put(tmp_path / "training" / "numbers", trained, flux(trained))
    (folder / "torch" / "sample.txt").write_bytes(b"\n\n<b>one\r\n\x00\xff " + b"x" * 9000)
    html = write_page(tmp_path).read_text("utf-8")
    shown = re.findall(r'<pre class="sample">(.*?)</pre>', html, re.DOTALL)
    assert shown == ["&lt;b&gt;one\n\ufffd\ufffd " + "x" * (SAMPLE_LENGTH - 10)]
    assert f"The first {SAMPLE_LENGTH:,} characters." in text(html)
    assert "There is no text by Flux.jl: flux/sample.txt" in text(html)
    (folder / "flux" / "sample.txt").write_text("\n\n<b>two")
    said = text(write_page(tmp_path).read_text("utf-8"))
    assert "The first 3 characters of both texts are the same." in said
    assert "There is no text" not in said
    shutil.copy(folder / "torch" / "sample.txt", folder / "flux")
    assert "Both texts are the same, as far as they are shown." in text(write_page(tmp_path).read_text("utf-8"))


def test_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"a checkpoint: torch/last\.h5 or flux/last\.h5, found none\. 'twingrad train"
    ):
        draw_text_training(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda of: flux(of), r"torch/last\.h5, attribute side: expected 'torch', found 'flux'"),
        (lambda of: replace(of, status="imported", history={}), r"/history: expected the history .* 'imported'"),
        (lambda of: replace(of, settings={"batch": 2}), r"last\.h5, attribute settings \(.*\): expected .*"),
        (
            lambda of: replace(of, history=dict(of.history) | {"seconds": np.zeros(6)}),
            r"/history/seconds: expected positive numbers, found 0\.0",
        ),
    ],
)
def test_unfit_checkpoints(
    tmp_path: Path, trained: Checkpoint, change: Callable[[Checkpoint], Checkpoint], message: str
) -> None:
    (tmp_path / "torch").mkdir()
    change(trained).write(tmp_path / "torch" / "last.h5")
    with pytest.raises(InputError, match=message):
        read_text_trainings(tmp_path)


def test_sides_of_different_trainings(tmp_path: Path, trained: Checkpoint) -> None:
    other = flux(trained)
    put(tmp_path, trained, replace(other, settings={**other.settings, "seed": 2}))
    with pytest.raises(InputError, match=r"flux/last\.h5, setting seed: expected 1 as on .* PyTorch, found 2"):
        read_text_trainings(tmp_path)
    put(tmp_path, replace(other, data={**other.data, "text": {"name": "another", "digest": "0"}}))
    with pytest.raises(InputError, match=r"flux/last\.h5, setting text: expected '[0-9a-f]{64}' as on .*, found '0'"):
        read_text_trainings(tmp_path)


def test_a_damaged_file_is_named(tmp_path: Path, trained: Checkpoint) -> None:
    folder = put(tmp_path / "training" / "one", trained)
    (folder / "flux").mkdir()
    (folder / "flux" / "last.h5").write_bytes(b"no HDF5")
    with pytest.raises(InputError, match=r"flux/last\.h5: expected a whole HDF5 file"):
        write_page(tmp_path)
    assert not (tmp_path / "index.html").exists()


@pytest.mark.usefixtures("unrendered")
def test_places_that_cannot_be_read_or_written(tmp_path: Path, trained: Checkpoint) -> None:
    folder = put(tmp_path / "training" / "one", trained)
    (folder / "torch" / "sample.txt").mkdir()
    with pytest.raises(InputError, match=r"torch/sample\.txt: expected a readable file"):
        write_page(tmp_path)
    (folder / "curves.png").mkdir()
    with pytest.raises(InputError, match=r"curves\.png: expected a place to write to"):
        draw_text_training(folder)
    assert not list(folder.glob(".*"))
    assert read_checkpoint(folder / "torch" / "last.h5").side == "torch"
