"""The ResNets: their formulas pixel by pixel in NumPy, batch norm and shortcuts by hand, published names and sizes."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from test_optimizers import in_numpy as optimize_in_numpy
from twingrad import engine
from twingrad.comparator.compare import split_paths
from twingrad.errors import InputError
from twingrad.fixtures.resnet import ResNetRecipe
from twingrad.models.resnet import BatchNorm, Block, ResNet
from twingrad.schedule import COMPARED
from twingrad.specs import MODELS, ResNetConfig, check_arrays, make_config
from twingrad.specs.resnet import BlockPlan

BLOCKS = {"resnet20": (3, 3, 3), "resnet32": (5, 5, 5), "resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}
KINDS = {
    "20 train": {"size": (5, 6)},
    "20 eval": {"size": (5, 6), "mode": "eval"},
    "20 plain": {"size": (6, 5), "residual": False},
    "32 train": {"variant": "resnet32", "size": (4, 4), "in_channels": 1},
    "18 train": {"variant": "resnet18", "size": (33, 35)},
    "18 eval": {"variant": "resnet18", "size": (17, 30), "mode": "eval"},
    "18 plain": {"variant": "resnet18", "size": (33, 35), "residual": False},
    "50 train": {"variant": "resnet50", "size": (34, 33), "width": 1},
    "50 eval": {"variant": "resnet50", "size": (34, 33), "width": 1, "mode": "eval"},
}


def case_of(**changes):
    return ResNetRecipe("test", **{"size": (6, 6), **changes}).make(seed=21)


def model_of(config, params):
    return ResNet(config, {name: torch.tensor(array) for name, array in params.items()})


def tensors(case):
    return {"images": torch.tensor(case.groups["inputs"]["images"])}, {
        "labels": torch.tensor(case.groups["targets"]["labels"])
    }


def relu(x):
    return np.maximum(x, 0.0)


def convolve(x, weight, stride):
    """The cross-correlation of x (N, C, H, W) in a frame of zeros, pixel by pixel of the output."""
    size = weight.shape[-1]
    frame = np.pad(x, ((0, 0), (0, 0), (size // 2, size // 2), (size // 2, size // 2)))
    H, W = (math.ceil(length / stride) for length in x.shape[2:])
    y = np.empty((len(x), len(weight), H, W))
    for i, j in product(range(H), range(W)):
        window = frame[:, :, i * stride : i * stride + size, j * stride : j * stride + size]
        y[:, :, i, j] = np.tensordot(window, weight, axes=((1, 2, 3), (1, 2, 3)))
    return y


def largest_of_nine(x):
    frame = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    y = np.empty((*x.shape[:2], *(math.ceil(length / 2) for length in x.shape[2:])))
    for i, j in product(range(y.shape[2]), range(y.shape[3])):
        y[:, :, i, j] = frame[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max(axis=(2, 3))
    return y


def in_numpy(config, params, images):
    """Logits (N, classes), and the running statistics after the pass by name."""
    statistics = {name: array.copy() for name, array in params.items() if "running" in name}

    def conv(x, name, stride=1):
        return convolve(x, params[f"{name}.weight"], stride)

    def norm(x, name):
        mean, var = statistics[f"{name}.running_mean"], statistics[f"{name}.running_var"]
        if config.mode == "train":
            channels = x.transpose(1, 0, 2, 3).reshape(x.shape[1], -1)
            count, old = channels.shape[1], (mean, var)
            mean = channels.sum(1) / count
            squares = ((channels - mean[:, None]) ** 2).sum(1)
            var = squares / count
            statistics[f"{name}.running_mean"] = 0.9 * old[0] + 0.1 * mean
            statistics[f"{name}.running_var"] = 0.9 * old[1] + 0.1 * squares / (count - 1)
        n = (x - mean[:, None, None]) / np.sqrt(var[:, None, None] + 1e-5)
        return n * params[f"{name}.weight"][:, None, None] + params[f"{name}.bias"][:, None, None]

    def branch(x, name, stride):
        if config.variant != "resnet50":
            y = relu(norm(conv(x, f"{name}.conv1", stride), f"{name}.bn1"))
            return norm(conv(y, f"{name}.conv2"), f"{name}.bn2")
        y = relu(norm(conv(x, f"{name}.conv1"), f"{name}.bn1"))
        y = relu(norm(conv(y, f"{name}.conv2", stride), f"{name}.bn2"))
        return norm(conv(y, f"{name}.conv3"), f"{name}.bn3")

    small_images = len(BLOCKS[config.variant]) == 3
    x = relu(norm(conv(images, "conv1", 1 if small_images else 2), "bn1"))
    if not small_images:
        x = largest_of_nine(x)
    for stage, count in enumerate(BLOCKS[config.variant], start=1):
        for name, first in ((f"layer{stage}.{block}", block == 0) for block in range(count)):
            stride = 2 if first and stage > 1 else 1
            y = branch(x, name, stride)
            if not config.residual:
                x = relu(y)
            elif f"{name}.downsample.0.weight" in params:
                x = relu(y + norm(conv(x, f"{name}.downsample.0", stride), f"{name}.downsample.1"))
            else:
                y[:, : x.shape[1]] += x[:, :, ::stride, ::stride]
                x = relu(y)
    pooled = x.sum((2, 3)) / (x.shape[2] * x.shape[3])
    return pooled @ params["fc.weight"].T + params["fc.bias"], statistics


def loss_of(config, groups):
    logits, _ = in_numpy(config, groups["params"], groups["inputs"]["images"])
    right = logits[np.arange(len(logits)), groups["targets"]["labels"]]
    return float(np.mean(np.log(np.exp(logits).sum(1)) - right))


# ---- the network


@pytest.mark.parametrize("kind", KINDS)
def test_a_pass_is_its_formulas_in_numpy(kind):
    case = case_of(**KINDS[kind])
    logits, statistics = in_numpy(case.config, case.groups["params"], case.groups["inputs"]["images"])
    assert np.abs(logits).max() > 0.1
    found = engine.evaluate("resnet", case.config, case.groups)
    assert np.allclose(found["outputs/logits"], logits, rtol=1e-11, atol=1e-12)
    assert float(found["loss"]) == pytest.approx(loss_of(case.config, case.groups), rel=1e-11)
    assert {path for path in found if path.startswith("statistics/")} == {f"statistics/{name}" for name in statistics}
    for name, array in statistics.items():
        assert np.allclose(found[f"statistics/{name}"], array, rtol=1e-11, atol=1e-13), name
        moved = not np.array_equal(array, case.groups["params"][name])
        assert moved == (case.config.mode == "train"), name


@pytest.mark.parametrize("kind", ["20 train", "20 plain", "18 eval", "50 eval"])
def test_the_gradient_is_the_slope_of_the_formulas_in_numpy(kind):
    """Along a direction in which everything moves at once; each array alone is confirmed where cases are written."""
    case = case_of(**KINDS[kind])
    found = engine.evaluate("resnet", case.config, case.groups)
    draw = np.random.default_rng(4)
    ways = {path: draw.normal(size=array.shape) for path, array in found.items() if path.startswith("grads")}
    slope = sum(float((found[path] * way).sum()) for path, way in ways.items())

    def moved(h):
        params = {
            name: array + h * ways[f"grads/{name}"] if f"grads/{name}" in ways else array
            for name, array in case.groups["params"].items()
        }
        images = case.groups["inputs"]["images"] + h * ways["grads_inputs/images"]
        return loss_of(case.config, {**case.groups, "params": params, "inputs": {"images": images}})

    assert abs(slope) > 0.01
    assert (moved(1e-7) - moved(-1e-7)) / 2e-7 == pytest.approx(slope, rel=1e-5)


@torch.no_grad()
def test_a_net_of_silent_branches_passes_on_what_its_first_layer_made():
    """Where the last norm of each block is 0, shortcut A leaves every fourth pixel of each side, and zero channels."""
    case = case_of(width=2, size=(9, 11), mode="eval")
    params = dict(case.groups["params"])
    for name in params:
        if name.startswith("layer") and ".bn2." in name and "running" not in name:
            params[name] = 0 * params[name]
    model, images = model_of(case.config, params), tensors(case)[0]["images"]
    first = torch.relu(model.bn1(model.conv1(images)))
    mean = torch.stack([first[:, :, i, j] for i in (0, 4, 8) for j in (0, 4, 8)]).mean(0)
    expected = mean @ model.fc.weight[:, :2].T + model.fc.bias
    assert torch.allclose(model(images), expected, rtol=1e-13, atol=1e-14)


@torch.no_grad()
def test_in_evaluation_an_image_does_not_know_the_others():
    for mode, alone in (("eval", True), ("train", False)):
        case = case_of(mode=mode)
        model, images = model_of(case.config, case.groups["params"]), tensors(case)[0]["images"]
        assert model.training == (mode == "train")
        assert torch.allclose(model(images)[:2], model(images[:2]), rtol=0, atol=1e-12) == alone


# ---- batch norm


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_batch_norm_in_numbers(scale):
    """At the small scale eps is most of the variance: 1e-5 itself, not the nearest that single precision has."""
    norm, values = BatchNorm(1).double(), scale * np.array([1.0, 2.0, 3.0, 4.0])
    state = {"weight": 2.0, "bias": 0.5, "running_mean": 10.0, "running_var": 3.0}
    norm.load_state_dict({name: torch.tensor([value], dtype=torch.float64) for name, value in state.items()})
    x = torch.tensor(values).reshape(2, 1, 1, 2)
    expected = 0.5 + 2.0 * (values - 2.5 * scale) / math.sqrt(1.25 * scale**2 + 1e-5)
    assert norm(x).detach().numpy().ravel() == pytest.approx(expected, rel=1e-13)
    assert float(norm.running_mean) == pytest.approx(0.9 * 10 + 0.1 * 2.5 * scale, rel=1e-14)
    assert float(norm.running_var) == pytest.approx(0.9 * 3 + 0.1 * 5 / 3 * scale**2, rel=1e-14)
    norm.running_var.fill_(2 * scale**2)
    mean = float(norm.running_mean)
    expected = 0.5 + 2.0 * (values - mean) / math.sqrt(2 * scale**2 + 1e-5)
    assert norm.eval()(x).detach().numpy().ravel() == pytest.approx(expected, rel=1e-13)
    assert (float(norm.running_mean), float(norm.running_var)) == (mean, 2 * scale**2)


def test_batch_norm_is_torchs_layer_over_several_steps():
    draw = torch.Generator().manual_seed(2)
    theirs = torch.nn.BatchNorm2d(3, dtype=torch.float64)
    mine = BatchNorm(3).double()
    with torch.no_grad():
        for param in theirs.parameters():
            param.normal_(generator=draw)
    mine.load_state_dict({name: array for name, array in theirs.state_dict().items() if "num" not in name})
    for training in (True, True, True, False):
        x = 3 + 2 * torch.randn(4, 3, 5, 2, generator=draw, dtype=torch.float64)
        weights = torch.randn(4, 3, 5, 2, generator=draw, dtype=torch.float64)
        grads = []
        for norm in (mine, theirs):
            leaf = x.clone().requires_grad_()
            value = (weights * norm.train(training)(leaf)).sum()
            grads.append([value.detach(), *torch.autograd.grad(value, [leaf, norm.weight, norm.bias])])
        for a, b in zip(*grads, strict=True):
            assert torch.allclose(a, b, rtol=1e-13, atol=1e-13)
        for name in ("running_mean", "running_var"):
            assert torch.allclose(getattr(mine, name), getattr(theirs, name), rtol=1e-14, atol=0)


# ---- blocks


@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(2, 4, 2), (3, 6, 2), (2, 5, 1)])
def test_shortcut_a_by_hand(inputs, outputs, stride):
    config = ResNetConfig(variant="resnet20")
    block = Block(BlockPlan("b", inputs, outputs, outputs, stride), config)
    assert sum(param.numel() for name, param in block.named_parameters() if "downsample" in name) == 0
    x = torch.arange(2.0 * inputs * 5 * 4).reshape(2, inputs, 5, 4)
    y = block.shortcut(x)
    assert y.shape == (2, outputs, math.ceil(5 / stride), math.ceil(4 / stride))
    for n, c, i, j in product(*map(range, y.shape)):
        assert y[n, c, i, j] == (x[n, c, stride * i, stride * j] if c < inputs else 0)


def test_a_block_that_reshapes_nothing_adds_its_input():
    block = Block(BlockPlan("b", 4, 4, 4, 1), ResNetConfig(variant="resnet18"))
    x = torch.ones(1, 4, 2, 2)
    assert block.shortcut(x) is x


@pytest.mark.parametrize(
    ("variant", "strides"), [("resnet20", (2, 1)), ("resnet18", (2, 1, 2)), ("resnet50", (1, 2, 1, 2))]
)
def test_the_stride_of_a_block_is_in_its_convolution_of_size_3(variant, strides):
    """In the second of a bottleneck, as torchvision has it; the paper has it in the first. Last, the shortcut's."""
    block = ResNet(*_small(variant)).layer2[0]
    convs = [module for module in block.modules() if isinstance(module, torch.nn.Conv2d)]
    assert tuple(conv.stride for conv in convs) == tuple((stride, stride) for stride in strides)
    assert all(conv.bias is None and conv.padding == tuple(n // 2 for n in conv.kernel_size) for conv in convs)


def _small(variant):
    case = case_of(variant=variant, width=1)
    return case.config, {name: torch.tensor(array) for name, array in case.groups["params"].items()}


# ---- names and sizes


def count(variant, **changes):
    params = MODELS["resnet"].params(ResNetConfig(variant=variant, **changes))
    return sum(math.prod(spec.dims) for spec in params.values() if spec.trained)


@pytest.mark.parametrize(
    ("variant", "expected", "published"),
    [
        ("resnet20", 269_722, 0.27),
        ("resnet32", 464_154, 0.46),
        ("resnet44", 658_586, 0.66),
        ("resnet56", 853_018, 0.85),
        ("resnet110", 1_727_962, 1.7),
    ],
)
def test_parameter_counts_of_the_paper(variant, expected, published):
    """Table 6 of He et al. has millions of two digits."""
    assert count(variant) == expected
    assert float(f"{expected / 1e6:.2g}") == published


@pytest.mark.parametrize(
    ("variant", "expected", "entries"),
    [("resnet18", 11_689_512, 102), ("resnet34", 21_797_672, 182), ("resnet50", 25_557_032, 267)],
)
def test_parameter_counts_and_entries_of_torchvision(variant, expected, entries):
    """Its state has `num_batches_tracked` of each norm besides, a count that nothing is computed from."""
    assert count(variant, classes=1000) == expected
    assert len(MODELS["resnet"].params(ResNetConfig(variant=variant, classes=1000))) == entries


@pytest.mark.parametrize(
    "variant", [*(f"resnet{6 * n + 2}" for n in (3, 5, 7, 9, 18)), *(f"resnet{n}" for n in (18, 34, 50))]
)
def test_a_variant_is_called_by_its_number_of_layers(variant):
    params = MODELS["resnet"].params(ResNetConfig(variant=variant))
    layers = [name for name, spec in params.items() if len(spec.dims) > 1 and "downsample" not in name]
    assert len(layers) == int(variant.removeprefix("resnet"))


def test_names_and_shapes_are_torchvisions():
    norm = ("weight", "bias", "running_mean", "running_var")
    params = MODELS["resnet"].params(ResNetConfig(variant="resnet18", classes=1000))
    start = ["conv1.weight", *(f"bn1.{part}" for part in norm)]
    start += ["layer1.0.conv1.weight", *(f"layer1.0.bn1.{part}" for part in norm)]
    start += ["layer1.0.conv2.weight", *(f"layer1.0.bn2.{part}" for part in norm), "layer1.1.conv1.weight"]
    assert list(params)[: len(start)] == start
    assert list(params)[-2:] == ["fc.weight", "fc.bias"]
    reshaping = ["layer2.0.conv1.weight", *(f"layer2.0.bn1.{part}" for part in norm), "layer2.0.conv2.weight"]
    reshaping += [*(f"layer2.0.bn2.{part}" for part in norm), "layer2.0.downsample.0.weight"]
    reshaping += [f"layer2.0.downsample.1.{part}" for part in norm]
    assert [name for name in params if name.startswith("layer2.0.")] == reshaping
    shapes = {name: spec.dims for name, spec in params.items()}
    assert (shapes["conv1.weight"], shapes["fc.weight"]) == ((64, 3, 7, 7), (1000, 512))
    assert (shapes["layer2.0.downsample.0.weight"], shapes["layer4.1.conv2.weight"]) == (
        (128, 64, 1, 1),
        (512, 512, 3, 3),
    )
    shapes = {name: spec.dims for name, spec in MODELS["resnet"].params(ResNetConfig(variant="resnet50")).items()}
    sizes = [shapes[f"layer1.0.{name}.weight"] for name in ("conv1", "conv2", "conv3", "downsample.0")]
    assert sizes == [(64, 64, 1, 1), (64, 64, 3, 3), (256, 64, 1, 1), (256, 64, 1, 1)]
    sizes = [shapes[f"layer4.0.{name}.weight"] for name in ("conv1", "conv2", "conv3", "downsample.0")]
    assert sizes == [(512, 1024, 1, 1), (512, 512, 3, 3), (2048, 512, 1, 1), (2048, 1024, 1, 1)]
    assert {
        stage: sum(1 for name in shapes if name.startswith(stage) and "conv3" in name) for stage in STAGES
    } == STAGES


STAGES = {"layer1.": 3, "layer2.": 4, "layer3.": 6, "layer4.": 3}


@pytest.mark.parametrize("variant", ["resnet20", "resnet18", "resnet50"])
def test_the_modules_have_the_names_and_order_of_the_table(variant):
    config, params = _small(variant)
    model = ResNet(config, params)
    assert list(model.state_dict()) == list(params)
    for name, array in model.state_dict().items():
        assert array.data_ptr() == params[name].data_ptr(), name
    trained = [name for name, spec in MODELS["resnet"].params(config).items() if spec.trained]
    assert [name for name, _ in model.named_parameters()] == trained
    assert not any("running" in name for name in trained)


@pytest.mark.parametrize("variant", ["resnet20", "resnet18"])
def test_a_plain_net_has_no_shortcuts(variant):
    residual, plain = (MODELS["resnet"].params(ResNetConfig(variant=variant, residual=one)) for one in (True, False))
    assert [name for name in residual if "downsample" not in name] == list(plain)


# ---- the engine


def test_statistics_are_those_after_one_pass_and_the_case_is_left_alone():
    case = case_of()
    before = {name: array.copy() for name, array in case.groups["params"].items()}
    once, again = (engine.evaluate("resnet", case.config, case.groups, steps=steps) for steps in (0, 2))
    for path, array in once.items():
        assert np.array_equal(array, again[path]), path
    assert all(np.array_equal(array, case.groups["params"][name]) for name, array in before.items())


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_finite_differences_are_of_one_and_the_same_function(mode):
    """What earlier calls did to the running statistics is no part of it; what the case has there is, in evaluation."""
    case = case_of(mode=mode)
    loss = engine.loss_function("resnet", case.config)
    shifted = {name: array + 0.1 * ("running" in name) for name, array in case.groups["params"].items()}
    found = [loss(case.groups), loss({**case.groups, "params": shifted}), loss(case.groups)]
    assert found[0] == found[2] == float(engine.evaluate("resnet", case.config, case.groups)["loss"])
    assert (found[0] == found[1]) == (mode == "train")


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_training_steps_are_the_optimizers_formulas_and_move_the_statistics(name, mode):
    case = case_of(mode=mode)
    running = {key: array for key, array in case.groups["params"].items() if "running" in key}
    losses = []

    def gradient(params):
        found = engine.evaluate("resnet", case.config, {**case.groups, "params": {**params, **running}})
        running.update({key: found[f"statistics/{key}"] for key in running})
        losses.append(float(found["loss"]))
        return {key: found[f"grads/{key}"] for key in params}

    params = {key: array.copy() for key, array in case.groups["params"].items() if "running" not in key}
    optimize_in_numpy(COMPARED[name], params, gradient, 4)
    found = engine.evaluate("resnet", case.config, case.groups, steps=4)
    assert found[f"steps/{name}/losses"] == pytest.approx(losses, rel=1e-10)
    after = {path.split("params_after/")[1] for path in found if path.startswith(f"steps/{name}/params_after/")}
    assert after == case.groups["params"].keys()
    for key, array in {**params, **running}.items():
        assert np.allclose(found[f"steps/{name}/params_after/{key}"], array, rtol=1e-9, atol=1e-11), key


def test_engine_computes_in_single_precision():
    case = case_of()
    found = engine.evaluate("resnet", case.config, case.groups, dtype="float32", steps=1)
    assert {array.dtype for array in found.values()} == {np.dtype(np.float32)}
    exact = engine.evaluate("resnet", case.config, case.groups)
    for path in ("grads/conv1.weight", "statistics/layer3.2.bn2.running_var"):
        assert 1e-9 < np.linalg.norm(found[path] - exact[path]) / np.linalg.norm(exact[path]) < 1e-4


# ---- what is refused


VARIANTS = "'resnet20', 'resnet32', 'resnet44', 'resnet56', 'resnet110', 'resnet18', 'resnet34' or 'resnet50'"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"variant": "resnet21"}, f"variant: expected one of {VARIANTS}, found 'resnet21'"),
        ({"variant": 20}, f"variant: expected one of {VARIANTS}, found 20"),
        ({"mode": "test"}, "mode: expected one of 'train' or 'eval', found 'test'"),
        ({"width": -1}, "width: expected Input should be greater than or equal to 0, found -1"),
        ({"in_channels": 0}, "in_channels: expected Input should be greater than or equal to 1, found 0"),
        ({"classes": 0}, "classes: expected Input should be greater than or equal to 1, found 0"),
        ({"classes": True}, "classes: expected Input should be a valid integer, found True"),
        ({"residual": 1}, "residual: expected Input should be a valid boolean, found 1"),
        ({"depth": 20}, "depth: expected only variant, in_channels, classes, width, residual, mode, found 'depth'"),
    ],
)
def test_settings_that_are_none_are_refused(changes, says):
    with pytest.raises(InputError, match=f"^config, {says}$"):
        make_config(MODELS["resnet"], {"variant": "resnet20", **changes}, "config")


