"""The mini-GPT on both sides: the same training, checkpoints that cross over, the same continuation of a text."""

from pathlib import Path

import numpy as np
import pytest

from twingrad import harness
from twingrad.comparator import relative_error
from twingrad.data.text import CharTokenizer
from twingrad.format import Checkpoint, read_checkpoint
from twingrad.sides import Worker
from twingrad.training.settings import gpt_settings, preset

SETTINGS = {
    **preset("gpt", "cpu"),
    **{"layers": 2, "heads": 2, "width": 16, "context": 12, "batch": 4, "accumulation": 2, "warmup": 5},
    **{"iterations": 40, "evaluate_every": 10, "evaluation_windows": 8, "learning_rate": 3e-3, "dtype": "float64"},
}
RUNS = {"lie": {}, "strang": {"splitting": "strang", "dt": 0.5, "tied": False, "tokenizer": "byte"}}
PATH_BOUND = 1e-10
LOSS_BOUND = 1e-12
NEW_TOKENS = 200


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text with a pattern to learn and characters of one to four bytes."""
    file = tmp_path_factory.mktemp("text") / "zählen.txt"
    lines = [f"{n} × {n} = {n * n} ≡ {n * n % 7} (mod 7) 🙂" for n in range(150)]
    file.write_text("\n".join(lines), "utf-8")
    return file


@pytest.fixture(scope="module", params=RUNS)
def trained(request: pytest.FixtureRequest, running: harness.Sides, text: Path) -> dict[str, Path]:
    """The checkpoint folders of both sides, trained alike; the names of the sides are the keys."""
    if running.recorded:
        pytest.skip("NOT RUN: needs every side live")
    settings = gpt_settings({**SETTINGS, **RUNS[request.param]}).as_json()
    folders = {}
    for name, worker in running.workers.items():
        out = text.parent / request.param
        for until in (0, None):
            worker.request("train-gpt", {"settings": settings, "text": str(text), "out": str(out), "until": until})
            if until == 0:
                (out / name / "last.h5").rename(out / f"{name}-start.h5")
        folders[name] = out / name
    return folders


def read(trained: dict[str, Path], name: str = "last") -> tuple[Checkpoint, Checkpoint]:
    torch, flux = (read_checkpoint(trained[side] / f"{name}.h5") for side in ("torch", "flux"))
    return torch, flux


def ask(worker: Worker, file: Path, prompt: list[int], **changes: object) -> list[int]:
    arguments = {"checkpoint": str(file), "prompt": prompt, "count": NEW_TOKENS, "temperature": 0.0, "top_k": 0}
    found = worker.request("generate", {**arguments, "seed": 3, "dtype": "float64", "device": "cpu", **changes})
    tokens: list[int] = found["tokens"]
    return tokens


def test_both_start_alike_to_the_last_bit(trained: dict[str, Path]) -> None:
    start = trained["torch"].parent
    torch, flux = (read_checkpoint(start / f"{name}-start.h5") for name in ("torch", "flux"))
    assert torch.iteration == flux.iteration == 0
    for name, array in torch.params.items():
        assert np.array_equal(array, flux.params[name]), name


def test_sides_follow_the_same_path(trained: dict[str, Path]) -> None:
    torch, flux = read(trained)
    assert (torch.config, torch.data, torch.settings) == (flux.config, flux.data, flux.settings)
    assert (torch.status, torch.iteration) == (flux.status, flux.iteration) == ("complete", 40)
    assert torch.history["loss"][-1] < torch.history["loss"][0] - 0.4
    assert np.array_equal(torch.history["evaluated"], flux.history["evaluated"])
    for name in ("loss", "gradient_norm", "learning_rate", "loss_train", "loss_validation"):
        assert relative_error(torch.history[name], flux.history[name]) <= PATH_BOUND, name
    for group in ("params", "first_moment", "second_moment"):
        for name, array in getattr(torch, group).items():
            assert relative_error(array, getattr(flux, group)[name]) <= PATH_BOUND, f"{group}/{name}"
    best = read(trained, "best")
    assert best[0].iteration == best[1].iteration
    assert best[0].first_moment == best[1].first_moment == {}


def test_tokens_are_the_same_file(trained: dict[str, Path], text: Path) -> None:
    torch, _ = read(trained)
    kept = list(trained["torch"].parent.glob("tokens-*.bin"))
    assert len(kept) == (1 if torch.data["tokenizer"]["kind"] == "char" else 0)
    if kept:
        tokenizer = CharTokenizer(torch.data["tokenizer"]["characters"])
        assert tokenizer.decode(np.fromfile(kept[0], "<u2")) == text.read_text("utf-8")


def test_a_checkpoint_of_one_side_loads_on_the_other(
    trained: dict[str, Path], both_live: harness.Sides, text: Path, tmp_path: Path
) -> None:
    for folder in trained.values():
        for dtype, bound in (("float64", LOSS_BOUND), ("float32", 1e-5)):
            request = {"checkpoint": str(folder / "best.h5"), "text": str(text), "folder": str(tmp_path)}
            losses = {
                name: worker.request("evaluate", {**request, "dtype": dtype, "device": "cpu"})["loss"]
                for name, worker in both_live.workers.items()
            }
            assert losses["torch"] == pytest.approx(losses["flux"], rel=bound, abs=0)


def test_both_continue_a_text_alike(trained: dict[str, Path], both_live: harness.Sides) -> None:
    """Two hundred tokens: the likeliest ones, and drawn ones."""
    for folder in trained.values():
        for changes in ({}, {"dtype": "float32"}, {"temperature": 0.8}, {"temperature": 1.3, "top_k": 5}):
            found = [
                ask(worker, folder / "best.h5", [3, 1, 4, 1, 5], **changes) for worker in both_live.workers.values()
            ]
            assert len(found[0]) == NEW_TOKENS
            assert found[0] == found[1], changes


def test_a_resumed_flux_training_is_the_uninterrupted_one(
    trained: dict[str, Path], both_live: harness.Sides, text: Path, tmp_path: Path
) -> None:
    whole = read_checkpoint(trained["flux"] / "last.h5")
    for until in (7, 10, 23, None):
        request = {"settings": dict(whole.settings), "text": str(text), "out": str(tmp_path), "until": until}
        both_live.workers["flux"].request("train-gpt", request)
    parts = read_checkpoint(tmp_path / "flux" / "last.h5")
    for group in ("params", "first_moment", "second_moment", "history"):
        for name, array in getattr(whole, group).items():
            assert name == "seconds" or np.array_equal(array, getattr(parts, group)[name]), f"{group}/{name}"
