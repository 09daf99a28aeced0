"""The tables of a benchmark run: times, costs and speeds on every side, layers, peers, and how costs grow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ..bench.saved import OWN, Bench
from ..bench.statistics import Quartiles, Ratio
from ..bench.summary import Growth, ceiling_rows
from ..bench.summary import Row as Timed
from .document import (
    BILLIONS,
    CODE,
    COUNT,
    LONG,
    MEBIBYTES,
    MILLISECONDS,
    TEXT,
    THREE,
    WHOLE_PERCENT,
    Column,
    Form,
    Row,
    Table,
    Value,
    ranges,
    significant,
    without_empty,
)
from .language import Language
from .parts import made_by, provenance, side_title, slug

RATIO = Form(".2f")
SPREAD = ranges(MILLISECONDS, ("lower_quartile", "upper_quartile"))
INTERVAL = ranges(RATIO)
SIZES = ranges(COUNT, ("from", "to"))
WHOLE, WHOLE_MEBIBYTES = Form(",.0f"), Form(",.0f", scale=2.0**-20)
VERSIONS = ("language", "framework", "blas", "device")


class BenchTables:
    """The tables of one run in one language, each with the run's machine, versions, date and command below it.

    Args:
        name: of the run; the names of the tables start with it.
        bench: the run.
        timed: what `bench.summary` says of its workloads.
        growths: what it says of how costs grow.
        language: of heads and captions.
    """

    def __init__(
        self, name: str, bench: Bench, timed: Sequence[Timed], growths: Sequence[Growth], language: Language
    ) -> None:
        self.name, self.bench, self.timed, self.growths, self.language = name, bench, timed, growths, language
        self.sides = list(bench.sides)
        self.has_ratio = len(self.sides) > 1
        self._devices = {one.measured.device for one in timed}
        machine = machine_title(bench, language)
        self._note = provenance(language, [machine], made(bench, language), bench.created, [bench.command])

    def versions(self) -> Table:
        """What each side said of itself, and what it measured with."""
        forms = dict.fromkeys(("framework", "blas"), LONG)
        names = ("side", *VERSIONS)
        columns = [Column(name, self.language(f"sources.{name}"), forms.get(name, TEXT)) for name in names]
        rows: list[Row] = [
            (side_title(side), *(_text(versions.get(key)) for key in VERSIONS), self._tools(side))
            for side, versions in self.bench.sides.items()
        ]
        return self._table("sides", [*columns, self._head("tool", LONG)], rows)

    def ceilings(self) -> Table:
        """The large matrix products."""
        columns = [
            *(*self._place()[1:], self._head("size", COUNT)),
            *self._each("ceiling_speed", "flops_per_second", BILLIONS),
        ]
        rows: list[Row] = [
            (*self._placed(one)[1:], _size(one), *(_of(one, side, "flops_per_second") for side in self.sides))
            for one in ceiling_rows(self.bench)
        ]
        return self._table("ceilings", columns, rows)

    def times(self, group: str, timed: Sequence[Timed]) -> Table:
        """Medians, quartiles and ratios of the workloads of a group."""
        rows: list[Row] = [(*self._placed(one), *self._time_cells(one)) for one in timed]
        return self._of_group("time", group, [*self._place(), *self._time_columns()], rows)

    def costs(self, group: str, timed: Sequence[Timed]) -> Table:
        """First calls, allocations, garbage collection and memory."""
        columns = [
            *self._place(),
            *self._each("first_call", "first_call_seconds", THREE),
            *self._each("allocated", "allocated_bytes", MEBIBYTES),
            *self._each("gc", "gc_share", WHOLE_PERCENT),
            *self._each("peak", "peak_bytes", WHOLE_MEBIBYTES),
        ]
        names = ("first_call_seconds", "allocated_bytes", "gc_share", "peak_bytes")
        rows: list[Row] = [
            (*self._placed(one), *(_of(one, side, name) for name in names for side in self.sides)) for one in timed
        ]
        return self._of_group("cost", group, columns, rows)

    def speeds(self, group: str, timed: Sequence[Timed]) -> Table | None:
        """Operations by second and the share of the ceiling, what is worked on by second; None where nothing counts."""
        counted = [one for one in timed if one.measured.flops is not None or one.measured.items is not None]
        columns = [
            *(*self._place(), self._head("flops", BILLIONS)),
            *self._each("speed", "flops_per_second", BILLIONS),
            *self._each("share", "share_of_ceiling", WHOLE_PERCENT),
            *(self._head("item"), *self._each("items", "items_per_second", WHOLE)),
        ]
        rows: list[Row] = [
            (
                *(*self._placed(one), one.measured.flops),
                *(_of(one, side, name) for name in ("flops_per_second", "share") for side in self.sides),
                *(self._item(one), *(_of(one, side, "items_per_second") for side in self.sides)),
            )
            for one in counted
        ]
        return self._of_group("speed", group, columns, rows) if rows else None

    def layers(self, timed: Sequence[Timed]) -> Table:
        """A row for each layer: the medians of the sides and their ratio, for each quantity."""
        quantities = list(dict.fromkeys(one.measured.quantity for one in timed))
        columns = [self._head("layer", CODE), *self._place()[1:]]
        for quantity in quantities:
            title = f"{self.language.known('quantity', quantity)} (ms)"
            columns += self._each("", f"{quantity}_seconds_median", MILLISECONDS, group=title)
            columns += [self._head("ratio", RATIO, key=f"{quantity}_ratio", group=title)] if self.has_ratio else []
        found: dict[tuple[Value, ...], dict[str, Timed]] = {}
        for one in timed:
            layer = one.measured.base.removesuffix(f"-{one.measured.quantity}")
            found.setdefault((layer, *self._placed(one)[1:]), {})[one.measured.quantity] = one
        rows: list[Row] = [
            (*place, *(cell for quantity in quantities for cell in self._layer_cells(of_layer.get(quantity))))
            for place, of_layer in found.items()
        ]
        return self._table("layers", columns, rows)

    def exponents(self) -> Table:
        """A row for each axis of a workload, with the exponent and its standard error on each side."""
        columns = [self._head("workload", CODE), self._head("axis"), self._head("sizes", SIZES), *self._place()[1:]]
        for side in self.sides:
            key, title = f"{side}_exponent", side_title(side)
            columns.append(self._head("exponent", RATIO, key=key, group=title))
            columns.append(self._head("standard_error", RATIO, key=f"{key}_standard_error", group=title))
        found: dict[tuple[str, str, str, str, int], dict[str, Growth]] = {}
        for growth in self.growths:
            found.setdefault(_axis(growth), {})[growth.side] = growth
        rows: list[Row] = [self._exponent_row(of_axis) for of_axis in found.values()]
        return self._table("exponents", columns, rows)

    def points(self) -> Table:
        """Every point of the scaling plots."""
        columns = [self._head("workload", CODE), self._head("axis"), self._head("size", COUNT), *self._place()[1:]]
        order = {axis: place for place, axis in enumerate(dict.fromkeys(_axis(growth) for growth in self.growths))}
        found = []
        for one in self.timed:
            what = one.measured
            for sweep, size in what.sweeps.items():
                axis = what.base, sweep, what.dtype, what.device, what.threads
                if axis in order:
                    found.append((order[axis], size, sweep, one))
        found.sort(key=lambda point: point[:2])
        rows: list[Row] = [
            (
                *(one.measured.base, self.language.known("axis", sweep), size, *self._placed(one)[1:]),
                *self._time_cells(one),
            )
            for _, size, sweep, one in found
        ]
        return self._table("points", [*columns, *self._time_columns()], rows)

    def peers(self) -> Table | None:
        """What other implementations need, and how that compares with the side's own; None where there are none."""
        group = self.language("bench.peer_ratio")
        columns = [
            *(self._head("workload", CODE), self._head("side"), self._head("implementation", CODE), *self._place()[1:]),
            self._head("median", MILLISECONDS, key="seconds_median"),
            self._head("quartiles", SPREAD, key="seconds"),
            *(self._head("ratio", RATIO, group=group), self._head("interval", INTERVAL, key="ratio", group=group)),
            self._head("first_call", THREE, key="first_call_seconds"),
        ]
        rows: list[Row] = [
            (
                *(one.measured.name, side_title(side), implementation, *self._placed(one)[1:]),
                *(*_times(times.seconds), *_ratio(one.peers.get((side, implementation))), times.first_call_seconds),
            )
            for one in self.timed
            for (side, implementation), times in one.times.items()
            if implementation != OWN
        ]
        return self._table("peers", columns, rows) if rows else None

    def not_run(self) -> Table:
        """What was asked for and not timed."""
        forms = {"workload": CODE, "implementation": CODE, "threads": COUNT, "reason": LONG}
        names = ("workload", "side", "implementation", "dtype", "threads", "reason")
        columns = [self._head(name, forms.get(name, TEXT)) for name in names]
        rows: list[Row] = [
            (
                *(one.workload or self.language("bench.all"), side_title(one.side), one.implementation),
                *(one.dtype, one.threads, one.reason),
            )
            for one in self.bench.not_run
        ]
        return self._table("not_run", columns, rows)

    def _table(self, name: str, columns: Sequence[Column], rows: Sequence[Row]) -> Table:
        caption = self.language(f"bench.{name}_caption")
        return Table(f"{self.name}-{slug(name)}", caption, *without_empty(columns, rows), self._note)

    def _of_group(self, name: str, group: str, columns: Sequence[Column], rows: Sequence[Row]) -> Table:
        caption = self.language(f"bench.{name}_caption", group=self.language.known("group", group))
        return Table(f"{self.name}-{name}-{slug(group)}", caption, *without_empty(columns, rows), self._note)

    def _head(self, name: str, form: Form = TEXT, *, key: str = "", group: str = "") -> Column:
        """A column whose head is the text of that name."""
        return Column(key or name, self.language(f"bench.{name}"), form, group)

    def _each(self, name: str, key: str, form: Form, group: str = "") -> list[Column]:
        """A column for each side, under one head."""
        above = group or self.language(f"bench.{name}")
        return [Column(f"{side}_{key}", side_title(side), form, above) for side in self.sides]

    def _place(self) -> list[Column]:
        """What says which workload a row is about."""
        names = (("workload", CODE), ("dtype", TEXT), ("device", TEXT), ("threads", COUNT))
        return [self._head(name, form) for name, form in names]

    def _placed(self, one: Timed) -> tuple[str, str, str | None, int]:
        """The same of a workload; the device only where it is not the CPU everywhere."""
        what = one.measured
        return what.name, what.dtype, None if self._devices == {"cpu"} else what.device, what.threads

    def _time_columns(self) -> list[Column]:
        """Median and quartiles of each side, then their ratio and its interval."""
        columns = []
        for side in self.sides:
            title, key = side_title(side), f"{side}_seconds"
            columns.append(self._head("median", MILLISECONDS, key=f"{key}_median", group=title))
            columns.append(self._head("quartiles", SPREAD, key=key, group=title))
        if self.has_ratio:
            first, second = self.sides[:2]
            title, key = f"{side_title(first)} / {side_title(second)}", f"ratio_{first}_{second}"
            columns.append(self._head("ratio", RATIO, key=key, group=title))
            columns.append(self._head("interval", INTERVAL, key=key, group=title))
        return columns

    def _time_cells(self, one: Timed) -> Iterator[Value]:
        for side in self.sides:
            own = one.own(side)
            yield from _times(own.seconds if own else None)
        if self.has_ratio:
            yield from _ratio(one.ratio)

    def _layer_cells(self, one: Timed | None) -> Iterator[Value]:
        for side in self.sides:
            own = one.own(side) if one else None
            yield own.seconds.median if own else None
        if self.has_ratio:
            yield one.ratio.value if one and one.ratio else None

    def _exponent_row(self, of_axis: Mapping[str, Growth]) -> Row:
        """An axis of a workload: its ends, and the exponent with its standard error on each side."""
        growths = list(of_axis.values())
        base, sweep, dtype, device, threads = _axis(growths[0])
        sizes = [size for growth in growths for size, _ in growth.points]
        fits = [of_axis[side].exponent if side in of_axis else None for side in self.sides]
        numbers = [number for fit in fits for number in ((fit.value, fit.error) if fit else (None, None))]
        shown_device = None if self._devices == {"cpu"} else device
        ends = min(sizes), max(sizes)
        return (base, self.language.known("axis", sweep), ends, dtype, shown_device, threads, *numbers)

    def _item(self, one: Timed) -> str | None:
        """What a workload works on."""
        return self.language.known("item", one.measured.item) if one.measured.item else None

    def _tools(self, side: str) -> str:
        """What the side measured with."""
        visits = [visit for one in (*self.bench.ceilings, *self.bench.workloads) for visit in one.of(side)]
        return ", ".join(dict.fromkeys(visit.tool for visit in visits))


