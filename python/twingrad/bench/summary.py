"""What a saved run says, for the terminal and the report: medians, ratios, shares of the ceiling, growth, warnings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .saved import OWN, Bench, Measured
from .statistics import Exponent, Quartiles, Ratio, exponent, quartiles, ratio

TAKEN_OUT = ("OPENBLAS_CORETYPE",)
"""Variables that the workers do not see: they choose another kernel than users have."""
BUSY, WIDE = 0.5, 0.2
"""Load before the start, and spread of the quartiles in medians, above which a run warns."""
TOLERANCES = {"float64": 1e-8, "float32": 1e-3, "bfloat16": 3e-2}
"""How far two checksums may be apart, relatively, before two different things were timed."""


@dataclass(frozen=True)
class Times:
    """What one implementation of a side needs for a workload."""

    side: str
    implementation: str
    seconds: Quartiles
    samples: int
    first_call_seconds: float | None
    allocated_bytes: int | None
    gc_share: float | None
    peak_bytes: int | None
    checksum: float
    flops_per_second: float | None
    items_per_second: float | None
    ceiling: float | None
    """Operations per second of the ceiling on this side, in this dtype, by as many threads."""

    @property
    def share(self) -> float | None:
        """The part of the ceiling that it reaches."""
        return None if self.flops_per_second is None or self.ceiling is None else self.flops_per_second / self.ceiling


@dataclass(frozen=True)
class Row:
    """A workload with the times of everything that computed it, and their ratios."""

    measured: Measured
    times: dict[tuple[str, str], Times]
    """By (side, implementation)."""
    ratio: Ratio | None
    """The first side's own median by the second's; above 1 the second is faster. None where one is missing."""
    peers: dict[tuple[str, str], Ratio]
    """A peer's median by that of its side's own; above 1 the own is faster."""

    def own(self, side: str) -> Times | None:
        """The times of the project's own implementation on a side."""
        return self.times.get((side, OWN))


@dataclass(frozen=True)
class Growth:
    """How the cost of a workload grows along one axis, on one side."""

    base: str
    sweep: str
    dtype: str
    device: str
    threads: int
    side: str
    points: list[tuple[int, Quartiles]]
    """(size, seconds), by size."""
    exponent: Exponent


def rows(bench: Bench) -> list[Row]:
    """All workloads that were timed at all, in the order of the file."""
    return [_row(bench, measured) for measured in bench.workloads if measured.visits]


def ceiling_rows(bench: Bench) -> list[Row]:
    """The ceilings in the same form; their own share is 1."""
    return [_row(bench, measured) for measured in bench.ceilings if measured.visits]


def growths(bench: Bench) -> list[Growth]:
    """All scaling plots of two points or more, of the project's own implementations."""
    plots: dict[tuple[str, ...], list[Measured]] = {}
    for measured in bench.workloads:
        for sweep in measured.sweeps:
            plots.setdefault((measured.base, sweep, *map(str, measured.key[1:])), []).append(measured)
    found = (_growth(several, key[1], side) for key, several in plots.items() for side in bench.sides)
    return [growth for growth in found if growth is not None]


def _growth(several: list[Measured], sweep: str, side: str) -> Growth | None:
    timed = [(one.sweeps[sweep], quartiles(samples)) for one in several if (samples := one.seconds(side))]
    points = sorted(timed, key=lambda point: point[0])
    fit = exponent([size for size, _ in points], [seconds.median for _, seconds in points])
    if fit is None:
        return None
    first = several[0]
    return Growth(first.base, sweep, first.dtype, first.device, first.threads, side, points, fit)


@dataclass(frozen=True)
class Warned:
    """What a reader must know before believing the numbers: the key of its text in `report/texts.toml`, its values."""

    key: str
    values: dict[str, str | int]


def warnings(bench: Bench) -> list[Warned]:
    """A busy machine, wide spreads, checksums that differ."""
    return [*_busy(bench), *_wide(bench), *_different(bench)]


