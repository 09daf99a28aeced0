"""The commands train gpt, generate, evaluate and data python, with one live worker for all."""

# ruff: noqa: E501  (tables with a row per kind of bad input)

import dataclasses
import math
import os
import platform
import re

import h5py
import numpy as np
import pytest

from twingrad.cli import main
from twingrad.data.philox import Stream
from twingrad.format import read_checkpoint
from twingrad.generation import generate
from twingrad.sides import Worker
from twingrad.training import gpt as training

WORDS = ("the ", "cat ", "sat ", "on ", "a ", "mat.\n", "Größe ")
TEXT = "".join(WORDS[int(word) % 7] for word in Stream(1, "text").words(300))
TINY = ("--layers", 1, "--heads", 2, "--width", 8, "--context", 8, "--batch", 2, "--iterations", 4, "--no-figures")
TINY += ("--warmup", 1, "--learning-rate", 0.01, "--evaluate-every", 2, "--evaluation-windows", 3)


@pytest.fixture
def command(twingrad, _commands_share_a_worker):
    """Runs the command with the shared side in place of one of its own: (exit status, stdout, stderr)."""
    return twingrad


@pytest.fixture(scope="module")
def trained(_commands_share_a_worker, tmp_path_factory):
    """A folder with text.txt, and in `run` a short training on it."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["twingrad", *map(str, training_of(folder))])
        with pytest.raises(SystemExit) as leaving:
            main()
    assert not leaving.value.code
    return folder


def training_of(folder, *changes, out="run"):
    return ("train", "gpt", "--out", folder / out, "--text", folder / "text.txt", *TINY, *changes)


@pytest.fixture
def text(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    return tmp_path


# ---- train gpt


def test_training_tells_its_result_and_goes_on(command, text):
    file = text / "run" / "torch" / "last.h5"
    status, out, err = command(*training_of(text, "--until", 3))
    assert (status, err) == (0, "")
    saved = read_checkpoint(file)
    assert (saved.iteration, saved.status, saved.settings["iterations"]) == (3, "running", 4)
    assert out.startswith(f"{file}: running after 3 iterations, ")
    stamp = file.stat().st_mtime_ns
    assert command(*training_of(text, "--until", 2))[1] == out
    assert file.stat().st_mtime_ns == stamp

    status, out, err = command(*training_of(text))
    assert (status, err) == (0, "")
    saved = read_checkpoint(file)
    assert (saved.iteration, saved.status) == (4, "complete")
    losses, best = saved.history, saved.history["loss_validation"].argmin()
    assert re.fullmatch(
        re.escape(f"{file}: complete after 4 iterations, ")
        + r"[\d,]+ tokens/s, "
        + re.escape(
            f"loss {losses['loss_train'][-1]:.4f} (validation {losses['loss_validation'][-1]:.4f}; "
            f"best {losses['loss_validation'][best]:.4f} at {losses['evaluated'][best]})\n"
        ),
        out,
    )
    assert command(*training_of(text)) == (0, out, "")
    assert sorted(path.name for path in (text / "run").iterdir())[1:] == [
        f"tokens-{saved.data['text']['digest'][:16]}.json",
        "torch",
        "torch.command",
    ]


def test_training_by_the_command_is_training(trained, tmp_path):
    done = read_checkpoint(trained / "run" / "torch" / "last.h5")
    settings = training.GPTSettings(**done.settings)
    assert (settings.layers, settings.width, settings.learning_rate, settings.beta2) == (1, 8, 0.01, 0.99)
    assert done.versions["language"] == f"Python {platform.python_version()}"
    again = training.train_gpt(settings, trained / "text.txt", tmp_path, {}, lambda _: None)
    for name, array in again.params.items():
        assert np.array_equal(array, done.params[name]), name


def test_options_reach_the_settings(command, text):
    changes = ("--preset", "gpu", "--splitting", "strang", "--dt", 0.5, "--no-tied", "--tokenizer", "byte")
    changes += (
        "--accumulation",
        2,
        "--seed",
        9,
        "--dtype",
        "float64",
        "--beta1",
        0.8,
        "--clip",
        0,
        "--weight-decay",
        0,
    )
    status, out, err = command(*training_of(text, *changes, "--until", 0))
    assert (status, err) == (0, "")
    assert out == f"{text / 'run' / 'torch' / 'last.h5'}: running after 0 iterations\n"
    saved = read_checkpoint(text / "run" / "torch" / "last.h5")
    expected = {"splitting": "strang", "dt": 0.5, "tied": False, "tokenizer": "byte", "accumulation": 2, "seed": 9}
    expected |= {"dtype": "float64", "beta1": 0.8, "beta2": 0.99, "clip": 0.0, "weight_decay": 0.0, "width": 8}
    assert {name: saved.settings[name] for name in expected} == expected
    assert (saved.config.vocab, saved.config.splitting, saved.dtype) == (256, "strang", "float64")


def test_python_is_the_default_text(command, tmp_path):
    assert command("train", "gpt", "--out", tmp_path / "run", *TINY, "--tokenizer", "byte", "--until", 0)[0] == 0
    saved = read_checkpoint(tmp_path / "run" / "torch" / "last.h5")
    assert saved.data["text"]["name"] == f"python-{platform.python_version()}.txt"
    assert (tmp_path / "run" / saved.data["text"]["name"]).is_file()


def test_a_loss_that_is_not_finite_is_one_line(command, text):
    changes = ("--learning-rate", 1e30, "--evaluate-every", 100, "--warmup", 0)
    status, out, err = command(*training_of(text, *changes))
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("twingrad: side torch: SideError: training step 2: the loss is ")
    assert "Try a smaller --learning-rate or a longer --warmup, in another --out." in err
    assert read_checkpoint(text / "run" / "torch" / "last.h5").iteration == 0


# ---- generate


def test_generate_continues_a_prompt(command, trained):
    file = trained / "run" / "torch" / "best.h5"
    found = read_checkpoint(file)
    characters = found.data["tokenizer"]["characters"]
    model = training.load_gpt(found, file, "float64", "cpu")
    options = {"temperature": 0.7, "top_k": 5, "seed": 3}
    new = generate(model, [characters.index(character) for character in "the Größe"], 20, **options)
    expected = "the Größe" + "".join(characters[token] for token in new) + "\n"
    arguments = ("--prompt", "the Größe", "--tokens", 20, "--temperature", 0.7, "--top-k", 5, "--seed", 3)
    arguments += ("--dtype", "float64")
    for place in (file, trained / "run" / "torch", trained / "run"):
        assert command("generate", "--checkpoint", place, *arguments) == (0, expected, "")
    others = [command("generate", "--checkpoint", file, *arguments[:-4], *more)[1] for more in (("--seed", 4), ())]
    assert len({expected, *others}) == 3


def test_last_takes_the_last_checkpoint_instead_of_the_best(command, trained, tmp_path):
    best = read_checkpoint(trained / "run" / "torch" / "best.h5")
    best.write(tmp_path / "best.h5")
    params = {name: np.roll(array, 1, axis=0) for name, array in best.params.items()}
    dataclasses.replace(best, params=params).write(tmp_path / "last.h5")
    for arguments in (("generate", "--prompt", "a"), ("evaluate", "--text", trained / "text.txt")):
        of_best, of_last = (command(*arguments, "--checkpoint", tmp_path, *last)[1] for last in ((), ("--last",)))
        assert of_best == command(*arguments, "--checkpoint", tmp_path / "best.h5")[1]
        assert of_last == command(*arguments, "--checkpoint", tmp_path / "last.h5")[1]
        assert of_best.removeprefix(f"{tmp_path}/best.h5") != of_last.removeprefix(f"{tmp_path}/last.h5")


def test_generate_from_a_line_end(command, trained):
    arguments = ("generate", "--checkpoint", trained / "run", "--temperature", 0)
    status, out, err = command(*arguments, "--tokens", 12)
    assert (status, err, len(out), out[0], out[-1]) == (0, "", 14, "\n", "\n")
    assert command(*arguments, "--tokens", 5)[1] == out[:6] + "\n"
    assert command(*arguments, "--tokens", 0, "--prompt", "a cat") == (0, "a cat\n", "")


def test_generate_from_ids(command, trained):
    characters = read_checkpoint(trained / "run" / "torch" / "best.h5").data["tokenizer"]["characters"]
    arguments = ("generate", "--checkpoint", trained / "run", "--tokens", 9, "--seed", 5)
    status, out, err = command(*arguments, "--prompt-ids", "3, 1,4")
    assert (status, err) == (0, "")
    new = "".join(characters[int(token)] for token in out.split(","))
    prompt = "".join(characters[token] for token in (3, 1, 4))
    assert command(*arguments, "--prompt", prompt) == (0, prompt + new + "\n", "")


@pytest.fixture(scope="module")
def of_bytes(trained):
    """A checkpoint by bytes, hardly trained."""
    settings = training.GPTSettings(
        **{**read_checkpoint(trained / "run" / "torch" / "last.h5").settings, "tokenizer": "byte"}
    )
    training.train_gpt(settings, trained / "text.txt", trained / "bytes", {}, lambda _: None, until=0)
    return trained / "bytes"


def test_generate_shows_bytes_as_whole_characters(command, of_bytes, monkeypatch):
    """A model that says "ö🙂" over and over, byte by byte: each character appears once it is whole."""
    tokens, pieces = list("ö🙂ö🙂".encode())[:10], []

    def request(self, verb, arguments, show):
        for token in tokens:
            show({"token": token})

    monkeypatch.setattr(Worker, "request", request)
    monkeypatch.setattr("twingrad.cli.text._print", pieces.append)
    assert command("generate", "--checkpoint", of_bytes, "--prompt", "a")[0] == 0
    assert pieces == ["aö", "🙂", "ö", "�\n"]


def test_generate_from_a_byte_that_is_no_text(command, of_bytes):
    """A command line may hold any bytes; what is shown is text."""
    prompt = os.fsdecode(b"a\xff")
    answer = command("generate", "--checkpoint", of_bytes, "--prompt", prompt, "--tokens", 0)
    assert answer == (0, "a�\n", "")


# ---- evaluate


def test_evaluate_tells_the_loss(command, trained, tmp_path):
    for name in ("best", "last"):
        file = trained / "run" / "torch" / f"{name}.h5"
        last = ("--last",) if name == "last" else ()
        arguments = ("evaluate", "--checkpoint", trained / "run", "--text", trained / "text.txt", *last)
        expected = training.evaluate_checkpoint(file, trained / "text.txt", tmp_path, "float64", "cpu")
        assert command(*arguments, "--dtype", "float64") == (0, f"{file}: torch, validation loss {expected!r}\n", "")
    assert expected == pytest.approx(math.log(len(set(TEXT))), rel=0.1)


# ---- data python


def test_data_python_writes_a_text(command, tmp_path):
    file = tmp_path / "data" / f"python-{platform.python_version()}.txt"
    assert command("data", "python", "--out", tmp_path / "data") == (0, f"{file}\n", "")
    assert file.read_bytes().isascii()
    assert file.stat().st_size > 10**6


# ---- bad input


def one_line(answer):
    """What an answer to bad input says."""
    status, out, err = answer
    assert (status, out) == (2, "")
    assert err.startswith("twingrad: ")
    assert err.count("\n") == 1
    return err.removeprefix("twingrad: ").removesuffix("\n")


@pytest.mark.parametrize(
    ("content", "changes", "says"),
    [
        (b"", (), "TEXT: expected a text file, found an empty file"),
        (None, (), "TEXT: expected a readable file, found no such file"),
        (b"ab\xff" * 99, (), "TEXT: expected UTF-8 text, found no whole character at byte 2, counted from 0. `--tokenizer byte` takes any bytes."),
        (b"abc" * 26, (), "text.txt: expected a text of at least 81 tokens, found 78 tokens. A tenth is kept"),
    ],
    ids=["empty", "missing", "no UTF-8", "short"],
)  # fmt: skip
def test_texts_to_train_on_that_are_none(command, tmp_path, content, changes, says):
    if content is not None:
        (tmp_path / "text.txt").write_bytes(content)
    said = one_line(command(*training_of(tmp_path, *changes)))
    assert said.startswith(says.replace("TEXT", str(tmp_path / "text.txt")))
    assert not (tmp_path / "run" / "torch" / "last.h5").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (("--heads", 3), "train gpt: expected entries that go together, found 3 heads do not divide the width 8"),
        (("--preset", "tpu"), "preset: expected one of cpu, gpu, found 'tpu'"),
        (("--splitting", "yoshida"), "train gpt, splitting: expected one of 'lie' or 'strang', found 'yoshida'"),
        (("--tokenizer", "word"), "train gpt, tokenizer: expected one of 'char' or 'byte', found 'word'"),
        (("--dtype", "float16"), "train gpt, dtype: expected one of 'float32', 'float64' or 'bfloat16', found 'float16'"),
        (("--side", "jax"), "side: expected one of torch, flux, found 'jax'"),
        (("--layers", 0), "train gpt, layers: expected"),
        (("--batch", -1), "train gpt, batch: expected"),
        (("--learning-rate", "nan"), "train gpt, learning_rate: expected"),
        (("--seed", 2**63), "train gpt, seed: expected"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)  # fmt: skip
def test_settings_that_are_none_leave_nothing(command, text, changes, says):
    assert one_line(command(*training_of(text, *changes))).startswith(says)
    assert [path.name for path in text.iterdir()] == ["text.txt"]


def test_a_device_that_is_none_and_folders_that_cannot_be_made(command, text):
    said = one_line(command(*training_of(text, "--device", "tpu")))
    assert said == "device: expected one of cpu, cuda, found 'tpu'"
    (text / "file").touch()
    for out in ("file", "file/run"):
        said = one_line(command(*training_of(text, out=out)))
        assert re.match(rf"{re.escape(str(text / out))}: expected a folder to write to, found ", said)
    (text / "run2").mkdir()
    (text / "run2" / "torch").touch()
    assert "run2/torch" in one_line(command(*training_of(text, out="run2")))
    said = one_line(command("data", "python", "--out", text / "file"))
    assert said == f"{text / 'file'}: expected a folder to write to, found File exists"
    assert one_line(command("data", "python", "--out", "/proc/nowhere")).startswith("/proc/nowhere: expected a folder")


def test_another_training_in_the_folder(command, trained):
    file = trained / "run" / "torch" / "last.h5"
    said = one_line(command(*training_of(trained, "--seed", 2)))
    assert said == f"{file}, setting seed: expected 2, found 1. Choose another --out, or remove the file."


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--prompt", "the Cat"), "prompt: expected characters of the vocabulary, found 'C' at position 4. The vocabulary holds"),
        (("--prompt", ""), "prompt: expected at least one token, found none"),
        (("--prompt", "a", "--prompt-ids", "1"), "--prompt-ids: expected this option or --prompt, found both"),
        (("--prompt-ids", "1,x"), "--prompt-ids: expected numbers with commas between, as 15496,11, found 'x'"),
        (("--prompt-ids", ""), "--prompt-ids: expected numbers with commas between, as 15496,11, found ''"),
        (("--prompt-ids", "1,999"), "token ids: expected numbers from 0 to "),
        (("--prompt-ids", "-1"), "--prompt-ids: expected numbers with commas between, as 15496,11, found '-1'"),
        (("--side", "jax"), "side: expected one of torch, flux, found 'jax'"),
        (("--dtype", "float16"), "dtype: expected one of float64, float32, bfloat16, found 'float16'"),
        (("--device", "tpu"), "device: expected one of cpu, cuda, found 'tpu'"),
        (("--temperature", "inf"), "temperature: expected a finite number from 0 on, found inf"),
    ],
    ids=str,
)  # fmt: skip
def test_prompts_and_options_that_are_none(command, trained, arguments, says):
    assert one_line(command("generate", "--checkpoint", trained / "run", *arguments)).startswith(says)


def test_texts_to_evaluate_on_that_are_none(command, trained, tmp_path):
    arguments = ("evaluate", "--checkpoint", trained / "run", "--text", tmp_path / "text.txt")
    assert one_line(command(*arguments)) == f"{tmp_path}/text.txt: expected a readable file, found no such file"
    (tmp_path / "text.txt").write_text(TEXT + "?", encoding="utf-8")
    assert f"{tmp_path}/text.txt: expected a text of the {len(set(TEXT))} characters of" in one_line(
        command(*arguments)
    )
    (tmp_path / "text.txt").write_bytes(TEXT.encode("latin-1"))
    assert "expected UTF-8 text" in one_line(command(*arguments))


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_that_is_none(command, trained, seed):
    status, out, err = command("generate", "--checkpoint", trained / "run", "--seed", seed)
    assert (status, out) == (2, "")
    assert "Invalid value for '--seed'" in err


@pytest.mark.parametrize("name", ["generate", "evaluate"])
def test_checkpoints_that_are_none(command, trained, tmp_path, name):
    good, file = trained / "run" / "torch" / "last.h5", tmp_path / "last.h5"
    text = ("--text", trained / "text.txt") if name == "evaluate" else ()

    def said(place):
        return one_line(command(name, "--checkpoint", place, *text))

    hint = "'twingrad train' writes DIR/SIDE/last.h5 and, for a GPT, DIR/SIDE/best.h5."
    for place in (tmp_path, tmp_path / "none"):
        assert said(place) == f"{place}: expected a checkpoint or a folder with one, found none. {hint}"
    file.write_bytes(good.read_bytes()[:-100])
    assert said(tmp_path).startswith(f"{file}: expected a whole HDF5 file, found a damaged or foreign one")
    file.write_bytes(good.read_bytes())
    with h5py.File(file, "r+") as h5:
        h5.attrs["format_version"] = 2
    assert said(tmp_path) == f"{file}, attribute format_version: expected 1, found 2"
    saved = read_checkpoint(good)
    dataclasses.replace(saved, data={}).write(file)
    assert said(file).startswith(f"{file}, attribute data, tokenizer: expected a")
    assert said(trained / "text.txt").startswith(f"{trained / 'text.txt'}: expected a whole HDF5 file, found a damaged")