def made(bench: Bench, language: Language) -> list[str]:
    """With what versions each side ran."""
    return [made_by(side_title(side), versions, language) for side, versions in bench.sides.items()]


def machine_title(bench: Bench, language: Language) -> str:
    """The machine in one line: "AMD EPYC, 2 cores, 7.80 GiB"."""
    machine = bench.machine
    memory = language.number(significant(machine.memory_bytes / 2**30, 3))
    cores = language.count("count.core", machine.cores)
    return f"{machine.processor}, {cores}, {memory} {language('bench.gibibytes')}"


def _axis(growth: Growth) -> tuple[str, str, str, str, int]:
    """Where a growth belongs, whatever its side."""
    return growth.base, growth.sweep, growth.dtype, growth.device, growth.threads


def _times(seconds: Quartiles | None) -> tuple[Value, Value]:
    """Median and quartiles."""
    return (None, None) if seconds is None else (seconds.median, (seconds.first, seconds.third))


def _ratio(ratio: Ratio | None) -> tuple[Value, Value]:
    """The ratio and its interval."""
    return (None, None) if ratio is None else (ratio.value, (ratio.low, ratio.high))


def _of(one: Timed, side: str, name: str) -> float | int | None:
    own = one.own(side)
    number: float | int | None = getattr(own, name) if own else None
    return number


def _size(one: Timed) -> int | None:
    size = one.measured.config.get("size")
    return size if isinstance(size, int) else None


def _text(value: object) -> str | None:
    return None if value is None else str(value)
