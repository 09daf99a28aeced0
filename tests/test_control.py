"""Tableaus, stepper, gradients, projection, descent."""

import dataclasses

import numpy as np
import pytest
import torch

from conftest import COMBINATIONS, random_problem
from twingrad import engine
from twingrad.control.costate import costate_gradient
from twingrad.control.descent import Costate, Descent, trained_params
from twingrad.control.runge_kutta import TABLEAUS, step
from twingrad.control.simplex import project_simplex
from twingrad.evaluation import autograd_gradient
from twingrad.kernels.path import Reference


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.linalg.norm(a - b) / torch.linalg.norm(b))


@pytest.mark.parametrize("method", TABLEAUS)
def test_tableau_is_consistent_and_its_partner_symplectic(method):
    tableau = TABLEAUS[method]
    A, w, adjoint = np.array(tableau.A), np.array(tableau.w), np.array(tableau.adjoint)
    assert np.isclose(w.sum(), 1)
    assert np.all(np.triu(A) == 0)
    assert np.all(w != 0)
    # Written forwards, the partner has ā_ij = w_j - ã_ij, and w_i ā_ij + w_j a_ji = w_i w_j makes the pair symplectic.
    partner = w[None, :] - adjoint
    assert np.allclose(w[:, None] * partner + (w[:, None] * A).T, np.outer(w, w))


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("improved-euler", 2), ("kutta3", 3), ("kutta4", 4)])
def test_method_has_its_order(method, order):
    K = torch.tensor([[0.3, -1.2], [0.9, 0.4]], dtype=torch.float64)
    b, start = torch.tensor([0.1, -0.3], dtype=torch.float64), torch.tensor([[1.0, -0.5]], dtype=torch.float64)

    def flow(tableau, steps):
        y, dt = start, torch.tensor(1.0 / steps, dtype=torch.float64)
        for _ in range(steps):
            y = step(tableau, lambda Y: torch.tanh(Y @ K.T + b), y, dt, alpha=1.0)
        return y

    exact = flow(TABLEAUS["kutta4"], 1000)
    errors = [float(torch.linalg.norm(flow(TABLEAUS[method], steps) - exact)) for steps in (16, 32)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize(("network", "method"), COMBINATIONS)
@pytest.mark.parametrize("size", [(1, 1, 1), (4, 3, 7), (2, 5, 1), (9, 2, 30)])
def test_costate_gradient_is_autograds(network, method, size):
    N, d, samples = size
    model, inputs, targets = random_problem(
        network, method, N=N, d=d, samples=samples, scale="sum" if N == 9 else "mean"
    )
    by_hand, automatic = costate_gradient(model, inputs, targets), autograd_gradient(model, inputs, targets)
    assert relative(by_hand.loss, automatic.loss) < 1e-13
    assert by_hand.grads.keys() == automatic.grads.keys() == {"K", "b", "W", "mu", "dt"}
    for name, grad in automatic.grads.items():
        assert by_hand.grads[name].shape == grad.shape
        assert relative(by_hand.grads[name], grad) < 1e-12, name
    assert relative(by_hand.grads_inputs["x"], automatic.grads_inputs["x"]) < 1e-12


@pytest.mark.parametrize("gradient", [costate_gradient, autograd_gradient])
def test_a_layer_that_does_nothing_has_no_gradient(gradient):
    model, inputs, targets = random_problem("odenet", "kutta4")
    with torch.no_grad():
        model.dt[2] = 0.0
    grads = gradient(model, inputs, targets).grads
    assert torch.all(grads["K"][2] == 0)
    assert torch.all(grads["b"][2] == 0)
    assert torch.all(grads["K"][1] != 0)


@pytest.mark.parametrize("gradient", [costate_gradient, autograd_gradient])
def test_gradient_of_one_neuron_in_closed_form(gradient):
    """d = 1, one Euler step: p = σ(w (y + h tanh(k y + b)) + μ), differentiated on paper."""
    model, inputs, targets = random_problem("odenet", "euler", N=1, d=1, samples=1, scale="sum")
    k, b, w, mu, h = (getattr(model, name).item() for name in ("K", "b", "W", "mu", "dt"))
    y, label = inputs["x"].item(), targets["c"].item()
    t = np.tanh(k * y + b)
    p = 1 / (1 + np.exp(-(w * (y + h * t) + mu)))
    r = (p - label) * p * (1 - p)
    expected = {"K": r * w * h * (1 - t * t) * y, "b": r * w * h * (1 - t * t), "W": r * (y + h * t), "mu": r}
    expected |= {"dt": r * w * t}
    found = gradient(model, inputs, targets)
    for name, value in expected.items():
        assert found.grads[name].item() == pytest.approx(value, rel=1e-13), name
    assert found.grads_inputs["x"].item() == pytest.approx(r * w * (1 + h * (1 - t * t) * k), rel=1e-13)
    assert found.loss.item() == pytest.approx(0.5 * (p - label) ** 2, rel=1e-13)


def test_projection_is_the_nearest_point_of_the_simplex():
    draw = torch.Generator().manual_seed(3)
    for n in (1, 2, 5, 40):
        for _ in range(20):
            v = 2 * torch.randn(n, generator=draw, dtype=torch.float64)
            x = project_simplex(v)
            assert x.min() >= 0
            assert float(x.sum()) == pytest.approx(1, abs=1e-14)
            # The condition of optimality: v - x is one number θ on the support, and at most θ elsewhere.
            theta = (v - x)[x > 0]
            assert float(theta.max() - theta.min()) < 1e-13
            assert torch.all((v - x)[x == 0] <= theta.max() + 1e-13)
            assert torch.allclose(project_simplex(x), x, atol=1e-15)


def test_projection_does_not_depend_on_the_order():
    v = torch.tensor([0.1, 2.0, -1.0, 0.7, 1.9], dtype=torch.float64)
    assert torch.allclose(project_simplex(v), torch.tensor([0.0, 0.55, 0.0, 0.0, 0.45], dtype=torch.float64))
    assert torch.equal(project_simplex(v.flip(0)), project_simplex(v).flip(0))


@pytest.mark.parametrize(("network", "method"), [("net", "euler"), ("resnet", "kutta3"), ("odenet", "euler")])
def test_descent_lowers_the_objective_and_meets_its_condition(network, method):
    model, inputs, targets = random_problem(network, method)
    descent = Descent(model, Costate(), inputs, targets, trained_params(model))
    last = descent.objective()
    for _ in range(30):
        here = costate_gradient(model, inputs, targets)
        square = sum(float((here.grads[name] ** 2).sum()) for name in descent.trained)
        before, after, L = descent.step()
        assert before == pytest.approx(last, rel=1e-14)
        assert after <= before - square / (2 * L) * (1 - 1e-9) + 1e-15
        assert descent.step_constant == 0.99 * L
        last = after


def test_descent_keeps_time_steps_on_the_simplex_and_leaves_frozen_parameters():
    model, inputs, targets = random_problem("odenet-simplex", "improved-euler")
    with torch.no_grad():
        model.dt.copy_(project_simplex(model.dt))
    frozen = {name: getattr(model, name).detach().clone() for name in ("W", "mu")}
    start = model.dt.detach().clone()
    descent = Descent(model, Costate(), inputs, targets, trained_params(model, ("W", "mu")))
    for _ in range(20):
        descent.step()
    assert float(model.dt.detach().sum()) == pytest.approx(1, abs=1e-14)
    assert model.dt.min() >= 0
    assert not torch.equal(model.dt, start)
    for name, array in frozen.items():
        assert torch.equal(getattr(model, name), array)


def test_what_is_trained():
    assert trained_params(random_problem("resnet", "euler")[0]) == ("K", "b", "W", "mu")
    assert trained_params(random_problem("odenet", "euler")[0], ("W", "mu")) == ("K", "b", "dt")


def test_descent_that_finds_no_step_changes_nothing():
    model, inputs, targets = random_problem("resnet", "euler")

    class Uphill(Reference):
        def gradient(self, model, inputs, targets):
            right = costate_gradient(model, inputs, targets)
            grads = {name: -1e9 * grad for name, grad in right.grads.items()}
            return dataclasses.replace(right, grads=grads, loss=torch.tensor(-1.0))

    before = {name: param.detach().clone() for name, param in model.named_parameters()}
    descent = Descent(model, Uphill(), inputs, targets, trained_params(model))
    assert descent.step() is None
    assert descent.step_constant == 0.1
    assert all(torch.equal(param, before[name]) for name, param in model.named_parameters())


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_engine_computes_in_the_dtype_it_is_asked_for(dtype, small_case):
    result = engine.evaluate("control_net", small_case.config, small_case.groups, dtype=dtype, steps=2)
    stored = {"float64": np.float64, "float32": np.float32, "bfloat16": np.float32}[dtype]
    assert {array.dtype for array in result.values()} == {np.dtype(stored)}
    exact = engine.evaluate("control_net", small_case.config, small_case.groups)
    error = np.linalg.norm(result["grads/K"] - exact["grads/K"]) / np.linalg.norm(exact["grads/K"])
    low, high = {"float64": (-1, 1e-15), "float32": (1e-9, 1e-5), "bfloat16": (1e-4, 3e-2)}[dtype]
    assert low < error < high
