"""The experiments of Benning, Celledoni, Ehrhardt, Owren and Schönlieb at their sizes, by both sides.

Source: "Deep learning as optimal control problems: models and numerical methods", J. Comput. Dyn. 6(2), 2019.
docs/paper.md says where the sizes come from, and what differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from ..data.planar import DATASETS
from ..errors import InputError, SideError, one_of
from ..files import make_folder
from ..format import Training, hdf5, read_training
from ..format.result import now
from ..sides import Worker, is_available, side
from ..specs import Array
from ..specs.control_net import Method, Network
from ..training.settings import ControlSettings, control_settings

DOCUMENT_FORMAT = "twingrad-paper"

CURVE_POINTS = 120
"""A curve has at most so many points, evenly spaced on a logarithmic axis."""
SHOWN_SAMPLES = 80
"""So many test samples are shown on their way through the layers, the first ones."""
GRID_STRIDE = 2
"""Every second point of a training file's grid of predictions is kept."""
MEASURED = ("iteration", "objective", "objective_test", "accuracy_train", "accuracy_test")
"""What is told of the end of a training."""
APART = 1e-6
"""The sides have parted where their objectives differ by more than this, relatively."""


@dataclass(frozen=True)
class Part:
    """A part of the paper's experiments.

    Args:
        varied: the setting that the part compares, "network" or "method".
        names: its values.
        settings: what all trainings of the part have in common.
        iterations: descent steps, by data set.
    """

    varied: Literal["network", "method"]
    names: tuple[str, ...]
    settings: Mapping[str, Any]
    iterations: Mapping[str, int]


PARTS = {
    "networks": Part(
        varied="network",
        names=get_args(Network),
        settings={"method": "euler", "layers": 20, "samples": 500, "samples_test": 500},
        iterations={"donut1d": 5000, "donut2d": 8000, "squares2d": 8000, "spiral2d": 20000},
    ),
    "methods": Part(
        varied="method",
        names=get_args(Method),
        settings={"network": "resnet", "layers": 15, "dt": 0.1, "samples": 1000, "samples_test": 1000},
        iterations=dict.fromkeys(DATASETS, 10_000),
    ),
}


@dataclass(frozen=True)
class Run:
    """One training, to be done by each side."""

    part: str
    dataset: str
    name: str
    """The network or the method, whichever the part compares."""
    seed: int
    iterations: int
    freeze: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where its training files are, below the folder of all trainings."""
        return Path(self.part) / f"{self.dataset}-{self.name}-{self.seed}"

    @property
    def settings(self) -> ControlSettings:
        """The settings of its training."""
        part = PARTS[self.part]
        own = {"dataset": self.dataset, part.varied: self.name, "seed": self.seed, "freeze": self.freeze}
        return control_settings({**part.settings, **own})


def runs(
    parts: Sequence[str],
    seeds: Sequence[int],
    *,
    datasets: Sequence[str] = (),
    names: Mapping[str, Sequence[str]] | None = None,
    scale: float = 1.0,
    freeze: Sequence[str] = (),
) -> list[Run]:
    """The trainings, seed after seed.

    Args:
        parts: names in `PARTS`.
        seeds: each of them trains everything once.
        datasets: which data sets; all of them where there is none.
        names: by part, which networks or methods; all of them where there is none.
        scale: the iterations are the paper's times this, at least 1.
        freeze: parameters that no training changes.

    Raises InputError for an unknown name, and where nothing is left to train.
    """
    chosen: dict[str, Sequence[str]] = {}
    for part in parts:
        one = PARTS[part]
        chosen[part] = _known((names or {}).get(part, ()), one.names, f"--{one.varied}s")
    wanted = _known(datasets, DATASETS, "--datasets")
    if not seeds:
        raise InputError("--seeds", expected="at least one seed", found="none")
    return [
        Run(part, dataset, name, seed, max(round(scale * PARTS[part].iterations[dataset]), 1), tuple(freeze))
        for seed in dict.fromkeys(seeds)
        for part in parts
        for dataset in wanted
        for name in chosen[part]
    ]


def _known(given: Sequence[str], known: Iterable[str], option: str) -> list[str]:
    """The given names in the order of the known ones; all of these where none is given."""
    for name in given:
        if name not in known:
            raise InputError(option, expected=one_of(known), found=repr(name))
    return [name for name in known if name in given or not given]


def train(
    chosen: Sequence[Run],
    names: Sequence[str],
    out: Path,
    *,
    threads: int,
    silence_seconds: float,
    on_progress: Callable[[str, Run, Mapping[str, Any]], None] = lambda *_: None,
) -> dict[str, str]:
    """Train on the sides, one after another; trainings that are there already are gone on from.

    Args:
        chosen: what to train.
        names: names of the table of sides.
        out: the folder; each training is in OUT/PART/NAME/SIDE.h5.
        threads, silence_seconds: see `Worker`.
        on_progress: told the side, the run, and how far its training is.

    Returns:
        For each side that did not run the reason. Raises InputError for a bad request.
    """
    all_settings = {run: run.settings.as_json() for run in chosen}
    not_run = {}
    for name in names:
        if not is_available(name):
            not_run[name] = "it cannot be had on this machine; 'twingrad doctor' says why"
            continue
        try:
            with Worker(name, threads=threads, silence_seconds=silence_seconds) as worker:
                for run, settings in all_settings.items():
                    file = make_folder(out / run.folder).resolve() / f"{name}.h5"
                    request = {"settings": settings, "iterations": run.iterations, "out": str(file)}
                    worker.request("train-control", request, partial(on_progress, name, run))
        except SideError as error:
            not_run[name] = str(error)
    return not_run


def document(
    part: str, chosen: Sequence[Run], names: Sequence[str], out: Path, not_run: Mapping[str, str], command: str
) -> dict[str, Any]:
    """What the trainings of a part in `out` show, for the JSON file, the tables and the figures; of the sides that ran.

    Args:
        part: a name in `PARTS`.
        chosen: what was trained; runs of other parts are left out.
        names, out, not_run: as `train` took and gave them.
        command: the command line.
    """
    ran = [name for name in names if name not in not_run]
    if not ran:
        raise SideError("; ".join(f"side {name}: {reason}" for name, reason in not_run.items()))
    chosen = [run for run in chosen if run.part == part]
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in ran}
    versions: dict[str, Mapping[str, Any]] = {}
    pairs = []
    for run in chosen:
        trained = {name: read_training(out / run.folder / f"{name}.h5") for name in ran}
        for name, training in trained.items():
            versions[name] = training.versions
            results[name].append(_result(run, training, with_picture=run.seed == chosen[0].seed))
        pairs += [_pair(run, trained[a], trained[b]) for a, b in combinations(ran, 2)]
    iterations = {run.dataset: run.iterations for run in chosen}
    return {
        "format": DOCUMENT_FORMAT,
        "format_version": hdf5.FORMAT_VERSION,
        "created": now(),
        "command": command,
        "part": part,
        "varied": PARTS[part].varied,
        "names": list(dict.fromkeys(run.name for run in chosen)),
        "seeds": list(dict.fromkeys(run.seed for run in chosen)),
        "settings": {**PARTS[part].settings, "freeze": list(chosen[0].freeze)},
        "iterations": iterations,
        "curve": {dataset: curve_iterations(last) for dataset, last in iterations.items()},
        "apart": APART,
        "sides": {
            name: {
                "title": side(name).title,
                "versions": dict(versions[name]),
                "runs": results[name],
                "summary": summary(results[name]),
            }
            for name in ran
        },
        "pairs": pairs,
        "not_run": dict(not_run),
    }


def curve_iterations(iterations: int) -> list[int]:
    """The iterations 0 to `iterations` at which a curve is given, evenly spaced for i + 1 on a logarithmic axis."""
    places = np.geomspace(1, iterations + 1, CURVE_POINTS)
    return [int(place) for place in np.unique(np.rint(places).astype(int) - 1)]


def summary(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each data set and network or method, what its seeds have in common: statistics of each of `MEASURED`."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for result in results:
        found.setdefault((result["dataset"], result["name"]), []).append(result)
    return [
        {
            "dataset": dataset,
            "name": name,
            **{what: statistics([one[what] for one in several]) for what in MEASURED},
        }
        for (dataset, name), several in found.items()
    ]


def statistics(values: Sequence[float]) -> dict[str, float | None]:
    """Mean, standard deviation (of a sample, with n - 1; None of a single value), least and greatest value."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "deviation": deviation, "least": min(values), "greatest": max(values)}


