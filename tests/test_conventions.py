"""What docs/conventions.md says of PyTorch, row by row; julia/test/conventions.jl has what it says of Flux.

`test_guide.py` sees to it that rows and tests belong together and that the page's numbers are those of the tests.
"""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor, nn, tensor
from torch.func import grad
from torch.nn import functional as F
from torch.utils.data import DataLoader

from twingrad import paths


def near(found: object, expected: object, tolerance: float = 1e-6) -> bool:
    return torch.allclose(torch.as_tensor(found).double(), torch.as_tensor(expected).double(), atol=tolerance, rtol=0)


# ---- arrays and axes


def test_order_in_memory():
    x = torch.arange(6).reshape(2, 3)
    assert x.stride() == (3, 1)
    assert x.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_weight_of_a_linear_map():
    layer = nn.Linear(2, 3)
    assert layer.weight.shape == (3, 2)
    x = torch.ones(5, 2)
    assert near(layer(x), x @ layer.weight.T + layer.bias)


def test_weight_of_an_embedding():
    assert nn.Embedding(7, 2).weight.shape == (7, 2)


def test_weight_of_a_convolution():
    assert nn.Conv2d(4, 8, (3, 5)).weight.shape == (8, 4, 3, 5)


def test_reshape():
    assert tensor([[1, 2, 3], [4, 5, 6]]).reshape(3, 2).tolist() == [[1, 2], [3, 4], [5, 6]]


def test_flatten():
    images = torch.arange(24).reshape(1, 2, 3, 4)
    assert torch.flatten(images, 1)[0, 12 * 1 + 4 * 2 + 3] == images[0, 1, 2, 3] == 23
    assert torch.flatten(images, 1).shape == (1, 24)


def test_views():
    x = torch.zeros(2, 3)
    x[:, 0][:] = 1
    assert x.sum() == 2
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        x.T.view(6)


def test_broadcasting():
    assert (torch.zeros(2, 2) + tensor([1, 2])).tolist() == [[1, 2], [1, 2]]
    assert (torch.zeros(2, 3) + torch.zeros(3)).shape == (2, 3)
    with pytest.raises(RuntimeError, match="must match"):
        torch.zeros(2, 3) + torch.zeros(2)


def test_the_star():
    a = tensor([[1, 2], [3, 4]])
    assert (a * a).tolist() == [[1, 4], [9, 16]]


def test_sums_along_an_axis():
    assert torch.ones(2, 3).sum(1).shape == (2,)


def test_axis_of_a_softmax():
    scores = tensor([[1.0, 2.0], [3.0, 4.0]])
    with pytest.warns(UserWarning, match="Implicit dimension choice"):
        implicit = F.softmax(scores)
    assert near(implicit, F.softmax(scores, dim=1))
    assert near(implicit[0], [0.2689, 0.7311], 1e-4)


def test_mask_of_attention():
    ones, values = torch.ones(1, 2, 1), tensor([[[1.0], [3.0]]])
    sees_itself = tensor([[True, False], [True, True]])
    assert F.scaled_dot_product_attention(ones, ones, values, attn_mask=sees_itself).flatten().tolist() == [1, 2]
    attention = nn.MultiheadAttention(2, 1)
    x = torch.ones(2, 2)
    weights = attention(x, x, x, attn_mask=~sees_itself)[1]
    assert weights.tolist() == [[1, 0], [0.5, 0.5]]


def test_axes_of_a_sequence():
    assert nn.LSTM(2, 3)(torch.ones(4, 5, 2))[0].shape == (4, 5, 3)


# ---- indices


def test_the_first_index():
    x = tensor([10, 20, 30])
    assert x[0] == 10
    assert F.embedding(tensor([0]), torch.ones(3, 2)).shape == (1, 2)


def test_negative_indices():
    assert tensor([10, 20, 30])[-1] == 30


def test_ends_of_ranges():
    x = tensor([10, 20, 30])
    assert len(x[0:2]) == 2
    assert len(torch.arange(0, 3)) == 3


