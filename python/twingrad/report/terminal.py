"""Comparisons as tables for a terminal of 80 columns."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..comparator import Check
from ..harness import Comparison, by_case

MAX_MESSAGES = 20


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Print a row per case, the worst error of each kind, every disagreement, and the verdict."""
    for source in comparison.sources:
        console.print(f"{source}")
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), expand=False)
    table.add_column("case", no_wrap=True)
    for heading in ("outputs", "grads", "by hand", "fast", "steps", "f32"):
        table.add_column(heading, justify="right", no_wrap=True)
    model = ""
    for case, checks in by_case(comparison.checks):
        name, _, rest = case.partition("-")
        if name != model:
            table.add_row(Text(name, "bold"))
            model = name
        table.add_row(rest or name, *(_cell(group) for group in columns(checks)))
    console.print()
    console.print(table)
    console.print()
    console.print("worst errors, their bounds, and where they are")
    console.print(worst_table(comparison))
    wrong = [check for check in comparison.checks if not check.passed]
    for check in wrong[:MAX_MESSAGES]:
        where = f"{check.case}, {check.dtype}, {check.left} against {check.right}, {check.array}"
        console.print(Text(f"✗ {where}: {check.message}", "red"), soft_wrap=True)
    if len(wrong) > MAX_MESSAGES:
        console.print(f"... and {len(wrong) - MAX_MESSAGES} more; --json lists all")
    for failure in comparison.failures[:MAX_MESSAGES]:
        console.print(Text(f"✗ {failure}", "red"), soft_wrap=True)
    if len(comparison.failures) > MAX_MESSAGES:
        console.print(f"... and {len(comparison.failures) - MAX_MESSAGES} more; --json lists all")
    console.print(Text(verdict(comparison), "bold green" if comparison.agrees else "bold red"), soft_wrap=True)


def columns(checks: list[Check]) -> list[list[Check]]:
    """A case's checks by column: outputs, gradients, by hand, fast paths, steps (float64); all of float32."""
    exact = [check for check in checks if check.dtype == "float64"]
    plain = [check for check in exact if check.check in ("sides", "oracle")]
    return [
        [check for check in plain if not check.array.startswith("grads")],
        [check for check in plain if check.array.startswith("grads")],
        [check for check in exact if check.check == "manual"],
        [check for check in exact if check.check == "fast"],
        [check for check in exact if check.check == "steps"],
        [check for check in checks if check.dtype == "float32"],
    ]


def worst_table(comparison: Comparison) -> Table:
    """A row per dtype and kind of check: its worst error, the bound and where it is."""
    kinds = {
        "sides": "side against side",
        "oracle": "against the oracle",
        "manual": "by hand against AD",
        "fast": "fast path against AD",
        "steps": "training steps",
    }
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), show_header=False)
    for _ in range(3):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for dtype in ("float64", "float32"):
        for kind, title in kinds.items():
            worst = comparison.worst(dtype, kind)
            if worst is not None:
                table.add_row(f"  {dtype}", title, f"{worst.error:.1e} of {worst.bound:.0e}", Text(worst.array))
    return table


def verdict(comparison: Comparison) -> str:
    """The last line: agreement or not, and what stood in for a side that did not run."""
    wrong = sum(not check.passed for check in comparison.checks)
    cases = len({check.case for check in comparison.checks})
    recorded = [f"{source}" for source in comparison.sources if not source.live]
    note = f" Recorded results stood in: {', '.join(recorded)}." if recorded else " Both sides ran live."
    if comparison.agrees:
        return f"AGREE: {len(comparison.checks)} checks on {cases} cases passed.{note}"
    if not comparison.checks and not comparison.failures:
        return f"NOTHING COMPARED.{note}"
    failed = len(comparison.failures)
    return f"DISAGREE: {wrong} of {len(comparison.checks)} checks failed, {failed} other failures.{note}"


def _cell(checks: list[Check]) -> Text:
    if not checks:
        return Text("-")
    failed = [check for check in checks if not check.passed]
    worst = max(failed or checks, key=lambda check: check.error)
    return Text(f"{worst.error:.0e}", "bold red" if failed else "")
