"""Trainings on images, drawn and on the page: what is shown, what is said to be missing, and what is refused."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from test_page import text, write_page
from test_text_report import VERSIONS, cut, flux, put, words
from twingrad.data.images import Images, open_images
from twingrad.errors import InputError
from twingrad.format import Checkpoint, read_checkpoint
from twingrad.report import figures
from twingrad.report.classified import Classified, from_reply, read_classified, weights_digest, write_classified
from twingrad.report.image_figures import (
    COLUMNS,
    confidence_text,
    confusion_matrices,
    draw_classified,
    draw_image_training,
    image_curves,
    misclassified,
    read_image_trainings,
    run_sizes,
    run_title,
)
from twingrad.report.text_figures import draw_text_training
from twingrad.specs import ResNetConfig
from twingrad.training.classifier import evaluate_classifier, initial_params, train_classifier
from twingrad.training.settings import classifier_settings, preset

TINY = {"hidden": [4], "batch": 2, "iterations": 6, "evaluate_every": 3, "evaluation_images": 20}
NASTY = "<script>&$x^"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six steps on the digits."""
    folder = tmp_path_factory.mktemp("trained")
    settings = classifier_settings("mlp", {**preset("mlp", "cpu"), **TINY})
    train_classifier("mlp", settings, None, folder, VERSIONS, lambda state: None)
    return folder


@pytest.fixture(scope="module")
def trained(folder: Path) -> Checkpoint:
    return read_checkpoint(folder / "torch" / "last.h5")


@pytest.fixture(scope="module")
def images(folder: Path) -> Images:
    return open_images(None, folder)


@pytest.fixture(scope="module")
def reply(folder: Path) -> dict[str, Any]:
    """What a worker answers about all test images."""
    found = evaluate_classifier(folder / "torch" / "last.h5", None, folder, "float32", "cpu")
    lists = {name: getattr(found, name).tolist() for name in ("labels", "predictions", "confidences")}
    return {"loss": found.loss, "accuracy": found.accuracy, **lists}


@pytest.fixture(scope="module")
def torch_side(reply: dict[str, Any], trained: Checkpoint, images: Images) -> Classified:
    return from_reply(reply, "torch", trained, images, VERSIONS)


@pytest.fixture(scope="module")
def flux_side(reply: dict[str, Any], trained: Checkpoint, images: Images) -> Classified:
    """The same predictions."""
    return from_reply(reply, "flux", flux(trained), images, VERSIONS)


@pytest.fixture(scope="module")
def other_side(reply: dict[str, Any], trained: Checkpoint, images: Images) -> Classified:
    """Every thirtieth image is taken for the class after its own, all others are right."""
    labels = np.array(reply["labels"])
    predictions = (labels + (np.arange(len(labels)) % 30 == 2)) % 10
    answer = {**reply, "predictions": predictions.tolist(), "accuracy": float(np.mean(predictions == labels))}
    return from_reply(answer, "flux", flux(trained), images, VERSIONS)


@pytest.fixture(autouse=True)
def _coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "DPI", 40)