def test_argmax_of_equal_numbers():
    assert tensor([3, 5, 5]).argmax() == 1


def test_one_hot_labels():
    assert F.one_hot(tensor([0, 2]), 3).tolist() == [[1, 0, 0], [0, 0, 1]]


def test_division_of_integers():
    seven = tensor([-7])
    assert (seven // 2).item() == -4
    assert (seven % 2).item() == 1
    assert (tensor(1) / 2).dtype == torch.float32


# ---- numbers and types


def test_literals():
    assert (tensor([1.0]) * 0.1).dtype == torch.float32


def test_default_type():
    assert tensor([0.1]).dtype == torch.float32
    assert nn.Linear(1, 1).weight.dtype == torch.float32
    with pytest.raises(RuntimeError, match="same dtype"):
        nn.Linear(1, 1)(torch.ones(1, 1, dtype=torch.float64))


def test_sums_in_float32():
    x = torch.full((500, 1, 28, 28), 0.1)
    exact = x.double().sum().item()
    assert abs(x.sum((0, 2, 3)).item() - exact) / exact < 2e-7


def test_spread_of_a_sample():
    assert tensor([0.0, 2.0]).var() == 2
    assert np.var([0.0, 2.0]) == 1


def test_single_elements_of_a_gpu_array():
    assert tensor([1.0, 2.0], device="cpu")[0].item() == 1


# ---- layers


def test_initial_weights_of_a_linear_map():
    torch.manual_seed(0)
    layer = nn.Linear(16, 800)
    assert 0.249 < layer.weight.abs().max() <= 0.25
    assert 0.24 < layer.bias.abs().max() <= 0.25


def test_initial_weights_of_a_convolution():
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 800, 2)
    assert 0.249 < layer.weight.abs().max() <= 0.25
    assert 0.24 < layer.bias.abs().max() <= 0.25


def test_initial_weights_of_an_embedding():
    torch.manual_seed(0)
    assert near(nn.Embedding(1000, 16).weight.std(), 1, 0.02)


def test_the_kernel_s_direction():
    pulse, kernel = tensor([[[0.0, 1.0, 0.0, 0.0]]]), tensor([[[1.0, 2.0, 3.0]]])
    assert F.conv1d(pulse, kernel, padding=1).flatten().tolist() == [3, 2, 1, 0]


@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_same_padding():
    found = F.conv1d(tensor([[[1.0, 2.0, 4.0]]]), torch.ones(1, 1, 2), padding="same")
    assert found.flatten().tolist() == [3, 6, 4]


def test_size_of_a_pooled_image():
    x = torch.ones(1, 1, 5)
    assert F.max_pool1d(x, 2).shape[-1] == 2
    assert F.max_pool1d(x, 2, ceil_mode=True).shape[-1] == 3


def test_padding_of_a_mean():
    x = torch.full((1, 1, 3), 3.0)
    assert F.avg_pool1d(x, 3, 1, 1).flatten().tolist() == [2, 3, 2]
    assert F.avg_pool1d(x, 3, 1, 1, count_include_pad=False).flatten().tolist() == [3, 3, 3]


def test_eps_in_layer_norm():
    x = tensor([-0.3, 0.3], dtype=torch.float64)
    assert near(F.layer_norm(x, (2,), eps=0.1)[1], 0.6882, 1e-4)


def test_eps_of_batch_norm():
    assert nn.BatchNorm1d(1).eps == 1e-5


def test_mode_of_batch_norm():
    x = tensor([[0.0], [2.0]])
    layer = nn.BatchNorm1d(1)
    with torch.no_grad():
        assert near(layer(x).flatten(), [-1, 1], 1e-4)
    assert near(nn.BatchNorm1d(1).eval()(x).flatten(), [0, 2], 1e-4)


def test_running_statistics():
    layer = nn.BatchNorm1d(1)
    layer(tensor([[0.0], [2.0]]))
    assert near(layer.running_mean, [0.1])
    assert near(layer.running_var, [1.1])


