"""A benchmark run as tables for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..report.language import ENGLISH
from ..sides import sides
from .run import Plan
from .saved import OWN, Bench
from .statistics import Ratio
from .summary import Growth, Row, growths, rows, warnings

SHORT = {"float64": "f64", "float32": "f32", "bfloat16": "bf16"}
MAX_MESSAGES = 12


def print_bench(console: Console, bench: Bench) -> None:
    """Print what was measured on which machine, how costs grow, and what to beware of."""
    machine = bench.machine
    memory = f"{machine.memory_bytes / 2**30:.0f} GiB"
    console.print(f"{machine.processor}, {machine.cores} cores, {memory}, {machine.system}", soft_wrap=True)
    for name, versions in bench.sides.items():
        what = ", ".join(str(versions[key]) for key in ("framework", "language", "blas") if key in versions)
        console.print(f"{sides()[name].title}: {what}", soft_wrap=True)
    found = rows(bench)
    for threads in bench.threads:
        here = [row for row in found if row.measured.threads == threads and row.measured.name == row.measured.base]
        if here:
            console.print()
            console.print(_table(bench, here, threads))
    grown = growths(bench)
    if grown:
        console.print()
        console.print("cost ~ size^p")
        console.print(_growth_table(bench, grown))
    console.print()
    _print_messages(console, list(_not_run(bench)), "bold red")
    _print_messages(console, [ENGLISH(f"warned.{one.key}", **one.values) for one in warnings(bench)], "yellow")


def print_plan(console: Console, plan: Plan) -> None:
    """Print the workloads of a run without running them."""
    table = _plain_table()
    for heading in ("workload", "dtype", "GFLOP", "peers"):
        table.add_column(heading, no_wrap=heading != "peers", justify="right" if heading == "GFLOP" else "left")
    for workload in (*plan.ceilings, *plan.workloads):
        one = workload.described
        peers = ", ".join(f"{side} {peer}" for side, several in workload.peers.items() for peer in several)
        table.add_row(one.name, one.dtype, "" if one.flops is None else f"{one.flops / 1e9:.3g}", peers)
    console.print(table)
    settings = plan.settings
    threads = ", ".join(map(str, settings.threads))
    console.print(f"{plan.visits()} visits: {settings.rounds} rounds, threads {threads}, {', '.join(settings.sides)}")


def _table(bench: Bench, found: list[Row], threads: int) -> Table:
    """A row for each workload, and one for each peer below it; the further points of plots are left out."""
    names = list(bench.sides)
    table = _plain_table()
    table.add_column(f"threads: {threads}", no_wrap=True)
    for name in names:
        table.add_column(f"{name} ms", justify="right", no_wrap=True)
    table.add_column("/".join(names) if len(names) == 2 else "", no_wrap=True)
    table.add_column("first s", justify="right", no_wrap=True)
    table.add_column("ceiling", justify="right", no_wrap=True)
    group = ""
    for row in found:
        measured = row.measured
        if measured.group != group:
            group = measured.group
            table.add_row(Text(group, "bold"))
        table.add_row(*_cells(f"{measured.name} {SHORT[measured.dtype]}", names, row, OWN, row.ratio))
        for peer in dict.fromkeys(implementation for _, implementation in row.times if implementation != OWN):
            table.add_row(*(Text(cell, "dim") for cell in _cells(f"  {peer}", names, row, peer, None)))
    return table


def _cells(label: str, names: list[str], row: Row, implementation: str, ratio: Ratio | None) -> list[str]:
    times = [row.times.get((name, implementation)) for name in names]
    firsts = [None if one is None else one.first_call_seconds for one in times]
    shares = [None if one is None else one.share for one in times]
    return [
        label,
        *("-" if one is None else digits(1e3 * one.seconds.median) for one in times),
        "" if ratio is None else f"{digits(ratio.value, 2)} {digits(ratio.low, 2)}–{digits(ratio.high, 2)}",
        "/".join("-" if first is None else digits(first, 2, 2) for first in firsts),
        "/".join("-" if share is None else f"{100.0 * share:.0f}" for share in shares) + "%" if any(shares) else "",
    ]


def _growth_table(bench: Bench, found: list[Growth]) -> Table:
    """The exponents of every scaling plot, one column for each side."""
    table = _plain_table()
    for heading in ("workload", "axis", *(f"p {name}" for name in bench.sides)):
        table.add_column(heading, no_wrap=True)
    plots: dict[tuple[str, str, str, int], dict[str, Growth]] = {}
    for growth in found:
        plots.setdefault((growth.base, growth.dtype, growth.sweep, growth.threads), {})[growth.side] = growth
    for (base, dtype, sweep, _), by_side in plots.items():
        sizes = [size for size, _ in next(iter(by_side.values())).points]
        exponents = (_exponent(by_side.get(name)) for name in bench.sides)
        table.add_row(f"{base} {SHORT[dtype]}", f"{sweep} {sizes[0]}–{sizes[-1]}", *exponents)
    return table


def _exponent(growth: Growth | None) -> str:
    if growth is None:
        return "-"
    error = growth.exponent.error
    return f"{growth.exponent.value:.2f}" + ("" if error is None else f" ± {error:.2f}")


def _not_run(bench: Bench) -> Iterator[str]:
    """What was not timed, once for each reason."""
    places: dict[tuple[str, str, str], list[str]] = {}
    for one in bench.not_run:
        name = "everything" if one.workload is None else f"{one.workload} {SHORT[one.dtype or 'float64']}"
        places.setdefault((one.side, one.implementation, one.reason.splitlines()[0]), []).append(name)
    for (side, implementation, reason), names in places.items():
        peer = "" if implementation == OWN else f" ({implementation})"
        what = names[0] if len(set(names)) == 1 else f"{names[0]} and {len(set(names)) - 1} more"
        yield f"NOT RUN on {side}{peer}: {what}: {reason}"


def _print_messages(console: Console, messages: list[str], style: str) -> None:
    for message in messages[:MAX_MESSAGES]:
        console.print(Text(message, style), soft_wrap=True)
    if len(messages) > MAX_MESSAGES:
        console.print(Text(f"... and {len(messages) - MAX_MESSAGES} more", style))


def _plain_table() -> Table:
    return Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), expand=False)


def digits(value: float, decimals: int = 3, significant: int = 3) -> str:
    """The value with so many significant digits, but no more decimals and no exponent, for a narrow column."""
    before = len(f"{value:.0f}") if value >= 1.0 else 0 if value >= 0.1 else -1
    return f"{value:.{min(decimals, max(0, significant - before))}f}"
