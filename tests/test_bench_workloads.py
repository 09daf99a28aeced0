"""The table of workloads: what it stands for, its arrays, its operations."""

import json

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from twingrad import paths
from twingrad.bench.call import Problem
from twingrad.bench.cases import make_arrays, read_arrays, write_arrays
from twingrad.bench.flops import FORWARD_PASSES, MEMORY_BOUND, gpt_forward
from twingrad.bench.layers import layer_call
from twingrad.bench.models import model_call
from twingrad.bench.saved import Work
from twingrad.bench.workloads import Choice, Entry, ceilings, read_table, workloads
from twingrad.errors import InputError
from twingrad.format import Case
from twingrad.validation import validate

BOTH = ("float64", "float32")


def described(profile="full", dtypes=BOTH, device="cpu", **options):
    return [one.described for one in workloads(read_table(), Choice(profile, dtypes, device, **options))]


def work_of(one):
    return Work(**{name: getattr(one, name) for name in Work.model_fields})


def one(name, dtype="float64", device="cpu"):
    return next(w for w in described(dtypes=(dtype,), device=device) if w.name == name)


def test_names_with_dtypes_are_unique():
    for profile in ("quick", "full"):
        keys = [(workload.name, workload.dtype) for workload in described(profile)]
        assert len(keys) == len(set(keys))


def test_the_quick_profile_is_a_part_of_the_full_one():
    full = {workload.name for workload in described("full")}
    quick = described("quick")
    assert {workload.base for workload in quick} < {workload.base for workload in described("full")}
    points = {workload.name for workload in quick if workload.name == workload.base}
    assert points <= full
    assert len(quick) < 30


def test_every_model_layer_and_quantity_of_the_table_is_there():
    found = {(workload.subject, workload.quantity) for workload in described()}
    for model, extra in (("control_net", "costate"), ("mlp", "backpropagation"), ("gpt", "tokens"), ("resnet", "step")):
        assert {(model, quantity) for quantity in ("forward", "gradient", "step", extra)} <= found
    layers = ("linear", "layer-norm", "attention", "gelu-mlp", "convolution", "batch-norm", "cross-entropy")
    assert {(layer, quantity) for layer in layers for quantity in ("forward", "gradient")} <= found
    assert ("adamw", "step") in found


def test_a_sweep_moves_settings_and_sizes_and_the_entry_is_one_of_its_points():
    points = [workload for workload in described() if workload.base == "gpt-step"]
    by_name = {workload.name: workload for workload in points if workload.dtype == "float32"}
    assert by_name["gpt-step"].sweeps == {"batch": 12, "width": 128, "context": 64, "depth": 4}
    longer = by_name["gpt-step-context-128"]
    assert (longer.config["context"], longer.sizes, longer.sweeps) == (128, {"B": 12, "T": 128}, {"context": 128})
    assert (longer.items, longer.item) == (12 * 128, "tokens")
    assert by_name["gpt-step-depth-8"].config["layers"] == 8
    assert by_name["gpt-step"].config["layers"] == 4, "the entry itself is not moved"
    assert [workload.sweeps for workload in points if workload.dtype == "float64"] == [{}], "one dtype has the plot"


def test_points_of_plots_are_timed_with_the_first_number_of_threads_only():
    found = workloads(read_table(), Choice("full", BOTH, "cpu", only=("gpt-step",)))
    assert {one.described.name == one.described.base for one in found if one.every_thread_count} == {True}
    assert {one.described.name == one.described.base for one in found if not one.every_thread_count} == {False}


def test_dtypes_are_those_of_the_table_that_are_wanted():
    assert [workload.dtype for workload in described("quick", only=("gpt-tokens",))] == ["float32"]
    assert [workload.dtype for workload in described("quick", ("float64",), only=("gpt-tokens",))] == ["float64"]
    assert [workload.dtype for workload in described(dtypes=("bfloat16",), only=("gpt-tokens",))] == ["bfloat16"]


