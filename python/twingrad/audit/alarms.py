"""False alarms: fresh random cases on all sides, live; a comparison that can be trusted fails none of them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import engine, harness, paths
from ..comparator import CHECKS, Check, compare_case, read_bounds, relative_error
from ..errors import InputError, SideError
from ..files import make_folder
from ..fixtures.generate import evaluated
from ..fixtures.random_recipes import FIRST_SEED, SEEDS_PER_AUDIT, random_case
from ..format import Case, Result
from ..format.result import now
from ..harness import INCOMPARABLE
from ..sides import is_available, side, sides, source_digest
from ..specs import Arrays
from .ask import ask
from .saved import Alarm, Alarms, read

PERTURBED = 4
"""How often the rounding of a case that fails is simulated."""
STABLE = 10.0
"""An array that rounding moves by this part of its bound cannot be held to it: what is simulated is one rounding of
each layer, and a calculation has more."""
FAILED = "false-alarms"

OnCase = Callable[[str], None]


def audit(count: int, seed: int, command: str, out: Path, make_worker: Callable[..., Any], on_case: OnCase) -> Alarms:
    """Compare `count` random cases that are not in the file `out` already, saving each; returns what it then holds.

    Args:
        count: how many cases there are in all.
        seed: chooses them; other seeds draw other ones.
        command: the command that asks for it.
        out: the saved file. Beside it, in `false-alarms/`, the files of cases that failed.
        make_worker: makes a side's worker, as `sides.Worker` does, of its name.
        on_case: called with each case's name when it is done, those that are there already included.

    Raises InputError where a side is not on this machine, or `out` cannot be read or written.
    """
    if absent := [name for name in sides() if not is_available(name)]:
        raise InputError("false alarms", expected="every side live", found=f"no {', '.join(absent)} on this machine")
    if count > SEEDS_PER_AUDIT:
        raise InputError("--false-alarms", expected=f"at most {SEEDS_PER_AUDIT}", found=str(count))
    found = _resumed(out, seed, command)
    make_folder(out.parent)
    found.write(out)
    first = FIRST_SEED + SEEDS_PER_AUDIT * seed
    done = {one.seed for one in found.cases}
    with ExitStack() as stack:
        workers = {name: stack.enter_context(make_worker(name)) for name in sides()}
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="twingrad-audit-")))
        pool = stack.enter_context(ThreadPoolExecutor(len(workers)))
        for drawn in range(first, first + count):
            case = random_case(drawn)
            if drawn not in done:
                found.cases.append(_Fresh(case, workers, folder, pool).compared(out.parent / FAILED))
                found.write(out)
            on_case(case.model)
        found.sides = {name: dict(worker.versions) for name, worker in workers.items()}
    found.complete = True
    found.write(out)
    return found


class _Fresh:
    """A random case on its way through all sides."""

    def __init__(self, case: Case, workers: Mapping[str, Any], folder: Path, pool: ThreadPoolExecutor) -> None:
        self.case = evaluated(case)
        self.workers, self.folder, self.pool = workers, folder, pool
        self.file = folder / "case.h5"
        self.bounds = read_bounds(paths.shared_fixtures() / "bounds.toml")

    def compared(self, keep: Path) -> Alarm:
        """What the comparator says of it; the file of a case that fails is put into the folder `keep`."""
        self.case.write(self.file)
        checks: list[Check] = []
        failures: list[str] = []
        for dtype in harness.DTYPES:
            try:
                checks += compare_case(self.case, self._results(dtype), self.bounds)
            except (InputError, SideError) as error:
                failures.append(f"{dtype}: {error}")
        wrong = [check for check in checks if not check.passed]
        moved = {dtype: self._moved(dtype) for dtype in dict.fromkeys(check.dtype for check in wrong)}
        unstable = [check for check in wrong if moved[check.dtype].get(check.array, 0.0) > check.bound / STABLE]
        failures += [_text(check) for check in wrong if check not in unstable]
        worst: dict[str, float] = {}
        for check in checks:
            if check not in unstable:
                kind = f"{check.dtype} {check.check}"
                worst[kind] = max(worst.get(kind, 0.0), min(check.error, INCOMPARABLE))
        if failures:
            self.case.write(make_folder(keep) / f"{self.case.name}.h5")
        return Alarm(
            name=self.case.name,
            model=self.case.model,
            seed=self.case.seed or 0,
            checks=len(checks),
            worst=worst,
            failures=failures,
            unstable=[_text(check) for check in unstable],
        )

    def _results(self, dtype: str) -> dict[str, Result]:
        """The results of all sides, which work at the same time; training steps are compared in float64 only."""
        steps = harness.STEPS if dtype == "float64" else 0
        asked = {
            name: self.pool.submit(ask, worker, self.file, self.folder / f"{name}.h5", dtype, steps)
            for name, worker in self.workers.items()
        }
        return {name: future.result() for name, future in asked.items()}

    def _moved(self, dtype: str) -> dict[str, float]:
        """How far each array moves, relatively, when everything that is computed is off by a rounding of the dtype.

        What moves by about the bound no calculation in that dtype can be held to: the case lies at a kink of relu, or
        the array is a small difference of large numbers, or training amplifies.
        """
        steps = harness.STEPS if dtype == "float64" else 0
        of = (self.case.model, self.case.config, self.case.groups)
        exact, found = engine.evaluate(*of, steps=steps), dict[str, float]()
        for draw in range(PERTURBED):
            with _rounding(float(np.finfo(dtype).eps), self.case.seed or 0, draw):
                groups = {name: _perturbed(arrays, dtype, draw) for name, arrays in self.case.groups.items()}
                rounded = engine.evaluate(self.case.model, self.case.config, groups, steps=steps)
            for path, array in exact.items():
                found[path] = max(found.get(path, 0.0), relative_error(rounded[path], array))
        return found


@contextmanager
def _rounding(eps: float, seed: int, draw: int) -> Iterator[None]:
    """What each layer of torch's gives is off by `eps` at random, relatively."""
    random = torch.Generator().manual_seed(seed + draw)

    def disturb(module: torch.nn.Module, inputs: Any, output: Any) -> Any:
        if any(module.children()) or not isinstance(output, torch.Tensor):
            return output
        return output * (1.0 + eps * torch.randn(output.shape, generator=random, dtype=output.dtype))

    handle = torch.nn.modules.module.register_module_forward_hook(disturb)
    try:
        yield
    finally:
        handle.remove()