@pytest.fixture
def unrendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rendering takes most of the time."""
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **_: file.write(b"a figure"))


def resnet(of: Checkpoint, **changes: Any) -> Checkpoint:
    """A narrow ResNet-20 with the history of another training."""
    settings = {**preset("resnet", "cpu"), "seed": 1, "width": 1, **changes}
    shared = {"iterations": 6, "evaluate_every": 3}
    config = ResNetConfig(variant="resnet20", in_channels=1, width=1, residual=settings["residual"])
    params = {name: array.astype(np.float32) for name, array in initial_params("resnet", config, 1).items()}
    moments = {"first_moment": {}, "second_moment": {}}
    return replace(of, model="resnet", config=config, params=params, settings={**settings, **shared}, **moments)


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_two_sides_in_one_figure(tmp_path: Path, trained: Checkpoint) -> None:
    file = draw_image_training(put(tmp_path, trained, flux(trained)))
    assert file == tmp_path / "curves.png"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "flux", "torch"]
    pixels = imread(file)
    assert pixels.shape[1] > 12 * figures.DPI
    assert pixels[..., :3].std() > 0.03


def test_what_the_figure_says(trained: Checkpoint) -> None:
    figure = image_curves([trained, flux(trained)])
    said = words(figure)
    assert (
        "MLP on TwinGrad's digits\n784-4-10, sigmoid, cross-entropy, batch 2, SGD, 3,190 parameters, float32\n" in said
    )
    assert "Frame 3.4, Tongue 1.2; Frame 3.4, Tongue 1.2" in said
    for name in ("PyTorch", "Flux.jl"):
        for curve in ("loss of each batch", "training images", "test images", "norm and rate", "images per second"):
            assert f"{curve}, {name}" in said
    assert len(figure.legends[0].get_texts()) == 10
    assert "nats per image" in said
    assert "percent of the images" in said
    assert "cut to" not in said
    assert "no step yet" not in said


def test_the_curves_are_those_of_the_file(trained: Checkpoint) -> None:
    history = trained.history
    loss, error, norm, speed, rate = image_curves([trained]).axes
    assert loss.get_yscale() == error.get_yscale() == norm.get_yscale() == "log"
    assert speed.get_ylim()[0] == rate.get_ylim()[0] == 0
    expected = [
        (loss, [history["loss"], history["loss_train"], history["loss_test"]]),
        (error, [100 * (1 - history["accuracy_train"]), 100 * (1 - history["accuracy_test"])]),
        (norm, [history["gradient_norm"]]),
        (rate, [history["learning_rate"]]),
        (speed, [2 / history["seconds"]]),
    ]
    for panel, curves in expected:
        assert len(panel.lines) == len(curves)
        for line, curve in zip(panel.lines, curves, strict=True):
            np.testing.assert_allclose(line.get_ydata(), curve, rtol=1e-12)
    assert list(loss.lines[2].get_xdata()) == list(error.lines[0].get_xdata()) == [0, 3, 6]


def test_equal_curves_remain_both_visible(trained: Checkpoint) -> None:
    for panel in image_curves([trained, flux(trained)]).axes:
        half = len(panel.lines) // 2
        for below, above in zip(panel.lines[:half], panel.lines[half:], strict=True):
            np.testing.assert_array_equal(below.get_ydata(), above.get_ydata())
            assert below.get_linewidth() > 2 * above.get_linewidth()
            assert (below.get_linestyle(), above.get_linestyle()) == ("-", "--")
            assert below.get_color() != above.get_color()


def test_error_rates_of_zero_are_on_the_axis(trained: Checkpoint) -> None:
    right = {"accuracy_train": np.array([0.1, 0.95, 1.0]), "accuracy_test": np.array([0.1, 0.9, 0.99])}
    error = image_curves([flux(trained, **right)]).axes[1]
    assert [label.get_text() for label in error.get_yticklabels()] == ["0", "1", "2", "5", "10", "20", "50", "100"]
    assert error.get_ylim()[0] < 0
    perfect = dict.fromkeys(("accuracy_train", "accuracy_test"), np.ones(3))
    assert image_curves([flux(trained, **perfect)]).axes[1].get_yscale() == "linear"


def test_wide_axes_have_powers_of_ten(trained: Checkpoint) -> None:
    figure = image_curves([flux(trained, gradient_norm=np.logspace(-6, 3, 6))])
    figure.draw_without_rendering()
    norm = figure.axes[2]
    assert 2 <= len([tick for tick in norm.get_yticks() if 1e-6 <= tick <= 1e3]) <= 12


def test_narrow_axes_have_more_than_one_number(trained: Checkpoint) -> None:
    figure = image_curves([flux(trained, gradient_norm=np.linspace(1.1, 4.2, 6))])
    figure.draw_without_rendering()
    norm = figure.axes[2]
    assert [tick for tick in norm.get_yticks() if 1.1 <= tick <= 4.2] == [2, 3, 4]


def test_hardly_begun(tmp_path: Path, trained: Checkpoint) -> None:
    begun = cut(trained, 0, 0)
    draw_image_training(put(tmp_path, begun))
    assert words(image_curves([begun, flux(begun)])).count("no step yet") == 3
    assert words(image_curves([cut(trained, 0, 1)])).count("no step yet") == 3
    assert words(image_curves([begun, flux(cut(trained, 1, 1))])).count("no step yet") == 0


def test_titles(trained: Checkpoint) -> None:
    nameless = replace(trained, data={})
    assert run_title(nameless) == "MLP on images without a name"
    described = {"pad": 2, "flip": True, "optimizer": "adamw", "accumulation": 3, "loss": "mse"}
    other = replace(trained, settings={**trained.settings, **described})
    assert "batch 2 × 3, AdamW, shifts up to 2, mirror images, 3,190 parameters" in run_sizes(other)
    squared = replace(trained, config=trained.config.model_copy(update={"loss": "mse"}))
    assert "squared error per image" in words(image_curves([squared]))


def test_a_residual_network(trained: Checkpoint) -> None:
    described = resnet(trained)
    learned = sum(np.size(array) for name, array in described.params.items() if "running" not in name)
    assert run_title(described) == "ResNet-20 on TwinGrad's digits"
    assert f"width 1, batch 32, SGD, shifts up to 2, {learned:,} parameters" in run_sizes(described)
    assert "width 1, without shortcuts, batch" in run_sizes(resnet(trained, residual=False))
    assert "nats per image" in words(image_curves([described]))


def test_classified_is_kept(tmp_path: Path, reply: dict[str, Any], torch_side: Classified, images: Images) -> None:
    file = write_classified(tmp_path, torch_side)
    assert file == tmp_path / "torch" / "classified.json"
    assert read_classified(tmp_path) == {"torch": torch_side}
    stored = json.loads(file.read_text())
    assert {name: stored[name] for name in reply} == reply
    assert stored["images"]["digest"] == images.digest
    assert stored["versions"] == VERSIONS
    pixels, labels = images.split("test")
    wrong = [place for place in range(len(labels)) if reply["predictions"][place] != labels[place]]
    surest = sorted(wrong, key=lambda place: -reply["confidences"][place])[:40]
    assert torch_side.wrong == len(wrong)
    assert stored["mistakes"] == surest
    np.testing.assert_array_equal(torch_side.pictures(), pixels[surest])
    assert read_classified(tmp_path / "nothing") == {}


def test_weights_digest(trained: Checkpoint) -> None:
    changed = {**trained.params, "layers.0.bias": trained.params["layers.0.bias"] + 1}
    assert weights_digest(trained) == weights_digest(flux(cut(trained, 0, 0)))
    assert weights_digest(trained) != weights_digest(replace(trained, params=changed))


def test_confusion(reply: dict[str, Any], torch_side: Classified) -> None:
    expected = np.zeros((10, 10), int)
    for label, prediction in zip(reply["labels"], reply["predictions"], strict=True):
        expected[label, prediction] += 1
    np.testing.assert_array_equal(torch_side.confusion(), expected)
    figure = confusion_matrices([torch_side])
    (panel,) = figure.axes
    shown = {tuple(map(round, reversed(cell.get_position()))): int(cell.get_text()) for cell in panel.texts}
    assert shown == {(i, j): expected[i, j] for i in range(10) for j in range(10) if expected[i, j] or i == j}
    accuracy = 100 * expected.trace() / expected.sum()
    assert panel.get_title() == f"PyTorch, after 6 iterations\naccuracy {accuracy:.2f} %, 360 images"
    assert [label.get_text() for label in panel.get_yticklabels()] == list("0123456789")
    colours = panel.images[0].get_array()
    assert np.ma.getmaskarray(colours).sum() == 10
    assert np.ma.getmaskarray(colours).diagonal().all()


def test_confusion_of_two_sides(torch_side: Classified, flux_side: Classified, other_side: Classified) -> None:
    alike = confusion_matrices([torch_side, flux_side])
    assert len(alike.axes) == 1
    assert "PyTorch and Flux.jl predict the same class of every image" in words(alike)
    assert "PyTorch and Flux.jl, after 6 iterations" in words(alike)
    apart = confusion_matrices([torch_side, other_side])
    differing = sum(a != b for a, b in zip(torch_side.predictions, other_side.predictions, strict=True))
    assert f"PyTorch and Flux.jl predict different classes of {differing} of 360 images" in words(apart)
    assert "Flux.jl, after 6 iterations\naccuracy 96.67 %, 360 images" in words(apart)
    assert apart.axes[0].images[0].get_clim() == apart.axes[1].images[0].get_clim()


def test_misclassified(other_side: Classified, images: Images) -> None:
    figure = misclassified(other_side, "Flux.jl")
    assert "misclassified by Flux.jl, 12 in all\n" in words(figure)
    pixels, labels = images.split("test")
    (panel,) = figure.axes
    assert sorted(other_side.mistakes) == list(range(2, 360, 30))
    shown = zip(panel.images, panel.texts, other_side.mistakes, strict=True)
    for number, (picture, below, place) in enumerate(shown):
        np.testing.assert_array_equal(picture.get_array(), pixels[place, 0])
        label, confidence = labels[place], confidence_text(other_side.confidences[place])
        assert below.get_text() == f"{label} → {(label + 1) % 10}\n{confidence}"
        left, right, bottom, top = picture.get_extent()
        assert (left + right) / 2 == pytest.approx(below.get_position()[0])
        assert top < bottom < below.get_position()[1]
        assert (left == 0) == (number % COLUMNS == 0)
    confidences = np.array(other_side.confidences)[other_side.mistakes]
    assert (np.diff(confidences) <= 0).all()


def test_coloured_images_and_long_names(other_side: Classified) -> None:
    classes = ["automobile", *(f"class {k}" for k in range(1, 10))]
    pictures = np.arange(12 * 3 * 4 * 5, dtype=np.uint8).reshape(12, 3, 4, 5)
    values = other_side.model_dump()
    values["pixels"] = base64.b64encode(pictures.tobytes()).decode()
    values["images"] |= {"classes": classes, "shape": [3, 4, 5]}
    coloured = Classified.model_validate(values)
    (panel,) = misclassified(coloured, NASTY).axes
    np.testing.assert_array_equal(panel.images[0].get_array(), pictures[0].transpose(1, 2, 0))
    assert "\n→ " in panel.texts[0].get_text()
    (matrix,) = confusion_matrices([coloured]).axes
    assert matrix.get_xticklabels()[0].get_rotation() == 40


def test_confidence_text() -> None:
    assert [confidence_text(part) for part in (0.1, 0.9899, 0.999, 0.99901, 1.0)] == [
        *("10.0 %", "99.0 %", "99.9 %"),
        *("> 99.9 %", "> 99.9 %"),
    ]


@pytest.mark.usefixtures("unrendered")
def test_which_figures_there_are(
    tmp_path: Path, torch_side: Classified, flux_side: Classified, other_side: Classified
) -> None:
    assert draw_classified(tmp_path, {}) == []
    files = draw_classified(tmp_path, {"torch": torch_side, "flux": other_side})
    assert names(files) == ["confusion.png", "misclassified-torch.png", "misclassified-flux.png"]
    assert sorted(names(list(tmp_path.iterdir()))) == sorted(names(files))
    files = draw_classified(tmp_path, {"torch": torch_side, "flux": flux_side})
    assert names(files) == ["confusion.png", "misclassified.png"]
    assert sorted(names(list(tmp_path.iterdir()))) == names(files)


def test_figures_of_what_was_classified(tmp_path: Path, other_side: Classified) -> None:
    for file in draw_classified(tmp_path, {"flux": other_side}):
        assert imread(file)[..., :3].std() > 0.03


@pytest.mark.usefixtures("unrendered")
def test_nothing_is_misclassified(tmp_path: Path, reply: dict[str, Any], trained: Checkpoint, images: Images) -> None:
    perfect = from_reply({**reply, "predictions": reply["labels"], "accuracy": 1.0}, "torch", trained, images, {})
    write_classified(tmp_path, perfect)
    assert names(draw_classified(tmp_path, read_classified(tmp_path))) == ["confusion.png"]


@pytest.mark.usefixtures("unrendered")
def test_the_page(tmp_path: Path, trained: Checkpoint, torch_side: Classified, other_side: Classified) -> None:
    history = trained.history
    changed = {
        "loss": history["loss"] * (1 + 1e-6 * (np.arange(6) == 3)),
        "accuracy_test": history["accuracy_test"] / 2,
    }
    other = flux(trained, **changed)
    folder = put(tmp_path / "training" / "digits", trained, other)
    write_classified(folder, torch_side)
    write_classified(folder, other_side)
    html = write_page(tmp_path).read_text("utf-8")
    said = text(html)
    assert "Trained on images" in said
    assert "MLP on TwinGrad's digits Folder training/digits : 784-4-10, sigmoid, cross-entropy, batch 2" in said
    sides = (("PyTorch", history, torch_side), ("Flux.jl", other.history, other_side))
    for title, numbers, classified in sides:
        assert f"{title}: Frame 3.4, Tongue 1.2, on P, CPU, threads: 1." in said
        losses = " ".join(f"{numbers[name][-1]:.4f}" for name in ("loss_train", "loss_test"))
        accuracies = " ".join(f"{100 * numbers[name][-1]:.2f} %" for name in ("accuracy_train", "accuracy_test"))
        everything = f"{100 * classified.accuracy:.2f} % of 360"
        speed = f"{np.median(2 / numbers['seconds']):,.0f}"
        assert f"{title} 6 of 6 complete {losses} {accuracies} {everything} {speed} " in said
    apart = 100 * (history["accuracy_test"][-1] - other.history["accuracy_test"][-1])
    differing = sum(a != b for a, b in zip(torch_side.predictions, other_side.predictions, strict=True))
    assert f"PyTorch and Flux.jl 1.0e-06 (6 steps) 1.0e-06 (6 steps) {apart:.2f} % {differing} of 360" in said
    assert "has not" not in said
    assert "does not hold" not in said
    assert "are not those of the training" not in said
    assert not re.search(r"https?://|<link|@import|url\(", html)
    assert re.findall(r'<img [^>]*alt="([^"]+)"', html) == [
        f"{what}: MLP on TwinGrad&#39;s digits, by {who}."
        for what, who in (
            ("Losses, error rates, gradients and speed", "PyTorch and Flux.jl"),
            ("Confusion matrix of the test images", "PyTorch and Flux.jl"),
            ("Misclassified test images", "PyTorch"),
            ("Misclassified test images", "Flux.jl"),
        )
    ]
    assert html.count("<table") == html.count("<caption>") == 2
    assert set(re.findall(r'href="#([^"]+)"', html)) == {"images"}


@pytest.mark.usefixtures("unrendered")
def test_notes_on_the_page(tmp_path: Path, trained: Checkpoint, other_side: Classified, images: Images) -> None:
    begun = replace(cut(trained, 0, 0), data={"images": {**trained.data["images"], "name": NASTY}})
    folder = put(tmp_path / "training" / "begun", begun)
    html = write_page(tmp_path).read_text("utf-8")
    said = text(html)
    assert f"MLP on {NASTY}" in said
    assert "<script" not in html
    assert "Flux.jl has not trained here: there is no flux/last.h5." in said
    assert "PyTorch has not classified all test images: there is no torch/classified.json." in said
    assert "PyTorch 0 of 6 running – – – – – – – 0.0 s" in said
    assert "How far the sides are apart." not in said
    elsewhere = {"digest": "0" * 64}
    later = {name: array + 1 for name, array in trained.params.items()}
    put(folder, replace(flux(trained), params=later, data={"images": {**begun.data["images"], **elsewhere}}))
    put(folder, replace(begun, data={"images": {**begun.data["images"], **elsewhere}}))
    write_classified(folder, other_side)
    said = text(write_page(tmp_path).read_text("utf-8"))
    assert "by weights of Flux.jl after 6 iterations, which flux/last.h5 does not hold." in said
    assert "The test images that Flux.jl classified, of TwinGrad's digits, are not those of the training." in said
    assert "PyTorch and Flux.jl – – – –" in said


@pytest.mark.usefixtures("unrendered")
def test_the_page_of_folders_of_several_kinds(tmp_path: Path, trained: Checkpoint) -> None:
    put(tmp_path / "training" / "mlp", trained)
    put(tmp_path / "training" / "resnet", resnet(trained))
    said = text(write_page(tmp_path).read_text("utf-8"))
    assert said.index("MLP on TwinGrad's digits Folder training/mlp") < said.index("ResNet-20 on TwinGrad's digits")
    assert "Trained on text" not in said


def test_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"torch/last\.h5 or flux/last\.h5, found none\. 'twingrad train mlp --out .*' or"
    ):
        draw_image_training(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda of: flux(of), r"torch/last\.h5, attribute side: expected 'torch', found 'flux'"),
        (
            lambda of: replace(of, status="imported", history={}),
            r"/history: expected .* 'twingrad train mlp', found none",
        ),
        (
            lambda of: replace(of, settings={**of.settings, "batch": 0}),
            r"last\.h5, attribute settings \(train mlp, batch\): expected",
        ),
        (
            lambda of: replace(of, history={**of.history, "seconds": np.zeros(6)}),
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
        read_image_trainings(tmp_path)


def test_text_and_images_are_not_taken_for_each_other(tmp_path: Path, trained: Checkpoint) -> None:
    with pytest.raises(InputError, match=r"torch/last\.h5, attribute model: expected 'gpt', found 'mlp'"):
        draw_text_training(put(tmp_path, trained))


def test_sides_of_different_trainings(tmp_path: Path, trained: Checkpoint) -> None:
    other = flux(trained)
    put(tmp_path, trained, replace(other, settings={**other.settings, "momentum": 0.5}))
    with pytest.raises(
        InputError, match=r"flux/last\.h5, setting momentum: expected 0\.9 as on .* PyTorch, found 0\.5"
    ):
        read_image_trainings(tmp_path)
    put(tmp_path, replace(other, data={"images": {**other.data["images"], "digest": "0"}}))
    with pytest.raises(InputError, match=r"flux/last\.h5, setting images: expected '[0-9a-f]{64}' as on .*, found '0'"):
        read_image_trainings(tmp_path)
    put(tmp_path, replace(resnet(trained), side="flux"))
    with pytest.raises(InputError, match=r"flux/last\.h5, setting model: expected 'mlp' as on .*, found 'resnet'"):
        read_image_trainings(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda of: {"predictions": of["predictions"][1:]}, "go together, found 360 labels and 359 predictions"),
        (lambda of: {"confidences": []}, "found 360 labels and 0 confidences"),
        (lambda of: {"labels": [10, *of["labels"][1:]]}, "found 10 classes and 10 among the labels"),
        (lambda of: {"accuracy": of["accuracy"] + 0.01}, "of the predictions are right"),
        (lambda of: {"confidences": [1.5] * 360}, r"classified\.json, confidences\.0: expected .* equal to 1"),
        (lambda of: {"mistakes": of["mistakes"][::-1]}, "mistakes that are not the surest ones"),
        (lambda of: {"pixels": of["pixels"][4:]}, "pixels that are not those of 40 images"),
        (lambda of: {"pixels": "?"}, "pixels that are not those of 40 images"),
        (lambda of: {"format_version": 2}, r"classified\.json, format_version: expected 1, found 2"),
        (lambda of: {"surprise": 1}, r"classified\.json, surprise: expected only format, .*, found 'surprise'"),
        (lambda of: {"side": "flux"}, r"classified\.json, side: expected 'torch', found 'flux'"),
    ],
)
def test_a_damaged_classification(
    tmp_path: Path, torch_side: Classified, change: Callable[[Mapping[str, Any]], dict[str, Any]], message: str
) -> None:
    file = write_classified(tmp_path, torch_side)
    stored = json.loads(file.read_text())
    file.write_text(json.dumps({**stored, **change(stored)}))
    with pytest.raises(InputError, match=message):
        read_classified(tmp_path)


def test_a_classification_that_is_no_json(tmp_path: Path, torch_side: Classified) -> None:
    file = write_classified(tmp_path, torch_side)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"torch/classified\.json: expected JSON, found something else"):
        read_classified(tmp_path)


def test_sides_that_classified_different_images(tmp_path: Path, torch_side: Classified, flux_side: Classified) -> None:
    write_classified(tmp_path, torch_side)
    elsewhere = flux_side.images.model_copy(update={"digest": "0" * 64})
    write_classified(tmp_path, flux_side.model_copy(update={"images": elsewhere}))
    with pytest.raises(
        InputError, match=r"flux/classified\.json, images: expected .* that PyTorch classified, .*, found 0{64}"
    ):
        read_classified(tmp_path)


def test_a_reply_about_other_images(reply: dict[str, Any], trained: Checkpoint, images: Images) -> None:
    with pytest.raises(InputError, match=r"side torch, reply to classify: expected the labels of the 360 test images"):
        from_reply({**reply, "labels": reply["labels"][::-1]}, "torch", trained, images, {})


@pytest.mark.usefixtures("unrendered")
def test_places_that_cannot_be_written(tmp_path: Path, trained: Checkpoint, torch_side: Classified) -> None:
    folder = put(tmp_path, trained)
    (folder / "curves.png").mkdir()
    with pytest.raises(InputError, match=r"curves\.png: expected a place to write to"):
        draw_image_training(folder)
    (folder / "torch" / "classified.json").mkdir()
    with pytest.raises(InputError, match=r"classified\.json: expected a place to write to"):
        write_classified(folder, torch_side)
