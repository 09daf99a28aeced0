"""Which tokens of a text make a batch: samples drawn for training, windows in order for evaluation.

Specified in `shared_fixtures/FORMAT.md`, "Text"; the same file on the Julia side is `julia/src/data/batches.jl`.
A sample that starts at s has the inputs tokens[s : s + context] and the targets tokens[s + 1 : s + context + 1].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .philox import Stream
from .text import Ids, Tokens

Starts = NDArray[np.int64]


def training_starts(n: int, context: int, seed: int, first: int, count: int) -> Starts:
    """Where samples first .. first + count - 1 of a training start in n tokens, shape (count,).

    Sample k of all is the one at place k mod batch of iteration k // batch, both counted from 0. Raises InputError
    where n < context + 1.
    """
    _check_length(n, context)
    drawn = Stream(seed, "batch/train").words(count, first)
    return (drawn % np.uint64(n - context)).astype(np.int64)


def training_batch(tokens: Tokens, context: int, seed: int, first: int, count: int) -> tuple[Ids, Ids]:
    """Inputs and targets (count, context), int64, of samples first .. first + count - 1 of a training."""
    return window_batch(tokens, context, training_starts(tokens.size, context, seed, first, count))


def windows(n: int, context: int, count: int) -> Starts:
    """Where the windows of an evaluation start in n tokens, spread evenly; their inputs do not overlap.

    There are `count` of them, or as many as there is room for where that is fewer or `count` is 0. Raises InputError
    where n < context + 1.
    """
    _check_length(n, context)
    room = (n - 1) // context
    used = min(count, room) if count > 0 else room
    return context * (np.arange(used, dtype=np.int64) * room // used)


def window_batch(tokens: Tokens, context: int, starts: Starts) -> tuple[Ids, Ids]:
    """Inputs and targets (len(starts), context), int64, of the samples that start at `starts`."""
    places = np.asarray(starts, dtype=np.int64)[:, None] + np.arange(context)
    return tokens[places].astype(np.int64), tokens[places + 1].astype(np.int64)


def _check_length(n: int, context: int) -> None:
    if n < context + 1:
        raise InputError("tokens", expected=f"at least context + 1 = {context + 1}", found=str(n))
