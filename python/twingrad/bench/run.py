"""A benchmark run: sides visited in turn, round after round, every answer saved at once.

What is timed, and how, is in `docs/benchmarks.md`; the sides' part of it in `measure.py` and `julia/src/bench/`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError, Interrupted, SideError
from ..files import make_folder
from ..format.result import now
from ..sides import is_available, side, source_digest
from ..sides.locate_julia import HOW_TO_GET
from ..validation import validate
from .cases import write_arrays
from .machine import this_machine
from .saved import OWN, Bench, Measured, NotRun, Visit, Work, read_bench
from .summary import TAKEN_OUT
from .workloads import Choice, Profile, Workload, ceilings, read_table, workloads

SILENCE_SECONDS = 900.0
"""How long a side may be silent at a visit: the first call may compile for minutes."""
ANOTHER_OUT = "Choose another --out, or remove the file."
REASON_CHARACTERS = 2000

OnVisit = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """What a run is asked for; each of `threads` is a number of threads of both sides alike."""

    choice: Choice
    sides: tuple[str, ...]
    threads: tuple[int, ...]
    rounds: int

    def command(self) -> str:
        """The command that asks for the same."""
        choice = self.choice
        parts = ["twingrad bench"]
        parts += ["--quick"] if choice.profile == "quick" else []
        parts += ["--peers"] if choice.peers else []
        parts += [f"--sides {','.join(self.sides)}", f"--threads {','.join(map(str, self.threads))}"]
        parts += [f"--device {choice.device}", f"--dtype {','.join(choice.dtypes)}", f"--rounds {self.rounds}"]
        return " ".join([*parts, *(f"--only '{pattern}'" for pattern in choice.only)])


@dataclass(frozen=True)
class Plan:
    """The workloads of a run, ceilings first, and how long each is visited."""

    settings: Settings
    profile: Profile
    ceilings: list[Workload]
    workloads: list[Workload]

    def at(self, threads: int) -> list[Workload]:
        """What is timed by so many threads: what is only the point of a plot, by the first number alone."""
        first = threads == self.settings.threads[0]
        return [*self.ceilings, *(one for one in self.workloads if first or one.every_thread_count)]

    def turns(self, workload: Workload, number: int) -> list[tuple[str, str]]:
        """Whose turn it is in a round, (side, implementation): the project's own first; backwards in odd rounds."""
        own = [(name, OWN) for name in self.settings.sides]
        peers = [(name, peer) for name in self.settings.sides for peer in workload.peers.get(name, [])]
        return [*own, *peers][:: -1 if number % 2 else 1]

    def visits(self) -> int:
        """How many visits there are in all."""
        counts = (len(self.turns(one, 0)) for threads in self.settings.threads for one in self.at(threads))
        return self.settings.rounds * sum(counts)


def make_plan(settings: Settings) -> Plan:
    """The plan of a run; raises InputError where no workload is meant."""
    table, choice = read_table(), settings.choice
    profile = table.profiles[choice.profile]
    return Plan(settings, profile, ceilings(profile, choice), workloads(table, choice))


def run(plan: Plan, out: Path, make_worker: Callable[..., Any], on_visit: OnVisit = lambda _: None) -> Bench:
    """Time everything that is not in the file `out` already, saving after each visit; returns what it then holds.

    Args:
        plan: what is timed.
        out: the saved file, of the same command on the same machine where it is there.
        make_worker: makes a side's worker, as `sides.Worker` does, of name, `threads`, `silence_seconds`, `without`.
        on_visit: called with the workload's label before each visit, those that are there already included.

    Raises:
        InputError: `out` holds another run, or none of the sides can be had.
        Interrupted: at Ctrl-C; the file holds all visits so far.
    """
    bench = _resumed(out, _fresh(plan))
    absent = [name for name in plan.settings.sides if not is_available(name)]
    bench.not_run = [NotRun(workload=None, side=name, reason=f"not on this machine. {HOW_TO_GET}") for name in absent]
    if len(absent) == len(plan.settings.sides):
        raise InputError("sides", expected="a side that is on this machine", found=", ".join(absent), hint=HOW_TO_GET)
    make_folder(out.parent)
    bench.write(out)  # so that a place that cannot be written to is told before anything is timed
    try:
        with tempfile.TemporaryDirectory(prefix="twingrad-bench-") as folder:
            for threads in plan.settings.threads:
                with _Pass(plan, bench, out, threads, Path(folder), make_worker, absent) as one:
                    one.run(on_visit)
    except KeyboardInterrupt:
        raise Interrupted from None
    bench.complete = True
    bench.write(out)
    return bench