def test_settings_have_defaults_but_for_the_variant():
    with pytest.raises(InputError, match=r"^config, variant: expected this entry, found nothing$"):
        make_config(MODELS["resnet"], {}, "config")
    config = make_config(MODELS["resnet"], {"variant": "resnet56"}, "config")
    assert config == ResNetConfig(variant="resnet56", in_channels=3, classes=10, width=0, residual=True, mode="train")
    assert (config.first_width, ResNetConfig(variant="resnet34").first_width) == (16, 64)


def test_arrays_that_contradict_the_settings_are_refused():
    case = case_of()
    spec, groups = MODELS["resnet"], case.groups
    wrong = groups["params"]["bn1.running_var"].copy()
    wrong[1] = -0.5
    for name, array, says in (
        ("bn1.running_var", wrong, r"bn1.running_var: expected numbers >= 0, found .*-0.5.* at index \(1,\)"),
        (
            "conv1.weight",
            np.zeros((2, 3, 3, 3)),
            r"conv1.weight: expected shape \(2, 2, 3, 3\), found shape \(2, 3, 3, 3\)",
        ),
        (
            "layer2.0.downsample.0.weight",
            np.zeros((4, 2, 1, 1)),
            "layer2.0.downsample.0.weight: expected only .*an extra",
        ),
    ):
        with pytest.raises(InputError, match=f"^params/{says}"):
            check_arrays(spec.params(case.config), {**groups["params"], name: array}, "params", {})
    fewer = {name: array for name, array in groups["params"].items() if name != "bn1.running_mean"}
    with pytest.raises(
        InputError, match=r"^params/bn1.running_mean: expected float64 array \(2,\), found no such entry$"
    ):
        check_arrays(spec.params(case.config), fewer, "params", {})
    with pytest.raises(InputError, match=r"^t/labels: expected ids 0 to 2, found 3 at index \(1,\)$"):
        check_arrays(spec.targets(case.config), {"labels": np.array([0, 3, 1])}, "t", {})
    with pytest.raises(InputError, match=r"images: expected shape \(N, 2, H, W\), found shape \(3, 6, 6\)"):
        check_arrays(spec.inputs(case.config), {"images": np.zeros((3, 6, 6))}, "i", {})


