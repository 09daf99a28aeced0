"""From cases to checks: asks the sides, or takes recorded results by name, and hands both to the comparator."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from . import paths
from .comparator import Check, compare_case, read_bounds
from .comparator.compare import part, split_paths
from .errors import InputError, SideError
from .files import make_folder, replacing
from .format import Case, Recorded, Result, read_case, read_recorded, read_result
from .format.result import now
from .sides import Worker, is_available, side, sides, source_digest
from .sides.worker_process import SILENCE_SECONDS

STEPS = 10
"""Training steps of a comparison."""
DTYPES = ("float64", "float32")
INCOMPARABLE = 1e308
"""What stands for an infinite error in JSON, which has none."""


@dataclass(frozen=True)
class Source:
    """Where a side's results come from in a comparison."""

    side: str
    live: bool
    versions: Mapping[str, Any]
    created: str

    def __str__(self) -> str:
        how = "live" if self.live else f"RECORDED on {self.created[:10]}"
        return f"{side(self.side).title} {how} ({self.versions['framework']}, {self.versions['language']})"


def recorded_source(name: str) -> Source:
    """The source that a side's recorded results are; raises InputError where there are none."""
    recorded = read_recorded(paths.recorded(name))
    return Source(name, False, recorded.versions, recorded.created)


@dataclass
class Comparison:
    """All checks of a comparison, and the failures that left no arrays to check."""

    sources: list[Source]
    checks: list[Check] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    created: str = field(default_factory=now)
    command: str = "twingrad compare"

    @property
    def agrees(self) -> bool:
        """Whether something was checked and everything passed."""
        return bool(self.checks) and not self.failures and all(check.passed for check in self.checks)

    def worst(self, dtype: str, *checks: str) -> Check | None:
        """The check with the largest error in a dtype, among the named kinds of check."""
        chosen = [check for check in self.checks if check.dtype == dtype and check.check in checks]
        return max(chosen, key=lambda check: check.error, default=None)

    def as_json(self) -> dict[str, Any]:
        """The comparison for programs."""
        return {
            "format": "twingrad-comparison",
            "format_version": 1,
            "created": self.created,
            "command": self.command,
            "agrees": self.agrees,
            "sources": [{**asdict(source), "title": side(source.side).title} for source in self.sources],
            "failures": self.failures,
            "checks": [
                {**asdict(check), "passed": check.passed, "error": min(check.error, INCOMPARABLE)}
                for check in self.checks
            ],
        }


class Sides:
    """Every side of the table, live where it can be had, else recorded. Use as a context manager.

    Args:
        only_recorded: names of the sides that are not to be run even where they can be.
        threads: threads of each worker.
        silence_seconds: how long a worker may be silent before it counts as hung.
        device: "cpu" or "cuda", where the live sides compute.
    """

    def __init__(
        self,
        only_recorded: tuple[str, ...] = (),
        *,
        threads: int = 1,
        silence_seconds: float = SILENCE_SECONDS,
        device: str = "cpu",
    ) -> None:
        self.device = device
        self._stack = ExitStack()
        self.workers: dict[str, Worker] = {}
        self.recorded: dict[str, Recorded] = {}
        self._live: dict[tuple[str, str, str, str, int], Result] = {}
        for name in sides():
            if name not in only_recorded and is_available(name):
                self.workers[name] = self._stack.enter_context(
                    Worker(name, threads=threads, silence_seconds=silence_seconds)
                )
            else:
                self.recorded[name] = read_recorded(paths.recorded(name))
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="twingrad-")))

    def __enter__(self) -> Sides:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def sources(self) -> list[Source]:
        """Where each side's results come from. Starts the live sides."""
        live = {name: Source(name, True, worker.versions, now()) for name, worker in self.workers.items()}
        rest = {name: Source(name, False, r.versions, r.created) for name, r in self.recorded.items()}
        return [(live | rest)[name] for name in sides()]

    def result(self, name: str, case: Case, file: Path, dtype: str, steps: int) -> Result | None:
        """A side's result, or None where the side is not live and there is no recorded one.

        A live side is asked once for each case, dtype and number of steps.
        """
        if name in self.workers:
            asked = (name, case.name, case.digest, dtype, steps)
            if asked in self._live:
                return self._live[asked]
            out = self._folder / f"{name}.h5"
            request = {
                "case": str(file.resolve()),
                "out": str(out),
                "dtype": dtype,
                "device": self.device,
                "steps": steps,
            }
            out.unlink(missing_ok=True)
            self.workers[name].request("run", request)
            result = read_result(out)
            _check_answer(result, name, case, dtype)
            self._live[asked] = result
            return result
        recorded = self.recorded[name].results.get(case.name)
        if recorded is None or recorded.case_digest != case.digest or self.recorded[name].dtype != dtype:
            return None
        if steps == 0:
            return replace(recorded, arrays=part(recorded.arrays, in_steps=False))
        return recorded

    def compare(
        self, file: Path, dtypes: tuple[str, ...] = DTYPES, steps: int = STEPS
    ) -> tuple[list[Check], list[str]]:
        """(checks, failures) of one case file. A side that fails is one failure and stops nothing else."""
        case, bounds = read_case(file), read_bounds(paths.shared_fixtures() / "bounds.toml")
        checks: list[Check] = []
        failures: list[str] = []
        for dtype in dtypes:
            results = {}
            for name in sides():
                try:
                    # Training steps are compared in float64 only: elsewhere two correct runs part ways.
                    result = self.result(name, case, file, dtype, steps if dtype == "float64" else 0)
                except (InputError, SideError) as error:
                    failures.append(f"case {case.name}, {dtype}: {error}")
                    continue
                if result is not None:
                    results[name] = result
            if results:
                checks += compare_case(case, results, bounds)
        return checks, failures


