"""The PyTorch side of a visit: what is called is what it should be. No time is looked at."""

import dataclasses

import pytest
import torch

from twingrad.bench.call import Call, Problem
from twingrad.bench.cases import make_arrays, write_arrays
from twingrad.bench.layers import layer_call
from twingrad.bench.measure import LEAST_SAMPLES, Visits, allocated_bytes, peak_bytes, sample
from twingrad.bench.models import descent_step, model_call
from twingrad.bench.peers import PEERS, PLAIN, PlainControlNet, SolvedControlNet
from twingrad.bench.saved import Visit, Work
from twingrad.engine import MODELS, evaluate
from twingrad.errors import InputError
from twingrad.kernels.path import Reference
from twingrad.specs import MODELS as SPECS
from twingrad.specs import make_config
from twingrad.validation import validate

CPU = torch.device("cpu")
GPT = {"vocab": 5, "context": 6, "layers": 2, "heads": 2, "width": 8, "dt": 1.0, "splitting": "lie", "tied": True}
SUBJECTS = {
    "control_net": ({"network": "resnet", "method": "euler", "scale": "mean"}, {"N": 3, "d": 2, "samples": 5}),
    "mlp": ({"sizes": [7, 4, 3], "activation": "sigmoid", "loss": "cross-entropy"}, {"samples": 5}),
    "resnet": ({"variant": "resnet20", "in_channels": 3, "width": 2}, {"N": 3, "H": 8, "W": 8}),
    "gpt": (GPT, {"B": 2, "T": 6}),
}


def problem(subject, quantity, dtype="float64", *, config=None, kind="model"):
    settings, sizes = SUBJECTS[subject]
    work = Work(
        **{"name": "x", "kind": kind, "subject": subject, "quantity": quantity},
        **{"config": config or settings, "dtype": dtype, "device": "cpu"},
    )
    return Problem(work, make_arrays(work, sizes))


def evaluated(of):
    config = make_config(SPECS[of.work.subject], of.work.config, "x")
    return evaluate(of.work.subject, config, of.groups, steps=3)


def first_value(call):
    return call.checksum(call.run())


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("quantity", ["forward", "gradient", "step"])
def test_the_checksum_of_a_model_is_the_loss_that_a_comparison_finds(subject, quantity):
    of = problem(subject, quantity)
    assert first_value(model_call(of)) == pytest.approx(float(evaluated(of)["loss"]), rel=1e-14)


@pytest.mark.parametrize(("subject", "quantity"), [("control_net", "costate"), ("mlp", "backpropagation")])
def test_a_gradient_by_hand_is_the_models_own(subject, quantity):
    of, result = problem(subject, quantity), evaluated(problem(subject, quantity))
    here = model_call(of).run()
    for name, grad in here.grads.items():
        torch.testing.assert_close(grad, torch.tensor(result[f"grads_manual/{name}"]))


@pytest.mark.parametrize(("subject", "optimizer"), [("gpt", "adamw"), ("mlp", "sgd"), ("resnet", "sgd")])
def test_a_step_is_the_step_that_a_comparison_takes(subject, optimizer):
    """The losses before the first three steps are those of the compared optimizer."""
    of = problem(subject, "step")
    run = model_call(of).run
    expected = evaluated(of)[f"steps/{optimizer}/losses"]
    assert [float(run()) for _ in range(3)] == pytest.approx(list(expected), rel=1e-13)


def test_each_descent_step_is_the_same_and_takes_one_try(monkeypatch):
    monkeypatch.setattr("twingrad.bench.models.FIRST_STEP_CONSTANT", 1e-3)
    of = problem("control_net", "step")
    model = MODELS["control_net"].model(make_config(SPECS["control_net"], of.work.config, "x"), of.params())
    tries = []
    evaluate_loss = model.loss
    model.loss = lambda prediction, c: tries.append(1) or evaluate_loss(prediction, c)
    call, found, counts = descent_step(of, model, Reference()), [], []
    for _ in range(4):
        tries.clear()
        found.append((call.run(), model.K.detach().clone()))
        counts.append(len(tries))
    assert counts[0] > 2, "the first call has to look for a step size"
    assert counts[1:] == [2, 2, 2], "the gradient and one try"
    for before, K in found[1:]:
        assert before == found[0][0]
        torch.testing.assert_close(K, found[0][1], rtol=0, atol=0)