def _result(run: Run, training: Training, *, with_picture: bool) -> dict[str, Any]:
    history, places = training.history, np.array(curve_iterations(run.iterations))
    evaluated = np.searchsorted(history["evaluated"], places, side="right") - 1
    result = {
        **{"dataset": run.dataset, "name": run.name, "seed": run.seed, "status": training.status},
        "iteration": training.iteration,
        **{what: float(history[what][-1]) for what in MEASURED if what != "iteration"},
        "dt": training.params["dt"].tolist(),
        # A training that has converged stays where it is.
        "objectives": history["objective"][np.minimum(places, training.iteration)].tolist(),
        "accuracies": history["accuracy_test"][evaluated].tolist(),
    }
    return {**result, "picture": _picture(training)} if with_picture else result


def _picture(training: Training) -> dict[str, Any]:
    """What the figures of decision regions and of flows show, rounded to what can be seen."""
    picture, params = training.picture, training.params
    return {
        "labels": picture["c"][:SHOWN_SAMPLES].astype(int).tolist(),
        "states": _rounded(picture["trajectories"][:, :SHOWN_SAMPLES], 4),  # (N + 1, samples, 2)
        "normal": params["W"][0].tolist(),
        "offset": float(params["mu"][0]),
        "grid_axis": _rounded(picture["grid_axis"][::GRID_STRIDE], 6),
        "grid_prediction": _rounded(picture["grid_prediction"][::GRID_STRIDE, ::GRID_STRIDE], 3),
    }


def _rounded(array: Array, digits: int) -> Any:
    return np.round(array, digits).tolist()


def _pair(run: Run, one: Training, other: Training) -> dict[str, Any]:
    """How two sides that start from the same numbers part.

    `first_objective`, `largest_objective` and `last_objective` are relative differences of their objectives on the
    training data: before the first step, the largest after any, and at the end; `apart_at` is the first iteration
    with one above `APART` (None: there is none); `accuracy_test` the first side's last accuracy on test data less the
    other's.
    """
    steps = min(one.iteration, other.iteration) + 1
    a, b = one.history["objective"][:steps], other.history["objective"][:steps]
    differences = np.abs(a - b) / np.where(b == 0.0, 1.0, np.abs(b))
    apart = np.flatnonzero(differences > APART)
    last_accuracies = (training.history["accuracy_test"][-1] for training in (one, other))
    return {
        "sides": [one.side, other.side],
        **{"dataset": run.dataset, "name": run.name, "seed": run.seed},
        "first_objective": float(differences[0]),
        "largest_objective": float(differences.max()),
        "last_objective": float(differences[-1]),
        "apart_at": int(apart[0]) if apart.size else None,
        "accuracy_test": float(next(last_accuracies) - next(last_accuracies)),
    }
