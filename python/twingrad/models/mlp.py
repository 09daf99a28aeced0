"""The multilayer perceptron. Beside it: `julia/src/models/mlp.jl`.

With a_0 = x, layer l = 1..L computes z_l = W_l a_{l-1} + b_l and a_l = σ(z_l), but the last, whose z_L are the
scores. A perceptron is the same with one layer and one output. Sources: Rosenblatt, Psychological Review 65(6), 1958;
Rumelhart, Hinton, Williams, "Learning representations by back-propagating errors", Nature 323, 1986.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..evaluation import Evaluation
from ..specs import MLPConfig


@dataclass(frozen=True)
class Activation:
    """A function of the hidden units and its derivative, written by its value a = σ(z)."""

    function: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]


ACTIVATIONS = {
    "sigmoid": Activation(torch.sigmoid, lambda a: a * (1.0 - a)),
    "relu": Activation(torch.relu, lambda a: (a > 0.0).to(a.dtype)),
}


class MultilayerPerceptron(nn.Module):
    """Layers of linear maps with an activation between them.

    Args:
        config: sizes, activation, loss.
        params: `layers.N.weight` (out, in), `layers.N.bias` (out,). They become the parameters, uncopied.
    """

    def __init__(self, config: MLPConfig, params: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.config = config
        with torch.device("meta"):  # nothing is allocated: `params` are the arrays
            self.layers = nn.ModuleList(nn.Linear(inputs, outputs) for inputs, outputs in pairwise(config.sizes))
        self.load_state_dict(dict(params), assign=True)

    def forward(self, x: Tensor) -> Tensor:
        """Scores (samples, outputs) of inputs x (samples, inputs)."""
        activation = ACTIVATIONS[self.config.activation].function
        *hidden, last = self.layers
        for layer in hidden:
            x = activation(layer(x))
        scores: Tensor = last(x)
        return scores

    def loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        """The mean over the batch of scores (samples, outputs) for labels (samples,).

        "mse": ‖scores − y‖², y one-hot, or the label 0 or 1 itself where there is one output. "cross-entropy":
        −log softmax(scores)[label]; where there is one output, of the logistic model, −log σ(±score).
        """
        if self.config.loss == "mse":
            return torch.sum((scores - one_hot(labels, scores)) ** 2) / len(labels)
        if scores.shape[1] == 1:
            return F.binary_cross_entropy_with_logits(scores, one_hot(labels, scores))
        return F.cross_entropy(scores, labels)


def one_hot(labels: Tensor, like: Tensor) -> Tensor:
    """The targets y (samples, outputs) of labels (samples,), in the dtype and shape of `like`."""
    if like.shape[1] == 1:
        return labels[:, None].to(like.dtype)
    return F.one_hot(labels, like.shape[1]).to(like.dtype)


@torch.no_grad()
def backpropagation(
    model: MultilayerPerceptron, inputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]
) -> Evaluation:
    """Loss and gradients by the chain rule, layer by layer, without autograd.

    With δ_l = ∂L/∂z_l for each sample,

        δ_L     = 2 (z_L − y) / n   ("mse"),   (softmax(z_L) − y) / n   ("cross-entropy"),
        δ_l     = (W_{l+1}ᵀ δ_{l+1}) ∘ σ'(z_l),
        ∂L/∂W_l = Σ δ_l a_{l-1}ᵀ,   ∂L/∂b_l = Σ δ_l,   ∂L/∂x = W_1ᵀ δ_1,

    each sum over the n samples.
    """
    activation = ACTIVATIONS[model.config.activation]
    params, count = dict(model.named_parameters()), len(model.layers)
    W, b = ([params[f"layers.{layer}.{kind}"] for layer in range(count)] for kind in ("weight", "bias"))
    a = [inputs["x"]]  # a[l]: what W[l] is applied to
    for weight, bias in zip(W[:-1], b[:-1], strict=True):
        a.append(activation.function(a[-1] @ weight.T + bias))
    scores = a[-1] @ W[-1].T + b[-1]
    labels = targets["labels"]
    y, n = one_hot(labels, scores), len(labels)

    if model.config.loss == "mse":
        delta = 2.0 * (scores - y) / n
    elif scores.shape[1] == 1:
        delta = (torch.sigmoid(scores) - y) / n
    else:
        delta = (torch.softmax(scores, 1) - y) / n
    grads: dict[str, Tensor] = {}
    for layer in reversed(range(count)):
        grads[f"layers.{layer}.weight"] = delta.T @ a[layer]
        grads[f"layers.{layer}.bias"] = delta.sum(0)
        delta = delta @ W[layer]
        if layer > 0:
            delta = delta * activation.slope(a[layer])
    return Evaluation(model.loss(scores, labels), scores, grads, {"x": delta})