def test_devices_are_those_of_the_table():
    assert not [workload for workload in described() if "124m" in workload.name]
    assert [workload.device for workload in described(device="cuda") if "124m" in workload.name] == ["cuda"]


def test_peers_are_asked_for_by_name_and_only_with_the_first_dtype():
    choice = Choice("full", BOTH, "cpu", only=("gpt-step",), peers=True)
    found = {(one.described.name, one.described.dtype): one.peers for one in workloads(read_table(), choice)}
    assert "compile" in found["gpt-step", "float32"]["torch"]
    assert found["gpt-step", "float64"] == found["gpt-step-batch-3", "float32"] == {}
    without = workloads(read_table(), Choice("full", BOTH, "cpu"))
    assert not any(one.peers for one in without)


@pytest.mark.parametrize(("pattern", "some"), [("gpt", "gpt-step"), ("*-forward", "linear-forward")])
def test_names_are_chosen_by_a_part_or_a_pattern(pattern, some):
    names = [workload.name for workload in described(only=(pattern,))]
    assert some in names
    assert len(names) < len(described())


def test_a_name_that_is_none_is_told_with_those_that_are():
    with pytest.raises(InputError, match=r"only: expected .*gpt.*, found dance, which no workload matches"):
        described(only=("dance",))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"subject": "perceptron"}, "subject 'perceptron' is not"),
        ({"quick": ["step"]}, "step not among its quantities"),
        ({"config": {"inputs": 2, "outputs": 3}}, "sizes"),
        ({"sweep": [{"name": "x", "sets": ["conf.a"], "values": [1], "quantities": []}]}, "neither of config"),
    ],
)
def test_a_wrong_entry_is_named(change, says):
    entry = {
        **{"name": "a", "group": "g", "kind": "layer", "subject": "linear"},
        **{"config": {"inputs": 2, "outputs": 3, "batch": 4}, "quantities": {"forward": ["float64"]}},
    }
    validate(Entry, entry, "workloads.toml")
    with pytest.raises(InputError, match=says):
        validate(Entry, entry | change, "workloads.toml")


def test_the_arrays_of_a_model_make_a_case():
    for workload in described("quick"):
        if workload.kind == "model":
            arrays = make_arrays(workload, workload.sizes)
            Case("x", workload.subject, json.dumps(workload.config), arrays).check()


def test_a_file_serves_every_quantity_and_holds_what_was_made(tmp_path):
    forward, gradient, wider = (one(name) for name in ("linear-forward", "linear-gradient", "attention-forward"))
    file = write_arrays(forward, forward.sizes, tmp_path)
    assert write_arrays(gradient, gradient.sizes, tmp_path) == file
    assert write_arrays(wider, wider.sizes, tmp_path) != file
    groups, made = read_arrays(file), make_arrays(forward, forward.sizes)
    assert groups["params"]["weight"].shape == (512, 128)
    for group, arrays in made.items():
        for name, array in arrays.items():
            np.testing.assert_array_equal(groups[group][name], array)
    tokens = one("gpt-tokens")
    assert {group: len(some) for group, some in make_arrays(tokens, tokens.sizes).items() if group != "params"} == {
        "inputs": 1,
        "targets": 0,
    }
    (ceiling,) = ceilings(read_table().profiles["quick"], Choice("quick", ("float32",), "cpu"))
    assert write_arrays(ceiling.described, {}, tmp_path) is None


