"""Planting mistakes: each in a worker of its own, whose results are held against the oracle and the other side."""

from __future__ import annotations

import hashlib
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import harness, paths
from ..comparator import Check, compare_case, read_bounds
from ..comparator.compare import part
from ..errors import InputError, Interrupted, SideError
from ..files import make_folder
from ..format import Recorded, Result, read_case
from ..format.result import now
from ..harness import INCOMPARABLE
from ..sides import is_available, side, sides, source_digest
from ..sides.locate_julia import HOW_TO_GET
from ..sides.worker_process import command_of
from .ask import ask
from .mutants import NO_MUTANT, Mutant, is_meant, read_mutants
from .saved import Defects, Planted, Status, read

REASON_CHARACTERS = 200
OnMutant = Callable[[str], None]
MakeWorker = Callable[..., Any]


@dataclass(frozen=True)
class Plan:
    """What is planted: of each side its mutants, those of other sides being what the recordings hold."""

    command: str
    mutants: dict[str, list[Mutant]]
    not_run: dict[str, str]
    recorded: dict[str, Recorded]

    def count(self) -> int:
        """How many workers are started in all."""
        return sum(len(several) + 1 for several in self.mutants.values())


def make_plan(names: Sequence[str], command: str, *, quick: bool = False, only: str = "") -> Plan:
    """The mutants of the named sides; the quick ones alone, or those whose name has `only` in it.

    Raises InputError where the tables are wrong, a recording is stale, or nothing is meant.
    """
    there = [name for name in names if is_available(name)]
    if not there:
        expected = "a side that is on this machine"
        raise InputError("sides", expected=expected, found=", ".join(names), hint=HOW_TO_GET)
    not_run = {name: f"not on this machine. {HOW_TO_GET}" for name in names if name not in there}
    chosen = {}
    for name in there:
        several = [one for one in read_mutants(side(name)) if only in one.name and (one.quick or not quick)]
        if several:
            chosen[name] = several
    if not chosen:
        raise InputError("mutants", expected="one that is meant", found=f"none for {only!r} on {', '.join(names)}")
    recorded, stale = harness.read_recordings()
    if stale:
        raise InputError("recordings", expected="those of the present sources", found=stale[0])
    return Plan(command, chosen, not_run, recorded)


def audit(plan: Plan, out: Path, make_worker: MakeWorker, jobs: int, on_mutant: OnMutant = lambda _: None) -> Defects:
    """Plant everything that is not in the file `out` already, saving after each; returns what it then holds.

    Args:
        plan: what is planted.
        out: the saved file; what it holds of other sources or mutants is planted again.
        make_worker: makes a side's worker, as `sides.Worker` does, of name and `command`.
        jobs: how many workers at a time.
        on_mutant: called with the name of each mutant when it is done.

    Raises InputError where `out` cannot be read or written, Interrupted at Ctrl-C; the file holds what was done.
    """
    found = _resumed(out, plan)
    make_folder(out.parent)
    found.write(out)
    observer = _Observer(make_worker, plan.recorded)
    with ThreadPoolExecutor(jobs) as pool:
        controls = {
            pool.submit(observer.control, name, _cases(several)): name
            for name, several in plan.mutants.items()
            if name not in found.controls
        }
        waiting = {
            pool.submit(observer.plant, name, mutant): mutant.name
            for name, several in plan.mutants.items()
            for mutant in _missing(found, name, several)
        }
        try:
            for control in as_completed(controls):
                found.controls[controls[control]] = control.result()
                found.write(out)
                on_mutant(f"{controls[control]} without a mistake")
            for future in as_completed(waiting):
                found.planted.append(future.result())
                found.write(out)
                on_mutant(waiting[future])
            for name, several in plan.mutants.items():
                found.controls[name] += observer.control_again(name, _cases(several))
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise Interrupted from None
        finally:
            observer.stop()
    order = {
        (name, mutant.name): place for name, several in plan.mutants.items() for place, mutant in enumerate(several)
    }
    found.planted.sort(key=lambda one: (list(plan.mutants).index(one.side), order[one.side, one.name]))
    found.sides, found.complete = observer.versions, True
    found.write(out)
    return found


