"""The saved numbers of experiments: what the report reads of their JSON files."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, product
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..errors import InputError
from ..files import read_json
from ..validation import validate


class _Entries(BaseModel):
    """The entries that tables and figures need; a file has more."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, allow_inf_nan=False)


class _Measured(_Entries):
    """What all experiments say of themselves."""

    format_version: Literal[1]
    created: str
    command: str
    not_run: dict[str, str]


class _Side(_Entries):
    title: str
    versions: dict[str, Any]


class Curve(_Entries):
    """The errors on each grid, the order that was fitted to them, and the places of the fitted ones."""

    errors: list[float]
    order: float | None
    fitted: list[int]


class _OrdersSide(_Side):
    methods: dict[str, dict[Literal["state", "gradient"], Curve]]


class _Flow(_Entries):
    points: int


class Orders(_Measured):
    """Orders of convergence."""

    format: Literal["twingrad-orders"]
    title: str
    flow: _Flow
    layers: int
    steps: list[int]
    expected: dict[str, int]
    sides: dict[str, _OrdersSide]


class Network(_Entries):
    """A network that was trained."""

    depth: int
    residual: bool
    seed: int
    training_loss: float
    losses: list[float]


class _DegradationSide(_Side):
    networks: list[Network]


class _DegradationSettings(_Entries):
    width: int
    batch: int
    iterations: int


class _DegradationImages(_Entries):
    name: str


class Degradation(_Measured):
    """Plain and residual networks of several depths."""

    format: Literal["twingrad-degradation"]
    images: _DegradationImages
    settings: _DegradationSettings
    sides: dict[str, _DegradationSide]


class _AttackSide(_Side):
    accuracies: list[float]


class Attack(_Measured):
    """Accuracies under an attack."""

    format: Literal["twingrad-attack"]
    dtype: str
    model: str
    data: str
    kind: Literal["images", "planar"]
    epsilons: list[float]
    labels: list[int]
    classified_differently: list[int]
    sides: dict[str, _AttackSide]


class Statistics(_Entries):
    """What the seeds have in common; the standard deviation of a single one is None."""

    mean: float
    deviation: float | None
    least: float
    greatest: float


class Summary(_Entries):
    """The end of the trainings of a network or method on a data set."""

    dataset: str
    name: str
    iteration: Statistics
    objective: Statistics
    objective_test: Statistics
    accuracy_train: Statistics
    accuracy_test: Statistics


Two = Annotated[list[float], Field(min_length=2, max_length=2)]


class _PaperPicture(_Entries):
    labels: list[Literal[0, 1]] = Field(min_length=1)
    states: list[list[Two]] = Field(min_length=1)
    normal: Two
    offset: float
    grid_axis: list[float] = Field(min_length=2)
    grid_prediction: list[list[float]]

    @model_validator(mode="after")
    def _fits(self) -> _PaperPicture:
        if any(len(layer) != len(self.labels) for layer in self.states):
            raise ValueError("states of other samples than the labels")
        side = len(self.grid_axis)
        if len(self.grid_prediction) != side or any(len(row) != side for row in self.grid_prediction):
            raise ValueError(f"predictions on another grid than {side} times {side}")
        return self


class PaperRun(_Entries):
    """A training of the paper's experiments; the first seed's have a picture."""

    dataset: str
    name: str
    seed: int
    accuracy_test: float
    dt: list[float]
    objectives: list[float]
    accuracies: list[float]
    picture: _PaperPicture | None = None


class _PaperSide(_Side):
    runs: list[PaperRun]
    summary: list[Summary]


class _PaperSettings(_Entries):
    network: str | None = None
    method: str | None = None
    layers: int = Field(ge=1, le=10_000)
    samples: int
    samples_test: int
    dt: float | None = None
    freeze: list[str]


class Pair(_Entries):
    """How two sides part in one training."""

    sides: list[str] = Field(min_length=2, max_length=2)
    dataset: str
    name: str
    seed: int
    first_objective: float
    largest_objective: float
    last_objective: float
    apart_at: int | None
    accuracy_test: float


class Paper(_Measured):
    """A part of the paper's experiments."""

    format: Literal["twingrad-paper"]
    part: Literal["networks", "methods"]
    varied: Literal["network", "method"]
    names: list[str] = Field(min_length=1)
    seeds: list[int] = Field(min_length=1)
    settings: _PaperSettings
    iterations: dict[str, int] = Field(min_length=1)
    curve: dict[str, list[int]]
    apart: float
    sides: dict[str, _PaperSide]
    pairs: list[Pair]

    @model_validator(mode="after")
    def _is_whole(self) -> Paper:
        """Every side has a run for every data set, name and seed, of the sizes that the figures need."""
        chosen = list(product(self.seeds, self.iterations, self.names))
        for side, one in self.sides.items():
            found = [(run.seed, run.dataset, run.name) for run in one.runs]
            if sorted(found) != sorted(chosen):
                raise ValueError(f"side {side}: other trainings than each seed, data set and name once")
            if [(row.dataset, row.name) for row in one.summary] != list(product(self.iterations, self.names)):
                raise ValueError(f"side {side}: a summary of other trainings")
            for run in one.runs:
                points = {len(run.objectives), len(run.accuracies), len(self.curve.get(run.dataset, []))}
                if len(points) > 1 or points == {0}:
                    raise ValueError(f"side {side}: curves of other lengths than in 'curve'")
                if len(run.dt) != self.settings.layers:
                    raise ValueError(f"side {side}: {len(run.dt)} time steps of {self.settings.layers} layers")
                if run.seed == self.seeds[0] and run.picture is None:
                    raise ValueError(f"side {side}: no picture of seed {run.seed}")
        pairs = {(a, b, *one) for a, b in combinations(self.sides, 2) for one in chosen}
        if {(*pair.sides, pair.seed, pair.dataset, pair.name) for pair in self.pairs} != pairs:
            raise ValueError("pairs of other trainings")
        return self