SMALL = {
    "control_net": ({"network": "odenet", "method": "kutta4", "scale": "mean"}, {"N": 3, "d": 4, "samples": 5}),
    "mlp": ({"sizes": [7, 4, 3], "activation": "sigmoid", "loss": "cross-entropy"}, {"samples": 5}),
    "resnet": ({"variant": "resnet20", "width": 2}, {"N": 2, "H": 8, "W": 8}),
    "gpt": ({"vocab": 5, "context": 6, "layers": 2, "heads": 2, "width": 8}, {"B": 2, "T": 6}),
    "linear": ({"inputs": 3, "outputs": 4, "batch": 5}, {}),
    "attention": ({"width": 8, "heads": 2, "context": 6, "batch": 2}, {}),
    "gelu-mlp": ({"width": 8, "batch": 3}, {}),
    "convolution": ({"inputs": 2, "outputs": 3, "size": 6, "batch": 2}, {}),
}


def small(subject, quantity):
    """(call, operations by formula) of a small workload."""
    from twingrad.bench.workloads import _described

    config, sizes = SMALL[subject]
    kind = "model" if subject in ("control_net", "mlp", "resnet", "gpt") else "layer"
    fields = {"name": "x", "kind": kind, "subject": subject, "quantity": quantity, "config": config, "sizes": sizes}
    workload = _described({**fields, "dtype": "float64", "device": "cpu", "group": "g", "base": "x"})
    problem = Problem(work_of(workload), make_arrays(workload, sizes))
    return model_call(problem, path="reference") if kind == "model" else layer_call(problem), workload.flops


class Counter(TorchDispatchMode):
    """Adds up what torch's table of operations says of each kernel that runs."""

    def __init__(self):
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        count = flop_registry.get(function._overloadpacket)
        self.total += count(*args, **(kwargs or {}), out_val=out) if count else 0
        return out


def counted(call):
    """Operations that torch counts; it does not know every kernel of attention, so the plain one is taken."""
    with sdpa_kernel(SDPBackend.MATH), Counter() as counter:
        call.run()
    return counter.total


@pytest.mark.parametrize("subject", SMALL)
def test_operations_of_a_forward_pass_are_those_torch_counts(subject):
    call, formula = small(subject, "forward")
    head = 2 * 5 * 4 if subject == "control_net" else 0  # a product with a vector, which torch leaves out
    assert counted(call) == formula - head


@pytest.mark.parametrize("subject", [name for name in SMALL if name != "control_net"])
def test_a_gradient_is_three_forward_passes(subject):
    call, formula = small(subject, "gradient")
    assert counted(call) == formula


def test_the_operations_of_larger_resnets_are_the_published_ones():
    """He et al. 2016: ResNet-18 and ResNet-34 have 1.8 and 3.6 thousand million multiplications at 224 x 224."""
    from twingrad.bench.flops import flops_of

    for variant, published in (("resnet18", 1.8e9), ("resnet34", 3.6e9), ("resnet50", 4.1e9)):
        flops = flops_of("resnet", "forward", {"variant": variant, "classes": 1000}, {"N": 1, "H": 224, "W": 224})
        assert flops / 2 == pytest.approx(published, rel=0.03)


def test_a_token_costs_the_mean_of_what_fills_the_context():
    tokens = one("gpt-tokens", "float32")
    config, prompt = tokens.config, tokens.sizes["T"]
    steps = [gpt_forward(config, 1, prompt)] + [gpt_forward(config, 1, 1, past) for past in range(prompt, 63)]
    assert len(steps) == config["context"] - prompt
    assert tokens.flops == pytest.approx(sum(steps) / len(steps))


def test_what_memory_bounds_has_no_operations():
    for workload in described():
        assert (workload.flops is None) == (workload.subject in MEMORY_BOUND)
        assert workload.quantity in FORWARD_PASSES or workload.quantity == "tokens"


def test_the_table_is_read_as_it_stands_in_the_checkout(monkeypatch, tmp_path):
    (tmp_path / "workloads.toml").write_text("format_version = 2\nentry = []\n[profiles]\n")
    monkeypatch.setattr(paths, "shared_fixtures", lambda: tmp_path)
    with pytest.raises(InputError, match=r"workloads.toml, format_version: expected 1, found 2"):
        read_table()


torch.set_num_threads(1)
