"""How many parameters models have: published numbers, folding of equal layers, and the command."""

import math

import numpy as np
import pytest
import torch

from twingrad.engine import MODELS
from twingrad.errors import InputError
from twingrad.format import Checkpoint
from twingrad.format.checkpoint import PER_STEP, per_evaluation
from twingrad.info import KNOWN, Run, checkpoint_model, count, known_model, runs
from twingrad.specs import make_config, model_spec

# He et al., CVPR 2016, table 6, in millions; docs.pytorch.org, the pages of torchvision's models, in full.
PUBLISHED_MILLIONS = {
    "resnet20": "0.27",
    "resnet32": "0.46",
    "resnet44": "0.66",
    "resnet56": "0.85",
    "resnet110": "1.7",
}
PUBLISHED = {"resnet18": 11_689_512, "resnet34": 21_797_672, "resnet50": 25_557_032, "gpt2": 124_439_808, "mlp": 13_002}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_numbers(name):
    assert count(known_model(name).parameters) == PUBLISHED[name]


@pytest.mark.parametrize("name", PUBLISHED_MILLIONS)
def test_published_millions(name):
    published = PUBLISHED_MILLIONS[name]
    assert f"{count(known_model(name).parameters) / 1e6:.{len(published) - 2}f}" == published


@pytest.mark.parametrize("name", KNOWN)
def test_what_is_counted_is_what_the_modules_hold(name):
    """The modules tell parameters and statistics apart by themselves; they need no memory on the meta device."""
    found = known_model(name)
    params = {array: torch.empty(shape, device="meta") for array, shape in found.shapes.items()}
    module = MODELS[found.model].model(found.config, params)
    assert {array: tuple(held.shape) for array, held in module.named_parameters()} == found.parameters
    assert {array: tuple(held.shape) for array, held in module.named_buffers()} == found.statistics


def test_statistics_are_no_parameters():
    found = known_model("resnet18")
    assert count(found.statistics) == 2 * (64 + 4 * 64 + 5 * (128 + 256 + 512)) == 9600
    assert found.shapes["bn1.running_var"] == found.statistics["bn1.running_var"] == (64,)
    assert "bn1.running_var" not in found.parameters
    assert not known_model("gpt").statistics


@pytest.mark.parametrize(
    ("name", "options", "parameters"),
    [
        ("mlp", {"sizes": [784, 10]}, 7850),
        ("mlp", {"sizes": [3, 5, 1]}, 26),
        ("control_net", {}, 143),
        ("control_net", {"layers": 3, "d": 5}, 75 + 15 + 5 + 1 + 3),
        ("gpt", {}, 809_856),
        ("gpt", {"vocab": 256}, 809_856 + 191 * 128),
        ("gpt", {"preset": "gpu"}, 384 * (65 + 256 + 2) + 6 * (12 * 384**2 + 13 * 384)),
        ("gpt2", {"vocab": 50304}, 124_439_808 + 47 * 768),
        ("resnet20", {"classes": 100}, 269_722 + 90 * 65),
        ("resnet20", {"in_channels": 1}, 269_722 - 2 * 16 * 9),
        ("resnet20", {"width": 8}, 68_050),
        ("resnet50", {"classes": 10, "width": None}, 25_557_032 - 990 * 2049),
    ],
)
def test_options(name, options, parameters):
    assert count(known_model(name, options).parameters) == parameters


