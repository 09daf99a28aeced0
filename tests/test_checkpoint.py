"""Checkpoints: what is written is read; what is damaged, foreign or contradictory gets one clear error."""

# ruff: noqa: E501  (a table with a row per kind of damage)

import dataclasses
import hashlib
import json

import h5py
import numpy as np
import pytest

from twingrad.errors import InputError
from twingrad.fixtures.control_net import ControlNetRecipe
from twingrad.fixtures.gpt import GPTRecipe
from twingrad.fixtures.resnet import ResNetRecipe
from twingrad.format import Checkpoint, find_checkpoint, hdf5, read_checkpoint
from twingrad.format.checkpoint import COVERED, PER_EVALUATION, PER_STEP

STEPS, EVALUATIONS = 3, 2
CASE = GPTRecipe("test", layers=1, width=4, vocab=5).make(seed=3)


def checkpoint(dtype="float32", steps=STEPS, **changes):
    """A checkpoint of a small GPT with all that one can hold."""
    params = {name: array.astype(dtype) for name, array in CASE.groups["params"].items()}
    history = {name: np.linspace(2.0, 1.0, steps) for name in PER_STEP}
    history |= {name: np.linspace(2.0, 1.5, EVALUATIONS if steps else 0) for name in PER_EVALUATION["gpt"]}
    history["evaluated"] = np.array([0, 2] if steps else [], np.int64)
    fields = {
        "model": "gpt",
        "config": CASE.config,
        "data": {"tokenizer": {"kind": "char", "characters": "\n aö🙂"}},
        "side": "torch",
        "dtype": dtype,
        "versions": {"language": "Python 3"},
        "settings": {"seed": 2**62, "learning_rate": 1e-3},
        "iteration": steps,
        "status": "running",
        "params": params,
        "first_moment": {name: 0.5 * array for name, array in params.items()},
        "second_moment": {name: array**2 for name, array in params.items()},
        "history": history,
    }
    return Checkpoint(**{**fields, **changes})


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The bytes of such a checkpoint."""
    file = tmp_path_factory.mktemp("written") / "x.h5"
    checkpoint().write(file)
    return file.read_bytes()


@pytest.fixture
def file(tmp_path, written):
    (tmp_path / "x.h5").write_bytes(written)
    return tmp_path / "x.h5"


def assert_equal(one, two):
    for field in dataclasses.fields(Checkpoint):
        first, second = getattr(one, field.name), getattr(two, field.name)
        if field.name in ("params", "first_moment", "second_moment", "history"):
            assert first.keys() == second.keys()
            for name, array in first.items():
                assert array.dtype == second[name].dtype, name
                assert np.array_equal(array, second[name]), name
        else:
            assert first == second, field.name


# ---- there and back


@pytest.mark.parametrize(
    "made",
    [
        checkpoint(),
        checkpoint("float64"),
        checkpoint(steps=0),
        checkpoint().without_moments(),
        checkpoint(iteration=0, status="imported", first_moment={}, second_moment={}, history={}),
        checkpoint(side="flux", status="complete"),
    ],
    ids=["float32", "float64", "no steps", "best", "imported", "flux"],
)
def test_what_is_written_is_read(made, tmp_path):
    made.write(tmp_path / "x.h5")
    assert_equal(read_checkpoint(tmp_path / "x.h5"), made)
    assert [path.name for path in tmp_path.iterdir()] == ["x.h5"]
    with h5py.File(tmp_path / "x.h5") as h5:
        assert (h5.attrs["format"], h5.attrs["format_version"]) == (b"twingrad-checkpoint", 1)


def test_a_checkpoint_of_a_control_network(tmp_path):
    case = ControlNetRecipe("odenet", "kutta3", "donut2d", "small", layers=2, samples=3).make(seed=1)
    params = {name: array.astype(np.float32) for name, array in case.groups["params"].items()}
    made = checkpoint(model="control_net", config=case.config, params=params, history={}).without_moments()
    made.write(tmp_path / "x.h5")
    assert_equal(read_checkpoint(tmp_path / "x.h5"), made)


def classifier(**changes):
    """A checkpoint of a small ResNet, trained by an optimizer with one moment."""
    case = ResNetRecipe("test", images=2).make(seed=4)
    params = {name: array.astype("float32") for name, array in case.groups["params"].items()}
    trained = {name: array for name, array in params.items() if "running_" not in name}
    history = {name: np.linspace(2.0, 1.0, STEPS) for name in PER_STEP}
    history |= {name: np.linspace(0.1, 0.9, EVALUATIONS) for name in PER_EVALUATION["classifier"]}
    history["evaluated"] = np.array([0, 2])
    own = {"model": "resnet", "config": case.config, "data": {"images": {"name": "digits"}}, "params": params}
    own |= {"first_moment": trained, "second_moment": {}, "history": history, "settings": {"optimizer": "sgd"}}
    return checkpoint(**{**own, **changes})


def test_a_checkpoint_of_a_classifier(tmp_path):
    """Its running statistics are parameters without moments, and its optimizer may have but one moment."""
    made = classifier()
    made.write(tmp_path / "x.h5")
    assert_equal(read_checkpoint(tmp_path / "x.h5"), made)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"first_moment": classifier().params}, "/first_moment/bn1.running_mean: expected only "),
        ({"params": classifier().first_moment}, "/params/bn1.running_mean: expected float64 array (2,), found no such"),
        ({"settings": {"optimizer": "adam"}}, "/second_moment: expected the model's arrays, found nothing"),
        ({"history": checkpoint().history}, "/history: expected accuracy_test, accuracy_train, evaluated, "),
    ],
)
def test_a_classifier_with_other_arrays_is_refused(tmp_path, changes, says):
    classifier(**changes).write(tmp_path / "x.h5")
    with pytest.raises(InputError) as caught:
        read_checkpoint(tmp_path / "x.h5")
    assert says in str(caught.value)


def test_without_moments_only_the_moments_are_gone():
    whole = checkpoint()
    alone = whole.without_moments()
    assert (alone.first_moment, alone.second_moment) == ({}, {})
    assert_equal(dataclasses.replace(alone, first_moment=whole.first_moment, second_moment=whole.second_moment), whole)


def test_thirty_thousand_characters_survive(tmp_path):
    """As JSON they take more than the 64 kB that an HDF5 attribute can hold in its header."""
    characters = "".join(map(chr, range(0x3400, 0x3400 + 30_000)))
    made = checkpoint(data={"tokenizer": {"kind": "char", "characters": characters}})
    assert len(json.dumps(made.data)) > 2**17
    made.write(tmp_path / "x.h5")
    assert_equal(read_checkpoint(tmp_path / "x.h5"), made)


def test_a_later_checkpoint_takes_the_place_of_an_earlier_one(file):
    made = checkpoint("float64", steps=0)
    made.write(file)
    assert_equal(read_checkpoint(file), made)


def test_a_full_disk_is_one_error_and_leaves_the_earlier_file(file):
    resource = pytest.importorskip("resource")
    before, limits = file.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (0, 100, 3000, len(before) - 1):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
        try:
            with pytest.raises(InputError) as caught:
                checkpoint().write(file)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert str(caught.value) == f"{file}: expected a place to write to, found File too large"
        assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def test_a_folder_that_is_missing_is_one_error(tmp_path):
    with pytest.raises(InputError, match=r"none/x.h5: expected a place to write to, found No such file or directory"):
        checkpoint().write(tmp_path / "none" / "x.h5")


# ---- damage


def attribute(name, value):
    def damage(h5):
        h5.attrs[name] = value

    return damage


def entry(name, change):
    """Replaces an array by `change` of it, or by a new one where there was none."""

    def damage(h5):
        old = h5[name][()] if name in h5 else None
        if old is not None:
            del h5[name]
        h5[name] = change(old)

    return damage


def without(name):
    def damage(h5):
        if name in h5.attrs:
            del h5.attrs[name]
        else:
            del h5[name]

    return damage


def at(index, value):
    def change(array):
        array[index] = value
        return array

    return change


def cut(array):
    return array[:-1]


def as_json(**changes):
    return json.dumps({"vocab": 5, "context": 8, "layers": 1, "heads": 2, "width": 4, **changes})


W = "params/wte.weight"

# What is done to a good file, and what the error must say, if not that the digest is another.
DAMAGES = {
    **{f"no {name}": (without(name), f"attribute {name}: expected ") for name in ("format", "format_version", *COVERED, "digest")},
    "extra attribute": (attribute("colour", "red"), "attribute colour: expected only format"),
    "format": (attribute("format", "twingrad-case"), "attribute format: expected 'twingrad-checkpoint', found 'twingrad-case'"),
    "version": (attribute("format_version", 2), "attribute format_version: expected 1, found 2"),
    "version text": (attribute("format_version", "1"), "attribute format_version: expected an integer, found '1'"),
    "model": (attribute("model", "gtp"), "attribute model: expected one of control_net, gpt, mlp, resnet, found 'gtp'"),
    "other model": (attribute("model", "control_net"), "attribute config, network: expected this entry, found nothing"),
    "side": (attribute("side", "jax"), "attribute side: expected one of torch, flux, found 'jax'"),
    "dtype": (attribute("dtype", "float16"), "attribute dtype: expected one of float32, float64, found 'float16'"),
    "other dtype": (attribute("dtype", "float64"), "/params/wte.weight: expected dtype float64, found dtype float32"),
    "status": (attribute("status", "done"), "attribute status: expected one of running, complete, imported, found 'done'"),
    "iteration": (attribute("iteration", 2), ": expected shape (2,), found shape (3,)"),
    "iteration text": (attribute("iteration", "3"), "attribute iteration: expected an integer, found '3'"),
    "iteration 3.0": (attribute("iteration", 3.0), "attribute iteration: expected an integer, found 3.0"),
    "negative iteration": (attribute("iteration", -1), "attribute iteration: expected a number from 0 on, found -1"),
    "config": (attribute("config", "{"), "attribute config: expected a JSON object, found '{'"),
    "config list": (attribute("config", "[1]"), "attribute config: expected a JSON object, found '[1]'"),
    "heads": (attribute("config", as_json(heads=3)), "attribute config: expected entries that go together, found 3 heads do not divide the width 4"),
    "no vocab": (attribute("config", '{"context": 8}'), "attribute config, vocab: expected this entry, found nothing"),
    "extra setting": (attribute("config", as_json(bias=True)), "attribute config, bias: expected only vocab, context"),
    "splitting": (attribute("config", as_json(splitting="yoshida")), "attribute config, splitting: expected one of 'lie' or 'strang', found 'yoshida'"),
    "text width": (attribute("config", as_json(width="4")), "attribute config, width: expected"),
    "other vocab": (attribute("config", as_json(vocab=6)), "/params/wte.weight: expected shape (6, 4), found shape (5, 4)"),
    "untied": (attribute("config", as_json(tied=False)), "/params/lm_head.weight: expected float64 array (5, 4), found no such entry"),
    **{name: (attribute(name, "true"), f"attribute {name}: expected a JSON object, found 'true'") for name in ("data", "versions", "settings")},
    "data number": (attribute("data", 3), "attribute data: expected text, found 3"),
    "no params": (without("params"), "/params: expected the model's arrays, found nothing"),
    "no array": (without("params/ln_f.bias"), "/params/ln_f.bias: expected float64 array (4,), found no such entry"),
    "extra array": (entry("params/lm_head.weight", lambda _: np.zeros((5, 4), "f4")), "/params/lm_head.weight: expected only wte.weight"),
    "extra group": (entry("picture/x", lambda _: np.zeros(1)), "/picture/x: expected only /params, /first_moment, /second_moment, /history"),
    "shape": (entry(W, cut), "/params/wte.weight: expected shape (5, 4), found shape (4, 4)"),
    "turned": (entry("params/h.0.mlp.c_fc.weight", np.transpose), "/params/h.0.mlp.c_fc.weight: expected shape (16, 4), found shape (4, 16)"),
    "float64": (entry(W, lambda array: array.astype("f8")), "/params/wte.weight: expected dtype float32, found dtype float64"),
    "float16": (entry(W, lambda array: array.astype("f2")), "/params/wte.weight: expected dtype float64, float32, int64, found dtype float16"),
    "big-endian": (entry(W, lambda array: array.astype(">f4")), "/params/wte.weight: expected little-endian numbers"),
    "NaN": (entry(W, at((1, 2), np.nan)), "/params/wte.weight: expected finite numbers, found nan at index (1, 2)"),
    "infinite moment": (entry("second_moment/ln_f.bias", at(3, np.inf)), "/second_moment/ln_f.bias: expected finite numbers, found inf at index (3,)"),
    "NaN loss": (entry("history/loss", at(2, np.nan)), "/history/loss: expected finite numbers, found nan at index (2,)"),
    "one moment": (without("second_moment"), "/second_moment: expected the model's arrays, found nothing"),
    "other moment": (without("first_moment"), "/first_moment: expected the model's arrays, found nothing"),
    "no moment": (without("first_moment/wpe.weight"), "/first_moment/wpe.weight: expected float64 array (8, 4), found no such entry"),
    "moment shape": (entry("first_moment/ln_f.bias", cut), "/first_moment/ln_f.bias: expected shape (4,), found shape (3,)"),
    "moment dtype": (entry("second_moment/ln_f.bias", lambda array: array.astype("f8")), "/second_moment/ln_f.bias: expected dtype float32, found dtype float64"),
    "no loss": (without("history/loss"), "/history: expected evaluated, gradient_norm, learning_rate, loss, loss_train, loss_validation, seconds, found evaluated, gradient_norm,"),
    "extra history": (entry("history/time", lambda _: np.zeros(3)), "/history: expected evaluated, gradient_norm"),
    "short loss": (entry("history/loss", cut), "/history/loss: expected shape (3,), found shape (2,)"),
    "deep loss": (entry("history/loss", lambda array: array[:, None]), "/history/loss: expected shape (3,), found shape (3, 1)"),
    "short evaluation": (entry("history/loss_train", cut), "/history/loss_train: expected shape (2,), found shape (1,)"),
    "loss float32": (entry("history/loss", lambda array: array.astype("f4")), "/history/loss: expected dtype float64, found dtype float32"),
    "evaluated float64": (entry("history/evaluated", lambda array: array.astype("f8")), "/history/evaluated: expected dtype int64, found dtype float64"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_gets_one_clear_error(damage, file, monkeypatch):
    monkeypatch.setattr(hdf5, "check_digest", lambda *_: None)
    do, says = DAMAGES[damage]
    with h5py.File(file, "r+") as h5:
        do(h5)
    with pytest.raises(InputError) as caught:
        read_checkpoint(file)
    assert str(caught.value).startswith(str(file))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_digest_is_the_one_of_the_format(file):
    names = ["format", "format_version", "model", "config", "data", "side", "dtype", "versions", "created", "settings"]
    sha = hashlib.sha256()
    with h5py.File(file) as h5:
        for name in [*names, "iteration", "status"]:
            value = h5.attrs[name]
            sha.update(f"{name}={value.decode() if isinstance(value, bytes) else value}\n".encode())
        for group in ("first_moment", "history", "params", "second_moment"):
            for name in sorted(h5[group]):
                array = h5[group][name][()]
                dims = ",".join(map(str, array.shape))
                sha.update(f"/{group}/{name}\0{array.dtype}\0{dims}\0".encode() + array.tobytes())
        assert h5.attrs["digest"].decode() == sha.hexdigest()


def test_every_change_breaks_the_digest(file):
    changes = {
        W: entry(W, at((0, 0), 7.0)),
        "moment": entry("first_moment/ln_f.bias", at(0, 1e-30)),
        "history": entry("history/seconds", at(0, 9.0)),
        "data": attribute("data", '{"tokenizer": {"kind": "byte"}}'),
        "created": attribute("created", "2020-01-01T00:00:00Z"),
        "settings": attribute("settings", "{}"),
        "versions": attribute("versions", "{}"),
        "status": attribute("status", "complete"),
        "side": attribute("side", "flux"),
        "config": attribute("config", as_json(dt=0.5)),
        "digest": attribute("digest", "0" * 64),
    }
    whole = file.read_bytes()
    for change in changes.values():
        file.write_bytes(whole)
        with h5py.File(file, "r+") as h5:
            change(h5)
        with pytest.raises(
            InputError, match=r"attribute digest: expected \w{64}, found \w{64}. The contents were changed"
        ):
            read_checkpoint(file)


def test_a_changed_byte_is_found(file):
    content = bytearray(file.read_bytes())
    place = content.index(checkpoint().params["wte.weight"].tobytes())
    content[place] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"attribute digest: .*The contents were changed"):
        read_checkpoint(file)


def test_what_is_no_checkpoint_gets_one_clear_error(file, case_file, tmp_path):
    whole = file.read_bytes()
    for damaged in (b"", b"text", whole[: len(whole) // 2], whole[:-1], whole[:100]):
        file.write_bytes(damaged)
        with pytest.raises(
            InputError, match=r"x.h5: expected a whole HDF5 file, found a damaged or foreign one \([^\n]*\)$"
        ):
            read_checkpoint(file)
    with pytest.raises(InputError, match=r"none.h5: expected a file of format twingrad-checkpoint, found no such file"):
        read_checkpoint(tmp_path / "none.h5")
    with pytest.raises(InputError, match="expected a file of format twingrad-checkpoint, found no such file"):
        read_checkpoint(tmp_path)
    with pytest.raises(InputError, match="attribute format: expected 'twingrad-checkpoint', found 'twingrad-case'"):
        read_checkpoint(case_file)


# ---- where a checkpoint is


@pytest.mark.parametrize(
    ("there", "side", "which", "means"),
    [
        ("best.h5 last.h5", "torch", "best", "best.h5"),
        ("best.h5 last.h5", "torch", "last", "last.h5"),
        ("last.h5", "torch", "best", "last.h5"),
        ("best.h5", "flux", "last", "best.h5"),
        ("torch/best.h5 torch/last.h5", "torch", "best", "torch/best.h5"),
        ("torch/best.h5 torch/last.h5", "torch", "last", "torch/last.h5"),
        ("torch/last.h5", "torch", "best", "torch/last.h5"),
        ("torch/last.h5", "flux", "best", "torch/last.h5"),
        ("torch/last.h5 flux/best.h5", "torch", "best", "torch/last.h5"),
        ("torch/last.h5 flux/best.h5", "flux", "best", "flux/best.h5"),
        ("torch/other.txt flux/best.h5", "torch", "best", "flux/best.h5"),
        ("x.h5 best.h5", "torch", "best", "best.h5"),
    ],
)
def test_a_folder_means_the_checkpoint_in_it(there, side, which, means, tmp_path):
    for name in there.split():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_checkpoint(tmp_path, side, which) == tmp_path / means
    assert find_checkpoint(tmp_path / means, "flux", "last") == tmp_path / means


def test_no_checkpoint_or_several_are_one_clear_error(tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "x.h5").touch()
    for place in (tmp_path, tmp_path / "torch", tmp_path / "none", tmp_path / "x.h5" / "y"):
        with pytest.raises(InputError) as caught:
            find_checkpoint(place, "torch")
        hint = "'twingrad train' writes DIR/SIDE/last.h5 and, for a GPT, DIR/SIDE/best.h5."
        assert str(caught.value) == f"{place}: expected a checkpoint or a folder with one, found none. {hint}"
    (tmp_path / "torch" / "last.h5").touch()
    (tmp_path / "best.h5").touch()
    with pytest.raises(InputError) as caught:
        find_checkpoint(tmp_path, "torch")
    both = f"{tmp_path / 'best.h5'}, {tmp_path / 'torch' / 'last.h5'}"
    assert str(caught.value) == f"{tmp_path}: expected one checkpoint, found {both}. Name one of them."
