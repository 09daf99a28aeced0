"""The page: what it says of a comparison and of trainings, that it stands alone, and what is refused."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from test_figures import training
from twingrad.comparator import Check
from twingrad.errors import InputError
from twingrad.harness import Comparison, Source, save
from twingrad.report import figures
from twingrad.report.comparison_file import read_comparison
from twingrad.report.language import ENGLISH
from twingrad.report.write import write_report

VERSIONS = {"language": "Tongue 1.2", "framework": "Frame 3.4", "blas": "Blast", "processor": "P", "threads": 2}
NASTY = '<script>alert("x")</script>&'


def comparison(*, live: bool = True) -> Comparison:
    """A comparison that agrees; where flux is not live, its float32 is not compared."""
    checks = [
        Check("control_net-a", "float64", "sides", "torch", "flux", "outputs/prediction", 1e-15, 1e-10),
        Check("control_net-a", "float64", "oracle", "torch", "oracle", "grads/K", 2e-15, 1e-10),
        Check("control_net-a", "float64", "manual", "torch by hand", "torch", "grads/b", 3e-15, 1e-10),
        Check("control_net-a", "float64", "steps", "torch", "flux", "steps/descent/params_after/K", 4e-13, 1e-8),
        Check("mlp-b", "float32", "oracle", "torch", "oracle", "grads/w", 5e-6, 1e-4),
    ]
    if live:
        checks.append(Check("mlp-b", "float32", "oracle", "flux", "oracle", "grads/w", 0.0, 1e-4))
    sources = [
        Source("torch", True, VERSIONS, "2025-06-02T10:00:00Z"),
        Source("flux", live, {"language": "Julia 1.10", "framework": "Flux 0.16"}, "2025-06-01T09:00:00Z"),
    ]
    return Comparison(sources, checks, created="2025-06-03T12:34:56Z")


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures have their own tests: here each is a few bytes."""

    def draw(folder: Path, trainings: object) -> list[Path]:
        files = [folder / f"{name}.png" for name in figures.FIGURES]
        for file in files:
            file.write_bytes(file.stem.encode())
        return files

    monkeypatch.setattr(figures, "draw", draw)


def write_page(folder: Path) -> Path:
    """The page of the report on what is saved in a folder."""
    write_report(folder, ENGLISH)
    return folder / "index.html"


def page(folder: Path, of: Comparison | None) -> str:
    if of is not None:
        save(of, folder / "comparison.json")
    return write_page(folder).read_text("utf-8")


def text(html: str) -> str:
    """What a reader sees, in one line."""
    found: list[str] = []

    class Reader(HTMLParser):
        def handle_data(self, data: str) -> None:
            found.append(data)

    Reader().feed(html[html.index("<body>") :])
    return " ".join(" ".join(found).split())


def test_agreement(tmp_path: Path) -> None:
    html = page(tmp_path, comparison())
    said = text(html)
    assert f"<title>{ENGLISH('page.title')}</title>" in html
    assert "✓ AGREE PyTorch and Flux.jl agree: all 6 checks on 2 cases passed. Every side ran live." in said
    assert "Tongue 1.2 Frame 3.4 Blast P" in said
    assert "side against side float64 1 0 1.0e-15 1e-10 control_net-a outputs/prediction" in said
    assert "a 1.0e-15 2.0e-15 3.0e-15 – 4.0e-13 –" in said
    assert "mlp 1 case, 2 checks, all passed" in said
    assert "Compared on 2025-06-03 12:34 UTC." in said
    assert "Disagreements" not in said
    assert "fails" not in re.findall(r'class="([^"]*)"', html)
    assert [path.name for path in tmp_path.glob("*index*")] == ["index.html"]


def test_recorded_results_are_announced(tmp_path: Path) -> None:
    said = text(page(tmp_path, comparison(live=False)))
    assert "Recorded Flux.jl results of 2025-06-01 made with Flux 0.16, Julia 1.10 stood in." in said
    assert "Its float32 calculations were not checked." in said
    assert "Flux.jl recorded on 2025-06-01" in said


def test_disagreement_is_told_in_words_and_in_full(tmp_path: Path) -> None:
    of = comparison()
    of.checks[1] = replace(of.checks[1], error=float("inf"), message="shape (2,) against (3,)")
    of.failures.append("case mlp-c, float64: a worker died")
    html = page(tmp_path, of)
    said = text(html)
    assert "✗ DISAGREE PyTorch and Flux.jl do not agree: 1 of 6 checks on 2 cases failed, 1 other failure." in said
    assert "torch against oracle grads/K ✗ not comparable 1e-10 shape (2,) against (3,)" in said
    assert "✗ case mlp-c, float64: a worker died" in said
    assert "a 1.0e-15 ✗ not comparable 3.0e-15" in said
    assert "control_net 1 case, 4 checks, 1 failing" in said
    assert html.count("<details open>") == 2  # array by array, and case by case


def test_a_failing_check_is_not_hidden_by_a_larger_passing_error(tmp_path: Path) -> None:
    of = comparison()
    of.checks.append(replace(of.checks[1], array="grads/z", error=1.5e-15, bound=1e-15, message="too far"))
    assert "a 1.0e-15 ✗ 1.5e-15 3.0e-15" in text(page(tmp_path, of))


def test_nothing_compared_and_nothing_between_sides(tmp_path: Path) -> None:
    of = comparison()
    of.checks = of.checks[4:]
    assert "No side was held directly against another" in text(page(tmp_path, of))
    of.checks = []
    assert "NOTHING COMPARED" in text(page(tmp_path, of))


