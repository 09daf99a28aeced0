"""The report on benchmarks: its tables hold the numbers of the saved samples, and no table mixes two runs."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from test_page import text, write_page
from twingrad.bench.saved import Bench, Machine, Measured, NotRun, Visit
from twingrad.bench.statistics import ratio
from twingrad.bench.summary import growths
from twingrad.errors import InputError
from twingrad.report import bench_figures
from twingrad.report.bench_figures import scaling_figure
from twingrad.report.bench_page import bench_runs, bench_sections
from twingrad.report.csv_files import csv_text
from twingrad.report.document import Picture, Table, parts_of
from twingrad.report.language import ENGLISH, Language

MEDIANS = {"torch": 0.002, "flux": 0.001}
SPREAD = (0.9, 1.0, 1.1, 1.3)
"""Samples in medians; their own median is 1.05."""


@pytest.fixture(autouse=True)
def _unrendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rendering takes most of the time."""
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **_: file.write(b"a figure"))


def visits(scale: float, sides: tuple[str, ...] = ("torch", "flux"), peer: str = "") -> list[Visit]:
    """Two rounds on each side, and of a peer of the first side."""
    found = []
    for side, implementation in [*((side, "twingrad") for side in sides), *([(sides[0], peer)] if peer else [])]:
        for number in range(2):
            seconds = [MEDIANS[side] * scale * (3 if implementation != "twingrad" else 1) * one for one in SPREAD]
            julia = side == "flux"
            found.append(
                Visit(
                    side=side,
                    implementation=implementation,
                    round=number,
                    seconds=seconds,
                    calls=1,
                    first_call_seconds=None if number else 12.5,
                    allocated_bytes=3 * 2**20,
                    gc_share=0.25 if julia else None,
                    peak_bytes=2**29 + number,
                    checksum=1.0,
                    tool="BenchmarkTools 1" if julia else "torch.utils.benchmark 2",
                )
            )
    return found


def measured(
    name: str, *, base: str = "", scale: float = 1.0, threads: int = 1, peer: str = "", **more: Any
) -> Measured:
    values: dict[str, Any] = {
        "kind": "model",
        "subject": "gpt",
        "quantity": "step",
        "config": {},
        "dtype": "float32",
        "device": "cpu",
        "group": "gpt",
        "flops": 1e9,
        "items": 768,
        "item": "tokens",
    }
    found = more.pop("visits", None) or visits(scale, peer=peer)
    return Measured(name=name, base=base or name, threads=threads, visits=found, **values | more)


def bench(processor: str = "P<1>", **changes: Any) -> Bench:
    layer = {"kind": "layer", "group": "layers", "flops": None, "items": None, "item": None}
    values: dict[str, Any] = {
        "created": "2025-06-01T09:30:00Z",
        "command": "twingrad bench --quick",
        "profile": "quick",
        "rounds": 2,
        "machine": Machine(
            processor=processor,
            cores=4,
            memory_bytes=8 * 2**30,
            system="Linux",
            load_before=0.1,
            environment={"OPENBLAS_CORETYPE": "Haswell", "MKL_NUM_THREADS": None},
        ),
        "sides": {
            "torch": {"language": "Tongue 1.2", "framework": "Frame 3.4", "blas": "MKL", "device": "no GPU"},
            "flux": {"language": "Julia 1.10", "framework": "Flux 0.16", "blas": "OpenBLAS", "device": "no GPU"},
        },
        "threads": [1],
        "workloads": [
            measured("gpt-step", sweeps={"batch": 12}, peer="compile"),
            measured("gpt-step-batch-3", base="gpt-step", scale=0.25, sweeps={"batch": 3}),
            measured("gpt-step-batch-6", base="gpt-step", scale=0.5, sweeps={"batch": 6}),
            measured("linear-forward", subject="linear", quantity="forward", **layer),
            measured("linear-gradient", subject="linear", quantity="gradient", scale=2.0, **layer),
        ],
        "ceilings": [
            measured("matmul", kind="ceiling", subject="matmul", config={"size": 1024}, group="ceiling", flops=2e9)
        ],
        "not_run": [NotRun(workload="gpt-step", side="torch", implementation="torchdiffeq", reason="not | installed")],
        "complete": True,
    }
    return Bench(**values | changes)


def tables(folder: Path, language: Language = ENGLISH) -> dict[str, Table]:
    found = parts_of(bench_sections(bench_runs(folder, language), language))
    return {part.name: part for part in found if isinstance(part, Table)}


def rows(table: Table) -> list[dict[str, str]]:
    """The rows of a table's CSV file."""
    return list(csv.DictReader(io.StringIO(csv_text(table))))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    bench().write(tmp_path / "bench.json")
    return tmp_path