def test_a_preset_is_that_of_the_training():
    config = known_model("gpt", {"preset": "cpu"}).config
    assert (config.layers, config.heads, config.width, config.context, config.vocab) == (4, 4, 128, 64, 65)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet21", {}, "info: expected one of mlp, control_net, .*resnet50, or a checkpoint .*, found 'resnet21'"),
        ("mlp", {"classes": 10}, "info mlp: expected only --sizes, found --classes"),
        ("gpt2", {"preset": "cpu"}, "info gpt2: expected only --vocab, found --preset"),
        ("resnet20", {"sizes": [1, 2]}, "info resnet20: expected only --classes, --in-channels, --wid.*sizes"),
        ("control_net", {"in_channels": 3}, "info control_net: expected only --layers, --d, found --in-channels"),
        ("gpt", {"preset": "tpu"}, "preset: expected one of cpu, gpu, found 'tpu'"),
        ("mlp", {"sizes": [784]}, r"info mlp, sizes: .* found \[784\]"),
        ("mlp", {"sizes": [784, 0]}, r"info mlp, sizes\.1: .* found 0"),
    ],
)  # fmt: skip
def test_names_and_options_that_are_none(name, options, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        known_model(name, options)


# ---- runs


def test_layers_are_all_but_the_last_part_of_a_name():
    shapes = {"a.weight": (2, 3), "a.bias": (2,), "b": (4,), "c.d.weight": (5,)}
    expected = [
        Run(("a",), {"weight": (2, 3), "bias": (2,)}),
        Run(("b",), {"": (4,)}),
        Run(("c.d",), {"weight": (5,)}),
    ]
    assert runs(shapes) == expected
    assert [run.total for run in expected] == [8, 4, 5]


def test_equal_blocks_in_a_row_are_one_run():
    found = runs(known_model("resnet110").parameters)
    assert [(run.names[0], len(run.names), run.each, run.total) for run in found] == [
        ("conv1", 1, 432, 432),
        ("bn1", 1, 32, 32),
        ("layer1.0", 18, 4672, 18 * 4672),
        ("layer2.0", 1, 13952, 13952),
        ("layer2.1", 17, 18560, 17 * 18560),
        ("layer3.0", 1, 55552, 55552),
        ("layer3.1", 17, 73984, 17 * 73984),
        ("fc", 1, 650, 650),
    ]
    assert found[2].names == tuple(f"layer1.{number}" for number in range(18))
    assert found[2].arrays["conv2.weight"] == (16, 16, 3, 3)


@pytest.mark.parametrize("name", KNOWN)
def test_runs_lose_nothing(name):
    shapes = known_model(name).parameters
    unfolded = {
        f"{layer}.{array}".strip("."): shape
        for run in runs(shapes)
        for layer in run.names
        for array, shape in run.arrays.items()
    }
    assert unfolded == shapes
    assert list(unfolded) == list(shapes)
    assert sum(run.total for run in runs(shapes)) == count(shapes)


def test_only_equal_blocks_of_one_stem_that_are_numbered_on_are_one_run():
    def names(*blocks):
        return [run.names for run in runs({f"{block}.f.weight": (2, 2) for block in blocks})]

    assert names("a.0", "a.1", "a.2") == [("a.0", "a.1", "a.2")]
    assert names("a.0", "b.1") == [("a.0",), ("b.1",)]
    assert names("a.0", "a.2") == [("a.0",), ("a.2",)]
    assert names("a.9", "a.10") == [("a.9", "a.10")]
    assert names("a", "b") == [("a.f",), ("b.f",)]
    assert len(runs({"a.0.f.weight": (2, 2), "a.1.f.weight": (4,)})) == 2
    assert len(runs({"a.0.f.weight": (2,), "a.1.g.weight": (2,)})) == 2


# ---- command


def table(out):
    """What a table holds: the words of each line below the headings."""
    lines = out.split("\n\n", 1)[1].splitlines()
    assert max(len(line) for line in lines) <= 80
    return [line.split() for line in lines]


def test_info_mlp(twingrad):
    status, out, err = twingrad("info", "mlp")
    assert (status, err) == (0, "")
    assert out.startswith("mlp: mlp, sizes [784, 16, 16, 10], activation sigmoid, loss cross-entropy\n\n")
    assert table(out) == [
        ["layer", "arrays", "parameters"],
        ["layers.0", "weight", "16×784,", "bias", "16", "12,560"],
        ["layers.1", "weight", "16×16,", "bias", "16", "272"],
        ["layers.2", "weight", "10×16,", "bias", "10", "170"],
        ["all", "13,002"],
    ]
    assert table(twingrad("info", "mlp", "--sizes", "5-3-2")[1])[-1] == ["all", "26"]


def test_info_of_a_deep_network(twingrad):
    lines = table(twingrad("info", "resnet110")[1])
    assert lines[0] == ["layer", "arrays", "each", "parameters"]
    block = ["conv1", "16×16×3×3,", "bn1,", "conv2", "16×16×3×3,", "bn2"]
    assert lines[3] == ["layer1.0", "to", "17", *block, "4,672", "84,096"]
    assert lines[4][0] == "layer2.0"
    assert lines[4][-2:] == ["bn2", "13,952"]
    assert lines[-2:] == [["all", "1,727,962"], ["running", "statistics,", "which", "are", "not", "trained:", "8,096"]]
    assert len(lines) == 11
    words = {word for line in table(twingrad("info", "gpt")[1]) for word in line}
    assert words >= {"ln_1,", "attn.c_attn", "384×128,", "mlp.c_fc", "512×128,"}


@pytest.mark.parametrize("name", ["gpt2", "resnet50"])
def test_info_of_large_models_fits_80_columns(twingrad, name):
    for more in ((), ("--all",)):
        status, out, err = twingrad("info", name, *more)
        assert (status, err) == (0, "")
        assert ["all", f"{PUBLISHED[name]:,}"] in table(out)


def test_info_of_all_arrays(twingrad):
    lines = table(twingrad("info", "resnet20", "--width", 2, "--classes", 3, "--in-channels", 1, "--all")[1])
    assert lines[:6] == [
        ["array", "shape", "parameters"],
        ["conv1.weight", "2×1×3×3", "18"],
        ["bn1.weight", "2", "2"],
        ["bn1.bias", "2", "2"],
        ["bn1.running_mean", "2", "not", "trained"],
        ["bn1.running_var", "2", "not", "trained"],
    ]
    assert lines[-4:-2] == [["fc.weight", "3×8", "24"], ["fc.bias", "3", "3"]]
    assert len(lines) == 1 + 19 * 5 + 2 + 2
    assert table(twingrad("info", "control_net", "--layers", 3, "--d", 5, "--all")[1])[1] == ["K", "3×5×5", "75"]


def checkpoint(model, settings, sizes=None, evaluations=(), **more):
    spec = model_spec(model, "test")
    config = make_config(spec, settings, "test")
    shapes = {name: [(sizes or {}).get(dim, dim) for dim in array.dims] for name, array in spec.params(config).items()}
    values = dict.fromkeys(per_evaluation(model), np.array(evaluations, np.float64))
    steps = dict.fromkeys(PER_STEP, np.zeros(7))
    history = {**steps, **values, "evaluated": np.arange(len(evaluations)) * 5} if evaluations else {}
    return Checkpoint(
        **{"model": model, "config": config, "data": {}, "side": "flux", "dtype": "float32", "versions": {}},
        **{"settings": {}, "iteration": 7, "status": "running", "created": "2026-01-02T03:04:05Z"},
        params={name: np.ones(shape, np.float32) for name, shape in shapes.items()},
        history=history,
        **more,
    )


def test_info_of_a_checkpoint(twingrad, tmp_path):
    saved = checkpoint("resnet", {"variant": "resnet20", "width": 2, "classes": 3}, evaluations=(0.5, 0.25))
    (tmp_path / "run" / "flux").mkdir(parents=True)
    file = tmp_path / "run" / "flux" / "last.h5"
    saved.write(file)
    assert checkpoint_model(saved) == known_model("resnet20", {"width": 2, "classes": 3})
    for place in (file, tmp_path / "run"):
        status, out, err = twingrad("info", place)
        assert (status, err) == (0, "")
        assert out.splitlines()[:3] == [
            f"{file}: resnet, variant resnet20, in_channels 3, classes 3, width 2, residual True, mode train",
            "side flux, float32, running after 7 iterations, written 2026-01-02T03:04:05Z",
            "after 5 iterations: loss train 0.2500, loss test 0.2500, accuracy train 0.2500, accuracy test 0.2500",
        ]
        assert table(out) == table(twingrad("info", "resnet20", "--width", 2, "--classes", 3)[1])


def test_side_and_last_choose_among_checkpoints(twingrad, tmp_path):
    for side, width in (("torch", 1), ("flux", 2)):
        (tmp_path / side).mkdir()
        for number, name in enumerate(("best", "last")):
            sizes = [width, 1 + number]
            settings = {"sizes": sizes, "activation": "relu", "loss": "mse"}
            checkpoint("mlp", settings).write(tmp_path / side / f"{name}.h5")
    for more, sizes in [((), [1, 1]), (("--last",), [1, 2]), (("--side", "flux", "--last"), [2, 2])]:
        assert f"mlp, sizes {sizes}" in twingrad("info", tmp_path, *more)[1]


def test_info_takes_the_sizes_of_a_control_network_from_its_arrays():
    sizes = {"N": 3, "d": 5}
    settings = {"network": "odenet", "method": "kutta4", "scale": "mean"}
    found = checkpoint_model(checkpoint("control_net", settings, sizes=sizes))
    assert found.shapes == known_model("control_net", {"layers": 3, "d": 5}).shapes
    assert all(math.prod(shape) for shape in found.shapes.values())


def test_bad_input_is_one_line(twingrad, tmp_path):
    def said(*arguments):
        status, out, err = twingrad("info", *arguments)
        assert (status, out, err.count("\n")) == (2, "", 1)
        return err.removeprefix("twingrad: ").removesuffix("\n")

    checkpoint("mlp", {"sizes": [3, 2], "activation": "relu", "loss": "mse"}).write(tmp_path / "a.h5")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("no checkpoint")
    assert said("vgg").endswith("or a checkpoint or a folder with one, found 'vgg'")
    assert said(tmp_path / "none.h5").endswith(f"found '{tmp_path / 'none.h5'}'")
    assert said(tmp_path / "empty").startswith(f"{tmp_path / 'empty'}: expected a checkpoint or a folder with one")
    assert said(tmp_path / "text").startswith(f"{tmp_path / 'text'}: expected a whole HDF5 file")
    expected = f"info {tmp_path / 'a.h5'}: expected no options of a model, for a checkpoint has its own, found --in-ch"
    assert said(tmp_path / "a.h5", "--in-channels", 3).startswith(expected)
    assert said(tmp_path / "a.h5", "--side", "jax") == "side: expected one of torch, flux, found 'jax'"
    for sizes in ("3-x", "3--4", "", "²-3", "1" * 19):
        assert said("mlp", "--sizes", sizes).startswith("--sizes: expected numbers with hyphens between, as 784-16-16")
