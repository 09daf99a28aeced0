"""The one comparator: arrays in, checks out. It knows neither PyTorch nor Julia.

The same file on the Julia side is `julia/src/comparator/compare.jl`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ..format import Case, Result
from ..specs import Array, Arrays
from .bounds import Bounds

TRAINING_ARRAYS = "steps/"
FAST = "fast/"
MANUAL = {"grads_manual/": "grads/", "grads_inputs_manual/": "grads_inputs/"}


@dataclass(frozen=True)
class Check:
    """One array held against another.

    `left` and `right` name where the two come from ("torch", "flux", "oracle", "torch by hand"); `error` is infinite
    where they cannot be compared at all. `message` is empty for a check that passed.
    """

    case: str
    dtype: str
    check: str
    left: str
    right: str
    array: str
    error: float
    bound: float
    message: str = ""

    @property
    def passed(self) -> bool:
        """Whether the two agree."""
        return not self.message


def relative_error(a: Array, b: Array) -> float:
    """‖a − b‖₂ / ‖b‖₂, or max|a| where the reference b is zero; infinite if `a` is not finite."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    size = float(np.linalg.norm(b))
    error = float(np.linalg.norm(a - b)) / size if size > 0.0 else float(np.abs(a).max(initial=0.0))
    return error if np.isfinite(error) else float("inf")


def compare_array(a: Array, b: Array, bound: float) -> tuple[float, str]:
    """(error, message): an empty message where `a` is within `bound` of the reference `b`.

    Shapes and dtypes must be equal, except that a lower-precision `a` may be held against a float64 reference.
    """
    if a.shape != b.shape:
        return float("inf"), f"shape {a.shape} against {b.shape}"
    if a.dtype != b.dtype and not (a.dtype.kind == b.dtype.kind == "f" and b.dtype == np.float64):
        return float("inf"), f"dtype {a.dtype} against {b.dtype}"
    error = relative_error(a, b)
    if error <= bound:
        return error, ""
    difference = np.abs(np.asarray(a, np.float64) - b)
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(difference)), a.shape))
    place = f"worst at index {list(index)}" if index else "the value"
    return (
        error,
        f"{place}: {float(a[index])!r} against {float(b[index])!r}, error {error:.2e}, bound {bound:.0e}",
    )


def compare_arrays(
    left: Arrays, right: Arrays, bound: float, *, case: str, dtype: str, check: str, names: tuple[str, str]
) -> Iterator[Check]:
    """Hold two groups of arrays against each other; `right` is the reference. The key sets must be equal."""
    for array in sorted(left.keys() | right.keys()):
        if array not in left or array not in right:
            lacking = names[0] if array not in left else names[1]
            error, message = float("inf"), f"missing on the side of {lacking}"
        else:
            error, message = compare_array(left[array], right[array], bound)
        yield Check(case, dtype, check, *names, array, error, bound, message)


def compare_case(case: Case, results: Mapping[str, Result], bounds: Bounds) -> list[Check]:
    """All checks of one case: each result against the oracle, its own hand-derived gradient and its own fast path, and
    side against side.

    Args:
        case: the case, with or without an oracle.
        results: by side name, all of one dtype.
        bounds: a check without a bound in the results' dtype is not made.
    """
    checks: list[Check] = []
    dtypes = {result.dtype for result in results.values()}
    if len(dtypes) != 1:
        raise ValueError(f"results of one dtype are compared, not {sorted(dtypes)}")
    (dtype,) = dtypes

    def hold(check: str, left: Arrays, right: Arrays, names: tuple[str, str]) -> None:
        bound = bounds.of(dtype, check)
        if bound is not None and (left or right):
            found = compare_arrays(left, right, bound, case=case.name, dtype=dtype, check=check, names=names)
            checks.extend(found)

    for side, result in results.items():
        reference, fast = split_paths(result.arrays)
        by_hand = _renamed(reference)
        untrained = part(reference, in_steps=False)
        plain = {path: array for path, array in untrained.items() if not path.startswith(tuple(MANUAL))}
        if case.oracle is not None:
            hold("oracle", plain, case.oracle, (side, "oracle"))
        if case.spec.manual_gradient:
            automatic = {path: a for path, a in plain.items() if path.startswith(tuple(MANUAL.values()))}
            hold("manual", by_hand, automatic, (f"{side} by hand", side))
        if fast:
            names = (f"{side} fast", side)
            if case.oracle is not None:
                hold("oracle", part(fast, in_steps=False), case.oracle, (names[0], "oracle"))
            hold("fast", part(fast, in_steps=False), plain, names)
            hold("steps", part(fast, in_steps=True), part(reference, in_steps=True), names)
    for left, right in combinations(results, 2):
        for check, in_steps in (("sides", False), ("steps", True)):
            a, b = (part(split_paths(results[side].arrays)[0], in_steps=in_steps) for side in (left, right))
            hold(check, a, b, (left, right))
    return checks


def part(arrays: Arrays, *, in_steps: bool) -> Arrays:
    """The arrays of training steps, or all others."""
    return {path: array for path, array in arrays.items() if path.startswith(TRAINING_ARRAYS) == in_steps}


def split_paths(arrays: Arrays) -> tuple[Arrays, Arrays]:
    """(the reference's, the fast path's) arrays, those by the names of the reference."""
    fast = {path.removeprefix(FAST): array for path, array in arrays.items() if path.startswith(FAST)}
    return {path: array for path, array in arrays.items() if not path.startswith(FAST)}, fast


def _renamed(arrays: Arrays) -> Arrays:
    """The hand-derived gradients under the names of the automatic ones."""
    return {
        plain + path.removeprefix(manual): array
        for manual, plain in MANUAL.items()
        for path, array in arrays.items()
        if path.startswith(manual)
    }
