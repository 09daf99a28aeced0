"""The command `report`: which files it writes, that it writes them the same again, and what it leaves alone."""

from __future__ import annotations

import csv
import json
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from test_bench_report import bench
from test_figures import training
from test_page import comparison
from twingrad.errors import InputError
from twingrad.experiments.attack import FORMAT as ATTACK
from twingrad.experiments.degradation import DOCUMENT_FORMAT as DEGRADATION
from twingrad.experiments.orders import DOCUMENT_FORMAT as ORDERS
from twingrad.harness import save
from twingrad.report import pdf
from twingrad.report.language import ENGLISH, Language
from twingrad.report.pdf import ENGINES, write_pdf
from twingrad.report.write import write_report

Run = Callable[..., tuple[int, str, str]]
VERSIONS = {"language": "Tongue 1.2", "framework": "Frame 3.4", "processor": "P"}
COMMON = {"format_version": 1, "created": "2025-06-01T09:30:00Z", "command": "twingrad x --a b_c", "not_run": {}}
SIDES = {"torch": {"title": "PyTorch", "versions": VERSIONS}, "flux": {"title": "Flux.jl", "versions": VERSIONS}}
CURVE = {"errors": [0.1, 0.05], "order": 1.0, "fitted": [0, 1]}


def of_sides(**entries: Any) -> dict[str, Any]:
    return {name: {**one, **entries} for name, one in SIDES.items()}


EXPERIMENTS: dict[str, dict[str, Any]] = {
    "convergence": {
        **COMMON,
        "format": ORDERS,
        "title": "random controls",
        "flow": {"points": 5},
        "layers": 2,
        "steps": [1, 2],
        "expected": {"euler": 1},
        "sides": of_sides(methods={"euler": {"state": CURVE, "gradient": {**CURVE, "order": None, "fitted": []}}}),
        "more": "is not read",
    },
    "degradation": {
        **COMMON,
        "format": DEGRADATION,
        "images": {"name": "digits"},
        "settings": {"width": 4, "batch": 16, "iterations": 300},
        "not_run": {"flux": "it died\nat line 7"},
        "sides": {
            "torch": {
                **SIDES["torch"],
                "networks": [
                    {
                        "depth": depth,
                        "residual": residual,
                        "seed": seed,
                        "training_loss": seed / (1 + residual),
                        "losses": [1.0] * 20,
                    }
                    for depth in (20, 32)
                    for residual in (False, True)
                    for seed in (1, 2)
                ],
            }
        },
    },
    "attack": {
        **COMMON,
        "format": ATTACK,
        "dtype": "float64",
        "model": "mlp 4-2",
        "data": "digits",
        "kind": "images",
        "epsilons": [0.0, 0.1],
        "labels": [1, 2, 3],
        "classified_differently": [0, 1],
        "sides": of_sides(accuracies=[0.9, 0.4]),
    },
}


@pytest.fixture(autouse=True)
def _unrendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rendering takes most of the time."""
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **_: file.write(b"a figure"))


@pytest.fixture
def no_latex(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf.shutil, "which", lambda name: None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with something of everything that has no file of its own in other tests."""
    save(comparison(), tmp_path / "comparison.json")
    bench().write(tmp_path / "bench.json")
    (tmp_path / "training" / "one").mkdir(parents=True)
    training("torch", status="running").write(tmp_path / "training" / "one" / "torch.h5")
    put_experiments(tmp_path)
    return tmp_path


def put_experiments(out: Path) -> None:
    for name, content in EXPERIMENTS.items():
        place = out / "experiments" / name
        place.mkdir(parents=True)
        (place / f"{name}.json").write_text(json.dumps(content))


def rows(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text("utf-8").splitlines()))