def test_csv_holds_what_the_samples_say(saved: Path) -> None:
    of = bench()
    step = of.workloads[0]
    (row,) = rows(tables(saved)["bench-time-gpt"])
    assert (row["workload"], row["dtype"], row["threads"]) == ("gpt-step", "float32", "1")
    for side in MEDIANS:
        low, middle, high = np.quantile(step.seconds(side), (0.25, 0.5, 0.75))
        assert float(row[f"{side}_seconds_median"]) == middle
        assert float(row[f"{side}_seconds_lower_quartile"]) == low
        assert float(row[f"{side}_seconds_upper_quartile"]) == high
    above, below = ({visit.round: visit.seconds for visit in step.of(side)} for side in MEDIANS)
    expected = ratio(above, below)
    names = ("ratio_torch_flux", "ratio_torch_flux_low", "ratio_torch_flux_high")
    assert [float(row[name]) for name in names] == [expected.value, expected.low, expected.high]
    assert expected.value == pytest.approx(2.0)


def test_costs_and_speeds(saved: Path) -> None:
    found = tables(saved)
    (cost,) = rows(found["bench-cost-gpt"])
    assert (float(cost["torch_first_call_seconds"]), int(cost["flux_allocated_bytes"])) == (12.5, 3 * 2**20)
    assert float(cost["flux_gc_share"]) == 0.25
    assert "torch_gc_share" not in cost  # nothing to show
    assert int(cost["torch_peak_bytes"]) == 2**29 + 1
    (speed,) = rows(found["bench-speed-gpt"])
    median = 1.05 * MEDIANS["flux"]
    assert float(speed["flux_flops_per_second"]) == pytest.approx(1e9 / median)
    assert float(speed["flux_share_of_ceiling"]) == pytest.approx(0.5)
    assert float(speed["flux_items_per_second"]) == pytest.approx(768 / median)
    assert speed["item"] == "tokens"
    assert "bench-speed-layers" not in found
    (ceiling,) = rows(found["bench-ceilings"])
    assert float(ceiling["torch_flops_per_second"]) == pytest.approx(2e9 / (1.05 * MEDIANS["torch"]))
    assert ceiling["size"] == "1024"


def test_layers_peers_and_what_did_not_run(saved: Path) -> None:
    found = tables(saved)
    (layer,) = rows(found["bench-layers"])
    assert (layer["layer"], layer["dtype"]) == ("linear", "float32")
    assert float(layer["torch_gradient_seconds_median"]) == 2 * float(layer["torch_forward_seconds_median"])
    assert float(layer["forward_ratio"]) == pytest.approx(2.0)
    (peer,) = rows(found["bench-peers"])
    assert (peer["workload"], peer["side"], peer["implementation"]) == ("gpt-step", "PyTorch", "compile")
    assert float(peer["ratio"]) == pytest.approx(3.0)
    (not_run,) = rows(found["bench-not-run"])
    assert (not_run["implementation"], not_run["reason"]) == ("torchdiffeq", "not | installed")


def test_growth(saved: Path) -> None:
    found = tables(saved)
    (exponent,) = rows(found["bench-exponents"])
    assert (exponent["workload"], exponent["axis"]) == ("gpt-step", "batch")
    assert (exponent["sizes_from"], exponent["sizes_to"]) == ("3", "12")
    assert float(exponent["torch_exponent"]) == pytest.approx(1.0)
    assert float(exponent["flux_exponent_standard_error"]) == pytest.approx(0.0, abs=1e-9)
    points = rows(found["bench-points"])
    assert [point["size"] for point in points] == ["3", "6", "12"]
    assert float(points[0]["torch_seconds_median"]) == pytest.approx(0.25 * 1.05 * MEDIANS["torch"])
    assert [path.name for path in (saved / "figures").iterdir()] == ["bench-gpt-step-float32-cpu-1.png"]


@pytest.mark.parametrize(("name", "power"), [("en", "size^1.00"), ("fr", "taille^1,00")])
def test_what_the_figure_says(name: str, power: str) -> None:
    of, language = bench(), Language(name)
    figure = scaling_figure(growths(of), of, "heading $x$", language)
    (panel,) = figure.axes
    assert panel.get_xscale() == panel.get_yscale() == "log"
    legend = panel.get_legend()
    assert legend is not None
    assert [entry.get_text() for entry in legend.get_texts()] == [f"{side}: {power}" for side in ("PyTorch", "Flux.jl")]
    assert [label.get_text() for label in panel.get_xticklabels()] == ["3", "6", "12"]
    figure.draw_without_rendering()
    drawn = [container.lines[0].get_ydata() for container in panel.containers]
    np.testing.assert_allclose(drawn[1], 1e3 * 1.05 * MEDIANS["flux"] * np.array([0.25, 0.5, 1.0]))
    assert len(bench_figures.MARKS) >= len(of.sides)


