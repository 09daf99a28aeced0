"""Training the GPT: resumed equals uninterrupted, batches and losses as specified, failures that leave whole files."""

import dataclasses
import errno
import math
import re

import h5py
import numpy as np
import pytest
import torch

from twingrad.data.philox import Stream
from twingrad.errors import InputError, SideError
from twingrad.fixtures.control_net import ControlNetRecipe
from twingrad.format import Checkpoint, read_checkpoint
from twingrad.specs import MODELS, GPTConfig
from twingrad.training import gpt as training
from twingrad.training import run
from twingrad.training.settings import gpt_settings

WORDS = ("the ", "cat ", "sat ", "on ", "a ", "mat.\n", "Größe ")
TEXT = "".join(WORDS[int(word) % 7] for word in Stream(1, "text").words(800))
CHARACTERS = "".join(sorted(set(TEXT)))
IDS = np.array([CHARACTERS.index(character) for character in TEXT])
# Of seed 1, a vocabulary of 5, context 4, 2 layers, width 4: drawn once, to be the same on every machine.
PINNED_EMBEDDING = [-0.010991483691009525, -0.004028141415775586]
PINNED_PROJECTION = [-0.009905459566283244, -0.004531233471116964]
TINY = {
    **{"layers": 1, "heads": 2, "width": 8, "context": 8, "batch": 2, "iterations": 8},
    **{"learning_rate": 1e-2, "min_learning_rate": 1e-3, "warmup": 2, "beta1": 0.9, "beta2": 0.95},
    **{"weight_decay": 0.1, "clip": 1.0, "evaluate_every": 5, "evaluation_windows": 5},
}


def trainer(folder):
    """Trains in the folder `name` inside `folder`, with changes of the tiny settings."""
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")

    def run(name, *, until=None, progress=lambda state: None, text="text.txt", **changes):
        settings = gpt_settings({**TINY, **changes})
        return training.train_gpt(settings, folder / text, folder / name, {"l": "Python"}, progress, until=until)

    return run