def contents(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def test_everything_is_written_and_hangs_together(folder: Path) -> None:
    written = write_report(folder, ENGLISH)
    assert written.kept == []
    found = contents(folder)
    assert {path.relative_to(folder).as_posix() for path in written.files} <= set(found)
    latex = found["latex/report.tex"].decode()
    included = re.findall(r"\\input\{(tables/[^}]+)\}", latex)
    assert sorted(f"latex/{name}.tex" for name in included) == [
        name for name in found if name.startswith("latex/tables/")
    ]
    assert sorted(f"latex/{name}" for name in re.findall(r"\\includegraphics\[[^]]*\]\{([^}]+)\}", latex)) == [
        name for name in found if name.startswith("latex/figures/")
    ]
    names = [Path(name).stem for name in included]
    assert sorted(f"tables/{name}.csv" for name in names) == [name for name in found if name.startswith("tables/")]
    markdown = found["report.md"].decode()
    linked = re.findall(r"!\[[^\n]*\]\(([^)]+)\)", markdown)
    assert len(linked) == latex.count("includegraphics")
    assert all((folder / name).exists() for name in linked)
    assert markdown.count("Command: ") == len(names)
    assert all(found[f"latex/tables/{name}.tex"].count(b"\\tablenote") == 1 for name in names)
    assert {"agreement", "agreement-models", "arrays-mlp", "bench-time-gpt", "control", "experiment-1-orders"} <= set(
        names
    )
    assert not list(folder.rglob(".*.part"))


def test_it_is_written_the_same_again(folder: Path) -> None:
    write_report(folder, Language("fr"))
    first = contents(folder)
    write_report(folder, Language("fr"))
    assert contents(folder) == first
    write_report(folder, ENGLISH)
    changed = {name for name, content in contents(folder).items() if content != first[name]}
    assert {"index.html", "report.md", "latex/report.tex", "latex/tables/agreement.tex"} <= changed
    heads = {name: content.split(b"\n")[0] for name, content in first.items() if name.endswith(".csv")}
    assert heads == {name: contents(folder)[name].split(b"\n")[0] for name in heads}


def test_agreement_in_csv(folder: Path) -> None:
    write_report(folder, ENGLISH)
    of = comparison()
    found = rows(folder / "tables" / "agreement-models.csv")
    for check in (one for one in of.checks if one.case == "control_net-a"):
        entry = next(row for row in found if row["array"] == check.array)
        assert (entry["model"], entry["case"]) == ("control_net", "control_net-a")
        assert (float(entry["error"]), float(entry["bound"])) == (check.error, check.bound)
    arrays = {row["array"]: row for row in rows(folder / "tables" / "arrays-control-net.csv")}
    assert float(arrays["bound"]["float64_steps"]) == 1e-8
    assert float(arrays["steps/*/params_after/K"]["float64_steps"]) == 4e-13
    assert arrays["steps/*/params_after/K"]["float64_sides"] == ""


def test_experiments_in_csv(tmp_path: Path) -> None:
    put_experiments(tmp_path)
    write_report(tmp_path, ENGLISH)
    (orders,) = rows(tmp_path / "tables" / "experiment-1-orders.csv")
    assert orders == {
        "method": "euler",
        "expected": "1",
        "state_torch": "1.0",
        "state_flux": "1.0",
        "gradient_torch": "",
        "gradient_flux": "",
    }
    degradation = rows(tmp_path / "tables" / "experiment-2-degradation.csv")
    assert degradation[0] == {"layers": "20", "plain_torch": "1.5", "residual_torch": "0.75"}
    assert [row["layers"] for row in degradation] == ["20", "32"]
    attack = rows(tmp_path / "tables" / "experiment-3-attack.csv")
    assert attack[1] == {"epsilon": "0.1", "accuracy_torch": "0.4", "accuracy_flux": "0.4", "differently": "1"}
    markdown = (tmp_path / "report.md").read_text("utf-8")
    assert "Flux.jl did not run: it died" in markdown
    assert "Command: `twingrad x --a b_c`." in markdown
    assert {path.name for path in tmp_path.rglob("*.png") if "experiments" in path.parts} == {
        "convergence.png",
        "degradation.png",
        "robustness.png",
    }


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("attack", {"epsilons": "x"}, r"attack\.json, epsilons: expected"),
        ("attack", {"format_version": 2}, r"format_version: expected 1, found 2"),
        ("convergence", {"sides": {}}, r"convergence\.json, sides: expected a side that ran, found none"),
        ("degradation", {"format": "other"}, r"format: expected 'twingrad-degradation', found 'other'"),
    ],
)
def test_unfit_experiments(tmp_path: Path, name: str, change: dict[str, Any], message: str) -> None:
    put_experiments(tmp_path)
    (tmp_path / "experiments" / name / f"{name}.json").write_text(json.dumps(EXPERIMENTS[name] | change))
    with pytest.raises(InputError, match=message):
        write_report(tmp_path, ENGLISH)


