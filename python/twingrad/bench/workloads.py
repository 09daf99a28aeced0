"""The table of workloads, `shared_fixtures/workloads.toml`, checked, and the single workloads that it stands for."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from .. import paths
from ..errors import InputError, one_of
from ..files import reading
from ..specs import MODELS, make_config
from ..validation import validate
from .flops import flops_of
from .layer_specs import LAYERS
from .saved import Described, Device, DType, Kind, Name, Quantity

Count = Annotated[int, Field(ge=1)]
Config = dict[str, Any]

ITEMS = {
    "gpt": ("tokens", ("B", "T")),
    "resnet": ("images", ("N",)),
    "mlp": ("samples", ("samples",)),
    "control_net": ("samples", ("samples",)),
}
"""What a call of a model works on, and the sizes whose product says how many."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Profile(_Table):
    """How long everything is timed."""

    rounds: Count
    seconds: float = Field(gt=0)
    samples: Annotated[int, Field(ge=3)]
    threads: str
    ceiling: dict[Device, Count]


class Sweep(_Table):
    """The further points of a scaling plot."""

    name: Name
    sets: Annotated[list[str], Field(min_length=1)]
    values: list[Count]
    quick: list[Count] = []
    quantities: list[Quantity]

    @field_validator("sets")
    @classmethod
    def _are_settings(cls, places: list[str]) -> list[str]:
        for place in places:
            if place.partition(".")[0] not in ("config", "sizes"):
                raise ValueError(f"'{place}' is neither of config nor of sizes")
        return places

    def place(self, entry: Entry) -> int:
        """Where on the axis the entry stands."""
        group, _, key = self.sets[0].partition(".")
        return int(getattr(entry, group)[key])

    def moved(self, entry: Entry, value: int) -> Entry:
        """The entry at another place of the axis."""
        groups: dict[str, dict[str, Any]] = {"config": dict(entry.config), "sizes": dict(entry.sizes)}
        for place in self.sets:
            group, _, key = place.partition(".")
            groups[group][key] = value
        return entry.model_copy(update=groups)


class Entry(_Table):
    """One entry of the table: several quantities of one thing."""

    name: Name
    group: str
    kind: Kind = "model"
    subject: str
    config: Config
    sizes: dict[str, Count] = {}
    quantities: Annotated[dict[Quantity, Annotated[list[DType], Field(min_length=1)]], Field(min_length=1)]
    quick: list[Quantity] = []
    peers: dict[str, list[str]] = {}
    peer_quantities: list[Quantity] = []
    devices: list[Device] = ["cpu", "cuda"]
    sweep: list[Sweep] = []

    @model_validator(mode="after")
    def _fits(self) -> Entry:
        known = LAYERS if self.kind == "layer" else MODELS
        if self.subject not in known:
            raise ValueError(f"{self.name}: subject {self.subject!r} is not {one_of(known)}")
        asked = [*self.quick, *self.peer_quantities, *(name for sweep in self.sweep for name in sweep.quantities)]
        if missing := sorted(set(asked) - set(self.quantities)):
            raise ValueError(f"{self.name}: {', '.join(missing)} not among its quantities")
        if self.kind == "layer" and set(self.config) != (wanted := set(LAYERS[self.subject].sizes)):
            raise ValueError(f"{self.name}: sizes {sorted(self.config)} instead of {sorted(wanted)}")
        return self


class Table(_Table):
    """The whole table."""

    format_version: Literal[1]
    profiles: dict[Literal["quick", "full"], Profile]
    entry: list[Entry]


@dataclass(frozen=True)
class Workload:
    """A single workload: what a table says of it, whom it is compared with, and whether every number of threads."""

    described: Described
    peers: Mapping[str, list[str]]
    every_thread_count: bool = True

    @property
    def label(self) -> str:
        """Its name and its dtype, for people."""
        return f"{self.described.name} {self.described.dtype}"


@dataclass(frozen=True)
class Choice:
    """Which workloads are wanted: of a profile, in which dtypes, on which device, of which names (all where none)."""

    profile: Literal["quick", "full"]
    dtypes: tuple[str, ...]
    device: str
    only: tuple[str, ...] = ()
    peers: bool = False

    def wants(self, name: str) -> bool:
        """Whether the name is wanted: it matches a pattern, or has one as a part."""
        return not self.only or any(fnmatchcase(name, pattern) or pattern in name for pattern in self.only)


