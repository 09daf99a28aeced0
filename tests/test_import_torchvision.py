"""ResNets of torchvision: weights and command, against `transformers` and, where it is installed, torchvision."""

import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from twingrad.errors import InputError
from twingrad.format import read_checkpoint
from twingrad.importers.torchvision import IMAGENET, VARIANTS, read_torchvision
from twingrad.models.resnet import ResNet
from twingrad.specs import make_config, model_spec

RESNET = model_spec("resnet", "test")
DEPTHS = {"resnet18": [2, 2, 2, 2], "resnet34": [3, 4, 6, 3], "resnet50": [3, 4, 6, 3]}
ENTRIES = {"resnet18": 102, "resnet34": 182, "resnet50": 267}  # without num_batches_tracked
NAMES = [  # what transformers calls it, what torchvision calls it
    (r"resnet\.embedder\.embedder\.convolution", "conv1"),
    (r"resnet\.embedder\.embedder\.normalization", "bn1"),
    (r"resnet\.encoder\.stages\.(\d)\.layers\.(\d)\.layer\.(\d)\.convolution", "layer{0}.{1}.conv{2}"),
    (r"resnet\.encoder\.stages\.(\d)\.layers\.(\d)\.layer\.(\d)\.normalization", "layer{0}.{1}.bn{2}"),
    (r"resnet\.encoder\.stages\.(\d)\.layers\.(\d)\.shortcut\.convolution", "layer{0}.{1}.downsample.0"),
    (r"resnet\.encoder\.stages\.(\d)\.layers\.(\d)\.shortcut\.normalization", "layer{0}.{1}.downsample.1"),
    (r"classifier\.1", "fc"),
]


def torchvision_name(name):
    """The name of an entry of transformers in torchvision, whose stages and convolutions count from 1."""
    layer, _, array = name.rpartition(".")
    ((found, pattern),) = [(match, to) for of, to in NAMES if (match := re.fullmatch(of, layer))]
    numbers = [int(number) for number in found.groups()]
    return f"{pattern.format(*(number + (place != 1) for place, number in enumerate(numbers)))}.{array}"


def randomize(model):
    """Random weights and statistics, of a size that keeps the signal's."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, array in model.state_dict().items():
            if name.endswith("running_var"):
                array.uniform_(0.5, 2.0, generator=draw)
            elif array.is_floating_point():
                array.normal_(0.0, (2.0 / array[0].numel()) ** 0.5 if array.ndim > 1 else 0.3, generator=draw)
                if array.ndim == 1 and name.endswith("weight"):
                    array += 1.0
    return model.eval()


@pytest.fixture(scope="module")
def transformers():
    """The models of `transformers` by variant, with random weights and few channels."""
    from transformers.models.resnet.configuration_resnet import ResNetConfig
    from transformers.models.resnet.modeling_resnet import ResNetForImageClassification

    def model(variant):
        bottleneck = variant == "resnet50"
        widths = [4 * 2**stage * (4 if bottleneck else 1) for stage in range(4)]
        kind = "bottleneck" if bottleneck else "basic"
        sizes = {"embedding_size": 4, "hidden_sizes": widths, "depths": DEPTHS[variant], "num_channels": 2}
        return randomize(ResNetForImageClassification(ResNetConfig(**sizes, layer_type=kind, num_labels=5)))

    return {variant: model(variant) for variant in VARIANTS}


@pytest.fixture(scope="module")
def torchvision_models():
    try:
        from torchvision import models
    except (ImportError, RuntimeError) as error:  # RuntimeError: it was built for another torch
        pytest.skip(f"no torchvision that fits: {error}")
    return models


@pytest.fixture
def weights():
    """A small state dict of resnet18 with torchvision's names."""
    config = {"variant": "resnet18", "in_channels": 2, "classes": 5, "width": 2}
    specs, draw = RESNET.params(make_config(RESNET, config, "test")), torch.Generator().manual_seed(2)
    return {name: torch.rand(spec.dims, generator=draw) for name, spec in specs.items()}


@pytest.fixture
def file(weights, tmp_path):
    save_file(weights, tmp_path / "small.safetensors")
    return tmp_path / "small.safetensors"


def logits(checkpoint, images):
    params = {name: torch.tensor(array, dtype=images.dtype) for name, array in checkpoint.params.items()}
    with torch.no_grad():
        return ResNet(checkpoint.config, params)(images)


