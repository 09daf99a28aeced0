"""The section on benchmarks: times, costs and speeds on every side, layers, how costs grow, peers.

What the numbers are is said by `bench.summary`. A run is of one machine and has a section and tables of its own: no
table and no ratio mixes two runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..bench.saved import Bench, read_bench
from ..bench.summary import TAKEN_OUT, Growth, growths, rows, warnings
from ..bench.summary import Row as Timed
from ..files import make_folder
from .bench_figures import draw_scaling
from .bench_tables import BenchTables, machine_title, made
from .document import Paragraph, Part, Picture, Problems, Section
from .language import Code, Language, Piece, Pieces
from .parts import side_title, slug, unique

FOLDER = "figures"
"""Where in the report's folder the figures of benchmarks are."""


@dataclass(frozen=True)
class BenchRun:
    """A saved run with what it says, and its figures by the workload whose growth they show."""

    name: str
    file: str
    bench: Bench
    timed: Sequence[Timed]
    growths: Sequence[Growth]
    pictures: dict[str, Path]


def bench_runs(out: Path, language: Language) -> list[BenchRun]:
    """The runs OUT/bench*.json, by name; their figures are drawn anew in OUT/figures."""
    files = sorted(out.glob("bench*.json"))
    names = unique([slug(file.stem) for file in files])
    return [_read(file, name, language) for file, name in zip(files, names, strict=True)]


def _read(file: Path, name: str, language: Language) -> BenchRun:
    bench = read_bench(file)
    found = growths(bench)
    pictures = {}
    for (base, dtype, device, threads), of_one in _by_workload(found).items():
        label = f"{base}, {dtype}, {device}, {language.count('count.thread', threads)}"
        heading = "\n".join([label, machine_title(bench, language), *made(bench, language)])
        target = make_folder(file.parent / FOLDER) / f"{name}-{slug(base)}-{dtype}-{device}-{threads}.png"
        pictures[label] = draw_scaling(of_one, bench, heading, target, language)
    return BenchRun(name, file.name, bench, rows(bench), found, pictures)


def _by_workload(found: Sequence[Growth]) -> dict[tuple[str, str, str, int], list[Growth]]:
    """The growths of each workload, dtype, device and number of threads, which are drawn together."""
    groups: dict[tuple[str, str, str, int], list[Growth]] = {}
    for growth in found:
        groups.setdefault((growth.base, growth.dtype, growth.device, growth.threads), []).append(growth)
    return groups


def bench_sections(runs: Sequence[BenchRun], language: Language) -> list[Section]:
    """A section for each run; its title names file and machine where there are several."""
    titles = [language("bench.title")]
    if len(runs) > 1:
        titles = [language("bench.title_of", file=run.file, machine=machine_title(run.bench, language)) for run in runs]
    return [_section(run, title, language) for run, title in zip(runs, titles, strict=False)]


def _section(run: BenchRun, title: str, language: Language) -> Section:
    tables = BenchTables(run.name, run.bench, run.timed, run.growths, language)
    own = [one for one in run.timed if one.measured.name == one.measured.base]
    parts: list[Part] = [*_about(run.bench, language)]
    parts += [tables.versions()] if run.bench.sides else []
    parts += [tables.ceilings()] if any(one.visits for one in run.bench.ceilings) else []
    for group in dict.fromkeys(one.measured.group for one in own):
        found = [one for one in own if one.measured.group == group]
        of_group = list(_group(group, found, tables))
        parts.append(Section(language.known("group", group), of_group, f"{run.name}-{slug(group)}"))
    for name, of_part in (
        ("growth", list(_growth(run, tables, language))),
        ("peers", list(_peers(tables, language))),
        ("not_run", [tables.not_run()] if run.bench.not_run else []),
    ):
        parts += [Section(language(f"bench.{name}"), of_part, f"{run.name}-{slug(name)}")] if of_part else []
    return Section(title, parts, run.name, short=title)


def _about(bench: Bench, language: Language) -> Iterator[Part]:
    """How it was measured, where, and what the reader must know."""
    yield Paragraph(language.pieces("bench.explained", rounds=language.count("count.round", bench.rounds)))
    if len(bench.sides) > 1:
        first, second = (side_title(side) for side in list(bench.sides)[:2])
        yield Paragraph(language.pieces("bench.ratio_explained", first=first, second=second))
    load = language.number(f"{bench.machine.load_before:.2f}")
    yield Paragraph(language.pieces("bench.machine", machine=_machine(bench, language), load=load))
    if not bench.complete:
        yield Paragraph(language.pieces("bench.incomplete"))
    if found := warnings(bench):
        yield Paragraph(language.pieces("bench.warnings"))
        yield Problems([language(f"warned.{one.key}", **one.values) for one in found], serious=False)


def _machine(bench: Bench, language: Language) -> Pieces:
    """The machine, and the variables that matter to linear algebra."""
    pieces: list[Piece] = [machine_title(bench, language), f", {bench.machine.system}"]
    for name, value in bench.machine.environment.items():
        if value is not None:
            pieces += [", ", Code(f"{name}={value}")]
            pieces += [f" ({language('bench.taken_out')})"] if name in TAKEN_OUT else []
    return tuple(pieces)


def _group(group: str, timed: Sequence[Timed], tables: BenchTables) -> Iterator[Part]:
    """The workloads under one heading; of layers first of all their ratios."""
    if all(one.measured.kind == "layer" for one in timed):
        yield tables.layers(timed)
    yield tables.times(group, timed)
    yield tables.costs(group, timed)
    if speeds := tables.speeds(group, timed):
        yield speeds


def _growth(run: BenchRun, tables: BenchTables, language: Language) -> Iterator[Part]:
    """The fitted exponents, the figures, and the points."""
    if run.growths:
        yield Paragraph(language.pieces("bench.growth_explained"))
        yield tables.exponents()
        for label, file in run.pictures.items():
            alt = language("bench.scaling_alt", workload=label)
            yield Picture(file, language("bench.scaling", workload=label), alt)
        yield tables.points()


def _peers(tables: BenchTables, language: Language) -> Iterator[Part]:
    if table := tables.peers():
        yield Paragraph(language.pieces("bench.peers_explained"))
        yield table