def test_dropout():
    x = torch.ones(100)
    assert nn.Dropout(0.5)(x).unique().tolist() == [0, 2]
    assert nn.Dropout(0.5).eval()(x).unique().tolist() == [1]
    assert F.dropout(x, 0.5).unique().tolist() == [0, 2]


def test_gelu():
    one = tensor(1.0, dtype=torch.float64)
    assert near(F.gelu(one), 0.8413447, 1e-7)
    assert near(F.gelu(one, approximate="tanh"), 0.8411920, 1e-7)


def test_gates_of_an_lstm():
    cell = nn.LSTMCell(1, 1, dtype=torch.float64)
    with torch.no_grad():
        for p in cell.parameters():
            p.zero_()
        cell.weight_ih.copy_(tensor([[1], [2], [3], [4]]))
        h, c = cell(torch.ones(1, 1).double(), (torch.zeros(1, 1).double(), torch.ones(1, 1).double()))
    assert near(h, [[0.9063]], 1e-4)
    assert near(c, [[1.6082]], 1e-4)
    assert len(list(cell.parameters())) == 4


def test_bias_of_a_gru():
    cell, bias = nn.GRUCell(1, 1, dtype=torch.float64), tensor([0.2, -0.1, 0.6]).double()
    x, h = torch.ones(1, 1).double(), torch.full((1, 1), 0.5).double()
    with torch.no_grad():
        for p in cell.parameters():
            p.zero_()
        cell.weight_ih.copy_(tensor([[0.1], [0.2], [0.3]]))
        cell.weight_hh.copy_(tensor([[0.5], [-0.4], [0.7]]))
        cell.bias_hh.copy_(bias)
        assert near(cell(x, h), [[0.6142]], 1e-4)
        cell.bias_hh.zero_()
        cell.bias_ih.copy_(bias)
        assert near(cell(x, h), [[0.6618]], 1e-4)


# ---- losses


def test_mean_of_squares():
    assert F.mse_loss(tensor([[1.0, 2.0], [3.0, 4.0]]), torch.zeros(2, 2)) == 7.5


def test_cross_entropy():
    assert near(F.cross_entropy(tensor([[1.0, 3.0], [2.0, 4.0]]), tensor([0, 1])), 1.1269, 1e-4)


@pytest.mark.filterwarnings("ignore:reduction. 'mean'")
def test_kullback_leibler():
    q, p = tensor([[0.25, 0.75], [0.5, 0.5]]), torch.full((2, 2), 0.5)
    assert near(F.kl_div(q.log(), p), 0.0360, 1e-4)
    assert near(F.kl_div(q.log(), p, reduction="batchmean"), 0.0719, 1e-4)


def test_label_smoothing():
    scores = tensor([[1.0, 2.0, 3.0, 4.0]])
    smooth = -(tensor([0.925, 0.025, 0.025, 0.025]) * scores.log_softmax(1)).sum()
    assert near(F.cross_entropy(scores, tensor([0]), label_smoothing=0.1), smooth)


def test_probability_zero():
    assert F.binary_cross_entropy(tensor([0.0]), tensor([1.0])) == 100


# ---- optimizers


def stepped(rule: type[torch.optim.Optimizer], gradients: list[float | None], **settings: float) -> float:
    """What steps by the gradients make of the number 1."""
    param = nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = rule([param], **settings)
    for g in gradients:
        param.grad = None if g is None else tensor([g], dtype=torch.float64)
        optimizer.step()
    return param.item()


def test_decay_of_adamw():
    assert near(stepped(torch.optim.AdamW, [0.0], lr=0.1, weight_decay=0.1), 0.99)


def test_default_decay_of_adamw():
    assert torch.optim.AdamW([nn.Parameter(torch.ones(1))]).defaults["weight_decay"] == 0.01


def test_eps_of_adam():
    assert near(stepped(torch.optim.Adam, [1e-8], lr=0.1), 0.95)