def _perturbed(arrays: Arrays, dtype: str, draw: int) -> Arrays:
    """Floating-point arrays, off by a rounding of the dtype."""
    eps, random = float(np.finfo(dtype).eps), np.random.default_rng(draw)
    return {
        name: array * (1.0 + eps * random.standard_normal(array.shape)) if array.dtype.kind == "f" else array
        for name, array in arrays.items()
    }


def _text(check: Check) -> str:
    return f"{check.dtype}, {check.left} against {check.right}, {check.array}: {check.message}"


def _resumed(out: Path, seed: int, command: str) -> Alarms:
    """What the file holds of the same seed and sources; nothing where there is none, or another one."""
    bounds = read_bounds(paths.shared_fixtures() / "bounds.toml")
    kinds = [(dtype, check) for dtype in harness.DTYPES for check in CHECKS]
    known = {f"{dtype} {check}": bound for dtype, check in kinds if (bound := bounds.of(dtype, check)) is not None}
    digest = " ".join(source_digest(side(name), {}) for name in sides())
    fresh = Alarms(created=now(), command=command, digest=digest, seed=seed, bounds=known)
    if out.exists():
        saved = read(Alarms, out)
        if (saved.digest, saved.seed, saved.bounds) == (fresh.digest, seed, fresh.bounds):
            fresh.cases = saved.cases
    return fresh