class FlowTraining(_Entries):
    """A mini-GPT that was trained."""

    side: str
    variant: str
    seed: int
    layers: int = Field(ge=1, le=10_000)
    splitting: Literal["lie", "strang"]
    time_steps: Literal["fixed", "learned", "simplex"]
    iterations: int
    parameters: int = Field(ge=1)
    operations: int = Field(ge=1)
    dt: list[float]
    evaluated: list[int] = Field(min_length=1)
    loss_validation: list[float]

    @model_validator(mode="after")
    def _fits(self) -> FlowTraining:
        if len(self.dt) != self.layers:
            raise ValueError(f"{len(self.dt)} time steps of {self.layers} layers")
        if len(self.loss_validation) != len(self.evaluated):
            raise ValueError(f"{len(self.loss_validation)} losses of {len(self.evaluated)} evaluations")
        return self


Quartiles = Annotated[list[float], Field(min_length=3, max_length=3)]


class Scheme(_Entries):
    """Errors and losses on each grid, the order that was fitted, and the places of the fitted grids."""

    errors: list[float]
    losses: list[float]
    order: float | None
    fitted: list[Annotated[int, Field(ge=0)]]


class Refinement(_Entries):
    """The blocks of a model solved in more and more steps."""

    steps: list[Annotated[int, Field(ge=1)]] = Field(min_length=1)
    reference_loss: float
    schemes: dict[str, Scheme]

    @model_validator(mode="after")
    def _fits(self) -> Refinement:
        for name, one in self.schemes.items():
            if not len(one.errors) == len(one.losses) == len(self.steps):
                raise ValueError(f"scheme {name}: other grids than 'steps'")
            if any(place >= len(self.steps) for place in one.fitted):
                raise ValueError(f"scheme {name}: fitted to a grid that is not there")
        return self


class StreamSide(_Entries):
    """The residual stream of a model, as one side computed it."""

    sublayers: list[Literal["attention", "mlp"]] = Field(min_length=1)
    norms: list[Quartiles]
    relative: list[Quartiles]
    cosines: list[Quartiles]
    block_cosines: list[Quartiles]
    travelled: list[Quartiles]
    displaced: list[Quartiles]
    straightness: Quartiles
    plane: list[Annotated[list[Two], Field(min_length=2)]] = Field(min_length=1)
    explained: Two
    time_steps: list[float] = Field(min_length=1)
    loss: float
    refinement: Refinement

    @model_validator(mode="after")
    def _fits(self) -> StreamSide:
        updates = len(self.sublayers)
        found = {
            **{"norms": len(self.norms), "relative": len(self.relative), "cosines": len(self.cosines) + 1},
            **{"travelled": len(self.travelled) - 1, "displaced": len(self.displaced) - 1},
            "time_steps": updates if updates % len(self.time_steps) == 0 else 0,
            "block_cosines": updates if len(self.block_cosines) + 1 == len(self.time_steps) else 0,
        }
        for name, number in found.items():
            if number != updates:
                raise ValueError(f"{name} of other sublayers than 'sublayers'")
        return self


class _FlowPair(_Entries):
    sides: Annotated[list[str], Field(min_length=2, max_length=2)]
    states: float
    solutions: float
    losses: float
    agrees: bool


class FlowStream(_Entries):
    """The stream of one model."""

    sides: dict[str, StreamSide] = Field(min_length=1)
    agreement: list[_FlowPair]


class Flow(_Measured):
    """The transformer as a flow."""

    format: Literal["twingrad-flow"]
    text: str
    orders: dict[str, int]
    sides: dict[str, _Side]
    trainings: list[FlowTraining]
    streams: dict[str, FlowStream]

    @model_validator(mode="after")
    def _is_whole(self) -> Flow:
        for name, stream in self.streams.items():
            for side, one in stream.sides.items():
                if side not in self.sides or one.refinement.schemes.keys() != self.orders.keys():
                    raise ValueError(f"streams, {name}, {side}: a side or schemes that the document lacks")
        if any(one.side not in self.sides for one in self.trainings):
            raise ValueError("trainings: a side that the document lacks")
        lengths = {(one.variant, one.layers, len(one.evaluated)) for one in self.trainings}
        if len(lengths) != len({one.variant for one in self.trainings}):
            raise ValueError("trainings of one variant with several numbers of layers or evaluations")
        return self


Experiment = TypeVar("Experiment", Orders, Degradation, Attack, Paper, Flow)


def find_experiments(out: Path, name: str) -> Iterator[Path]:
    """The files NAME.json under OUT/experiments and OUT/training, by path."""
    for folder in ("experiments", "training"):
        yield from sorted((out / folder).rglob(f"{name}.json"))


def read_experiment(file: Path, kind: type[Experiment]) -> Experiment:
    """The numbers of an experiment; raises InputError where the file is damaged, or an entry is missing or unfit."""
    found = validate(kind, read_json(file), str(file))
    if not found.sides:
        raise InputError(f"{file}, sides", expected="a side that ran", found="none")
    return found
