"""The fast path of control networks against autograd and the costate gradient."""

import pytest
import torch

from conftest import COMBINATIONS, random_problem
from twingrad.control.costate import costate_gradient
from twingrad.evaluation import Evaluation, autograd_gradient
from twingrad.kernels.control_net import ControlKernels, gradient, objective, output
from twingrad.models.control_net import ControlNet


def everything(here: Evaluation) -> dict[str, torch.Tensor]:
    return {"loss": here.loss, "output": here.output, "x": here.grads_inputs["x"], **here.grads}


def errors(here: Evaluation, there: Evaluation) -> dict[str, float]:
    ours, theirs = everything(here), everything(there)
    assert ours.keys() == theirs.keys()
    assert all(ours[name].shape == theirs[name].shape for name in theirs)
    return {
        name: float(torch.linalg.norm((ours[name] - theirs[name]).double()) / torch.linalg.norm(theirs[name].double()))
        for name in theirs
    }


def cast(model: ControlNet, dtype: torch.dtype) -> ControlNet:
    return ControlNet(model.config, {name: param.detach().to(dtype) for name, param in model.named_parameters()})


@pytest.mark.parametrize(("network", "method"), COMBINATIONS)
@pytest.mark.parametrize("scale", ["mean", "sum"])
@pytest.mark.parametrize("d", [1, 2, 3, 5, 16])
def test_the_fast_path_is_the_plain_one(network, method, scale, d):
    for samples in (1, 7, 64, 130):
        model, inputs, targets = random_problem(network, method, d=d, samples=samples, scale=scale)
        with torch.no_grad():
            model.K /= d**0.5
            model.dt /= 4
        work = ControlKernels(model, inputs["x"])
        plain = autograd_gradient(model, inputs, targets)
        fast = gradient(work, model, inputs, targets)
        assert max(errors(fast, plain).values()) < 1e-12
        assert max(errors(fast, costate_gradient(model, inputs, targets)).values()) < 1e-12
        assert objective(work, model, inputs, targets) == pytest.approx(float(plain.loss), rel=1e-13)
        assert torch.equal(output(work, model, inputs), gradient(work, model, inputs, targets).output)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 2e-5), (torch.bfloat16, 0.1)])
@pytest.mark.parametrize(("network", "method"), COMBINATIONS)
def test_the_fast_path_in_fewer_bits(network, method, dtype, bound):
    exact, inputs, targets = random_problem(network, method, d=2, samples=130)
    with torch.no_grad():
        exact.dt /= 4
    model = cast(exact, dtype)
    inputs, targets = {"x": inputs["x"].to(dtype)}, {"c": targets["c"].to(dtype)}
    fast = gradient(ControlKernels(model, inputs["x"]), model, inputs, targets)
    assert {array.dtype for array in everything(fast).values()} == {dtype}
    same = cast(model, torch.float64)
    plain = autograd_gradient(same, {"x": inputs["x"].double()}, {"c": targets["c"].double()})
    assert max(errors(fast, plain).values()) < bound


@pytest.mark.parametrize(("network", "method"), [("net", "euler"), ("odenet", "kutta3")])
def test_room_is_used_again_for_other_weights_too(network, method):
    model, inputs, targets = random_problem(network, method)
    work = ControlKernels(model, inputs["x"])
    first = {name: array.clone() for name, array in everything(gradient(work, model, inputs, targets)).items()}
    other, other_inputs, other_targets = random_problem(network, method, seed=5)
    fast = gradient(work, other, other_inputs, other_targets)
    assert max(errors(fast, autograd_gradient(other, other_inputs, other_targets)).values()) < 1e-12
    again = everything(gradient(work, model, inputs, targets))
    assert all(torch.equal(again[name], first[name]) for name in first)


@pytest.mark.parametrize(("network", "method"), [("net", "euler"), ("resnet", "kutta4")])
def test_no_number_comes_out_where_none_goes_in(network, method):
    model, inputs, targets = random_problem(network, method)
    work = ControlKernels(model, inputs["x"])
    expected = objective(work, model, inputs, targets)
    wrong = inputs["x"].clone()
    wrong[3, 1] = torch.nan
    assert not torch.isfinite(gradient(work, model, {"x": wrong}, targets).loss)
    assert objective(work, model, inputs, targets) == expected


def test_infinity_is_not_forgotten_by_a_plain_network():
    model, inputs, targets = random_problem("net", "euler")
    inputs["x"][3, 1] = torch.inf
    with torch.no_grad():
        assert not torch.isfinite(model.loss(model(**inputs), **targets))
    assert not torch.isfinite(gradient(ControlKernels(model, inputs["x"]), model, inputs, targets).loss)