def assert_same_logits(checkpoint, model, theirs, channels):
    images = torch.randn(2, channels, 45, 37, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    with torch.no_grad():
        expected = theirs(model.double(), images)
    ours = logits(checkpoint, images)
    assert ours.shape == expected.shape
    assert (expected[0] - expected[1]).abs().max() > 1e-2
    assert ((ours - expected).norm() / expected.norm()).item() < 1e-12


# ---- weights


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_are_those_of_transformers(transformers, tmp_path, variant):
    model = transformers[variant]
    state = {torchvision_name(name): array.clone() for name, array in model.state_dict().items()}
    save_file(state, tmp_path / "a.safetensors")
    read_torchvision(tmp_path / "a.safetensors").write(tmp_path / "a.h5")
    checkpoint = read_checkpoint(tmp_path / "a.h5")
    expected = {"variant": variant, "in_channels": 2, "classes": 5, "width": 4, "residual": True, "mode": "eval"}
    assert checkpoint.config.model_dump() == expected
    assert len(checkpoint.params) == ENTRIES[variant]
    assert (checkpoint.model, checkpoint.status, checkpoint.iteration) == ("resnet", "imported", 0)
    assert_same_logits(checkpoint, model, lambda model, images: model(images).logits, 2)


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_are_those_of_torchvision(torchvision_models, tmp_path, variant):
    model = randomize(getattr(torchvision_models, variant)(weights=None))
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    checkpoint = read_torchvision(tmp_path / "a.safetensors")
    assert checkpoint.config.variant == variant
    assert checkpoint.data == {"images": IMAGENET}
    assert_same_logits(checkpoint, model, lambda model, images: model(images), 3)


def test_every_number_is_kept(file, weights):
    checkpoint = read_torchvision(file)
    assert checkpoint.versions == {"source": "resnet18 of torchvision, small.safetensors"}
    assert checkpoint.params.keys() == weights.keys()
    assert all(np.array_equal(array, weights[name].numpy()) for name, array in checkpoint.params.items())
    assert all(array.dtype == np.float32 and array.flags.c_contiguous for array in checkpoint.params.values())


def change(file, **entries):
    """Put entries into a file; None takes one away."""
    weights = load_file(file) | entries
    save_file({name: value for name, value in weights.items() if value is not None}, file)


@pytest.mark.parametrize(("classes", "channels", "known"), [(1000, 3, True), (1000, 2, False), (10, 3, False)])
def test_only_weights_for_imagenet_say_what_images_they_are_for(file, classes, channels, known):
    entries = {"fc.weight": torch.ones(classes, 16), "fc.bias": torch.ones(classes)}
    change(file, **entries, **{"conv1.weight": torch.ones(2, channels, 7, 7)})
    data = read_torchvision(file).data
    assert bool(data) == known
    if known:
        images = data["images"]
        assert (images["name"], images["shape"], images["mean"]) == ("imagenet", [3, 224, 224], [0.485, 0.456, 0.406])
        assert images["std"] == [0.229, 0.224, 0.225]
        assert images["classes"] == [str(number) for number in range(1000)]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_numbers_become_float32(file, weights, dtype):
    change(file, **{name: array.to(dtype) for name, array in weights.items()})
    params = read_torchvision(file).params
    assert params["conv1.weight"].dtype == np.float32
    assert np.array_equal(params["conv1.weight"], weights["conv1.weight"].to(dtype).float().numpy())


def test_counters_are_dropped(file, weights):
    norms = [name.removesuffix("running_mean") for name in weights if name.endswith("running_mean")]
    change(file, **{f"{norm}num_batches_tracked": torch.tensor(7) for norm in norms})
    assert len(norms) == 20
    assert read_torchvision(file).params.keys() == weights.keys()


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"layer4.1.bn2.bias": None}, r", layer4\.1\.bn2\.bias: expected this entry, shape \(16,\), found nothing"),
        ({"fc.weight": None}, r", fc\.weight: expected this entry, shape \(classes, channels\), found nothing"),
        ({"conv1.bias": torch.ones(2)}, r", conv1\.bias: expected only resnet18's weights, found an extra entry"),
        ({"fc.num_batches_tracked": torch.tensor(1)}, r"fc\.num_batches_tracked: .* found an extra entry"),
        ({"fc.weight": torch.ones(5, 2, 1)}, r"expected shape \(classes, channels\), found shape \(5, 2, 1\)"),
        ({"fc.weight": torch.ones(0, 16)}, "classes: expected .* found 0"),
        ({"fc.weight": torch.tensor(1.0)}, r"expected shape \(classes, channels\), found shape \(\)"),
        ({"conv1.weight": torch.ones(2, 2, 3, 3)}, r"expected shape \(2, 2, 7, 7\), found shape \(2, 2, 3, 3\)"),
        ({"conv1.weight": torch.ones(98, 2)}, r"expected shape \(width, channels, 7, 7\), found shape \(98, 2\)"),
        ({"layer2.0.conv2.weight": torch.ones(4, 8, 3, 3)}, r"expected shape \(4, 4, 3, 3\), found .*\(4, 8, 3, 3\)"),
        ({"fc.bias": torch.ones(6)}, r"fc\.bias: expected shape \(5,\), found shape \(6,\)"),
        ({"fc.bias": torch.ones(5, dtype=torch.int64)}, "dtype one of F16, BF16, F32, F64, found dtype I64"),
        ({"fc.bias": torch.tensor([1, 2, torch.inf, 0, 0])}, r"finite float32 numbers, found inf at index \(2,\)"),
        ({"bn1.running_var": torch.tensor([1.0, -1.0])}, r"running_var: expected numbers >= 0, .* at index \(1,\)"),
        ({"layer1.2.conv1.weight": torch.ones(2, 2, 3, 3)}, "one of resnet18, .* 3, 2, 2, 2 blocks of 2 convolutions"),
        ({"layer1.0.conv3.weight": torch.ones(2, 2, 1, 1)}, "found 2, 2, 2, 2 blocks of 3 convolutions"),
    ],
)  # fmt: skip
def test_wrong_weights_are_refused_by_file_and_entry(file, entries, message):
    change(file, **entries)
    with pytest.raises(InputError, match=f"^{re.escape(str(file))}.*{message}") as caught:
        read_torchvision(file)
    assert "\n" not in str(caught.value)