class _Observer:
    """Starts mutated workers and sees what the comparator says of their results."""

    def __init__(self, make_worker: MakeWorker, recorded: Mapping[str, Recorded]) -> None:
        self.make_worker, self.recorded = make_worker, recorded
        self.bounds = read_bounds(paths.shared_fixtures() / "bounds.toml")
        self.versions: dict[str, dict[str, Any]] = {}
        self._working: set[Any] = set()
        self._replanted: list[tuple[str, Any]] = []
        self._of_thread = threading.local()

    def plant(self, name: str, mutant: Mutant) -> Planted:
        """What becomes of a mutant on the side `name`."""
        meant = mutant.caught_by

        def fate(status: Status, **fields: Any) -> Planted:
            about = {field: getattr(mutant, field) for field in ("name", "digest", "topic", "mistake")}
            about |= {"side": name, "check": meant.check, "array": meant.array}
            return Planted(**{**about, "status": status, **fields})

        try:
            steps = harness.STEPS if meant.check == "steps" else 0
            checks = self._checks(name, mutant.name, mutant.cases, steps)
        except (InputError, SideError) as error:
            return fate("failed", message=str(error)[:REASON_CHARACTERS])
        wrong = [check for check in checks if not check.passed]
        as_meant = [check for check in wrong if is_meant(meant, check)]
        if not as_meant:
            others = sorted({f"{check.check} {check.array} ({_text(check.error)})" for check in wrong})
            return fate("elsewhere" if others else "missed", message=", ".join(others)[:REASON_CHARACTERS])
        worst = max(as_meant, key=lambda check: check.error)
        reached = min(worst.error, INCOMPARABLE)
        return fate("caught", array=worst.array, case=worst.case, error=reached, bound=worst.bound)

    def control(self, name: str, cases: Iterable[str]) -> list[str]:
        """What fails in a worker of the side that has no mistake in it."""
        try:
            checks = self._checks(name, NO_MUTANT, cases, harness.STEPS)
        except (InputError, SideError) as error:
            return [str(error)[:REASON_CHARACTERS]]
        return [f"{check.case}, {check.array}: {check.message}" for check in checks if not check.passed]

    def control_again(self, name: str, cases: Sequence[str]) -> list[str]:
        """The same in every worker of the side in which mistakes were planted and taken out again."""
        failed: list[str] = []
        for kept, worker in tuple(self._replanted):
            if kept == name:
                self._of_thread.__dict__[name] = worker
                failed += self.control(name, cases)
        return failed

    def stop(self) -> None:
        """End all workers at once."""
        for worker in tuple(self._working):
            worker.close(at_once=True)

    def _checks(self, name: str, mutant: str, cases: Iterable[str], steps: int) -> list[Check]:
        """All checks of the cases with the results of a mutated worker and the recorded ones of the other sides."""
        checks: list[Check] = []
        with self._worker(name, mutant) as worker, tempfile.TemporaryDirectory(prefix="twingrad-audit-") as folder:
            self.versions[name] = dict(worker.versions)
            for case_name in cases:
                file, out = paths.cases() / f"{case_name}.h5", Path(folder) / f"{case_name}.h5"
                result = ask(worker, file, out, "float64", steps)
                results = {other: self._recorded(other, case_name, steps) for other in self.recorded}
                checks += compare_case(read_case(file), results | {name: result}, self.bounds)
        return [check for check in checks if name in (check.left.split()[0], check.right.split()[0])]

    @contextmanager
    def _worker(self, name: str, mutant: str) -> Iterator[Any]:
        """A worker of the side with the mistake in it: a new one, or this thread's, which stays, where it replants."""
        if side(name).replants:
            kept = self._of_thread.__dict__
            if name not in kept:
                kept[name] = self.make_worker(name, command=command_of(side(name), mutated=NO_MUTANT))
                self._working.add(kept[name])
                self._replanted.append((name, kept[name]))
            kept[name].request("plant", {"mutant": mutant})
            yield kept[name]
            return
        with self.make_worker(name, command=command_of(side(name), mutated=mutant)) as worker:
            self._working.add(worker)
            yield worker
        self._working.discard(worker)

    def _recorded(self, side: str, case: str, steps: int) -> Result:
        """A side's recorded result of a case, without training steps where none are asked for."""
        found = self.recorded[side].results[case]
        return found if steps else replace(found, arrays=part(found.arrays, in_steps=False))


def _text(error: float) -> str:
    return f"{error:.0e}" if error < INCOMPARABLE else "not comparable"


def _cases(mutants: Sequence[Mutant]) -> list[str]:
    return list(dict.fromkeys(case for mutant in mutants for case in mutant.cases))


def _missing(found: Defects, name: str, mutants: Sequence[Mutant]) -> list[Mutant]:
    done = {(one.side, one.digest) for one in found.planted}
    return [mutant for mutant in mutants if (name, mutant.digest) not in done]


def _resumed(out: Path, plan: Plan) -> Defects:
    """What the file holds of this plan's mutants; nothing where there is no file, or one of other sources."""
    fresh = Defects(created=now(), command=plan.command, digest=_digest(), not_run=plan.not_run)
    if not out.exists():
        return fresh
    saved = read(Defects, out)
    if saved.digest != fresh.digest:
        return fresh
    wanted = {(name, mutant.digest) for name, several in plan.mutants.items() for mutant in several}
    fresh.planted = [one for one in saved.planted if (one.side, one.digest) in wanted and one.status != "failed"]
    return fresh


def _digest() -> str:
    """SHA-256 over the sources of all sides and the cases."""
    sha = hashlib.sha256()
    for one in sides().values():
        sha.update(source_digest(one, {}).encode())
    for file in paths.case_files():
        sha.update(hashlib.sha256(file.read_bytes()).digest())
    return sha.hexdigest()
