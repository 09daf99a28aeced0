"""Preparing the Julia side: packages for the Julia that is there, or Julia itself where the network allows."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from rich.console import Console

from .. import paths
from ..errors import InputError
from .locate_julia import SWITCHED_OFF, find_julia, is_instantiated, too_old, version_of

CHECK = "using TwinGrad"
RESOLVE = "using Pkg; Pkg.resolve(); Pkg.instantiate(); using TwinGrad"
"""Where the Manifest is older than the packages that TwinGrad needs."""
INSTANTIATE = """
using Pkg
VERSION < v"1.11" && Pkg.develop(path="julia")
Pkg.instantiate()
using TwinGrad
"""


def set_up(console: Console) -> None:
    """Install what the Julia side needs, with its progress on stderr; says what is missing, and never fails for it.

    TWINGRAD_JULIA and TWINGRAD_JULIA_PROJECT are taken as they are. In a checkout a julia on PATH gets the packages of
    the root project. juliapkg gets a project of its own, for `twingrad.julia.load()` and for a TwinGrad that was
    installed from a wheel, and Julia itself where none is on PATH.
    """
    if os.environ.get("TWINGRAD_JULIA"):
        console.print(_outcome())
        return
    executable = shutil.which("julia")
    if paths.is_checkout() and executable is not None and not too_old(version_of(executable) or "0"):
        _instantiate_root(console, executable)
    _resolve_juliapkg(console)
    console.print(_outcome(), soft_wrap=True)


def _outcome() -> str:
    switched_off = os.environ.get("TWINGRAD_JULIA", "").lower() in SWITCHED_OFF
    julia = find_julia()
    if julia is not None:
        return f"Julia {julia.version} at {julia.executable}, project {julia.project}"
    why = "is switched off by TWINGRAD_JULIA" if switched_off else "cannot be used on this machine"
    return f"Julia {why}; recorded results stand in for the Flux side. 'twingrad doctor' says more."


def _instantiate_root(console: Console, executable: str) -> None:
    root = paths.root()
    ready, behind = is_instantiated(root), is_behind(root)
    console.print(
        f"Julia at {executable}: {'checking' if ready else 'installing'} the packages of {root}", soft_wrap=True
    )
    # By itself Julia writes compiled code with half of the processors.
    environment = os.environ | {"JULIA_IMAGE_THREADS": os.environ.get("JULIA_IMAGE_THREADS", str(os.cpu_count()))}
    problem: Exception | None = None
    for script in (INSTANTIATE,) if not ready else (RESOLVE,) if behind else (CHECK, RESOLVE):
        command = [executable, "--startup-file=no", f"--project={root}", "-e", script]
        try:
            subprocess.run(command, cwd=root, check=True, stdout=sys.stderr, env=environment)
            return
        except (OSError, subprocess.CalledProcessError) as error:
            problem = error
    console.print(f"The packages of {root} could not be installed: {problem}", soft_wrap=True)


def is_behind(project: Path) -> bool:
    """Whether a project folder has a Manifest from before TwinGrad needed a package that it needs now."""
    needed = tomllib.loads((paths.root() / "julia" / "Project.toml").read_text("utf-8"))["deps"].keys()
    for file in project.glob("Manifest*.toml"):
        entries = tomllib.loads(file.read_text("utf-8")).get("deps", {}).get("TwinGrad", [])
        if any(needed - set(entry.get("deps", ())) for entry in entries):
            return True
    return False


def _resolve_juliapkg(console: Console) -> None:
    import juliapkg

    try:
        behind = is_behind(Path(juliapkg.project()))
        if behind or not juliapkg.resolve(dry_run=True):
            console.print("juliapkg: installing Julia's packages for Python, and Julia where it is missing")
            juliapkg.resolve(force=behind)
    except Exception as error:  # juliapkg raises whatever its downloads and subprocesses raise
        console.print(f"juliapkg could not bring Julia: {error}", soft_wrap=True)


def julia_command(arguments: list[str]) -> list[str]:
    """The command line that runs the Julia in use, in its project; raises InputError where there is none."""
    julia = find_julia()
    if julia is None:
        raise InputError("julia", expected="Julia", found="none that can be used", hint="See 'twingrad doctor'.")
    return [julia.executable, f"--project={julia.project}", *arguments]
