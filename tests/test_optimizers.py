"""The optimizers by their formulas in plain NumPy: steps, schedule, clipping, decay, moments."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from twingrad.optimizers import SGD, AdamW, make_optimizer
from twingrad.schedule import COMPARED, AdamWSettings, Schedule, SGDSettings


class Several(torch.nn.Module):
    """Arrays of one, two and three axes."""

    def __init__(self):
        super().__init__()
        draw = torch.Generator().manual_seed(3)
        shapes = {"a": (3, 4), "b": (4,), "c": (2, 2), "d": (1,), "e": (2, 1, 3)}
        for name, shape in shapes.items():
            value = torch.randn(*shape, generator=draw, dtype=torch.float64)
            self.register_parameter(name, torch.nn.Parameter(value))


def gradients(steps):
    """Gradients of each step; their sizes differ, so that some are clipped; the first of all is tiny."""
    draw = np.random.default_rng(8)
    sizes = {name: param.shape for name, param in Several().named_parameters()}
    grads = [{name: draw.normal(size=shape) * (0.1 + k % 3) for name, shape in sizes.items()} for k in range(steps)]
    grads[0]["d"] = np.array([1e-7])
    return grads


def take_step(optimizer, grads):
    for name, param in optimizer.params.items():
        param.grad = torch.tensor(grads[name])
    return optimizer.step()


ADAMW = AdamWSettings(
    learning_rate=0.3, min_learning_rate=0.02, warmup=3, decay=9, beta1=0.8, beta2=0.95, weight_decay=0.2, clip=2.5
)
DESCENT = SGDSettings(
    learning_rate=0.3, min_learning_rate=0.02, warmup=3, decay=9, momentum=0.7, weight_decay=0.2, clip=2.5
)
KINDS = {
    "adamw": ADAMW,
    "adam": replace(ADAMW, weight_decay=0.0),
    "sgd": DESCENT,
    "gradient descent": replace(DESCENT, momentum=0.0, weight_decay=0.0),
}


def adamw_in_numpy(settings, params, moments, grads, rate, t):
    """Step t = 1, 2, ... of AdamW, in place."""
    for name, w in params.items():
        m, v, beta1, beta2 = *(moment[name] for moment in moments), settings.beta1, settings.beta2
        m[...] = beta1 * m + (1 - beta1) * grads[name]
        v[...] = beta2 * v + (1 - beta2) * grads[name] ** 2
        if w.ndim > 1:
            w *= 1 - rate * settings.weight_decay
        w -= rate * m / (1 - beta1**t) / (np.sqrt(v / (1 - beta2**t)) + settings.eps)


def sgd_in_numpy(settings, params, moments, grads, rate, t):
    """A step of gradient descent with momentum, in place."""
    for name, w in params.items():
        v = moments[0][name]
        v[...] = settings.momentum * v + grads[name] + (settings.weight_decay * w if w.ndim > 1 else 0)
        w -= rate * v


def in_numpy(settings, params, gradient, steps):
    """(rate, norm) of each step and both moments at the end; `params` change in place, `gradient(params)` gives ∇."""
    take = adamw_in_numpy if isinstance(settings, AdamWSettings) else sgd_in_numpy
    moments = [{name: np.zeros_like(w) for name, w in params.items()} for _ in range(2)]
    told = []
    for t in range(1, steps + 1):
        grads = gradient(params)
        norm = math.sqrt(sum(float((grad**2).sum()) for grad in grads.values()))
        shrink = min(1.0, settings.clip / (norm + 1e-6)) if settings.clip else 1.0
        told.append((settings.rate(t - 1), norm))
        take(settings, params, moments, {name: shrink * grad for name, grad in grads.items()}, told[-1][0], t)
    return told, moments


@pytest.mark.parametrize("clip", [2.5, 0.0])
@pytest.mark.parametrize("kind", KINDS)
def test_steps_are_their_formulas_in_numpy(kind, clip):
    settings, grads = replace(KINDS[kind], clip=clip), gradients(12)
    model = Several()
    params = {name: param.detach().numpy().copy() for name, param in model.named_parameters()}
    left = iter(grads)
    told, expected = in_numpy(settings, params, lambda _: next(left), 12)
    optimizer = make_optimizer(model, settings)
    for step, (rate, norm) in enumerate(told):
        assert take_step(optimizer, grads[step]) == (rate, pytest.approx(norm, rel=1e-14))
    assert sum(norm > 2.5 for _, norm in told) == 8
    assert optimizer.steps_taken == 12
    for name, param in model.named_parameters():
        assert np.abs(param.detach().numpy() - params[name]).max() < 1e-14, name
    for place, moments in enumerate(optimizer.moments()):
        kept = {"adamw": 2, "adam": 2, "sgd": 1, "gradient descent": 0}[kind] > place
        assert moments.keys() == (params.keys() if kept else set())
        for name, moment in moments.items():
            assert np.abs(moment.numpy() - expected[place][name]).max() < 1e-14, name


def test_gradient_descent_on_a_parabola_is_a_product():
    """The loss a w²/2 has the gradient a w: each step multiplies w by 1 - η a."""
    settings, model = replace(KINDS["gradient descent"], clip=0.0), Several()
    start, factor, optimizer = model.a.detach().clone(), 1.0, make_optimizer(model, settings)
    for step in range(10):
        for param in model.parameters():
            param.grad = 1.7 * param.detach()
        optimizer.step()
        factor *= 1 - settings.rate(step) * 1.7
    assert torch.allclose(model.a, factor * start, rtol=1e-13, atol=0)


def test_momentum_forgets_the_learning_rates_of_earlier_steps():
    """v has no η in it: after a step of gradient g at any rate, a step without gradient goes by η₂ ρ g."""
    model, zero = Several(), {name: np.zeros(param.shape) for name, param in Several().named_parameters()}
    settings = SGDSettings(
        learning_rate=1.0, min_learning_rate=1e-3, warmup=0, decay=1, momentum=0.5, weight_decay=0.0, clip=0.0
    )
    optimizer, grads = make_optimizer(model, settings), gradients(2)[1]
    take_step(optimizer, grads)
    before = model.a.detach().numpy().copy()
    take_step(optimizer, zero)
    assert np.allclose(before - model.a.detach().numpy(), 1e-3 * 0.5 * grads["a"], rtol=1e-10, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_only_arrays_of_two_axes_or_more_decay(kind):
    settings, model = replace(KINDS[kind], weight_decay=0.25, warmup=0), Several()
    before = {name: param.detach().clone() for name, param in model.named_parameters()}
    take_step(make_optimizer(model, settings), {name: np.zeros(param.shape) for name, param in before.items()})
    for name, param in model.named_parameters():
        factor = 1 - 0.3 * 0.25 if param.ndim > 1 else 1.0
        assert torch.allclose(param, factor * before[name], rtol=1e-14, atol=0), name


def test_a_model_of_vectors_alone_is_trained_too():
    model = torch.nn.Module()
    model.register_parameter("d", torch.nn.Parameter(torch.ones(2, dtype=torch.float64)))
    for kind in KINDS.values():
        before = model.d.detach().clone()
        take_step(make_optimizer(model, kind), {"d": np.ones(2)})
        assert torch.all(model.d < before)


@pytest.mark.parametrize("kind", KINDS)
def test_restored_moments_go_on_bit_for_bit(kind):
    whole, grads = Several(), gradients(10)
    optimizer = make_optimizer(whole, KINDS[kind])
    assert optimizer.moments() == ({}, {})
    for step in range(4):
        take_step(optimizer, grads[step])
    part = Several()
    part.load_state_dict(whole.state_dict())
    resumed = make_optimizer(part, KINDS[kind], steps_taken=4)
    resumed.restore(*optimizer.moments())
    for step in range(4, 10):
        assert take_step(optimizer, grads[step]) == take_step(resumed, grads[step])
    assert resumed.steps_taken == optimizer.steps_taken == 10
    for name, param in whole.named_parameters():
        assert torch.equal(param, part.get_parameter(name)), name


@pytest.mark.parametrize("clip", [2.5, 0.0])
@pytest.mark.parametrize("wrong", [math.nan, math.inf])
@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_no_step_is_taken_by_a_gradient_that_is_not_finite(kind, clip, wrong):
    model, grads = Several(), gradients(2)
    optimizer = make_optimizer(model, replace(KINDS[kind], clip=clip))
    take_step(optimizer, grads[0])
    before = {name: param.detach().clone() for name, param in model.named_parameters()}
    grads[1]["c"][0, 1] = wrong
    rate, norm = take_step(optimizer, grads[1])
    assert (rate, optimizer.steps_taken) == (KINDS[kind].rate(1), 1)
    assert not math.isfinite(norm)
    for name, param in model.named_parameters():
        assert torch.equal(param, before[name]), name


def test_settings_name_their_optimizer():
    assert isinstance(make_optimizer(Several(), ADAMW), AdamW)
    assert isinstance(make_optimizer(Several(), DESCENT), SGD)


# ---- the schedule


def rates(steps, **changes):
    settings = {"learning_rate": 1.0, "min_learning_rate": 0.1, "warmup": 3, "decay": 9, **changes}
    return [pytest.approx(Schedule(**settings).rate(step), rel=1e-15) for step in steps]


def test_the_learning_rate_climbs_falls_and_rests():
    assert rates([0, 1, 2, 3]) == [0.25, 0.5, 0.75, 1.0]
    assert rates([4, 5, 6, 7, 8]) == [0.1 + 0.45 * (1 + math.cos(math.pi * k / 6)) for k in (1, 2, 3, 4, 5)]
    assert rates([9, 10, 10**9]) == [0.1, 0.1, 0.1]
    assert rates([0, 3, 6], warmup=0, decay=6) == [1.0, 0.55, 0.1]
    assert rates([0, 1, 2, 3], warmup=2, decay=2) == [1 / 3, 2 / 3, 0.1, 0.1]
    assert rates([0, 1, 2, 3, 4], warmup=4, decay=2) == [0.2, 0.4, 0.6, 0.8, 0.1]
    assert rates([0, 1], warmup=0, decay=1) == [1.0, 0.1]
    assert rates([0, 3, 20], min_learning_rate=1.0, warmup=0) == [1.0, 1.0, 1.0]


def test_compared_steps_have_the_settings_of_format_md():
    adam = {"learning_rate": 1e-2, "min_learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.95, "eps": 1e-6, "clip": 2.0}
    sgd, shared = {"learning_rate": 5e-2, "min_learning_rate": 5e-3}, {"warmup": 3, "decay": 8}
    expected = {
        "adamw": AdamWSettings(**adam, **shared, weight_decay=0.1),
        "adam": AdamWSettings(**adam, **shared, weight_decay=0.0),
        "sgd": SGDSettings(**sgd, **shared, momentum=0.9, weight_decay=0.01, clip=2.0),
        "gradient-descent": SGDSettings(**sgd, **shared, momentum=0.0, weight_decay=0.0, clip=0.0),
    }
    assert expected == COMPARED
    shape = [0.25, 0.5, 0.75, *(0.1 + 0.45 * (1 + math.cos(math.pi * k / 5)) for k in range(5)), 0.1, 0.1]
    for settings in COMPARED.values():
        rates = [settings.rate(step) / settings.learning_rate for step in range(10)]
        assert rates == pytest.approx(shape, rel=1e-14)