@dataclass
class _Pass:
    """All rounds with one number of threads."""

    plan: Plan
    bench: Bench
    out: Path
    threads: int
    folder: Path
    make_worker: Callable[..., Any]
    absent: list[str]
    workers: dict[str, Any] = field(default_factory=dict)
    failed: set[tuple[str, ...]] = field(default_factory=set)

    def __enter__(self) -> _Pass:
        self._stack = ExitStack()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, on_visit: OnVisit) -> None:
        """Visit everything, a round after the other."""
        for number, workload, (name, implementation) in self._turns():
            on_visit(workload.label)
            measured = self._measured(workload)
            done = any(visit.round == number for visit in measured.of(name, implementation))
            if not done and name not in self.absent:
                self._visit(workload, measured, number, name, implementation)

    def _turns(self) -> Iterator[tuple[int, Workload, tuple[str, str]]]:
        for number in range(self.plan.settings.rounds):
            for workload in self.plan.at(self.threads):
                for turn in self.plan.turns(workload, number):
                    yield number, workload, turn

    def _measured(self, workload: Workload) -> Measured:
        """The workload's entry in the file, made if it is not there."""
        described = workload.described
        entries = self.bench.ceilings if described.kind == "ceiling" else self.bench.workloads
        new = Measured(**described.model_dump(), threads=self.threads)
        for entry in entries:
            if entry.key == new.key:
                return entry
        entries.append(new)
        return new

    def _visit(self, workload: Workload, measured: Measured, number: int, name: str, implementation: str) -> None:
        place = (*map(str, measured.key), name, implementation)
        if place in self.failed:
            return
        worker = self._worker(name)
        if worker is None:
            return
        described, profile = workload.described, self.plan.profile
        arrays = write_arrays(described, described.sizes, self.folder)
        work = {key: getattr(described, key) for key in Work.model_fields}
        arguments = {
            "workload": {**work, "implementation": implementation},
            "arrays": None if arrays is None else str(arrays),
            **{"seconds": profile.seconds, "samples": profile.samples},
            "first": not measured.of(name, implementation),
        }
        try:
            reply = worker.request("bench", arguments)
            answered = {"side": name, "implementation": implementation, "round": number, **reply}
            measured.visits.append(validate(Visit, answered, f"side {name}, the answer to 'bench'"))
        except (InputError, SideError) as error:
            self.failed.add(place)
            fields = {"workload": described.name, "dtype": described.dtype, "implementation": implementation}
            self._not_run(name, str(error), **fields)
        self.bench.write(self.out)

    def _worker(self, name: str) -> Any:
        """The side's worker, started; None where it does not start."""
        if name not in self.workers:
            options = {"threads": self.threads, "silence_seconds": SILENCE_SECONDS, "without": TAKEN_OUT}
            worker = self._stack.enter_context(self.make_worker(name, **options))
            try:
                self._check_versions(name, dict(worker.versions))
            except SideError as error:
                self._not_run(name, str(error))
                worker = None
            self.workers[name] = worker
        return self.workers[name]

    def _check_versions(self, name: str, versions: dict[str, Any]) -> None:
        """Refuse a side of other versions than the file's, or of another number of threads than was asked for."""
        if (found := versions.pop("threads", self.threads)) != self.threads:
            raise SideError(f"side {name}: {self.threads} threads were asked for, it works with {found}")
        versions["source_digest"] = source_digest(side(name), {})
        saved = self.bench.sides.setdefault(name, versions)
        for key in sorted(saved.keys() | versions.keys()):
            if saved.get(key) != versions.get(key):
                where, expected = f"{self.out}, sides, {name}, {key}", repr(versions.get(key))
                raise InputError(where, expected=expected, found=repr(saved.get(key)), hint=ANOTHER_OUT)

    def _not_run(self, name: str, reason: str, **fields: Any) -> None:
        self.bench.not_run.append(
            NotRun(**{"workload": None, **fields}, side=name, threads=self.threads, reason=reason[:REASON_CHARACTERS])
        )


def _fresh(plan: Plan) -> Bench:
    settings = plan.settings
    return Bench(
        created=now(),
        command=settings.command(),
        profile=settings.choice.profile,
        rounds=settings.rounds,
        machine=this_machine(),
        sides={},
        threads=list(settings.threads),
    )


def _resumed(out: Path, fresh: Bench) -> Bench:
    """What the file holds, if it is of the same command on the same machine; `fresh` where there is no file."""
    if not out.exists():
        return fresh
    saved = read_bench(out)
    if not saved.machine.same(fresh.machine):
        expected, found = (
            f"{one.processor}, {one.cores} cores, {one.system}" for one in (fresh.machine, saved.machine)
        )
        raise InputError(f"{out}, machine", expected=expected, found=found, hint=ANOTHER_OUT)
    if saved.command != fresh.command:
        raise InputError(f"{out}, command", expected=fresh.command, found=saved.command, hint=ANOTHER_OUT)
    saved.machine.load_before = max(saved.machine.load_before, fresh.machine.load_before)
    saved.complete = False
    return saved