@pytest.fixture
def train(tmp_path):
    return trainer(tmp_path)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Trains in one go, once for each change of the tiny settings: (last checkpoint, folder)."""
    folder, done = tmp_path_factory.mktemp("uninterrupted"), {}
    run = trainer(folder)

    def once(**changes):
        name = str(sorted(changes.items()))
        if name not in done:
            done[name] = run(name, **changes), folder / name / "torch"
        return done[name]

    return once


@pytest.fixture
def always_save(monkeypatch):
    """Makes a training save and show its progress after every step."""
    monkeypatch.setattr(run, "CHECKPOINT_SECONDS", -1.0)
    monkeypatch.setattr(run, "PROGRESS_SECONDS", -1.0)


def assert_equal(a, b):
    for group in ("params", "first_moment", "second_moment", "history"):
        one, two = getattr(a, group), getattr(b, group)
        assert one.keys() == two.keys()
        for name in one.keys() - {"seconds"}:
            assert one[name].dtype == two[name].dtype
            assert np.array_equal(one[name], two[name]), f"{group}/{name}"
    for name in ("model", "config", "data", "side", "dtype", "settings", "iteration", "status"):
        assert getattr(a, name) == getattr(b, name), name


def files(folder):
    return sorted(file.name for file in folder.iterdir())


def slow_loss(params, config, starts, ids):
    """Mean cross-entropy over the samples that start at `starts`, one at a time, by a softmax in NumPy."""
    model, losses = training.GPT(config, {name: torch.tensor(array) for name, array in params.items()}), []
    for start in starts:
        with torch.no_grad():
            logits = model(torch.tensor(ids[None, start : start + config.context])).numpy()[0]
        for scores, target in zip(logits, ids[start + 1 : start + config.context + 1], strict=True):
            losses.append(np.log(np.exp(scores).sum()) - scores[target])
    return float(np.mean(losses))


# ---- initial weights


def test_initial_weights_are_gpt2s():
    config = GPTConfig(vocab=30, context=16, layers=8, heads=2, width=32)
    params = training.initial_params(config, seed=1)
    assert list(params) == list(MODELS["gpt"].params(config))
    for name, array in params.items():
        if array.ndim == 1:
            assert np.all(array == (1.0 if "ln_" in name and name.endswith("weight") else 0.0)), name
        else:
            sigma = 0.005 if name.endswith(("attn.c_proj.weight", "mlp.c_proj.weight")) else 0.02
            assert array.std() == pytest.approx(sigma, rel=0.1), name
            assert abs(array.mean()) < 4 * sigma / math.sqrt(array.size), name
            assert np.array_equal(array.ravel()[:3], sigma * Stream(1, f"init/{name}").normal(3)), name


def test_initial_weights_never_change():
    params = training.initial_params(GPTConfig(vocab=5, context=4, layers=2, heads=1, width=4), seed=1)
    assert params["wte.weight"][1, :2].tolist() == PINNED_EMBEDDING
    assert params["h.1.mlp.c_proj.weight"][3, -2:].tolist() == PINNED_PROJECTION


# ---- what is computed


@pytest.mark.parametrize(("tokenizer", "accumulation"), [("char", 1), ("byte", 3)])
def test_losses_and_batches_are_as_specified(train, tokenizer, accumulation):
    """With a vanishing learning rate, every loss is one of the initial weights, recomputed here slowly."""
    changes = {"learning_rate": 1e-30, "min_learning_rate": 0.0, "dtype": "float64", "seed": 5}
    done = train("a", iterations=4, evaluate_every=3, accumulation=accumulation, tokenizer=tokenizer, **changes)
    ids = IDS if tokenizer == "char" else np.frombuffer(TEXT.encode(), np.uint8).astype(np.int64)
    assert done.config.vocab == (len(CHARACTERS) if tokenizer == "char" else 256)
    initial, border, context = training.initial_params(done.config, 5), len(ids) * 9 // 10, 8
    words = [int(word) for word in Stream(5, "batch/train").words(4 * 2 * accumulation)]
    starts = np.array([word % (border - context) for word in words]).reshape(4, 2 * accumulation)
    expected = [slow_loss(initial, done.config, row, ids[:border]) for row in starts]
    assert done.history["loss"] == pytest.approx(expected, rel=1e-13)
    assert done.history["evaluated"].tolist() == [0, 3, 4]
    for name, part in (("loss_train", ids[:border]), ("loss_validation", ids[border:])):
        room = (len(part) - 1) // context
        expected = slow_loss(initial, done.config, [context * (j * room // 5) for j in range(5)], part)
        assert done.history[name] == pytest.approx([expected] * 3, rel=1e-13)


def test_accumulated_batches_are_one_batch(train):
    one, two, four = (
        train(str(parts), batch=4 // parts, accumulation=parts, dtype="float64", seed=3) for parts in (1, 2, 4)
    )
    for other in (two, four):
        for name in ("loss", "gradient_norm", "loss_train", "loss_validation"):
            assert other.history[name] == pytest.approx(one.history[name], rel=1e-12)
        for name, array in one.params.items():
            assert np.abs(other.params[name] - array).max() < 1e-11, name
    assert not np.array_equal(one.params["wte.weight"], two.params["wte.weight"])


def test_the_loss_falls_below_that_of_single_characters(train):
    done = train("a", iterations=80, batch=8, width=16, evaluate_every=80, evaluation_windows=0)
    shares = np.bincount(IDS) / IDS.size
    alone = -np.sum(shares * np.log(shares))
    assert done.history["loss_validation"][0] == pytest.approx(math.log(len(CHARACTERS)), rel=0.02)
    assert done.history["loss_validation"][-1] < 0.75 * alone
    assert done.history["loss_train"][-1] < 0.75 * alone


@pytest.mark.parametrize(
    "changes",
    [
        {"splitting": "strang", "dt": 0.5},
        {"tied": False, "layers": 2, "clip": 0.0, "weight_decay": 0.0, "warmup": 0},
        {"dtype": "bfloat16", "context": 1, "batch": 1},
    ],
    ids=str,
)
def test_other_settings_train_and_go_on(train, changes):
    train("a", until=3, **changes)
    done = train("a", **changes)
    start = training.initial_params(done.config, 1)
    for name, array in done.params.items():
        assert array.dtype == np.float32
        if not name.endswith("bias"):
            assert not np.allclose(array, start[name], atol=1e-4), name
    assert done.history["loss_validation"][-1] < done.history["loss_validation"][0] - 0.01


def test_the_dtype_is_that_of_the_weights(train):
    kinds = {dtype: train(dtype, dtype=dtype, until=1) for dtype in ("float32", "float64", "bfloat16")}
    assert [kinds[name].dtype for name in kinds] == ["float32", "float64", "float32"]
    losses = [float(kinds[name].history["loss"][0]) for name in kinds]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert losses[2] == pytest.approx(losses[1], rel=1e-2)
    assert abs(losses[0] - losses[1]) > 1e-12
    assert abs(losses[2] - losses[1]) > 1e-6


# ---- files and history


def test_files_and_history_are_complete(train, tmp_path):
    shown = []
    done = train("a", evaluate_every=4, progress=shown.append)
    assert_equal(read_checkpoint(tmp_path / "a" / "torch" / "last.h5"), done)
    assert files(tmp_path / "a" / "torch") == ["best.h5", "last.h5"]
    assert (done.model, done.side, done.dtype, done.status, done.iteration) == (
        "gpt",
        "torch",
        "float32",
        "complete",
        8,
    )
    assert done.data["tokenizer"] == {"kind": "char", "characters": CHARACTERS}
    assert done.data["text"]["name"] == "text.txt"
    assert done.settings == gpt_settings({**TINY, "evaluate_every": 4}).as_json()
    assert done.history["evaluated"].tolist() == [0, 4, 8]
    assert {name: array.shape for name, array in done.history.items()} == {
        **dict.fromkeys(("loss", "learning_rate", "gradient_norm", "seconds"), (8,)),
        **dict.fromkeys(("evaluated", "loss_train", "loss_validation"), (3,)),
    }
    optimizer = gpt_settings(TINY).optimizer_settings()
    assert done.history["learning_rate"].tolist() == [optimizer.rate(step) for step in range(8)]
    assert np.all(done.history["seconds"] > 0)
    last = shown[-1]
    assert (last["iteration"], last["loss"]) == (8, done.history["loss"][-1])
    assert last["loss_validation"] == done.history["loss_validation"][-1]
    assert last["tokens_per_second"] == pytest.approx(8 * 2 * 8 / done.history["seconds"].sum())


def test_best_is_the_lowest_validation_loss_without_moments(train, tmp_path, monkeypatch):
    validation = [3.0, 2.5, 2.7, 2.2, 2.2, 2.3, 2.1, 2.1, 9.0]
    # A loss for each part at each of the evaluations: the training part's is not what counts.
    losses = iter([value for k, loss in enumerate(validation) for value in (1.0 - k, loss)])
    monkeypatch.setattr(training, "mean_loss", lambda *_, **__: next(losses))
    monkeypatch.setattr(run, "PROGRESS_SECONDS", -1.0)
    best, file = [], tmp_path / "a" / "torch" / "best.h5"

    def look(state):
        best.append(read_checkpoint(file).iteration if file.exists() else None)

    done = train("a", evaluate_every=1, progress=look)
    # Evaluations come before a step: after step k, those of iterations 0 to k - 1 are done, at the end all.
    assert best == [None, 1, 1, 3, 3, 3, 6, 6, 6]
    assert done.history["loss_validation"].tolist() == validation
    found = read_checkpoint(file)
    assert found.first_moment == found.second_moment == {}
    assert found.history["loss_validation"].tolist() == validation[:7]
    assert found.history["loss"].tolist() == done.history["loss"][:6].tolist()
    monkeypatch.undo()
    whole = train("b", evaluate_every=100, until=6)
    assert all(np.array_equal(array, whole.params[name]) for name, array in found.params.items())


def test_no_step_at_all(train, uninterrupted, tmp_path):
    shown = []
    start = train("a", until=0, progress=shown.append)
    assert (start.iteration, start.status, shown) == (0, "running", [])
    assert start.first_moment == start.second_moment == {}
    assert all(array.shape == (0,) for array in start.history.values())
    expected = training.initial_params(start.config, 1)
    assert all(np.array_equal(array, expected[name].astype(np.float32)) for name, array in start.params.items())
    assert files(tmp_path / "a" / "torch") == ["last.h5"]
    assert_equal(read_checkpoint(tmp_path / "a" / "torch" / "last.h5"), start)
    assert_equal(train("a"), uninterrupted()[0])


# ---- going on


IN_PARTS = {"dtype": "float64", "accumulation": 2}


@pytest.mark.parametrize("changes", [{}, IN_PARTS], ids=str)
def test_resumed_equals_uninterrupted(train, uninterrupted, tmp_path, changes):
    whole, folder = uninterrupted(**changes)
    for until in (1, 5, 7):
        part = train("parts", until=until, **changes)
        assert (part.iteration, part.status) == (until, "running")
        for name in ("loss", "learning_rate", "gradient_norm"):
            assert np.array_equal(part.history[name], whole.history[name][:until])
    assert_equal(train("parts", **changes), whole)
    for name in ("last.h5", "best.h5"):
        assert_equal(*(read_checkpoint(where / name) for where in (folder, tmp_path / "parts" / "torch")))


@pytest.mark.parametrize(("at", "changes"), [(6, IN_PARTS), (8, {})])
def test_an_interrupted_training_goes_on(train, uninterrupted, tmp_path, always_save, at, changes):
    def interrupt(state):
        if state["iteration"] == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train("parts", progress=interrupt, **changes)
    saved = read_checkpoint(tmp_path / "parts" / "torch" / "last.h5")
    assert (saved.iteration, saved.status) == (at - 1, "running")
    assert_equal(train("parts", **changes), uninterrupted(**changes)[0])


def test_what_is_finished_is_left_alone(train, tmp_path):
    def stamps():
        return [(file.stat().st_mtime_ns, file.stat().st_ino) for file in sorted((tmp_path / "a" / "torch").iterdir())]

    shown = []
    for last, later in ((3, (3, 1)), (None, (None, 3, 8, 100))):
        done, before = train("a", until=last), stamps()
        for until in later:
            assert_equal(train("a", until=until, progress=shown.append), done)
        assert stamps() == before
    assert shown == []


# ---- failures


def test_a_loss_that_is_not_finite_stops_the_training(train, tmp_path):
    with pytest.raises(SideError) as caught:
        train("a", learning_rate=1e30)
    assert re.match(
        r"training step 2: the loss is (nan|inf), the gradients' norm (nan|inf)\. The check", str(caught.value)
    )
    assert "Try a smaller --learning-rate" in str(caught.value)
    assert files(tmp_path / "a" / "torch") == ["last.h5"]
    saved = read_checkpoint(tmp_path / "a" / "torch" / "last.h5")
    assert (saved.iteration, saved.history["evaluated"].tolist()) == (0, [0])


@pytest.mark.parametrize("changes", [{"evaluate_every": 1}, {"iterations": 1}], ids=str)
def test_an_evaluation_that_is_not_finite_stops_the_training(train, tmp_path, changes):
    with pytest.raises(SideError) as caught:
        train("a", learning_rate=1e30, warmup=0, **changes)
    assert re.match(r"evaluation after step 1: the losses are (nan|inf) and (nan|inf)\. The check", str(caught.value))
    assert files(tmp_path / "a" / "torch") == ["last.h5"]
    assert read_checkpoint(tmp_path / "a" / "torch" / "last.h5").iteration == 0


def test_a_full_disk_is_one_error_and_leaves_the_earlier_checkpoint(train, uninterrupted, tmp_path):
    resource = pytest.importorskip("resource")
    train("a", until=6)
    before = {file.name: file.read_bytes() for file in (tmp_path / "a" / "torch").iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit, name in ((1000, "best"), (len(before["last.h5"]) - 9, "last")):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
        try:
            with pytest.raises(InputError) as caught:
                train("a")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        file = tmp_path / "a" / "torch" / f"{name}.h5"
        assert str(caught.value) == f"{file}: expected a place to write to, found File too large"
        assert files(tmp_path / "a" / "torch") == ["best.h5", "last.h5"]
        assert (tmp_path / "a" / "torch" / "last.h5").read_bytes() == before["last.h5"]
    read_checkpoint(tmp_path / "a" / "torch" / "best.h5")
    assert_equal(train("a"), uninterrupted()[0])


def test_a_disk_without_space_is_one_error(train, tmp_path, monkeypatch):
    train("a", until=2)
    before = (tmp_path / "a" / "torch" / "last.h5").read_bytes()

    def full(self, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(InputError, match=r"last.h5: expected a place to write to, found No space left on device$"):
        train("a", until=3)
    assert files(tmp_path / "a" / "torch") == ["last.h5"]
    assert (tmp_path / "a" / "torch" / "last.h5").read_bytes() == before


def other_model(saved):
    case = ControlNetRecipe("odenet", "kutta3", "donut2d", "small", layers=2, samples=3).make(seed=1)
    params = {name: array.astype(np.float32) for name, array in case.groups["params"].items()}
    alone = dataclasses.replace(saved, model="control_net", config=case.config, params=params, history={})
    return alone.without_moments()


def with_changes(**changes):
    return lambda saved: dataclasses.replace(saved, **changes)


ALONE = "expected the moments and the history of a training that goes on, found the model alone. Choose another --out"


@pytest.mark.parametrize(
    ("replaced", "says"),
    [
        (with_changes(side="flux"), "attribute side: expected 'torch', found 'flux'. Choose another --out"),
        (other_model, "attribute model: expected 'gpt', found 'control_net'. Choose another --out"),
        (Checkpoint.without_moments, ALONE),
        (with_changes(history={}), ALONE),
        (with_changes(data={}), "attribute data: expected the text of SHA-256"),
        (with_changes(settings={}), "setting layers: expected 1, found None. Choose another --out"),
    ],
    ids=["side", "model", "best", "no history", "no data", "no settings"],
)
def test_a_checkpoint_that_no_training_goes_on_from_is_refused(train, uninterrupted, tmp_path, replaced, says):
    file = tmp_path / "a" / "torch" / "last.h5"
    file.parent.mkdir(parents=True)
    replaced(uninterrupted()[0]).write(file)
    before = file.read_bytes()
    with pytest.raises(InputError) as caught:
        train("a")
    assert str(caught.value).startswith(str(file))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert file.read_bytes() == before


def test_another_training_in_the_folder_is_refused(train, tmp_path):
    train("a", until=2)
    file = re.escape(str(tmp_path / "a" / "torch" / "last.h5"))
    for name, other in {"seed": 2, "batch": 3, "iterations": 9, "dtype": "float64", "splitting": "strang"}.items():
        expected = (
            f"^{file}, setting {name}: expected {other!r}, found [^.]*. Choose another --out, or remove the file.$"
        )
        with pytest.raises(InputError, match=expected):
            train("a", **{name: other})
    (tmp_path / "other.txt").write_text(TEXT[::-1], encoding="utf-8")
    with pytest.raises(
        InputError, match=rf"^{file}, attribute data: expected the text of SHA-256 \w+, found \w+. Choose"
    ):
        train("a", text="other.txt")
    with h5py.File(tmp_path / "a" / "torch" / "last.h5", "r+") as h5:
        h5.attrs["format_version"] = 2
    with pytest.raises(InputError, match=rf"^{file}, attribute format_version: expected 1, found 2$"):
        train("a")
    (tmp_path / "a" / "torch" / "last.h5").write_bytes(b"\x89HDF")
    with pytest.raises(InputError, match=rf"^{file}: expected a whole HDF5 file, found a damaged"):
        train("a")


def test_a_text_that_is_too_short_and_a_folder_that_is_none(train, tmp_path):
    (tmp_path / "short.txt").write_text("a" * 80, encoding="utf-8")
    with pytest.raises(InputError, match=r"^short.txt: expected a text of at least 81 tokens, found 80 tokens"):
        train("a", text="short.txt")
    (tmp_path / "short.txt").write_text("a" * 81, encoding="utf-8")
    assert train("a", text="short.txt", until=1).config.vocab == 1
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "torch").touch()
    with pytest.raises(InputError, match=r"b/torch(/last.h5)?: expected "):
        train("b")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"heads": 3}, "train gpt: expected entries that go together, found 3 heads do not divide the width 8"),
        ({"splitting": "yoshida"}, "splitting: expected one of 'lie' or 'strang', found 'yoshida'"),
        ({"tokenizer": "word"}, "tokenizer: expected one of 'char' or 'byte', found 'word'"),
        ({"dtype": "float16"}, "dtype: expected one of 'float32', 'float64' or 'bfloat16', found 'float16'"),
        ({"iterations": 0}, "iterations: expected"),
        ({"beta2": 1.0}, "beta2: expected"),
        ({"clip": -1.0}, "clip: expected"),
        ({"learning_rate": math.inf}, "learning_rate: expected"),
        ({"seed": 2**63}, "seed: expected"),
        ({"bias": True}, "bias: expected only tokenizer, layers"),
    ],
    ids=str,
)
def test_bad_settings_are_refused(changes, says):
    with pytest.raises(InputError) as caught:
        gpt_settings({**TINY, **changes})
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


# ---- evaluation of a checkpoint


@pytest.mark.parametrize("tokenizer", ["char", "byte"])
def test_evaluate_checkpoint_is_the_mean_over_the_whole_validation_part(uninterrupted, tmp_path, tokenizer):
    done, folder = uninterrupted(tokenizer=tokenizer, dtype="float64")
    ids = IDS if tokenizer == "char" else np.frombuffer(TEXT.encode(), np.uint8).astype(np.int64)
    part = ids[len(ids) * 9 // 10 :]
    expected = slow_loss(done.params, done.config, range(0, len(part) - 8, 8), part)
    arguments = folder / "last.h5", folder.parent.parent / "text.txt", tmp_path
    for batch in (1, 7, 1000):
        assert training.evaluate_checkpoint(*arguments, "float64", "cpu", batch) == pytest.approx(expected, rel=1e-13)
    assert training.evaluate_checkpoint(*arguments, "float32", "cpu") == pytest.approx(expected, rel=1e-5)


def test_evaluate_checkpoint_refuses_other_texts_and_other_models(train, tmp_path):
    saved, file = train("a", until=1), tmp_path / "a" / "torch" / "last.h5"

    def evaluate(text, dtype="float32", device="cpu"):
        return training.evaluate_checkpoint(file, tmp_path / text, tmp_path / "cache", dtype, device)

    (tmp_path / "other.txt").write_text(TEXT.replace("ö", "ü") + "?", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        evaluate("other.txt")
    n = len(CHARACTERS)
    assert (
        str(caught.value)
        == f"{tmp_path}/other.txt: expected a text of the {n} characters of {file}, found one of {n + 1} characters"
    )
    with pytest.raises(InputError, match=r"none.txt: expected a readable file, found no such file"):
        evaluate("none.txt")
    with pytest.raises(InputError, match="dtype: expected one of float64, float32, bfloat16, found 'half'"):
        evaluate("text.txt", dtype="half")
    with pytest.raises(InputError, match="device: expected one of cpu, cuda, found 'tpu'"):
        evaluate("text.txt", device="tpu")
    dataclasses.replace(saved, data={"tokenizer": {"kind": "word"}}).write(file)
    with pytest.raises(InputError, match=r"last.h5, attribute data, tokenizer, kind: expected one of char, byte"):
        evaluate("text.txt")
    other_model(saved).write(file)
    with pytest.raises(InputError, match=r"last.h5, attribute model: expected 'gpt', found 'control_net'"):
        evaluate("text.txt")
