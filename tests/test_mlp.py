"""The multilayer perceptron: its formulas unit by unit in NumPy, backpropagation three ways, its training steps."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from test_optimizers import in_numpy
from twingrad import engine
from twingrad.errors import InputError
from twingrad.evaluation import autograd_gradient
from twingrad.fixtures.finite_differences import confirm
from twingrad.fixtures.mlp import MLPRecipe
from twingrad.models.mlp import MultilayerPerceptron, backpropagation
from twingrad.schedule import COMPARED
from twingrad.specs import MODELS, MLPConfig, check_arrays, make_config

ACTIVATIONS, LOSSES = ("sigmoid", "relu"), ("mse", "cross-entropy")
SIZES = {
    "three outputs": (4, 5, 3),
    "two outputs": (3, 4, 2),
    "one output": (3, 4, 1),
    "deep": (3, 4, 5, 4, 3),
    "one unit each": (1, 1, 1),
    "perceptron": (3, 1),
    "linear": (4, 3),
}


def problem(**changes):
    """A config and NumPy arrays: params by name, x (samples, inputs), labels (samples,)."""
    case = MLPRecipe("test", **changes).make(seed=11)
    return case.config, case.groups["params"], case.groups["inputs"]["x"], case.groups["targets"]["labels"]


def model_of(config, params):
    return MultilayerPerceptron(config, {name: torch.tensor(array) for name, array in params.items()})


def tensors(x, labels):
    return {"x": torch.tensor(x)}, {"labels": torch.tensor(labels)}


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def scores_of(config, params, x):
    """The scores (samples, outputs), one unit after the other."""
    activation = {"sigmoid": sigmoid, "relu": lambda z: max(z, 0.0)}[config.activation]
    last = len(config.sizes) - 2
    found = []
    for sample in x:
        a = list(sample)
        for layer in range(last + 1):
            W, b = params[f"layers.{layer}.weight"], params[f"layers.{layer}.bias"]
            z = [b[i] + sum(W[i, j] * a[j] for j in range(len(a))) for i in range(len(b))]
            a = z if layer == last else [activation(value) for value in z]
        found.append(a)
    return np.array(found)


def loss_of(config, scores, labels):
    """The loss, sample by sample."""
    total = 0.0
    for score, label in zip(scores, labels, strict=True):
        if len(score) == 1:
            p = sigmoid(score[0])
            logistic = -math.log(p if label == 1 else 1 - p)
            total += (score[0] - label) ** 2 if config.loss == "mse" else logistic
        elif config.loss == "mse":
            total += sum((value - (k == label)) ** 2 for k, value in enumerate(score))
        else:
            total += math.log(sum(math.exp(value) for value in score)) - score[label]
    return total / len(labels)


def moved_loss(config, groups):
    return loss_of(config, scores_of(config, groups["params"], groups["inputs"]["x"]), groups["targets"]["labels"])


def relative(a, b):
    return float(torch.linalg.norm(a - b) / torch.linalg.norm(b))


# ---- the model


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@torch.no_grad()
def test_scores_and_loss_are_their_formulas_in_numpy(activation, loss, sizes):
    config, params, x, labels = problem(activation=activation, loss=loss, sizes=sizes)
    expected, model = scores_of(config, params, x), model_of(config, params)
    scores = model(torch.tensor(x))
    assert np.abs(expected).max() > 0.1
    assert np.abs(scores.numpy() - expected).max() < 1e-14
    assert float(model.loss(scores, torch.tensor(labels))) == pytest.approx(
        loss_of(config, expected, labels), rel=1e-14
    )


@pytest.mark.parametrize(("size", "expected"), [(1e4, 0.0), (-1e4, 1e4)])
@torch.no_grad()
def test_large_scores_are_no_overflow(size, expected):
    one, two = (model_of(*problem(sizes=(2, outputs))[:2]) for outputs in (1, 2))
    scores, labels = torch.tensor([[-size], [size]], dtype=torch.float64), torch.tensor([0, 1])
    assert float(one.loss(scores, labels)) == expected
    assert float(two.loss(torch.cat([0 * scores, scores], 1), labels)) == expected


def test_two_scores_are_one_logistic_score():
    """softmax((0, s)) has the probability sigmoid(s) for class 1."""
    one, params, x, labels = problem(sizes=(3, 1))
    two = one.model_copy(update={"sizes": [3, 2]})
    wider = {name: np.concatenate([np.zeros_like(array), array]) for name, array in params.items()}
    found = [autograd_gradient(model_of(*which), *tensors(x, labels)) for which in ((one, params), (two, wider))]
    assert float(found[0].loss.detach()) == pytest.approx(float(found[1].loss), rel=1e-14)
    assert relative(found[0].grads["layers.0.weight"], found[1].grads["layers.0.weight"][1:]) < 1e-14


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_engine_computes_in_the_dtype_it_is_asked_for(dtype):
    case = MLPRecipe("test").make(seed=11)
    result = engine.evaluate("mlp", case.config, case.groups, dtype=dtype, steps=1)
    stored = np.float64 if dtype == "float64" else np.float32
    assert {array.dtype for array in result.values()} == {np.dtype(stored)}
    exact = engine.evaluate("mlp", case.config, case.groups)["grads/layers.0.weight"]
    error = np.linalg.norm(result["grads/layers.0.weight"] - exact) / np.linalg.norm(exact)
    low, high = {"float64": (-1, 1e-15), "float32": (1e-9, 1e-5), "bfloat16": (1e-4, 5e-2)}[dtype]
    assert low < error < high


def test_params_become_the_parameters_uncopied():
    config, params, _, _ = problem()
    given = {name: torch.tensor(array) for name, array in params.items()}
    for name, param in MultilayerPerceptron(config, given).named_parameters():
        assert param.data_ptr() == given[name].data_ptr(), name


def test_parameters_have_their_names_shapes_and_number():
    config = MLPConfig(sizes=[784, 16, 16, 10], activation="sigmoid", loss="mse")
    shapes = {name: spec.dims for name, spec in MODELS["mlp"].params(config).items()}
    assert shapes == {
        "layers.0.weight": (16, 784),
        "layers.0.bias": (16,),
        "layers.1.weight": (16, 16),
        "layers.1.bias": (16,),
        "layers.2.weight": (10, 16),
        "layers.2.bias": (10,),
    }
    counts = [math.prod(shapes[f"layers.{n}.weight"]) + math.prod(shapes[f"layers.{n}.bias"]) for n in range(3)]
    assert (counts, sum(counts)) == ([12_560, 272, 170], 13_002)


# ---- backpropagation


@pytest.mark.parametrize("samples", [1, 7])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_backpropagation_is_autograd(activation, loss, sizes, samples):
    config, params, x, labels = problem(activation=activation, loss=loss, sizes=sizes, samples=samples)
    model, arguments = model_of(config, params), tensors(x, labels)
    by_hand, automatic = backpropagation(model, *arguments), autograd_gradient(model, *arguments)
    assert not any(grad.requires_grad for grad in by_hand.grads.values())
    assert relative(by_hand.loss, automatic.loss) < 1e-14
    assert torch.equal(by_hand.output, automatic.output)
    assert by_hand.grads.keys() == automatic.grads.keys() == params.keys()
    for name, grad in {**automatic.grads, "x": automatic.grads_inputs["x"]}.items():
        mine = {**by_hand.grads, **by_hand.grads_inputs}[name]
        assert mine.shape == grad.shape
        assert float(torch.linalg.norm(mine - grad)) <= 1e-13 * float(torch.linalg.norm(grad)), name


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("outputs", [1, 3])
def test_backpropagation_is_the_slope_of_the_formulas_in_numpy(activation, loss, outputs):
    case = MLPRecipe("test", (3, 4, outputs), activation, loss, samples=4).make(seed=12)
    by_hand = backpropagation(
        model_of(case.config, case.groups["params"]),
        *tensors(case.groups["inputs"]["x"], case.groups["targets"]["labels"]),
    )
    gradient = {f"grads/{name}": grad.numpy() for name, grad in by_hand.grads.items()}
    gradient["grads_inputs/x"] = by_hand.grads_inputs["x"].numpy()
    found = confirm(lambda groups: moved_loss(case.config, groups), case.groups, gradient, seed=3)
    assert {one.path for one in found} == gradient.keys()
    assert all(one.holds for one in found), [one for one in found if not one.holds]


@pytest.mark.parametrize("gradient", [backpropagation, autograd_gradient])
def test_gradient_of_a_perceptron_in_closed_form(gradient):
    """∂L/∂W = 1/n Σ (p - y) x for the logistic loss, 2/n Σ (s - y) x for the square; likewise for b and x."""
    for loss in LOSSES:
        config, params, x, labels = problem(sizes=(3, 1), loss=loss)
        w, n = params["layers.0.weight"][0], len(labels)
        s = x @ w + params["layers.0.bias"]
        r = 2 * (s - labels) / n if loss == "mse" else (1 / (1 + np.exp(-s)) - labels) / n
        found = gradient(model_of(config, params), *tensors(x, labels))
        expected = {"layers.0.weight": (r @ x)[None], "layers.0.bias": [r.sum()], "x": np.outer(r, w)}
        for name, value in expected.items():
            assert np.allclose({**found.grads, **found.grads_inputs}[name], value, rtol=1e-13, atol=1e-16), name


@pytest.mark.parametrize("gradient", [backpropagation, autograd_gradient])
def test_gradient_of_one_hidden_unit_in_closed_form(gradient):
    config, params, x, labels = problem(sizes=(1, 1, 2), loss="mse", samples=1)
    (w,), b = params["layers.0.weight"][0], params["layers.0.bias"][0]
    u, c, y = params["layers.1.weight"][:, 0], params["layers.1.bias"], np.eye(2)[labels[0]]
    a = sigmoid(w * x[0, 0] + b)
    r = 2 * (u * a + c - y)
    slope = (r @ u) * a * (1 - a)
    found = gradient(model_of(config, params), *tensors(x, labels))
    grads = {name: grad.numpy().ravel() for name, grad in {**found.grads, **found.grads_inputs}.items()}
    expected = {"layers.0.weight": slope * x[0, 0], "layers.0.bias": slope, "x": slope * w}
    expected |= {"layers.1.weight": r * a, "layers.1.bias": r}
    for name, value in expected.items():
        assert grads[name] == pytest.approx(np.atleast_1d(value), rel=1e-13), name


@pytest.mark.parametrize("gradient", [backpropagation, autograd_gradient])
def test_a_relu_at_its_kink_is_flat(gradient):
    config, params, x, labels = problem(activation="relu", sizes=(2, 3, 2))
    still = {**params, "layers.0.weight": 0 * params["layers.0.weight"], "layers.0.bias": np.array([0.0, 1.0, -1.0])}
    found = gradient(model_of(config, still), *tensors(x, labels))
    moves = [float(torch.linalg.norm(row)) > 0 for row in found.grads["layers.0.weight"]]
    assert moves == [False, True, False]
    assert [float(value) != 0 for value in found.grads["layers.0.bias"]] == moves


# ---- training steps


@pytest.mark.parametrize("name", COMPARED)
def test_training_steps_are_their_formulas_in_numpy(name):
    """Ten steps of the optimizer on the gradient of plain matrix products, from nothing but the case."""
    case = MLPRecipe("test", (3, 4, 2), loss="mse").make(seed=13)
    x, labels = case.groups["inputs"]["x"], case.groups["targets"]["labels"]
    losses = []

    def gradient(params):
        (W1, b1), (W2, b2) = ((params[f"layers.{n}.weight"], params[f"layers.{n}.bias"]) for n in range(2))
        a = 1 / (1 + np.exp(-(x @ W1.T + b1)))
        error = a @ W2.T + b2 - np.eye(2)[labels]
        losses.append((error**2).sum() / len(x))
        r = 2 * error / len(x)
        hidden = (r @ W2) * a * (1 - a)
        grads = (hidden.T @ x, hidden.sum(0), r.T @ a, r.sum(0))
        return dict(zip(params, grads, strict=True))

    params = {name: array.copy() for name, array in case.groups["params"].items()}
    in_numpy(COMPARED[name], params, gradient, 10)
    found = engine.evaluate("mlp", case.config, case.groups, steps=10)
    assert np.allclose(found[f"steps/{name}/losses"], losses, rtol=1e-12, atol=0)
    for param, array in params.items():
        assert np.allclose(found[f"steps/{name}/params_after/{param}"], array, rtol=1e-11, atol=1e-13), param
        assert not np.allclose(array, case.groups["params"][param], rtol=1e-3, atol=0)


# ---- what is refused


RIGHT = {"sizes": [3, 4, 2], "activation": "relu", "loss": "mse"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sizes": [3]}, "sizes: expected List should have at least 2 items after validation, not 1, found [3]"),
        ({"sizes": []}, "sizes: expected List should have at least 2 items after validation, not 0, found []"),
        ({"sizes": [3, 0]}, "sizes.1: expected Input should be greater than or equal to 1, found 0"),
        ({"sizes": [3.0, 2]}, "sizes.0: expected Input should be a valid integer, found 3.0"),
        ({"sizes": [True, 2]}, "sizes.0: expected Input should be a valid integer, found True"),
        ({"sizes": "3, 2"}, "sizes: expected Input should be a valid list, found '3, 2'"),
        ({"activation": "tanh"}, "activation: expected one of 'sigmoid' or 'relu', found 'tanh'"),
        ({"loss": "hinge"}, "loss: expected one of 'mse' or 'cross-entropy', found 'hinge'"),
        ({"bias": True}, "bias: expected only sizes, activation, loss, found 'bias'"),
    ],
)
def test_settings_that_are_none_are_refused(changes, says):
    with pytest.raises(InputError) as caught:
        make_config(MODELS["mlp"], {**RIGHT, **changes}, "config")
    assert str(caught.value) == f"config, {says}"


@pytest.mark.parametrize("missing", RIGHT)
def test_settings_have_no_defaults(missing):
    with pytest.raises(InputError, match=f"^config, {missing}: expected this entry, found nothing$"):
        make_config(MODELS["mlp"], {name: value for name, value in RIGHT.items() if name != missing}, "config")


@pytest.mark.parametrize(("outputs", "classes"), [(1, 2), (2, 2), (3, 3)])
def test_labels_are_as_many_as_outputs_and_two_of_one_output(outputs, classes):
    config = make_config(MODELS["mlp"], {**RIGHT, "sizes": [3, outputs]}, "config")
    specs = MODELS["mlp"].targets(config)
    check_arrays(specs, {"labels": np.array([0, classes - 1])}, "targets", {})
    for wrong in (-1, classes):
        with pytest.raises(InputError) as caught:
            check_arrays(specs, {"labels": np.array([0, wrong])}, "targets", {})
        says = f"targets/labels: expected ids 0 to {classes - 1}, found {wrong} at index (1,)"
        assert str(caught.value) == says


def test_layers_fit_each_other_and_the_inputs():
    config, params, x, _ = problem(sizes=(3, 4, 2))
    for (inputs, outputs), n in zip(pairwise((3, 4, 2)), (0, 1), strict=True):
        wrong = {**params, f"layers.{n}.weight": np.zeros((inputs, outputs))}
        with pytest.raises(InputError, match=rf"^p/layers.{n}.weight: expected shape \({outputs}, {inputs}\), found"):
            check_arrays(MODELS["mlp"].params(config), wrong, "p", {})
    with pytest.raises(InputError, match=r"^i/x: expected shape \(samples, 3\) = \(7, 3\), found shape \(7, 4\)$"):
        check_arrays(MODELS["mlp"].inputs(config), {"x": np.zeros((7, 4))}, "i", {"samples": len(x)})