def test_the_section_on_the_page(saved: Path) -> None:
    html = write_page(saved).read_text("utf-8")
    said = text(html)
    assert "NOT COMPARED" in said
    assert "gpt-step float32 1 2.10 1.95 – 2.30 1.05 0.975 – 1.15 2.00" in said
    note = "Machine: P<1>, 4 cores, 8.00 GiB. Versions: PyTorch: Frame 3.4, Tongue 1.2; Flux.jl: Flux 0.16, Julia 1.10."
    assert said.count(f"{note} Date: 2025-06-01 09:30 UTC. Command: twingrad bench --quick .") == html.count("<table")
    assert "OPENBLAS_CORETYPE=Haswell (not passed on to the sides)" in said
    assert "A ratio is the median of PyTorch over that of Flux.jl: above 1, Flux.jl is faster." in said
    assert "not complete" not in said
    assert html.count("<img") == 1
    assert set(re.findall(r'href="#([^"]+)"', html)) == {"bench"} <= set(re.findall(r'id="([^"]+)"', html))
    assert "<1>" not in html


def test_two_machines_never_meet(tmp_path: Path) -> None:
    bench().write(tmp_path / "bench.json")
    bench("Other").write(tmp_path / "bench-other.json")
    sections = bench_sections(bench_runs(tmp_path, ENGLISH), ENGLISH)
    assert [section.title for section in sections] == [
        "Performance: bench-other.json, Other, 4 cores, 8.00 GiB",
        "Performance: bench.json, P<1>, 4 cores, 8.00 GiB",
    ]
    for section, machine in zip(sections, ("Other", "P<1>"), strict=True):
        found = parts_of([section])
        notes = {part.note[0] for part in found if isinstance(part, Table)}
        assert notes == {f"Machine: {machine}, 4 cores, 8.00 GiB."}
        assert all(part.name.startswith(f"{section.anchor}-") for part in found if isinstance(part, Table))
    pictures = [part.file for part in parts_of(sections) if isinstance(part, Picture)]
    assert len(set(pictures)) == 2
    names = [part.name for part in parts_of(sections) if isinstance(part, Table)]
    assert len(names) == len(set(names))


def test_names_that_differ_in_case_only(tmp_path: Path) -> None:
    for name in ("bench-a.json", "bench-A.json"):
        bench().write(tmp_path / name)
    assert sorted(run.name for run in bench_runs(tmp_path, ENGLISH)) == ["bench-a", "bench-a-2"]


def test_one_side_alone_has_no_ratio(tmp_path: Path) -> None:
    alone = measured("mlp-step", visits=visits(1.0, ("torch",)), group="mlp")
    of = bench(sides={"torch": bench().sides["torch"]}, workloads=[alone], ceilings=[], not_run=[], complete=False)
    of.write(tmp_path / "bench.json")
    found = tables(tmp_path)
    assert set(found) == {"bench-sides", "bench-time-mlp", "bench-cost-mlp", "bench-speed-mlp"}
    assert not any("ratio" in column.key for table in found.values() for column in table.columns)
    said = text(write_page(tmp_path).read_text("utf-8"))
    assert "The run is not complete" in said
    assert "A ratio is" not in said


def test_a_side_that_is_missing_leaves_a_dash(tmp_path: Path) -> None:
    one = measured("mlp-step", visits=visits(1.0, ("torch",)), group="mlp")
    bench(workloads=[bench().workloads[0], one]).write(tmp_path / "bench.json")
    (row,) = rows(tables(tmp_path)["bench-time-mlp"])
    assert "flux_seconds_median" not in row
    assert float(row["torch_seconds_median"]) > 0


def test_threads_and_devices_are_told(tmp_path: Path) -> None:
    one = measured("gpt-step", device="cuda", threads=2)
    bench(workloads=[bench().workloads[0], one]).write(tmp_path / "bench.json")
    found = rows(tables(tmp_path)["bench-time-gpt"])
    assert [(row["device"], row["threads"]) for row in found] == [("cpu", "1"), ("cuda", "2")]


def test_warnings_and_nothing_timed(tmp_path: Path) -> None:
    busy = bench().machine.model_copy(update={"load_before": 3.0})
    bench(machine=busy, workloads=[], ceilings=[], not_run=[], sides={}).write(tmp_path / "bench.json")
    said = text(write_page(tmp_path).read_text("utf-8"))
    assert "Before believing the numbers:" in said
    assert "busy" in said
    assert tables(tmp_path) == {}


@pytest.mark.parametrize("name", ["en", "fr"])
def test_every_text_of_the_section_is_there_in_both_languages(saved: Path, name: str) -> None:
    language = Language(name)
    found = tables(saved, language)
    assert len(found) == 12
    assert all(column.head for table in found.values() for column in table.columns)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "bench.json").write_text("{")
    with pytest.raises(InputError, match=r"bench\.json: expected JSON"):
        write_page(tmp_path)
    assert not (tmp_path / "index.html").exists()