def _row(bench: Bench, measured: Measured) -> Row:
    times = {one: _times(bench, measured, *one) for one in measured.implementations()}
    by_round = {one: {visit.round: visit.seconds for visit in measured.of(*one)} for one in measured.implementations()}
    first, second = ([(side, OWN) for side in bench.sides] + [("", OWN)] * 2)[:2]
    both = first in by_round and second in by_round
    peers = {}
    for side, implementation in by_round:
        own = by_round.get((side, OWN))
        if implementation != OWN and own is not None:
            found = ratio(by_round[side, implementation], own)
            if found is not None:
                peers[side, implementation] = found
    return Row(measured, times, ratio(by_round[first], by_round[second]) if both else None, peers)


def _times(bench: Bench, measured: Measured, side: str, implementation: str) -> Times:
    visits = measured.of(side, implementation)
    samples = measured.seconds(side, implementation)
    seconds = quartiles(samples)
    gc = [visit.gc_share for visit in visits if visit.gc_share is not None]
    peaks = [visit.peak_bytes for visit in visits if visit.peak_bytes is not None]
    return Times(
        side=side,
        implementation=implementation,
        seconds=seconds,
        samples=len(samples),
        first_call_seconds=next((v.first_call_seconds for v in visits if v.first_call_seconds is not None), None),
        allocated_bytes=next((v.allocated_bytes for v in visits if v.allocated_bytes is not None), None),
        gc_share=sum(gc) / len(gc) if gc else None,
        peak_bytes=max(peaks, default=None),
        checksum=visits[0].checksum,
        flops_per_second=None if measured.flops is None else measured.flops / seconds.median,
        items_per_second=None if measured.items is None else measured.items / seconds.median,
        ceiling=_ceiling(bench, measured, side),
    )


def _ceiling(bench: Bench, measured: Measured, side: str) -> float | None:
    ceiling = bench.ceiling(measured.dtype, measured.device, measured.threads)
    if ceiling is None or ceiling.flops is None or not (samples := ceiling.seconds(side)):
        return None
    return ceiling.flops / quartiles(samples).median


def _busy(bench: Bench) -> Iterator[Warned]:
    if bench.machine.load_before > BUSY:
        yield Warned("busy", {"load": f"{bench.machine.load_before:.1f}", "cores": bench.machine.cores})


def _wide(bench: Bench) -> Iterator[Warned]:
    spreads = {
        _name(measured, *one): quartiles(measured.seconds(*one)).spread
        for measured in (*bench.ceilings, *bench.workloads)
        for one in measured.implementations()
    }
    wide = sum(spread > WIDE for spread in spreads.values())
    if wide:
        widest = max(spreads, key=lambda name: spreads[name])
        numbers: dict[str, str | int] = {"wide": wide, "all": len(spreads), "limit": f"{100 * WIDE:.0f}"}
        yield Warned("wide", {**numbers, "widest": widest, "spread": f"{100 * spreads[widest]:.0f}"})


def _different(bench: Bench) -> Iterator[Warned]:
    """A checksum unlike the one of the first that computed the workload."""
    for measured in bench.workloads:
        visits, bound = measured.visits, TOLERANCES[measured.dtype]
        for side, implementation in measured.implementations():
            value = measured.of(side, implementation)[0].checksum
            reference = visits[0].checksum
            if abs(value - reference) > bound * max(abs(reference), abs(value)):
                names = {"what": _name(measured, side, implementation), "first": visits[0].side}
                yield Warned("different", {**names, "found": f"{value:.10g}", "expected": f"{reference:.10g}"})


def _name(measured: Measured, side: str, implementation: str) -> str:
    peer = "" if implementation == OWN else f" ({implementation})"
    return f"{measured.name} {measured.dtype} on {side}{peer}, threads {measured.threads}"