def test_what_belongs_to_nothing_any_more_is_removed(folder: Path) -> None:
    write_report(folder, ENGLISH)
    (folder / "tables" / "mine.csv").write_text("1")
    (folder / "bench.json").unlink()
    write_report(folder, ENGLISH)
    assert not list(folder.glob("tables/bench-*")) + list(folder.glob("latex/*/*bench-*"))
    assert (folder / "tables" / "mine.csv").exists()


def test_your_own_text_is_kept(folder: Path) -> None:
    report = folder / "latex" / "report.tex"
    write_report(folder, ENGLISH)
    untouched = report.read_bytes()
    report.write_bytes(untouched.replace(b"\n", b"\r\n"))  # a checkout on Windows
    write_report(folder, Language("fr"))
    assert report.read_bytes() != untouched
    own = report.read_text("utf-8").replace("% Votre texte.", "Nous avons vu.").replace(r"\input{tables/control}", "")
    report.write_text(own, "utf-8")
    references = folder / "latex" / "references.bib"
    references.write_text(references.read_text("utf-8") + "@misc{ours, title = {Ours}}\n", "utf-8")
    written = write_report(folder, ENGLISH)
    assert report.read_text("utf-8") == own
    assert written.kept == [report, references]
    assert written.not_included == ["control"]
    report.unlink()
    assert write_report(folder, ENGLISH).kept == [references]


def test_the_list_of_written_files_is_not_trusted(folder: Path) -> None:
    victim = folder / "precious.csv"
    victim.write_text("1")
    (folder / ".written.json").write_text(json.dumps(["tables/../precious.csv", "precious.csv", "/etc/x"]))
    write_report(folder, ENGLISH)
    assert victim.exists()
    (folder / ".written.json").write_text("{")
    with pytest.raises(InputError, match=r"\.written\.json: expected JSON"):
        write_report(folder, ENGLISH)


def test_nothing_saved(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"found neither\. 'twingrad compare --save .*twingrad bench --out"):
        write_report(tmp_path, ENGLISH)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_latex")
def test_the_command(folder: Path, twingrad: Run) -> None:
    status, out, err = twingrad("report", "--out", folder, "--lang", "fr")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"{folder / 'index.html'}"
    assert lines[-1].startswith("no PDF, since no LaTeX is installed: install TeX Live (latexmk) or tectonic")
    assert '<html lang="fr">' in (folder / "index.html").read_text("utf-8")
    (folder / "latex" / "report.tex").write_text("mine")
    _, out, _ = twingrad("report", "--out", folder, "--no-pdf")
    assert "report.tex has been changed by you and is kept; remove it to get a new one" in out
    assert "it does not input tables/sources, tables/agreement, " in out
    assert "PDF" not in out
    status, _, err = twingrad("report", "--out", folder, "--lang", "de")
    assert (status, err) == (2, "twingrad: --lang: expected one of en, fr, found 'de'\n")


def engine(monkeypatch: pytest.MonkeyPatch, place: Path, script: str) -> None:
    """Puts a program in the place of LaTeX."""
    program = place / "latexmk"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{place}:/usr/bin:/bin")
    monkeypatch.setattr(pdf, "ENGINES", {"latexmk": ENGINES["latexmk"]})


def test_pdf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    latex = tmp_path / "latex"
    latex.mkdir()
    (latex / "report.tex").write_text("text")
    file = tmp_path / "report.pdf"
    engine(monkeypatch, tmp_path, "cp report.tex report.pdf; touch report.log")
    assert write_pdf(latex, file) == ""
    assert file.read_text() == "text"
    assert [path.name for path in latex.iterdir()] == ["report.tex"]
    engine(monkeypatch, tmp_path, "echo '! Undefined control sequence.' > report.log; exit 12")
    expected = f"no PDF: latexmk stopped at {latex / 'report.tex'}: ! Undefined control sequence."
    assert write_pdf(latex, file) == f"{expected} ({file} is of an earlier report)"
    file.unlink()
    assert write_pdf(latex, file) == expected
    engine(monkeypatch, tmp_path, "echo one; echo two; exit 1")
    assert write_pdf(latex, file).endswith("report.tex: two")
    engine(monkeypatch, tmp_path, "exit 0")
    assert write_pdf(latex, file).endswith("it wrote no report.pdf")
    monkeypatch.setattr(pdf, "SECONDS", 0.1)
    engine(monkeypatch, tmp_path, "exec sleep 10")
    assert "timed out" in write_pdf(latex, file)
    assert not file.exists()