def test_tokens_fill_the_context_once():
    of = problem("gpt", "tokens", kind="generate")
    prompt = dataclasses.replace(of, groups={**of.groups, "inputs": {"tokens": of.groups["inputs"]["tokens"][:1, :2]}})
    call = model_call(prompt)
    drawn = call.run()
    assert len(drawn) == call.units == GPT["context"] - 2
    assert call.checksum(drawn) == sum(drawn)


def test_training_in_bfloat16_keeps_float32_weights():
    of = problem("gpt", "gradient", "bfloat16")
    found = model_call(of).run()
    assert found.output.dtype == torch.bfloat16
    assert found.grads["ln_f.weight"].dtype == torch.float32
    assert float(found.loss) == pytest.approx(float(evaluated(of)["loss"]), rel=3e-2)


# ---- layers

LAYERS = {
    "linear": {"inputs": 3, "outputs": 4, "batch": 5},
    "layer-norm": {"width": 6, "batch": 4},
    "attention": {"width": 8, "heads": 2, "context": 5, "batch": 2},
    "gelu-mlp": {"width": 6, "batch": 4},
    "convolution": {"inputs": 2, "outputs": 3, "size": 6, "batch": 2},
    "batch-norm": {"channels": 3, "size": 4, "batch": 2},
    "cross-entropy": {"classes": 5, "batch": 4},
    "adamw": {"width": 2, "arrays": 3},
}


def layer(subject, quantity):
    work = Work(
        **{"name": "x", "kind": "layer", "subject": subject, "quantity": quantity},
        **{"config": LAYERS[subject], "dtype": "float64", "device": "cpu"},
    )
    return Problem(work, make_arrays(work, {}))


def arrays(of, group):
    return {name: torch.tensor(array) for name, array in of.groups[group].items()}


def written_out(subject, p, x, s):
    """The layers by elementary operations."""
    match subject:
        case "linear":
            return x @ p["weight"].T + p["bias"]
        case "layer-norm":
            centred = x - x.mean(1, keepdim=True)
            return centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt() * p["weight"] + p["bias"]
        case "attention":
            q, k, v = (x @ p["c_attn.weight"].T + p["c_attn.bias"]).split(s["width"], 2)
            q, k, v = (part.unflatten(2, (s["heads"], -1)).transpose(1, 2) for part in (q, k, v))
            scores = q @ k.transpose(2, 3) / q.shape[3] ** 0.5
            hidden = torch.ones(s["context"], s["context"], dtype=torch.bool).triu(1)
            y = scores.masked_fill(hidden, -torch.inf).softmax(3) @ v
            return y.transpose(1, 2).flatten(2) @ p["c_proj.weight"].T + p["c_proj.bias"]
        case "gelu-mlp":
            z = x @ p["c_fc.weight"].T + p["c_fc.bias"]
            z = 0.5 * z * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (z + 0.044715 * z**3)))
            return z @ p["c_proj.weight"].T + p["c_proj.bias"]
        case "convolution":
            patches = torch.nn.functional.unfold(x, 3, padding=1)  # (N, inputs 9, pixels)
            return (p["weight"].flatten(1) @ patches).unflatten(2, x.shape[2:])
        case "batch-norm":
            centred = x - x.mean((0, 2, 3), keepdim=True)
            normal = centred / (centred.square().mean((0, 2, 3), keepdim=True) + 1e-5).sqrt()
            return normal * p["weight"][:, None, None] + p["bias"][:, None, None]


@pytest.mark.parametrize("subject", list(LAYERS)[:6])
def test_a_layer_and_its_gradient_are_those_written_out(subject):
    of, sizes = layer(subject, "gradient"), LAYERS[subject]
    trained = {name: array.requires_grad_() for name, array in arrays(of, "params").items() if "running" not in name}
    x, cotangent = of.inputs["x"].clone().requires_grad_(), of.targets["cotangent"]
    output = written_out(subject, trained, x, sizes)
    torch.testing.assert_close(layer_call(layer(subject, "forward")).run(), output.detach())
    expected = torch.autograd.grad(torch.sum(output * cotangent), [*trained.values(), x])
    call = layer_call(of)
    for found, wanted in zip(call.run(), expected, strict=True):
        torch.testing.assert_close(found, wanted)
    joint = torch.cat([grad.flatten() for grad in expected]).norm()
    assert first_value(call) == pytest.approx(float(joint), rel=1e-12)