def test_momentum_and_the_learning_rate():
    param = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([param], lr=1.0, momentum=0.9)
    param.grad = torch.ones(1)
    optimizer.step()
    before = param.item()
    optimizer.param_groups[0]["lr"] = 0.1
    optimizer.step()
    assert near(before - param.item(), 0.19)


def test_clipping_by_a_norm():
    params = [nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))]
    params[0].grad, params[1].grad = tensor([3.0]), tensor([4.0])
    nn.utils.clip_grad_norm_(params, 1.0)
    assert near([p.grad.item() for p in params], [0.6, 0.8])


def test_tied_weights():
    shared = nn.Linear(1, 1, bias=False)
    model = nn.Sequential(shared, shared)
    nn.init.ones_(shared.weight)
    assert len(list(model.parameters())) == 1
    model(torch.ones(1, 1)).sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert near(shared.weight, [[0.8]])


# ---- gradients


def test_unused_parameters():
    a, b = (nn.Parameter(torch.ones(1)) for _ in range(2))
    a.sum().backward()
    assert b.grad is None
    with pytest.raises(RuntimeError, match="allow_unused"):
        torch.autograd.grad(a.sum(), [a, b])


def test_steps_without_a_gradient():
    assert stepped(torch.optim.AdamW, [None], lr=0.1, weight_decay=0.1) == 1
    assert near(stepped(torch.optim.AdamW, [0.0], lr=0.1, weight_decay=0.1), 0.99)


def test_gradients_add_up():
    a = nn.Parameter(torch.ones(1))
    for _ in range(2):
        a.sum().backward()
    assert a.grad == 2


def test_changes_in_place():
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
        nn.Parameter(torch.ones(1)).add_(1)
    x = nn.Parameter(torch.ones(1))
    y = x.exp()
    y += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_kinks():
    zero = tensor([0.0])
    assert grad(lambda x: x.relu().sum())(zero) == 0
    assert grad(lambda x: x.abs().sum())(zero) == 0
    assert grad(lambda x: x.clamp(0, 1).sum())(tensor([0.0, 1.0])).tolist() == [1, 1]


def test_ties():
    pair = tensor([1.0, 1.0])
    assert grad(lambda x: torch.maximum(x[0], x[1]))(pair).tolist() == [0.5, 0.5]
    assert grad(lambda x: x.max())(pair).tolist() == [0.5, 0.5]
    assert grad(lambda x: F.max_pool1d(x[None, None], 2).sum())(pair).tolist() == [1, 0]


def test_a_norm_at_zero():
    zeros = torch.zeros(2)
    assert grad(torch.linalg.norm)(zeros).tolist() == [0, 0]
    assert grad(lambda x: x.square().sum().sqrt())(zeros).isnan().all()


def test_gradients_by_integers():
    with pytest.raises(RuntimeError, match="floating point"):
        tensor([3]).requires_grad_()


def test_parts_without_a_gradient():
    def product(x: Tensor) -> Tensor:
        return x.sum().detach() * x[0]

    assert grad(product)(tensor([1.0, 2.0])).tolist() == [3, 0]


# ---- randomness


def test_random_numbers():
    torch.manual_seed(0)
    assert near(torch.rand(1), [0.4963], 1e-4)


def test_batches():
    sizes = [len(batch) for batch in DataLoader(range(5), batch_size=2)]
    assert sizes == [2, 2, 1]
    assert next(iter(DataLoader(torch.ones(5, 3), batch_size=2))).shape == (2, 3)


# ---- files


def test_axes_of_a_dataset():
    with h5py.File(paths.cases() / "gpt-odd-sizes.h5") as file:
        assert file["params/wte.weight"].shape == (13, 15)


def test_text_in_hdf5(tmp_path: Path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["text"] = "abc"
        assert h5py.check_string_dtype(file.attrs.get_id("text").dtype).length is None


def test_long_text_in_hdf5(tmp_path: Path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["text"] = "a" * 70000
        assert len(file.attrs["text"]) == 70000
        with pytest.raises(OSError, match="too large"):
            file.attrs["fixed"] = np.bytes_(b"a" * 70000)
