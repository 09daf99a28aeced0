"""The sides against each other, against the oracle and against their own hand-derived gradients, case by case."""

from pathlib import Path

import pytest

from twingrad import harness
from twingrad.comparator import Check
from twingrad.format import read_case


def failures_of(checks: list[Check]) -> str:
    return "\n".join(
        f"{check.case}, {check.dtype}, {check.left} against {check.right}, {check.array}: {check.message}"
        for check in checks
        if not check.passed
    )


def expected_kinds(case_file: Path, dtype: str) -> set[str]:
    if dtype != "float64":
        return {"oracle"}
    by_hand = {"manual"} if read_case(case_file).spec.manual_gradient else set()
    return {"sides", "oracle", "steps"} | by_hand


@pytest.mark.parametrize("dtype", harness.DTYPES)
def test_sides_agree(case_file: Path, dtype: str, running: harness.Sides) -> None:
    checks, failures = running.compare(case_file, (dtype,))
    assert not failures, "\n".join(failures)
    assert {check.check for check in checks} == expected_kinds(case_file, dtype)
    assert all(check.passed for check in checks), failures_of(checks)
