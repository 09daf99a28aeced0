"""Audits on the page: scores, failures, margins, false alarms, in both languages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from test_page import comparison, page, text, write_page
from twingrad.audit.saved import Alarm, Alarms, BrokenFiles, Defects, Planted, Unsound
from twingrad.errors import InputError
from twingrad.report.audit_page import audit_run, audit_section
from twingrad.report.csv_files import csv_text
from twingrad.report.document import Table, parts_of
from twingrad.report.language import ENGLISH, Language
from twingrad.training.command_file import command_of, keep_command

SIDES = {"torch": {"framework": "Frame 1", "language": "Tongue 2", "processor": "P"}, "flux": {"processor": "P"}}


def planted(side: str, name: str, topic: str = "losses", **fields: Any) -> Planted:
    defaults: dict[str, Any] = {
        "digest": name,
        "mistake": f"mistake {name}",
        "check": "oracle",
        "array": "loss",
        "case": "mlp-a",
    }
    return Planted(
        **{**defaults, "status": "caught", "error": 1e-3, "bound": 1e-11, **fields}, side=side, name=name, topic=topic
    )


def defects(*several: Planted, **fields: Any) -> Defects:
    common = {"created": "2025-06-03T12:34:56Z", "command": "twingrad audit --jobs 2", "digest": "d", "complete": True}
    return Defects(**common, sides=SIDES, planted=list(several), controls={"torch": []}, **fields)


def alarms(*failures: str) -> Alarms:
    worst = {"float64 sides": 2e-15, "float64 steps": 3e-14, "float32 oracle": 4e-6}
    names = [("control_net", "a", [], ["u"]), ("gpt", "b", list(failures), [])]
    cases = [
        Alarm(
            name=name,
            model=model,
            seed=1,
            checks=12,
            worst=worst,
            failures=failed,
            unstable=unstable,
        )
        for model, name, failed, unstable in names
    ]
    common = {"created": "2025-06-03T12:34:56Z", "command": "twingrad audit --false-alarms 2", "digest": "d"}
    return Alarms(**common, sides=SIDES, seed=5, bounds={"float64 sides": 1e-11}, cases=cases)


def saved(folder: Path, found: Defects | None = None, drawn: Alarms | None = None) -> Path:
    (folder / "audit").mkdir()
    if found:
        found.write(folder / "audit" / "defects.json")
    if drawn:
        drawn.write(folder / "audit" / "false-alarms.json")
    return folder


def tables(folder: Path, language: Language = ENGLISH) -> dict[str, str]:
    run = audit_run(folder)
    assert run is not None
    section = audit_section(run, language)
    return {part.name: csv_text(part) for part in parts_of([section]) if isinstance(part, Table)}


def test_scores_by_topic_and_side(tmp_path: Path) -> None:
    several = [
        planted("torch", "one"),
        planted("torch", "two", error=1e-7),
        planted("torch", "three", "optimizers", status="missed", error=0.0, bound=0.0),
        planted("flux", "one"),
    ]
    found = tables(saved(tmp_path, defects(*several)))["audit-defects"].splitlines()
    assert found[0] == "topic,torch_caught,torch_planted,torch_margin,flux_caught,flux_planted,flux_margin"
    topic, *numbers = found[1].split(",")
    assert (topic, [float(one) for one in numbers]) == ("losses", pytest.approx([2, 2, 1e4, 1, 1, 1e8]))
    assert found[2] == "optimizers,0,1,0.0,,,"
    assert [float(one) for one in found[3].split(",")[1:]] == pytest.approx([2, 3, 0.0, 1, 1, 1e8])


def test_what_was_missed_and_what_failed_without_a_mistake_is_told(tmp_path: Path) -> None:
    missed = planted("torch", "the-one", status="missed")
    found = defects(missed, not_run={"flux": "not on this machine"})
    found.controls["torch"] = ["mlp-a, loss: not equal"]
    said = text(write_page(saved(tmp_path, found)).read_text("utf-8"))
    assert "PyTorch, the-one: missed" in said
    assert "PyTorch: mlp-a, loss: not equal" in said
    assert "Flux.jl did not run: not on this machine" in said
    assert "twingrad audit --jobs 2" in said


def test_false_alarms(tmp_path: Path) -> None:
    folder = saved(tmp_path, drawn=alarms("float64, loss: off by one"))
    rows = tables(folder)["audit-false-alarms"].splitlines()
    assert rows[0].startswith(
        "model,cases,checks,failed,unstable,float64_sides,float64_manual,float64_fast,float64_steps,float32_oracle"
    )
    assert rows[1].split(",")[:6] == ["control_net", "1", "12", "0", "1", "2e-15"]
    assert rows[2].split(",")[3] == "1"
    assert rows[3].split(",")[5] == "1e-11"
    said = text(write_page(folder).read_text("utf-8"))
    assert "b: float64, loss: off by one" in said
    assert "Unstable are checks that failed" in said


def broken() -> BrokenFiles:
    counts: Any = {
        "torch": {"case": {"refused": 5, "right": 2}, "text": {"read": 3}},
        "flux": {"case": {"refused": 6, "crash": 1}},
    }
    crash = Unsound(number=4, kind="case", way="a bit", side="flux", outcome="crash", message="it died\n  | trace")
    common = {"created": "2025-06-03T12:34:56Z", "command": "twingrad audit --broken-files 10", "digest": "d"}
    return BrokenFiles(**common, sides=SIDES, seed=5, files=10, counts=counts, unsound=[crash])


def test_broken_files(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    broken().write(folder / "audit" / "broken-files.json")
    rows = tables(folder)["audit-broken-files"].splitlines()
    assert rows[1] == "case,5,2,0,0,0,6,0,0,0,1"
    assert rows[2] == "text,0,0,3,0,0,,,,,"
    assert rows[3] == "all,5,2,3,0,0,6,0,0,0,1"
    said = text(write_page(folder).read_text("utf-8"))
    assert "Flux.jl, 4, case, a bit: crash: it died" in said
    assert "trace" not in said


@pytest.mark.parametrize("name", ["en", "fr"])
def test_both_languages(tmp_path: Path, name: str) -> None:
    folder = saved(tmp_path, defects(planted("torch", "one")), alarms())
    broken().write(folder / "audit" / "broken-files.json")
    found = tables(folder, Language(name)).keys()
    assert found == {"audit-defects", "audit-mistakes", "audit-false-alarms", "audit-broken-files"}


def test_no_audit_is_no_section(tmp_path: Path) -> None:
    assert audit_run(tmp_path) is None


def test_a_damaged_audit_is_named(tmp_path: Path) -> None:
    saved(tmp_path, defects())
    (tmp_path / "audit" / "defects.json").write_text('{"format": "twingrad-audit-defects"}')
    with pytest.raises(InputError, match=r"defects\.json, created: expected this entry"):
        write_page(tmp_path)


def test_the_command_of_a_comparison_is_on_the_page(tmp_path: Path) -> None:
    of = comparison()
    of.command = "twingrad compare --dtype float64"
    assert "Command: twingrad compare --dtype float64" in text(page(tmp_path, of))


def test_the_command_of_a_training_is_kept(tmp_path: Path) -> None:
    assert command_of(tmp_path / "run", "torch") == ""
    for command in ("twingrad train gpt --out a", "twingrad train gpt --out 'a b'"):
        keep_command(tmp_path / "run", "torch", command)
    assert command_of(tmp_path / "run", "torch") == "twingrad train gpt --out 'a b'"
    assert command_of(tmp_path / "run", "flux") == ""
