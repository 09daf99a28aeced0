"""What the residual stream of a GPT says of it as a flow: from the arrays that a side computed to numbers.

Everything is in NumPy and the same for all sides; the arrays are those of `residual_stream`.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..comparator import relative_error
from ..specs import Arrays
from .orders import observed_order

Floats = NDArray[np.float64]

SUBLAYERS = {"lie": ("attention", "mlp"), "strang": ("mlp", "attention", "mlp")}
"""The sublayers of a block in their order."""
ORDERS = {"lie": 1, "strang": 1, "strang-heun": 2, "unsplit": 1}
"""The order of each scheme. `strang` has the symmetric order of parts, but Euler's method in each of them."""
QUARTILES = (25, 50, 75)
DRAWN = 12
"""So many tokens' ways through the layers are told, spread over those that there are."""
FLOOR, CHECK_FACTOR = 1e-12, 10
"""No order is fitted to errors up to 1e-12, or up to 10 times what half its steps change the reference by.

That change is 15 times the reference's own error.
"""


def quartiles(values: Floats) -> list[float]:
    """The quartiles over all tokens."""
    return [float(q) for q in np.percentile(values, QUARTILES)]


def cosines(updates: Floats) -> list[list[float]]:
    """Quartiles of the cosine of each update (updates, tokens, C) and the next one; where one is zero it is 0."""
    found = []
    for a, b in pairwise(updates):
        scale = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        found.append(quartiles(np.sum(a * b, axis=1) / np.where(scale == 0.0, 1.0, scale)))
    return found


def principal_plane(states: Floats) -> tuple[Floats, Floats]:
    """The states (S, tokens, C) in the plane of their two leading principal components; their shares of the variance.

    A component points to where its largest entry is positive, so that all sides show the same.

    Returns (S, tokens, 2) and (2,).
    """
    flat = states.reshape(-1, states.shape[-1])
    centred = flat - flat.mean(axis=0)
    _, sizes, components = np.linalg.svd(centred, full_matrices=False)
    leading = components[:2]
    leading = leading * np.sign(leading[np.arange(len(leading)), np.abs(leading).argmax(axis=1)])[:, None]
    shares = sizes[:2] ** 2 / (np.sum(sizes**2) or 1.0)
    return (centred @ leading.T).reshape(*states.shape[:2], -1), shares


def stream_numbers(arrays: Arrays, splitting: str) -> dict[str, Any]:
    """The model as it is: how far each sublayer moves the stream, and how straight the way is.

    Returns, as JSON has it and in quartiles over the tokens where nothing else is said:

    - `sublayers`, their names; `norms` of their updates, `relative` to the stream's norm;
    - `cosines` of successive sublayers' updates, `block_cosines` of successive blocks';
    - `travelled` and `displaced`, from the embedding on: the sum of the updates' norms, and the distance from the
      embedding; `straightness`, their quotient at the end;
    - `plane`, some tokens' ways in the leading principal plane, (tokens, S + 1, 2), and `explained`, the shares of the
      variance;
    - `time_steps` (layers,) and `loss`.
    """
    raw = arrays["states"]
    states = raw.reshape(raw.shape[0], -1, raw.shape[-1])
    names, updates = SUBLAYERS[splitting], np.diff(states, axis=0)
    norms, sizes = np.linalg.norm(updates, axis=2), np.linalg.norm(states, axis=2)
    travelled = np.concatenate([np.zeros_like(norms[:1]), np.cumsum(norms, axis=0)])
    displaced = np.linalg.norm(states - states[0], axis=2)
    blocks = np.diff(states[:: len(names)], axis=0)
    plane, explained = principal_plane(states)
    drawn = np.linspace(0, states.shape[1] - 1, min(DRAWN, states.shape[1])).astype(int)
    return {
        "sublayers": list(names) * len(blocks),
        "norms": [quartiles(row) for row in norms],
        "relative": [quartiles(row) for row in norms / sizes[:-1]],
        "cosines": cosines(updates),
        "block_cosines": cosines(blocks),
        "travelled": [quartiles(row) for row in travelled],
        "displaced": [quartiles(row) for row in displaced],
        "straightness": quartiles(displaced[-1] / np.where(travelled[-1] == 0.0, 1.0, travelled[-1])),
        "plane": plane[:, drawn].transpose(1, 0, 2).tolist(),
        "explained": explained.tolist(),
        "time_steps": arrays["time_steps"].tolist(),
        "loss": float(arrays["loss"]),
    }


def refinement_numbers(arrays: Arrays) -> dict[str, Any]:
    """The blocks solved in more and more steps, by each scheme: errors, their order, losses.

    An error is ‖x − r‖ / ‖r‖, x the last stream and r the reference's; an order is fitted as in `orders`.
    """
    reference, steps = arrays["reference/final"], arrays["steps"]
    check = relative_error(arrays["reference/half"], reference)
    schemes = {}
    for name in ORDERS:
        errors = np.array([relative_error(final, reference) for final in arrays[f"{name}/final"]])
        order, fitted = observed_order(steps, errors, max(FLOOR, CHECK_FACTOR * check))
        losses = arrays[f"{name}/losses"].tolist()
        schemes[name] = {"errors": errors.tolist(), "order": order, "fitted": fitted, "losses": losses}
    return {
        "steps": steps.tolist(),
        "reference_check": check,
        "reference_loss": float(arrays["reference/loss"]),
        "schemes": schemes,
    }


def largest_differences(one: Arrays, other: Arrays) -> dict[str, float]:
    """The largest relative differences ‖a − b‖₂ / ‖b‖₂ of two sides' streams, and of their solutions on any grid."""
    finals = [f"{name}/final" for name in ORDERS]
    losses = ["loss", "reference/loss", *(f"{name}/losses" for name in ORDERS)]
    return {
        "states": max(relative_error(a, b) for a, b in zip(one["states"], other["states"], strict=True)),
        "solutions": max(relative_error(a, b) for name in finals for a, b in zip(one[name], other[name], strict=True)),
        "losses": max(float(np.max(np.abs(one[name] - other[name]) / other[name])) for name in losses),
    }


BOUNDS: Mapping[str, float] = {"states": 1e-12, "solutions": 1e-11, "losses": 1e-11}
"""How far the sides may differ."""
