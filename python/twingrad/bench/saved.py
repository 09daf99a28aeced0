"""The file of a benchmark run: every raw sample, and the whole environment. Tables and plots are drawn from it alone.

What the samples say (medians, ratios, shares of the ceiling, warnings) is in `summary.py`, so that the terminal and
the report say the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..files import read_json, replacing
from ..validation import validate

FORMAT, FORMAT_VERSION = "twingrad-bench", 1

Kind = Literal["model", "layer", "generate", "ceiling"]
Quantity = Literal["forward", "gradient", "costate", "backpropagation", "step", "tokens"]
DType = Literal["float64", "float32", "bfloat16"]
Device = Literal["cpu", "cuda"]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]

OWN = "twingrad"
"""The implementation that users run; every other one is a peer."""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Work(_Entry):
    """What is timed: a workload without the implementation of it. `name`, `dtype` and `device` identify it."""

    name: Name
    kind: Kind
    subject: str
    """The model, or the layer, or "matmul"."""
    quantity: Quantity
    config: dict[str, Any]
    dtype: DType
    device: Device


class Visit(_Entry):
    """What one side answered to one visit of a round."""

    side: str
    implementation: str
    """"twingrad", or a peer's name."""
    round: int = Field(ge=0)
    seconds: list[Annotated[float, Field(gt=0)]] = Field(min_length=1)
    """The samples: seconds of one call, each the mean over `calls` calls; for quantity "tokens", of one token."""
    calls: int = Field(ge=1)
    first_call_seconds: float | None = None
    """The very first call in its worker; given at the first visit only."""
    allocated_bytes: int | None = None
    """Per call."""
    gc_share: float | None = None
    """The part of the sampled time that went into garbage collection."""
    peak_bytes: int | None = None
    """The largest resident set of the worker since the workload started."""
    checksum: float
    tool: str


class Described(Work):
    """A workload with what tables and plots say of it."""

    group: str
    """The heading it stands under."""
    base: str
    """The entry of the table and the quantity. The points of a scaling plot share base, dtype, device, threads."""
    sweeps: dict[str, int] = {}
    """The scaling plots that it is a point of, with its place on their axis: {"batch": 12, "width": 128}."""
    sizes: dict[str, int] = {}
    """The sizes of its arrays that are not in `config`, by their letters in `specs/`: {"B": 12, "T": 64}."""
    flops: float | None = None
    """Floating-point operations of one call, by formula (`flops.py`); None where memory is what it costs."""
    items: int | None = None
    """What a call works on, counted in `item`: 768 tokens, 32 images. `items` by seconds is a throughput."""
    item: str | None = None


class Measured(Described):
    """A workload at a number of threads, with all visits to it."""

    threads: int = Field(ge=1)
    visits: list[Visit] = []

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What identifies it in a file: name, dtype, device, threads."""
        return self.name, self.dtype, self.device, self.threads

    def of(self, side: str, implementation: str = OWN) -> list[Visit]:
        """The visits of a side to an implementation, in the order of the rounds."""
        found = [visit for visit in self.visits if (visit.side, visit.implementation) == (side, implementation)]
        return sorted(found, key=lambda visit: visit.round)

    def seconds(self, side: str, implementation: str = OWN) -> list[float]:
        """All samples of a side's implementation, of all rounds."""
        return [seconds for visit in self.of(side, implementation) for seconds in visit.seconds]

    def implementations(self) -> list[tuple[str, str]]:
        """(side, implementation) of all that was timed, in the order of its first visit."""
        return list(dict.fromkeys((visit.side, visit.implementation) for visit in self.visits))


class NotRun(_Entry):
    """What was asked for and could not be timed, and why."""

    workload: str | None
    """None: all of them."""
    side: str
    implementation: str = OWN
    dtype: str | None = None
    threads: int | None = None
    reason: str


class Machine(_Entry):
    """Where the samples were taken. Samples of two machines never stand in one file."""

    processor: str
    cores: int
    memory_bytes: int
    system: str
    load_before: float
    """Processes that wanted a core in the minute before the (first) start."""
    environment: dict[str, str | None]
    """Variables that matter to linear algebra as the command found them; None: not set. `summary.TAKEN_OUT` says which
    of them the workers did not see."""

    def same(self, other: Machine) -> bool:
        """Whether it is the same machine; its load may have changed."""
        names = ("processor", "cores", "memory_bytes", "system")
        return all(getattr(self, name) == getattr(other, name) for name in names)


class Bench(_Entry):
    """A benchmark run."""

    format: Literal["twingrad-bench"] = "twingrad-bench"
    format_version: Literal[1] = 1
    created: str
    """When it was started, ISO 8601."""
    command: str
    """The command that says the same again, without where it was saved."""
    profile: Literal["quick", "full"]
    rounds: int = Field(ge=1)
    machine: Machine
    sides: dict[str, dict[str, Any]]
    """What each side said of itself (`language`, `framework`, `blas`, ...), and `source_digest`. Sides in the order in
    which ratios are formed: the first by the second."""
    threads: list[int]
    workloads: list[Measured] = []
    ceilings: list[Measured] = []
    """Large matrix products, kind "ceiling": what the machine can do on that side, by dtype and number of threads."""
    not_run: list[NotRun] = []
    complete: bool = False

    def ceiling(self, dtype: str, device: str, threads: int) -> Measured | None:
        """The ceiling that goes with a workload."""
        same = [one for one in self.ceilings if (one.dtype, one.device, one.threads) == (dtype, device, threads)]
        return same[0] if same else None

    def write(self, file: Path) -> None:
        """Write the file as a whole, or not at all."""
        with replacing(file) as temporary:
            temporary.write_text(self.model_dump_json() + "\n", "utf-8")


def read_bench(file: Path) -> Bench:
    """Read a saved run; raises InputError naming the file, the entry, what was expected and what was found."""
    file = Path(file)
    return validate(Bench, read_json(file, f"JSON of format {FORMAT}"), str(file))
