"""What an audit has found, on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from ..harness import INCOMPARABLE
from ..sides import side
from .saved import LEAST_MARGIN, Alarms, BrokenFiles, Defects, Outcome, Planted


def print_defects(console: Console, found: Defects) -> None:
    """The score of each side by topic, and each mistake that was not caught as it should be."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    names = list(dict.fromkeys(one.side for one in found.planted))
    table.add_column("planted mistakes")
    for name in names:
        table.add_column(side(name).title, justify="right")
    for topic in dict.fromkeys(one.topic for one in found.planted):
        table.add_row(
            topic, *(_score([one for one in found.planted if (one.topic, one.side) == (topic, name)]) for name in names)
        )
    table.add_row("all", *(_score([one for one in found.planted if one.side == name]) for name in names))
    table.add_row("smallest margin", *(_smallest(found, name) for name in names))
    console.print(table)
    for one in found.planted:
        if not one.sound:
            console.print(f"{side(one.side).title}, {one.name}: {_fate(one)}", soft_wrap=True, markup=False)
    for name, failed in found.controls.items():
        for text in failed:
            console.print(f"{side(name).title}, without a mistake: {text}", soft_wrap=True, markup=False)
    for name, reason in found.not_run.items():
        console.print(f"{side(name).title}: NOT RUN, {reason}", soft_wrap=True, markup=False)


def _score(several: list[Planted]) -> str:
    return f"{sum(one.sound for one in several)}/{len(several)}" if several else "-"


def _smallest(found: Defects, name: str) -> str:
    margins = [one.margin for one in found.planted if one.side == name and one.status == "caught"]
    return f"{min(margins):.1e}" if margins else "-"


def _fate(one: Planted) -> str:
    """What became of a mistake that was not caught as it should be."""
    match one.status:
        case "caught":
            return (
                f"caught by {one.check} {one.array}, but only {one.margin:.0f} times the bound, not {LEAST_MARGIN:.0f}"
            )
        case "elsewhere":
            return f"not caught by {one.check} {one.array}, but by {one.message}"
        case "missed":
            return "MISSED: every check passed"
        case _:
            return f"the worker failed: {one.message}"


def print_false_alarms(console: Console, found: Alarms) -> None:
    """The worst errors of each model's fresh cases against their bounds, and each failure."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    heads = ("cases", "checks", "failed", "unstable", "float64 sides", "by hand", "fast", "steps", "float32")
    for head in ("model", *heads):
        table.add_column(head, justify="left" if head == "model" else "right", no_wrap=head == "model")
    for model, several in found.of_models().items():
        worst = [max(one.worst.get(kind, 0.0) for one in several) for kind in found.KINDS]
        counts = [len(several), sum(one.checks for one in several), sum(len(one.failures) for one in several)]
        counts.append(sum(len(one.unstable) for one in several))
        table.add_row(model, *map(str, counts), *(_error(error) for error in worst))
    table.add_row("bound", "", "", "", "", *(_error(found.bounds.get(kind, 0.0)) for kind in found.KINDS))
    console.print(table)
    for one in found.cases:
        for text in one.failures:
            console.print(f"{one.name}: {text}", soft_wrap=True, markup=False)


def print_broken_files(console: Console, found: BrokenFiles) -> None:
    """How often each kind of broken file was refused, or read right, on each side; and each that was not."""
    for name, kinds in found.counts.items():
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for head in (side(name).title, "files", "refused", "read right", "unprotected", "worker ended", "wrong"):
            table.add_column(head, justify="left" if head == side(name).title else "right")
        for kind, counts in kinds.items():
            table.add_row(kind, *_counted([counts]))
        table.add_row("all", *_counted(list(kinds.values())))
        console.print(table)
    for one in found.unsound:
        text = f"{side(one.side).title}, file {one.number}, {one.kind}, {one.way}: {one.outcome}: {one.message}"
        console.print(text, soft_wrap=True, markup=False)


def _counted(several: Sequence[Mapping[Outcome, int]]) -> list[str]:
    """Files in all, those of each outcome that is as it should be, and the others."""
    total = sum(sum(counts.values()) for counts in several)
    fates = [sum(counts.get(outcome, 0) for counts in several) for outcome in BrokenFiles.SOUND]
    return [str(number) for number in (total, *fates, total - sum(fates))]


def _error(error: float) -> str:
    return "not comparable" if error >= INCOMPARABLE else f"{error:.1e}" if error else "-"
