"""GitLab's pipeline: its form by GitLab's own schema, and whether what it names is there."""

import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from twingrad.cli import app

ROOT = Path(__file__).parents[1]
PIPELINE = ROOT / ".gitlab-ci.yml"
NO_JOBS = {"stages", "workflow", "variables", "default"}


def read(file: Path) -> dict[str, Any]:
    return yaml.safe_load(file.read_text("utf-8"))


def merged(pipeline: dict[str, Any], name: str) -> dict[str, Any]:
    """A job with what it extends, as GitLab merges them: mappings key by key, everything else by the last."""
    entry, found = pipeline[name], {}
    extended = entry.get("extends", [])
    for parent in [extended] if isinstance(extended, str) else extended:
        found = merge(found, merged(pipeline, parent))
    return merge(found, entry)


def merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    def value(key: str) -> Any:
        both = below.get(key), above.get(key)
        return merge(*both) if all(isinstance(one, dict) for one in both) else above.get(key, both[0])

    return {key: value(key) for key in {**below, **above}}


def jobs(pipeline: dict[str, Any]) -> dict[str, dict[str, Any]]:
    names = [name for name in pipeline if name not in NO_JOBS and not name.startswith(".")]
    return {name: merged(pipeline, name) for name in names}


def fits_schema(file: Path) -> bool:
    tool = Path(sys.executable).parent / "check-jsonschema"
    options = ["--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci"]
    return subprocess.run([str(tool), *options, str(file)], capture_output=True).returncode == 0


def problems(pipeline: dict[str, Any]) -> list[str]:
    """What a pipeline names that is not there."""
    found, known = [], jobs(pipeline)
    for name, job in known.items():
        if job.get("stage") not in pipeline["stages"]:
            found.append(f"{name}: no stage {job.get('stage')}")
        found += [f"{name}: needs {other}, no job" for other in job.get("needs", []) if other not in known]
        found += [f"{name}: needs {other}, which comes later" for other in later(pipeline, known, job)]
        found += [f"{name}: no file {file}" for file in cache_files(pipeline, job) if not (ROOT / file).is_file()]
        found += [f"{name}: {problem}" for line in job["script"] for problem in command_problems(line)]
    return found


def later(pipeline: dict[str, Any], known: dict[str, dict[str, Any]], job: dict[str, Any]) -> list[str]:
    needed = [other for other in job.get("needs", []) if other in known]
    order = {stage: number for number, stage in enumerate(pipeline["stages"])}
    return [other for other in needed if order.get(known[other]["stage"], 0) > order.get(job["stage"], 0)]


def cache_files(pipeline: dict[str, Any], job: dict[str, Any]) -> list[str]:
    caches = job.get("cache", pipeline["default"]["cache"])
    return [file for cache in ([caches] if isinstance(caches, dict) else caches) for file in cache["key"]["files"]]


def targets() -> list[str]:
    """The targets that people call, which are all phony: a folder of the same name makes no difference."""
    (phony,) = [line for line in (ROOT / "Makefile").read_text("utf-8").splitlines() if line.startswith(".PHONY:")]
    return phony.split()[1:]


def command_problems(line: str) -> Iterator[str]:
    """What is wrong with a line of a script that starts make, twingrad or a program of the repository."""
    program, *words = shlex.split(line)
    if program == "make":
        yield from (f"make has no target {target}" for target in words if target not in targets())
    elif program.endswith("bin/twingrad") and words != ["--version"]:
        command = typer.main.get_command(app)
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        if hasattr(command, "commands"):
            yield f"{line}: no such command"
            return
        try:
            command.make_context(line, words)
        except Exception as error:  # typer has no public name for errors of use
            yield f"{line}: {error}"


def test_the_pipeline_fits_gitlabs_schema():
    assert fits_schema(PIPELINE)


def test_what_the_pipeline_names_is_there():
    assert problems(read(PIPELINE)) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("interruptible: true", "interruptable: true"),
        ("script: [make lint]", "scripts: [make lint]"),
    ],
)
def test_a_wrong_form_is_found(tmp_path: Path, old: str, new: str):
    text = PIPELINE.read_text("utf-8")
    assert old in text
    wrong = tmp_path / ".gitlab-ci.yml"
    wrong.write_text(text.replace(old, new, 1), "utf-8")
    assert not fits_schema(wrong)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("make python-test compare-test", "make pyhton-test", "python: make has no target pyhton-test"),
        ("needs: [docs, report]", "needs: [docs, reports]", "pages: needs reports, no job"),
        ("needs: [python, parity]", "needs: [pages]", "report: needs pages, which comes later"),
        ("files: [pyproject.toml, constraints.txt]", "files: [requirements.txt]", "lint: no file requirements.txt"),
        ("stage: lint", "stage: lints", "lint: no stage lints"),
        ("audit --quick", "audit --quickly", "audit: .venv/bin/twingrad audit --quickly --out report/audit: No such"),
        ("bin/twingrad doctor", "bin/twingrad docter", "parity: .venv/bin/twingrad docter: no such command"),
    ],
)
def test_what_is_not_there_is_found(old: str, new: str, problem: str):
    text = PIPELINE.read_text("utf-8")
    assert old in text
    assert any(found.startswith(problem) for found in problems(yaml.safe_load(text.replace(old, new, 1))))
