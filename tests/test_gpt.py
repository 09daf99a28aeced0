"""The GPT: its formulas in plain NumPy, its memory, and what it generates."""

import math

import numpy as np
import pytest
import torch

from twingrad.data.philox import Stream
from twingrad.errors import InputError
from twingrad.fixtures.gpt import GPTRecipe
from twingrad.generation import choose, generate
from twingrad.models.gpt import GPT, Memory
from twingrad.specs import MODELS, GPTConfig
from twingrad.training.settings import preset

KINDS = {
    "lie": {},
    "strang": {"splitting": "strang"},
    "untied": {"tied": False},
    "small step": {"dt": 0.37, "heads": 4, "layers": 3},
    "small strang step": {"dt": 0.37, "splitting": "strang", "tied": False},
    "learned steps": {"time_steps": "learned", "layers": 3},
    "strang steps on a simplex": {"time_steps": "simplex", "splitting": "strang", "dt": 0.5, "layers": 3},
}

# The first numbers of the stream "sample" under seed 1, and the tokens that they mean under weights 1, 2, 3, 2.
PINNED_DRAWS = [0.537, 0.64, 0.074, 0.968, 0.414, 0.207, 0.43, 0.627]
PINNED_TOKENS = [2, 2, 0, 3, 2, 1, 2, 2]


def problem(**changes):
    """A config, random params in float64 at which every part matters, and tokens (3, 6), all as NumPy arrays."""
    case = GPTRecipe("test", **changes).make(seed=5)
    return case.config, case.groups["params"], case.groups["inputs"]["tokens"]


def model_of(config, params):
    return GPT(config, {name: torch.tensor(array) for name, array in params.items()})


@torch.no_grad()
def logits_of(model, tokens):
    return model(torch.as_tensor(np.asarray(tokens))).numpy()


def in_numpy(config, params, tokens):
    """Logits (B, T, V), token by token and head by head."""
    B, T = tokens.shape
    C, D = config.width, config.width // config.heads
    half = 0.5 if config.splitting == "strang" else 1.0

    def layer_norm(x, name):
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
        return scaled * params[f"{name}.weight"] + params[f"{name}.bias"]

    def linear(x, name):
        return x @ params[f"{name}.weight"].T + params[f"{name}.bias"]

    def attention(x, name):
        qkv, mixed = linear(x, f"{name}.c_attn"), np.empty_like(x)
        for b in range(B):
            for first in range(0, C, D):
                q, k, v = (qkv[b, :, part + first : part + first + D] for part in (0, C, 2 * C))
                for t in range(T):
                    weights = np.exp(k[: t + 1] @ q[t] / math.sqrt(D))
                    mixed[b, t, first : first + D] = weights @ v[: t + 1] / weights.sum()
        return linear(mixed, f"{name}.c_proj")

    def mlp(x, name):
        u = linear(x, f"{name}.c_fc")
        return linear(0.5 * u * (1 + np.tanh(math.sqrt(2 / math.pi) * (u + 0.044715 * u**3))), f"{name}.c_proj")

    x = params["wte.weight"][tokens] + params["wpe.weight"][:T]
    for layer in range(config.layers):
        block, dt = f"h.{layer}", params["dt"][layer] if "dt" in params else config.dt
        if config.splitting == "strang":
            x = x + half * dt * mlp(layer_norm(x, f"{block}.ln_2"), f"{block}.mlp")
        x = x + dt * attention(layer_norm(x, f"{block}.ln_1"), f"{block}.attn")
        x = x + half * dt * mlp(layer_norm(x, f"{block}.ln_2"), f"{block}.mlp")
    return layer_norm(x, "ln_f") @ params["wte.weight" if config.tied else "lm_head.weight"].T


# ---- the model


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_forward_pass_is_its_formulas_in_numpy(kind):
    config, params, tokens = problem(**KINDS[kind])
    expected = in_numpy(config, params, tokens)
    assert np.abs(expected).max() > 1
    assert np.abs(logits_of(model_of(config, params), tokens) - expected).max() < 1e-13