def test_cross_entropy_and_its_gradient_are_those_written_out():
    of = layer("cross-entropy", "gradient")
    x, labels = of.inputs["x"].clone(), of.targets["labels"]
    softmax, rows = x.softmax(1), torch.arange(4)
    loss = -softmax[rows, labels].log().mean()
    assert first_value(layer_call(layer("cross-entropy", "forward"))) == pytest.approx(float(loss), rel=1e-14)
    softmax[rows, labels] -= 1.0
    (found,) = layer_call(of).run()
    torch.testing.assert_close(found, softmax / 4)


def test_an_update_is_adamws():
    of = layer("adamw", "step")
    found = layer_call(of).run()
    params = [torch.nn.Parameter(array) for array in arrays(of, "params").values()]
    for param, grad in zip(params, arrays(of, "inputs").values(), strict=True):
        param.grad = grad
    torch.nn.utils.clip_grad_norm_(params, 2.0)
    torch.optim.AdamW(params, 1e-2 / 4, (0.9, 0.95), 1e-6, 0.1).step()
    for one, expected in zip(found, params, strict=True):
        torch.testing.assert_close(one, expected)


def test_a_layer_that_is_none_is_told_with_those_that_are():
    with pytest.raises(InputError, match=r"layer: expected one of adamw step, .*, found linear step"):
        layer_call(layer("linear", "step"))


# ---- peers


@pytest.mark.parametrize("subject", PLAIN)
def test_a_plain_model_computes_the_same_gradients(subject):
    of = problem(subject, "gradient")
    model = PLAIN[subject](of.work.config, of.params())
    model.loss(model(**of.inputs), **of.targets).backward()
    result = evaluated(of)
    for name, param in model.named_parameters():
        layer, _, part = name.removeprefix("net.").partition(".")
        own = f"layers.{int(layer) // 2}.{part}" if subject == "mlp" else name
        torch.testing.assert_close(param.grad, torch.tensor(result[f"grads/{own}"]), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("subject", ["gpt", "mlp", "resnet"])
def test_a_plain_step_is_the_first_step_of_training(subject):
    """Its learning rate stays that of the first step, so the second loss is the same, the third is not."""
    run = PEERS["plain"](problem(subject, "step")).run
    own = model_call(problem(subject, "step")).run
    assert [float(run()) for _ in range(2)] == pytest.approx([float(own()) for _ in range(2)], rel=1e-10)


def test_a_plain_loop_knows_kutta4():
    config = {"network": "odenet", "method": "kutta4", "scale": "mean"}
    of = problem("control_net", "forward", config=config)
    assert first_value(PEERS["plain"](of)) == pytest.approx(first_value(model_call(of)), rel=1e-14)
    with pytest.raises(InputError, match="method: expected one of euler, kutta4, found 'kutta3'"):
        PlainControlNet({**config, "method": "kutta3"}, of.params())


def test_torchdiffeq_solves_the_same_network():
    pytest.importorskip("torchdiffeq")
    of = problem("control_net", "gradient")
    solved, plain = (kind(of.work.config, of.params()) for kind in (SolvedControlNet, PlainControlNet))
    torch.testing.assert_close(solved(**of.inputs), plain(**of.inputs))
    assert first_value(PEERS["torchdiffeq"](of)) == pytest.approx(first_value(model_call(of)), rel=1e-14)


def test_torchdiffeq_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"torchdiffeq: expected the package, found none. pip install torchdiffeq"):
        PEERS["torchdiffeq"](problem("control_net", "gradient"))


@pytest.mark.parametrize("quantity", ["forward", "gradient", "step"])
def test_what_is_compiled_is_the_projects_own_model(monkeypatch, quantity):
    compiled = []

    def fake(model, **options):
        compiled.append(options)
        return model

    monkeypatch.setattr(torch, "compile", fake)
    found = first_value(PEERS["compile"](problem("gpt", quantity)))
    assert compiled == [{"dynamic": False}]
    assert found == first_value(model_call(problem("gpt", quantity)))


@pytest.mark.parametrize(
    ("peer", "subject", "quantity"),
    [("plain", "control_net", "step"), ("compile", "control_net", "costate"), ("torchdiffeq", "gpt", "forward")],
)
def test_a_peer_that_does_not_serve_a_workload_says_so(monkeypatch, peer, subject, quantity):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    with pytest.raises(InputError, match=f"implementation: expected .* for this peer, found {subject} {quantity}"):
        PEERS[peer](problem(subject, quantity))


# ---- visits