def read_table() -> Table:
    """The table; raises InputError naming the entry where it is wrong."""
    file = paths.shared_fixtures() / "workloads.toml"
    with reading(file):
        text = file.read_text("utf-8")
    return validate(Table, tomllib.loads(text), str(file))


def workloads(table: Table, choice: Choice) -> list[Workload]:
    """The wanted workloads in the table's order; raises InputError where there is none."""
    found = [
        workload
        for entry in table.entry
        if choice.device in entry.devices
        for workload in _of_entry(entry, choice)
        if choice.wants(workload.described.name)
    ]
    if not found:
        names = dict.fromkeys(entry.name for entry in table.entry)
        wanted = " ".join(choice.only) or f"the profile '{choice.profile}'"
        expected = f"a part or a pattern of a workload's name ({', '.join(names)})"
        raise InputError("only", expected=expected, found=f"{wanted}, which no workload matches")
    return found


def ceilings(profile: Profile, choice: Choice) -> list[Workload]:
    """A large matrix product for each dtype."""
    config = {"size": profile.ceiling[cast(Device, choice.device)]}
    common = {"name": "matmul", "kind": "ceiling", "subject": "matmul", "quantity": "forward", "config": config}
    place = {"group": "ceiling", "base": "matmul", "device": choice.device}
    return [Workload(_described({**common, **place, "dtype": dtype}), {}) for dtype in choice.dtypes]


def _of_entry(entry: Entry, choice: Choice) -> Iterator[Workload]:
    quick = choice.profile == "quick"
    for quantity, listed in entry.quantities.items():
        dtypes = [dtype for dtype in (*listed, "bfloat16") if _is_wanted(dtype, listed, choice.dtypes)]
        if not dtypes or (quick and quantity not in entry.quick):
            continue
        peers = entry.peers if choice.peers and quantity in entry.peer_quantities else {}
        axes = [sweep for sweep in entry.sweep if quantity in sweep.quantities]
        place = {sweep.name: sweep.place(entry) for sweep in axes}
        yield Workload(_member(entry, quantity, dtypes[0], choice, place), peers)
        for dtype in dtypes[1:] if not quick else ():
            yield Workload(_member(entry, quantity, dtype, choice, {}), {})
        for sweep in axes:
            for value in sweep.quick if quick else sweep.values:
                moved, place = sweep.moved(entry, value), {sweep.name: value}
                point = _member(moved, quantity, dtypes[0], choice, place, f"-{sweep.name}-{value}")
                yield Workload(point, {}, every_thread_count=False)


def _is_wanted(dtype: str, listed: list[DType], wanted: tuple[str, ...]) -> bool:
    return dtype in wanted and (dtype in listed or (dtype == "bfloat16" and "float32" in listed))


def _member(
    entry: Entry, quantity: str, dtype: str, choice: Choice, sweeps: dict[str, int], suffix: str = ""
) -> Described:
    own = {name: getattr(entry, name) for name in ("group", "kind", "subject", "config", "sizes")}
    base = f"{entry.name}-{quantity}"
    asked = {"name": base + suffix, "base": base, "quantity": quantity, "dtype": dtype, "device": choice.device}
    return _described({**own, **asked, "sweeps": sweeps})


def _described(fields: dict[str, Any]) -> Described:
    """A workload with what follows from the rest: all settings, so that both sides are told the same; items, flops."""
    subject, quantity, where = fields["subject"], fields["quantity"], f"workload {fields['name']}"
    config, sizes = fields["config"], fields.get("sizes", {})
    if subject in MODELS:
        config = make_config(MODELS[subject], config, where).model_dump(mode="json")
    item, letters = ("tokens", ()) if quantity == "tokens" else ITEMS.get(subject, (None, ()))
    derived = {
        "config": config,
        "flops": flops_of(subject, quantity, config, sizes),
        "item": item,
        "items": math.prod(sizes[letter] for letter in letters) if item else None,
    }
    return validate(Described, fields | derived, where)
