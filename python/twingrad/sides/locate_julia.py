"""Which Julia is used, and why: the only place that decides."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .. import paths
from ..errors import InputError

OLDEST = (1, 10)
SWITCHED_OFF = ("none", "off")
HOW_TO_GET = "Run 'twingrad setup', or put julia on PATH, or set TWINGRAD_JULIA."


@dataclass(frozen=True)
class Julia:
    """A Julia that can run TwinGrad: executable, project folder, version."""

    executable: str
    project: str
    version: str


@dataclass(frozen=True)
class Candidate:
    """One place where Julia was looked for: what was found there, or why it does not serve."""

    place: str
    julia: Julia | None
    reason: str


def candidates() -> list[Candidate]:
    """Every place in the order of precedence. The first with a Julia wins."""
    if os.environ.get("TWINGRAD_JULIA", "").lower() in SWITCHED_OFF:
        return [Candidate("TWINGRAD_JULIA", None, "Julia is switched off")]
    places: list[tuple[str, Callable[[], tuple[Julia | None, str]]]] = [
        ("TWINGRAD_JULIA", _from_environment),
        ("julia on PATH", _from_path),
        ("juliacall's Julia", _from_juliapkg),
    ]
    return [Candidate(place, *look()) for place, look in places]


def find_julia() -> Julia | None:
    """The Julia in use, or None."""
    return next((candidate.julia for candidate in candidates() if candidate.julia is not None), None)


def version_of(executable: str) -> str | None:
    """The version that `executable --version` prints, or None if it is no Julia."""
    try:
        run = subprocess.run([executable, "--version"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.fullmatch(r"julia version (\S+)", run.stdout.strip())
    return match[1] if match else None


def too_old(version: str) -> bool:
    """Whether a version is older than the oldest that TwinGrad supports."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < OLDEST


def own_project() -> Path:
    """The project folder of Julia's packages: the checkout, or juliapkg's where TwinGrad was installed from a wheel."""
    from juliapkg.state import STATE

    return paths.root() if paths.is_checkout() else Path(STATE["project"])


def is_instantiated(project: Path) -> bool:
    """Whether a project folder has a Manifest, that is, its packages were installed."""
    return any(project.glob("Manifest*.toml"))


def _from_environment() -> tuple[Julia | None, str]:
    named = os.environ.get("TWINGRAD_JULIA")
    if not named:
        return None, "not set"
    executable = shutil.which(named)
    version = version_of(executable) if executable else None
    if executable is None or version is None:
        raise InputError("TWINGRAD_JULIA", expected="a Julia executable", found=named)
    named_project = os.environ.get("TWINGRAD_JULIA_PROJECT")
    return _judge(executable, version, Path(named_project) if named_project else own_project())


def _from_path() -> tuple[Julia | None, str]:
    executable = shutil.which("julia")
    if executable is None:
        return None, "no julia on PATH"
    version = version_of(executable)
    if version is None:
        return None, f"{executable} does not run"
    return _judge(executable, version, own_project())


def _from_juliapkg() -> tuple[Julia | None, str]:
    import juliapkg
    from juliapkg.state import STATE

    if not Path(STATE["meta"]).exists() or not juliapkg.resolve(dry_run=True):
        return None, "nothing installed by juliapkg yet"
    executable = juliapkg.executable()
    return _judge(executable, version_of(executable) or "0", Path(juliapkg.project()))


def _judge(executable: str, version: str, project: Path) -> tuple[Julia | None, str]:
    if too_old(version):
        return None, f"{executable} is {version}, older than {'.'.join(map(str, OLDEST))}"
    if not (project / "Project.toml").is_file():
        return None, f"{executable} ({version}), but {project} has no Project.toml"
    if not is_instantiated(project):
        return None, f"{executable} ({version}), but the packages of {project} are not installed"
    return Julia(executable, str(project), version), f"{version}, project {project}"