def _check_answer(result: Result, name: str, case: Case, dtype: str) -> None:
    """Raise SideError where a side's result is not of what it was asked for."""
    expected = {"case": case.name, "case_digest": case.digest, "side": name, "dtype": dtype}
    for what, value in expected.items():
        if (found := getattr(result, what)) != value:
            hint = "The file has changed meanwhile: run again." if what == "case_digest" else ""
            text = f"side {name}, case {case.name}: expected a result of {what} {value}, found {found}. {hint}"
            raise SideError(text.strip())


def stale_recordings() -> list[str]:
    """What is wrong with the recorded results: missing, damaged, or of other sources or cases than the present ones."""
    return read_recordings()[1]


def read_recordings() -> tuple[dict[str, Recorded], list[str]]:
    """Those that can be read by side, which takes seconds, and what is wrong with any."""
    digests = {file.stem: read_case(file).digest for file in paths.case_files()}
    read: dict[str, Recorded] = {}
    found = []
    for name, one in sides().items():
        try:
            recorded = read[name] = read_recorded(paths.recorded(name))
        except InputError as error:
            found.append(str(error))
            continue
        if (expected := source_digest(one, digests)) != recorded.source_digest:
            found.append(
                f"{paths.recorded(name)}: expected results of the present sources and cases ({expected[:12]}), found "
                f"results of other ones ({recorded.source_digest[:12]}). Run 'twingrad record' with every side live."
            )
        elif {case: result.case_digest for case, result in recorded.results.items()} != digests:
            found.append(f"{paths.recorded(name)}: expected a result for each case, found another set of cases.")
    return read, found


def compare(
    files: list[Path],
    running: Sides,
    dtypes: tuple[str, ...] = DTYPES,
    steps: int = STEPS,
    on_case: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Compare all sides on the given case files; raises InputError for a number of steps that was not recorded."""
    if running.recorded and steps not in (0, STEPS):
        names = ", ".join(running.recorded)
        raise InputError("steps", expected=f"0 or {STEPS}, as recorded for {names}", found=str(steps))
    comparison = Comparison(running.sources())
    for file in files:
        on_case(file.stem)
        checks, failures = running.compare(file, dtypes, steps)
        comparison.checks += checks
        comparison.failures += failures
    return comparison


def record(running: Sides, on_case: Callable[[str, str], None] = lambda *_: None) -> list[Recorded]:
    """Run every side live on every case in float64 and write the results of the references, all sides or none."""
    if running.recorded:
        missing = ", ".join(side(name).title for name in running.recorded)
        raise InputError("record", expected="every side live", found=f"no {missing} on this machine")
    cases = {file: read_case(file) for file in paths.case_files()}
    if not cases:
        raise InputError(str(paths.cases()), expected="case files", found="none", hint="Run 'twingrad fixtures'.")
    digests = {case.name: case.digest for case in cases.values()}
    recordings = []
    for name, worker in running.workers.items():
        before = source_digest(side(name), digests)
        results = {}
        for file, case in cases.items():
            on_case(name, case.name)
            result = running.result(name, case, file, "float64", STEPS)
            assert result is not None
            results[case.name] = replace(result, arrays=split_paths(result.arrays)[0])
        if source_digest(side(name), digests) != before:
            raise SideError(f"side {name}: its sources changed while it was recorded. Nothing was written; run again.")
        common = {
            "side": name,
            "dtype": "float64",
            "device": "cpu",
            "source_digest": before,
            "created": now(),
        }
        recordings.append(Recorded(**common, versions=worker.versions, results=results))
    for recording in recordings:
        recording.write(paths.recorded(recording.side))
    return recordings


def find_cases(names: list[str]) -> list[Path]:
    """Case files by path or by the name of a case of the checkout; all of the checkout's where `names` is empty."""
    files = {file.stem: file for file in paths.case_files()}
    if not names:
        if not files:
            raise InputError(str(paths.cases()), expected="case files", found="none", hint="Run 'twingrad fixtures'.")
        return list(files.values())
    found = []
    for name in names:
        file = files.get(name, Path(name))
        if not file.is_file():
            hint = "The cases of the checkout are in shared_fixtures/cases."
            raise InputError(name, expected="a case file or the name of a case", found="neither", hint=hint)
        found.append(file)
    return found


def save(comparison: Comparison, file: Path) -> None:
    """Write a comparison as JSON, atomically."""
    make_folder(file.parent)
    with replacing(file) as temporary:
        temporary.write_text(json.dumps(comparison.as_json(), indent=1) + "\n", "utf-8")


def by_case(checks: list[Check]) -> Iterator[tuple[str, list[Check]]]:
    """The checks of each case, in the order of their first appearance."""
    groups: dict[str, list[Check]] = {}
    for check in checks:
        groups.setdefault(check.case, []).append(check)
    yield from groups.items()
