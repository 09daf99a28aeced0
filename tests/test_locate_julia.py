"""Which Julia is used: the order of precedence, with programs that only claim to be Julia."""

from pathlib import Path

import juliapkg
import pytest

from twingrad import paths
from twingrad.errors import InputError, SideError
from twingrad.sides import Worker, is_available
from twingrad.sides.locate_julia import candidates, find_julia


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine without Julia; returns a function that puts one that prints its version somewhere."""
    monkeypatch.delenv("TWINGRAD_JULIA", raising=False)
    monkeypatch.delenv("TWINGRAD_JULIA_PROJECT", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(juliapkg, "resolve", lambda **_: False)

    def put(folder: str, version: str) -> Path:
        program = tmp_path / folder / "julia"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\necho julia version {version}\n")
        program.chmod(0o755)
        return program

    return put


def project(folder: Path, manifest: bool = True) -> str:
    folder.mkdir()
    (folder / "Project.toml").write_text("")
    if manifest:
        (folder / "Manifest.toml").write_text("")
    return str(folder)


def test_without_julia_the_flux_side_is_not_available(machine):
    assert find_julia() is None
    assert is_available("torch")
    assert not is_available("flux")
    assert [candidate.reason for candidate in candidates()][:2] == ["not set", "no julia on PATH"]
    with pytest.raises(
        InputError, match=r"julia: expected Julia, which the side 'flux' needs, found none.*twingrad setup"
    ):
        Worker("flux").request("run", {})


def test_the_environment_wins(machine, tmp_path, monkeypatch):
    machine("bin", "1.11.2")
    named = machine("other", "1.10.4")
    monkeypatch.setenv("TWINGRAD_JULIA", str(named))
    monkeypatch.setenv("TWINGRAD_JULIA_PROJECT", project(tmp_path / "project"))
    julia = find_julia()
    assert (julia.executable, julia.project, julia.version) == (str(named), str(tmp_path / "project"), "1.10.4")


def test_path_serves_once_the_root_project_is_instantiated(machine, tmp_path, monkeypatch):
    program = machine("bin", "1.11.2")
    monkeypatch.setattr(paths, "root", lambda: tmp_path / "checkout")
    checkout = project(tmp_path / "checkout", manifest=False)
    assert find_julia() is None
    assert f"the packages of {checkout} are not installed" in candidates()[1].reason
    (tmp_path / "checkout" / "Manifest.toml").write_text("")
    assert find_julia().executable == str(program)


def test_an_old_julia_does_not_serve(machine, tmp_path, monkeypatch):
    monkeypatch.setenv("TWINGRAD_JULIA", str(machine("old", "1.9.4")))
    monkeypatch.setenv("TWINGRAD_JULIA_PROJECT", project(tmp_path / "project"))
    assert find_julia() is None
    assert "1.9.4, older than 1.10" in candidates()[0].reason


def test_a_name_that_is_no_julia_is_an_error(machine, monkeypatch):
    monkeypatch.setenv("TWINGRAD_JULIA", "/no/such/julia")
    with pytest.raises(InputError, match="TWINGRAD_JULIA: expected a Julia executable, found /no/such/julia"):
        find_julia()


def test_julia_can_be_switched_off(machine, monkeypatch):
    machine("bin", "1.11.2")
    monkeypatch.setenv("TWINGRAD_JULIA", "none")
    assert find_julia() is None
    assert [candidate.reason for candidate in candidates()] == ["Julia is switched off"]


def test_a_julia_that_crashes_is_reported_not_skipped(machine, tmp_path, monkeypatch):
    """It answers --version but dies as a worker: the side is available, and its requests fail with its stderr."""
    program = machine("crashing", "1.10.4")
    program.write_text(program.read_text() + '[ "$1" = --version ] || { echo "ERROR: out of luck" >&2; exit 3; }\n')
    monkeypatch.setenv("TWINGRAD_JULIA", str(program))
    monkeypatch.setenv("TWINGRAD_JULIA_PROJECT", project(tmp_path / "project"))
    assert is_available("flux")
    with pytest.raises(SideError, match="side flux: the worker"):
        Worker("flux", start_seconds=20.0).request("run", {})