@pytest.mark.parametrize(
    ("variant", "mode", "shape", "refused"),
    [
        ("resnet20", "train", (1, 3, 4, 4), True),
        ("resnet20", "train", (1, 3, 4, 5), False),
        ("resnet20", "train", (2, 3, 4, 4), False),
        ("resnet20", "eval", (1, 3, 4, 4), False),
        ("resnet18", "train", (1, 3, 32, 17), True),
        ("resnet18", "train", (1, 3, 33, 17), False),
    ],
)
def test_a_training_batch_with_one_value_per_channel_is_refused(variant, mode, shape, refused):
    config = ResNetConfig(variant=variant, mode=mode, width=1)
    wrong = config.check({"inputs": {"images": np.zeros(shape)}})
    assert (wrong is not None) == refused
    if refused:
        pixels = 32 if variant == "resnet18" else 4
        assert wrong == (
            "inputs/images",
            f'mode "eval", more images, or images of more than {pixels} pixels a side',
            f"one value per channel in the last stage, of one {shape[2]} x {shape[3]} image",
        )
    params = {name: torch.ones(spec.dims) for name, spec in MODELS["resnet"].params(config).items()}
    failed = False
    try:
        ResNet(config, params)(torch.ones(shape))
    except ValueError:
        failed = True
    assert failed == refused


def test_an_oracle_has_statistics_and_no_gradient_of_them():
    case = case_of()
    found, _ = split_paths(engine.evaluate("resnet", case.config, case.groups))
    replace(case, oracle=found).check()
    assert not any("running" in path for path in found if path.startswith("grads"))
    for path in ("statistics/bn1.running_mean", "grads/bn1.weight"):
        fewer = {name: array for name, array in found.items() if name != path}
        with pytest.raises(InputError, match=f"/oracle/{path}: expected float64 array"):
            replace(case, oracle=fewer).check()
    with pytest.raises(InputError, match=r"/oracle/grads/bn1\.running_mean: expected only"):
        replace(case, oracle={**found, "grads/bn1.running_mean": np.zeros(2)}).check()