def test_the_variant_that_is_asked_for_must_be_there(file):
    assert read_torchvision(file, "resnet18").config == read_torchvision(file).config
    with pytest.raises(InputError, match=r"layer1\.2\.conv1\.weight: expected this entry, shape \(2, 2, 3, 3\)"):
        read_torchvision(file, "resnet34")
    with pytest.raises(InputError, match=r"^variant: expected one of resnet18, resnet34, resnet50, found 'resnet20'"):
        read_torchvision(file, "resnet20")
    save_file({"weight": torch.ones(1)}, file)
    with pytest.raises(InputError, match=r"expected one of resnet18, .* found no block of layer1\. With --variant"):
        read_torchvision(file)


def test_files_that_are_none_are_refused(file, tmp_path):
    with pytest.raises(InputError, match=r"none\.pth: expected a whole safetensors file, found no such file$"):
        read_torchvision(tmp_path / "none.pth")
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"expected a whole safetensors file, found a damaged .*") as caught:
        read_torchvision(file)
    assert "Pickles" not in str(caught.value)
    torch.save({}, tmp_path / "resnet18.pth")
    with pytest.raises(InputError, match=r"found a damaged or foreign one .*\. Pickles are not read, .* save_file"):
        read_torchvision(tmp_path / "resnet18.pth")


def test_the_advice_for_pickles_converts_one(weights, tmp_path, monkeypatch):
    for name in ("FILE", "FILE.pth"):
        torch.save(weights, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        read_torchvision(tmp_path / "FILE.pth")
    exec(re.search("python -c '(.*)'", caught.value.hint)[1], {})
    assert read_torchvision(tmp_path / "FILE.safetensors").params.keys() == weights.keys()


# ---- command


def test_import_writes_a_checkpoint(twingrad, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert twingrad("import", "torchvision", file) == (0, "resnet18.h5\n", "")
    out = tmp_path / "new" / "x.h5"
    assert twingrad("import", "torchvision", file, "--variant", "resnet18", "--out", out) == (0, f"{out}\n", "")
    one, other = read_checkpoint(tmp_path / "resnet18.h5"), read_checkpoint(out)
    assert (one.config, one.params.keys()) == (other.config, other.params.keys())


def test_import_errors_are_one_line(twingrad, file, tmp_path):
    for more in (("--variant", "resnet50"), ("--variant", "resnet101")):
        status, out, err = twingrad("import", "torchvision", file, *more, "--out", tmp_path / "x.h5")
        assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert not (tmp_path / "x.h5").exists()