def test_the_loss_is_the_mean_cross_entropy_in_nats():
    config, params, tokens = problem()
    model, logits = model_of(config, params), in_numpy(config, params, tokens)
    targets = np.roll(tokens, 1, axis=1)
    chosen = np.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    expected = np.mean(np.log(np.exp(logits).sum(axis=-1)) - chosen)
    assert float(model.loss(torch.tensor(logits), torch.tensor(targets))) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_block_is_its_splitting(kind):
    config, params, _ = problem(**KINDS[kind])
    model = model_of(config, params)
    block, dt = model.h[1], model.time_steps()[1]
    x = torch.randn(2, 5, config.width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    if config.splitting == "lie":
        middle = x + dt * block.attn(block.ln_1(x))
        expected = middle + dt * block.mlp(block.ln_2(middle))
    else:
        first = x + dt / 2 * block.mlp(block.ln_2(x))
        middle = first + dt * block.attn(block.ln_1(first))
        expected = middle + dt / 2 * block.mlp(block.ln_2(middle))
    assert torch.allclose(block(x, dt), expected, rtol=0, atol=1e-14)


@torch.no_grad()
def test_earlier_logits_do_not_know_later_tokens():
    config, params, tokens = problem(texts=1, tokens=8)
    model = model_of(config, params)
    before = logits_of(model, tokens)
    for place in range(8):
        other = tokens.copy()
        other[0, place] = (tokens[0, place] + 1) % config.vocab
        after = logits_of(model, other)
        assert np.array_equal(after[0, :place], before[0, :place])
        assert np.all(np.abs(after[0, place:] - before[0, place:]).max(axis=-1) > 1e-3)
        assert np.abs(logits_of(model, tokens[:, : place + 1]) - before[:, : place + 1]).max() < 1e-13


@torch.no_grad()
def test_each_token_and_each_position_has_its_own_embedding():
    config, params, _ = problem(tied=False)
    model = model_of(config, params)
    same = np.zeros((1, 8), np.int64)
    assert not np.allclose(logits_of(model, same)[0, 0], logits_of(model, same)[0, 1], atol=1e-3)
    model.wpe.weight.zero_()
    assert np.allclose(logits_of(model, same), logits_of(model, same)[:, :1], atol=1e-13)
    assert not np.allclose(logits_of(model, same), logits_of(model, same + 1), atol=1e-3)


def test_a_tied_embedding_has_the_gradients_of_both_its_uses():
    config, params, tokens = problem()
    untied = config.model_copy(update={"tied": False})
    one, two = model_of(config, params), model_of(untied, {**params, "lm_head.weight": params["wte.weight"]})
    targets = torch.tensor(np.roll(tokens, 1, axis=1))
    for model in (one, two):
        model.loss(model(torch.tensor(tokens)), targets).backward()
    both = two.wte.weight.grad, two.lm_head.weight.grad
    assert all(float(grad.norm()) > 0.01 for grad in both)
    assert torch.allclose(one.wte.weight.grad, sum(both), rtol=0, atol=1e-15)
    assert torch.allclose(one.wpe.weight.grad, two.wpe.weight.grad, rtol=0, atol=1e-15)


def test_parameters_have_the_names_and_order_of_nanogpt():
    block = ["ln_1.weight", "ln_1.bias", "attn.c_attn.weight", "attn.c_attn.bias", "attn.c_proj.weight"]
    block += ["attn.c_proj.bias", "ln_2.weight", "ln_2.bias", "mlp.c_fc.weight", "mlp.c_fc.bias"]
    block += ["mlp.c_proj.weight", "mlp.c_proj.bias"]
    names = ["wte.weight", "wpe.weight", *(f"h.{layer}.{name}" for layer in (0, 1) for name in block)]
    names += ["ln_f.weight", "ln_f.bias"]
    for tied in (True, False):
        config, params, _ = problem(tied=tied)
        expected = names if tied else [*names, "lm_head.weight"]
        assert [name for name, _ in model_of(config, params).named_parameters()] == expected
        assert list(MODELS["gpt"].params(config)) == expected


GPT2_SMALL = {"vocab": 50257, "context": 1024, "layers": 12, "heads": 12, "width": 768}
CPU = {"vocab": 65, **{name: preset("gpt", "cpu")[name] for name in ("context", "layers", "heads", "width")}}


@pytest.mark.parametrize(
    ("sizes", "count"),
    [(GPT2_SMALL, 124_439_808), ({**GPT2_SMALL, "tied": False}, 163_037_184), (CPU, 809_856)],
    ids=["gpt2", "gpt2 untied", "cpu"],
)
def test_parameter_counts(sizes, count):
    assert sum(math.prod(spec.dims) for spec in MODELS["gpt"].params(GPTConfig(**sizes)).values()) == count


def test_params_become_the_parameters_uncopied():
    config, params, _ = problem()
    tensors = {name: torch.tensor(array) for name, array in params.items()}
    for name, param in GPT(config, tensors).named_parameters():
        assert param.data_ptr() == tensors[name].data_ptr(), name


# ---- memory


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_with_memory_the_logits_are_those_without(kind):
    config, params, tokens = problem(tokens=8, **KINDS[kind])
    model, expected = model_of(config, params), in_numpy(config, params, tokens)
    for first in (1, 3, 8):
        memory = Memory(model, B=3)
        pieces = [tokens[:, :first], *(tokens[:, t : t + 1] for t in range(first, 8))]
        found = []
        for piece in pieces:
            assert memory.length == sum(part.shape[1] for part in found)
            found.append(model(torch.tensor(piece), memory).numpy())
        assert np.abs(np.concatenate(found, axis=1) - expected).max() < 1e-12
        assert memory.length == 8


@torch.no_grad()
def test_a_memory_takes_several_tokens_at_first_only():
    config, params, tokens = problem()
    model = model_of(config, params)
    memory = Memory(model, B=3)
    model(torch.tensor(tokens[:, :2]), memory)
    with pytest.raises(ValueError, match="one token at a time"):
        model(torch.tensor(tokens[:, 2:4]), memory)


# ---- generation


def small_model(context, **changes):
    config, params, _ = problem(context=context, tokens=1, **changes)
    return model_of(config, params)


def constant_model(weights):
    """A model whose logits are log(weights) whatever the tokens."""
    config, params, _ = problem(vocab=len(weights), tied=False)
    bias, head = np.zeros(config.width), np.zeros((len(weights), config.width))
    bias[0], head[:, 0] = 1.0, np.log(weights)
    return model_of(config, {**params, "ln_f.weight": 0 * bias, "ln_f.bias": bias, "lm_head.weight": head})


def generated(model, prompt, count, **options):
    """The new tokens and the logits (count, V) behind them."""
    logits = []
    tokens = generate(model, prompt, count, on_logits=logits.append, **options)
    return tokens, np.array(logits)


@pytest.mark.parametrize("context", [1, 2, 5])
@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"temperature": 1.3, "top_k": 7, "seed": 4}])
@pytest.mark.parametrize("kind", ["lie", "small strang step"])
def test_tokens_and_logits_are_those_of_the_windows(context, options, kind):
    """A full context goes on from its last half; with memory and without, that is the same."""
    count = 8 * context + 3
    model, prompt = small_model(context, **KINDS[kind]), [3, 1, 4, 1, 5, 9, 2, 6]
    found, logits = generated(model, prompt, count, **options)
    window, draws = prompt[-context:], Stream(options.get("seed", 1), "sample").uniform(count)
    for token, scores, draw in zip(found, logits, draws, strict=True):
        if len(window) == context + 1:
            window = window[-max(1, context // 2) :]
        expected = logits_of(model, [window])[0, -1]
        assert np.abs(scores - expected).max() < 1e-12
        assert token == choose(expected, options["temperature"], options.get("top_k", 0), draw)
        window = [*window, token]
    again, logits_again = generated(model, prompt, count, cached=False, **options)
    assert again == found
    assert np.abs(logits_again - logits).max() < 1e-12
    assert len(set(found)) > 2 or options["temperature"] == 0
    told = []
    assert generate(model, prompt[-context:], count, on_token=told.append, **options) == found == told


def test_the_draws_are_those_of_the_stream_sample():
    # Weights 1, 2, 3, 2: draws below 1/8 mean token 0, below 3/8 token 1, below 6/8 token 2, others token 3.
    model, draws = constant_model([1, 2, 3, 2]), Stream(1, "sample").uniform(8)
    assert np.round(draws, 3).tolist() == PINNED_DRAWS
    assert generate(model, [0], 8) == PINNED_TOKENS
    assert generate(model, [3, 2, 1], 8) == PINNED_TOKENS
    assert generate(model, [0], 5) == PINNED_TOKENS[:5]
    assert generate(model, [0], 8, seed=2) != PINNED_TOKENS
    # Temperature 1/2 squares the weights: 1, 4, 9, 4 of 18. The two likeliest of three equals and less are all three.
    edges = np.cumsum([1, 4, 9, 4]) / 18
    assert generate(model, [0], 8, temperature=0.5) == np.searchsorted(edges, draws, side="right").tolist()
    assert generate(model, [0], 8, top_k=1) == [2] * 8


def test_a_draw_means_the_first_token_that_it_lies_below():
    even = np.zeros(4)
    below = [choose(even, 1.0, 0, draw) for draw in (0.0, 0.25 - 2**-54, 0.25, 0.5, 0.75, 1 - 2**-53)]
    assert below == [0, 0, 1, 2, 3, 3]
    impossible = np.array([-1e4, 0.0, -1e4, 0.0, -1e4])
    assert {choose(impossible, 1.0, 0, draw) for draw in np.linspace(0, 1 - 2**-53, 50)} == {1, 3}
    assert choose(np.zeros(4, np.float32), 1.0, 0, 0.5) == 2


def test_temperature_divides_the_logits():
    logits = np.log([1.0, 2.0, 1.0])
    assert [choose(logits, 1.0, 0, draw) for draw in (0.24, 0.26, 0.74, 0.76)] == [0, 1, 1, 2]
    assert [choose(logits, 0.5, 0, draw) for draw in (0.16, 0.17, 0.83, 0.84)] == [0, 1, 1, 2]  # 1, 4, 1 of 6
    assert [choose(logits, 1e9, 0, draw) for draw in (0.33, 0.34, 0.66, 0.67)] == [0, 1, 1, 2]
    assert {choose(logits, tiny, 0, draw) for draw in (0.0, 0.5, 0.999) for tiny in (0.0, 1e-4, 5e-324)} == {1}


def test_temperature_zero_takes_the_likeliest_and_the_first_of_equals():
    logits = np.array([0.1, 0.7, 0.7, -3.0])
    assert [choose(logits, 0.0, k, 0.999) for k in (0, 1, 2, 4)] == [1, 1, 1, 1]
    assert choose(np.zeros(5), 0.0, 0, 0.999) == 0


def test_top_k_draws_among_the_k_likeliest_and_their_equals():
    logits = np.array([0.0, 3.0, 1.0, 2.0, 1.0])
    draws = np.linspace(0, 1 - 2**-53, 1000)
    chosen = [{choose(logits, 1.0, k, draw) for draw in draws} for k in range(7)]
    everything = {0, 1, 2, 3, 4}
    assert chosen == [everything, {1}, {1, 3}, {1, 2, 3, 4}, {1, 2, 3, 4}, everything, everything]
    assert [choose(logits, 2.0, 1, draw) for draw in (0.0, 0.999)] == [1, 1]
    assert {choose(np.array([2.0, 0.0, 2.0]), 1.0, 1, draw) for draw in (0.1, 0.9)} == {0, 2}
    assert [choose(logits, 1.0, 2, draw) for draw in (0.0, 0.73, 0.74, 0.999)] == [1, 1, 3, 3]  # e³ / (e³ + e²) = 0.731


def test_with_memory_a_token_costs_the_same_wherever_it_stands():
    context, count = 12, 100
    model, passed = small_model(context), []
    model.register_forward_pre_hook(lambda module, arguments: passed.append(arguments[0].shape[1]))
    generate(model, [1, 2, 3], context - 3)
    assert passed == [3, *[1] * (context - 4)]
    passed.clear()
    generate(model, [1, 2, 3], count)
    assert len(passed) == count
    assert sum(passed) <= 2 * count + 3
    assert max(passed) == context // 2
    passed.clear()
    generate(model, [1, 2, 3], count, cached=False)
    assert sum(passed) > 8 * count


def test_nothing_to_add_is_nothing():
    assert generate(small_model(4), [1], 0) == []


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ([], "prompt: expected at least one token, found none"),
        ([1, 11], "prompt: expected token ids 0 to 10, found 11 at position 1"),
        ([-1], "prompt: expected token ids 0 to 10, found -1 at position 0"),
        ([99, *range(10)], "prompt: expected token ids 0 to 10, found 99 at position 0"),
    ],
)
def test_a_prompt_of_no_tokens_or_foreign_ones_is_refused(prompt, says):
    with pytest.raises(InputError) as caught:
        generate(small_model(4), prompt, 3)
    assert str(caught.value) == says


@pytest.mark.parametrize("wrong", [-1.0, math.nan, math.inf])
def test_a_temperature_that_is_none_is_refused(wrong):
    with pytest.raises(InputError, match=f"^temperature: expected a finite number from 0 on, found {wrong}$"):
        generate(small_model(4), [1], 3, temperature=wrong)
