"""The sides against each other, against the oracle and against their own hand-derived gradients, case by case."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from twingrad import harness
from twingrad.comparator import Check
from twingrad.format import read_case
from twingrad.sides import sides


def failures_of(checks: list[Check]) -> str:
    return "\n".join(
        f"{check.case}, {check.dtype}, {check.left} against {check.right}, {check.array}: {check.message}"
        for check in checks
        if not check.passed
    )


FAST = {"control_net": ["torch", "flux"], "gpt": ["flux"], "mlp": ["flux"], "resnet": ["torch", "flux"]}
"""The sides that have a fast path of a model."""


def expected(case_file: Path, dtype: str, live: Iterable[str]) -> set[tuple[str, str]]:
    """The kinds of check and what is held against something, of live sides and one that may be recorded."""
    case = read_case(case_file)
    fast = [f"{side} fast" for side in FAST[case.model] if side in live]
    if dtype != "float64":
        return {("oracle", name) for name in (*live, *fast)}
    kinds = {("sides", "torch"), ("steps", "torch"), *(("oracle", side) for side in sides())}
    kinds |= {(kind, name) for name in fast for kind in ("oracle", "fast", "steps")}
    return kinds | ({("manual", f"{side} by hand") for side in sides()} if case.spec.manual_gradient else set())


@pytest.mark.parametrize("dtype", harness.DTYPES)
def test_sides_agree(case_file: Path, dtype: str, running: harness.Sides) -> None:
    checks, failures = running.compare(case_file, (dtype,))
    assert not failures, "\n".join(failures)
    assert {(check.check, check.left) for check in checks} == expected(case_file, dtype, running.workers)
    assert all(check.passed for check in checks), failures_of(checks)