def test_text_is_escaped(tmp_path: Path) -> None:
    of = comparison()
    of.checks[0] = replace(of.checks[0], case=f"my-{NASTY}", message=NASTY)
    of.failures.append(NASTY)
    folder = tmp_path / "training" / "<b>&"
    folder.mkdir(parents=True)
    training("torch").write(folder / "torch.h5")
    html = page(tmp_path, of)
    assert NASTY in text(html)
    assert "training/<b>&" in text(html)
    assert "<script" not in html
    assert "<b>" not in html


def test_the_page_stands_alone_and_is_accessible(tmp_path: Path) -> None:
    folder = tmp_path / "training" / "donut"
    folder.mkdir(parents=True)
    training("torch").write(folder / "torch.h5")
    html = page(tmp_path, comparison())
    assert not re.search(r"https?://|<link|@import|url\(", html)
    sources = re.findall(r'\bsrc="([^"]{0,30})', html)
    assert len(sources) == 4
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert html.count("<img") == len(re.findall(r'<img [^>]*alt="[^"]+"', html))
    assert html.count("<table") == html.count("<caption>")
    heads = re.findall(r"<thead>.*?</thead>", html, re.DOTALL)
    assert all(th.startswith('<th scope="col') for head in heads for th in re.findall(r"<th\b[^>]*>", head))
    anchors, ids = re.findall(r'href="#([^"]+)"', html), re.findall(r'id="([^"]+)"', html)
    assert set(anchors) <= set(ids)
    assert len(ids) == len(set(ids))
    assert 'name="viewport"' in html
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html


def test_trainings(tmp_path: Path) -> None:
    for name in ("one", "two", "empty"):
        (tmp_path / "training" / name).mkdir(parents=True)
    (tmp_path / "training" / "a-file").write_text("")
    torch = training("torch", iterations=1005, network="resnet")
    objective = torch.history["objective"].copy()
    objective[50] *= 1 + 1e-6
    objective[101] *= 2
    torch.write(tmp_path / "training" / "one" / "torch.h5")
    replace(torch, side="flux", history=torch.history | {"objective": objective}).write(
        tmp_path / "training" / "one" / "flux.h5"
    )
    training("flux", dtype="float32", status="running").write(tmp_path / "training" / "two" / "flux.h5")
    said = text(page(tmp_path, None))
    assert "NOT COMPARED" in said
    history = torch.history
    numbers = f"{objective[-1]:.3e} {history['objective_test'][-1]:.3e}"
    for place in (-2, -1):
        numbers += "".join(f" {history[name][place]:.3f}" for name in ("accuracy_train", "accuracy_test"))
    for title in ("PyTorch", "Flux.jl"):
        assert f"donut2d resnet euler {title} 1,005 complete {numbers}" in said
    assert "Flux.jl 12 running" in said
    assert "PyTorch and Flux.jl 0 to 100 1.0e-06" in said
    assert said.count("0 to ") == 1
    assert "PyTorch: Frame 3.4, Tongue 1.2, complete after 1,005 iterations." in said
    assert "empty" not in said


def test_an_objective_of_zero_is_compared_absolutely(tmp_path: Path) -> None:
    folder = tmp_path / "training" / "one"
    folder.mkdir(parents=True)
    one = training("torch", iterations=0)
    replace(one, history=one.history | {"objective": np.array([1e-9])}).write(folder / "torch.h5")
    replace(one, side="flux", history=one.history | {"objective": np.zeros(1)}).write(folder / "flux.h5")
    assert "0 to 0 1.0e-09" in text(page(tmp_path, None))


def test_neither_comparison_nor_training(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"found neither\. 'twingrad compare --save .*twingrad train control"):
        write_page(tmp_path)


def test_a_comparison_comes_back_as_it_was(tmp_path: Path) -> None:
    of = comparison()
    of.checks[0] = replace(of.checks[0], error=float("inf"), message="misshapen")
    save(of, tmp_path / "comparison.json")
    assert read_comparison(tmp_path / "comparison.json") == of


def broken(**changes: Any) -> str:
    return json.dumps(comparison().as_json() | changes)


def without(name: str) -> str:
    return json.dumps({key: value for key, value in comparison().as_json().items() if key != name})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "expected JSON, found"),
        ("[" * 100_000, "expected JSON, found"),
        ("\udcff", "expected JSON, found"),
        ("3", "expected .*, found 3"),
        (broken(format="twingrad-result"), "format: expected 'twingrad-comparison', found 'twingrad-result'"),
        (broken(format_version=2), "format_version: expected 1, found 2"),
        (broken(checks=[{"case": "a"}]), r"checks\.0\.dtype: expected this entry, found nothing"),
        (broken(failures=[1]), r"failures\.0: expected .*, found 1"),
        (broken(more=1), "more: expected only format, .*, found .more."),
        (broken(checks=[comparison().as_json()["checks"][0] | {"error": float("nan")}]), r"checks\.0\.error"),
        (broken(sources=[comparison().as_json()["sources"][0] | {"side": "abacus"}]), "found 'abacus'"),
        (broken(agrees=False), "agrees: expected a verdict that follows"),
        (broken(failures=["no"]), "agrees: expected a verdict that follows"),
        *((without(name), f"{name}: expected this entry, found nothing") for name in ("created", "sources", "agrees")),
    ],
)
def test_broken_comparisons(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "comparison.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=r"comparison\.json.*" + message):
        write_page(tmp_path)
    assert not (tmp_path / "index.html").exists()


def test_a_comparison_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "comparison.json").mkdir()
    with pytest.raises(InputError, match="expected a readable file"):
        write_page(tmp_path)


def test_a_damaged_training_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "training" / "one"
    folder.mkdir(parents=True)
    (folder / "torch.h5").write_bytes(b"no HDF5")
    with pytest.raises(InputError, match=r"torch\.h5: expected a whole HDF5 file"):
        write_page(tmp_path)