@pytest.fixture
def request_of(tmp_path):
    def make(subject="mlp", quantity="gradient", implementation="twingrad", **options):
        work = problem(subject, quantity).work
        file = write_arrays(work, SUBJECTS[subject][1], tmp_path)
        workload = {**work.model_dump(), "implementation": implementation}
        return {"workload": workload, "arrays": str(file), "seconds": 1e-3, "samples": 5, "first": True} | options

    return make


def test_an_answer_is_a_visit(request_of):
    answer = Visits().answer(request_of())
    visit = validate(Visit, {"side": "torch", "implementation": "twingrad", "round": 0, **answer}, "answer")
    assert LEAST_SAMPLES <= len(visit.seconds) <= 5
    assert visit.first_call_seconds > 0
    assert visit.allocated_bytes > 0
    assert visit.peak_bytes is None or visit.peak_bytes > 2**20
    assert visit.tool == f"torch.utils.benchmark {torch.__version__}"
    later = Visits().answer(request_of(first=False))
    assert later["first_call_seconds"] is later["allocated_bytes"] is None
    assert later["checksum"] == answer["checksum"]


def test_a_workload_stays_ready_until_another_is_asked_for(request_of, monkeypatch):
    made = []

    def counting(of):
        made.append(of.work.quantity)
        return model_call(of)

    monkeypatch.setitem(__import__("twingrad.bench.measure").bench.measure.KINDS, "model", counting)
    visits = Visits()
    for quantity in ("forward", "forward", "gradient", "forward"):
        visits.answer(request_of(quantity=quantity))
    assert made == ["forward", "gradient", "forward"]


def test_a_compiled_model_is_kept_for_good(request_of, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda model, **_: compiled.append(1) or model)
    visits = Visits()
    for implementation, quantity in (("compile", "forward"), ("twingrad", "gradient"), ("compile", "forward")):
        visits.answer(request_of(quantity=quantity, implementation=implementation))
    assert len(compiled) == 1


def test_what_is_not_known_is_named(request_of):
    with pytest.raises(InputError, match="implementation: expected one of twingrad, reference, plain, compile,"):
        Visits().answer(request_of(implementation="numpy"))
    with pytest.raises(InputError, match="subject: expected one of control_net, mlp, found 'gpt'"):
        Visits().answer(request_of(subject="gpt", quantity="costate"))
    wrong = request_of()
    wrong["workload"]["extra"] = 1
    with pytest.raises(InputError, match="workload, extra: expected only"):
        Visits().answer(wrong)


def test_a_ceiling_needs_no_file():
    workload = {
        **{"name": "matmul", "kind": "ceiling", "subject": "matmul", "quantity": "forward"},
        **{"config": {"size": 16}, "dtype": "float32", "device": "cpu", "implementation": "twingrad"},
    }
    answer = Visits().answer({"workload": workload, "arrays": None, "seconds": 1e-3, "samples": 3, "first": False})
    assert answer["checksum"] > 0


def test_samples_are_as_many_as_wanted_and_never_fewer_than_three():
    calls = []
    times, block = sample(Call(lambda: calls.append(1)), CPU, seconds=10.0, samples=4)
    assert len(times) == 4
    assert len(calls) >= 4 * block
    times, _ = sample(Call(lambda: None), CPU, seconds=0.0, samples=9)
    assert len(times) >= LEAST_SAMPLES


def test_the_time_of_a_token_is_a_part_of_the_calls(monkeypatch):
    """A clock that ticks a second whenever it is read: a block lasts a second, whatever is in it."""
    ticks = iter(range(10**6))

    class Ticking:
        def __init__(self, *_, **__):
            pass

        def blocked_autorange(self, callback, min_run_time):
            for _ in range(9):
                callback(1, float(next(ticks) >= 0))

    monkeypatch.setattr("twingrad.bench.measure.Timer", Ticking)
    times, calls = sample(Call(lambda: None, units=4), CPU, seconds=1.0, samples=5)
    assert times == [0.25] * 5
    assert calls == 4


def test_allocated_bytes_count_what_was_freed_too():
    ones = torch.ones(1000, dtype=torch.float64)

    def run():
        for _ in range(3):
            _ = ones + ones

    assert allocated_bytes(Call(run), CPU) == pytest.approx(3 * 8000, abs=64 * 3)


def test_the_peak_of_memory_is_told_where_the_system_has_it():
    assert peak_bytes(CPU) is None or peak_bytes(CPU) > 2**20
