"""The worked example of docs/add-a-model.md, applied to a copy of the sources, agrees on both sides."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from twingrad import harness, paths
from twingrad.sides.locate_julia import find_julia

EXAMPLE = paths.root() / "docs" / "examples" / "antisymmetric"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of what computes, with the example in it."""
    for folder in ("python", "julia"):
        shutil.copytree(paths.root() / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(EXAMPLE / folder, tmp_path / folder, dirs_exist_ok=True)
    shutil.copytree(paths.shared_fixtures(), tmp_path / "shared_fixtures", ignore=shutil.ignore_patterns("cases"))
    sides = tmp_path / "shared_fixtures" / "sides.toml"  # small arrays: Julia interprets sooner than it compiles
    sides.write_text(sides.read_text("utf-8").replace('"--startup-file=no"', '"--startup-file=no", "--compile=min"'))
    subprocess.run(["git", "apply", str(EXAMPLE / "registration.patch")], cwd=tmp_path, check=True)
    return tmp_path


def environment(copy: Path) -> dict[str, str]:
    """This environment for the copy: a project for its Julia package, a depot for what is compiled of it."""
    own = os.environ | {"TWINGRAD_ROOT": str(copy), "PYTHONPATH": str(copy / "python"), "COLUMNS": "80"}
    julia = find_julia()
    if julia is None:
        return own
    for file in [Path(julia.project, "Project.toml"), *Path(julia.project).glob("Manifest*.toml")]:
        text = re.sub(r'(\[\[deps\.TwinGrad\]\][^\[]*?\npath = )"[^"]*"', r'\1"julia"', file.read_text("utf-8"))
        (copy / file.name).write_text(text, "utf-8")
    (copy / "LocalPreferences.toml").write_text("[TwinGrad]\nprecompile_workload = false\n")
    depots = subprocess.run(
        [julia.executable, "--startup-file=no", "-e", "join(stdout, DEPOT_PATH, Sys.iswindows() ? ';' : ':')"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return own | {
        "TWINGRAD_JULIA": julia.executable,
        "TWINGRAD_JULIA_PROJECT": str(copy),
        "JULIA_DEPOT_PATH": os.pathsep.join([str(copy / "depot"), depots]),
    }


def test_the_example_is_added_and_agrees(copy: Path, running: harness.Sides) -> None:
    name = "antisymmetric-small"
    recorded = ["--recorded", ",".join(running.recorded)] if running.recorded else []

    def twingrad(*arguments: str) -> str:
        command = [sys.executable, "-m", "twingrad", *arguments]
        run = subprocess.run(command, env=own, cwd=copy, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout

    own = environment(copy)
    assert "1 files written" in twingrad("fixtures", name)
    shown = twingrad("compare", name, "--dtype", "float64", *recorded)
    assert "AGREE" in shown
    assert ("Both sides ran live" in shown) == (not running.recorded)
