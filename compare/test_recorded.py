"""The recorded results: fresh, complete, in agreement with each other, and still what the live sides give."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from twingrad import harness, paths
from twingrad.comparator import Check, compare_case, read_bounds
from twingrad.format import Recorded, Result, read_case
from twingrad.sides import sides

LARGEST_SLACK = 1e4
"""A bound that no error comes within this factor of is too loose."""


@cache
def recordings() -> tuple[Mapping[str, Recorded], list[str]]:
    """Those that can be read, which takes seconds, and what is wrong with any."""
    return harness.read_recordings()


def recorded_results(name: str) -> Mapping[str, Result]:
    return recordings()[0][name].results


def recorded_checks() -> list[Check]:
    bounds = read_bounds(paths.shared_fixtures() / "bounds.toml")
    checks: list[Check] = []
    for file in paths.case_files():
        results = {name: recorded_results(name)[file.stem] for name in sides()}
        checks += compare_case(read_case(file), results, bounds)
    return checks


def test_no_recording_is_stale() -> None:
    assert recordings()[1] == []


def test_recordings_agree_and_no_bound_is_too_loose() -> None:
    checks = recorded_checks()
    assert all(check.passed for check in checks)
    for kind in ("sides", "oracle", "manual", "steps"):
        worst = max(check.error for check in checks if check.check == kind)
        bound = max(check.bound for check in checks if check.check == kind)
        assert worst * LARGEST_SLACK >= bound, f"{kind}: worst error {worst:.1e} is far below the bound {bound:.0e}"


def test_live_results_are_still_the_recorded_ones(case_file: Path, running: harness.Sides) -> None:
    case = read_case(case_file)
    bounds = read_bounds(paths.shared_fixtures() / "bounds.toml")
    for name in running.workers:
        live = running.result(name, case, case_file, "float64", harness.STEPS)
        recorded = recorded_results(name)[case.name]
        checks = compare_case(case, {name: live, f"{name} recorded": recorded}, bounds)
        assert all(check.passed for check in checks), [check.message for check in checks if not check.passed]
