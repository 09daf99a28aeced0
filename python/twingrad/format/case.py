"""Cases: one evaluation of one model. The same file on the Julia side is `julia/src/format/case.jl`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import InputError
from ..specs import Arrays, ArraySpec, ModelConfig, ModelSpec, check_arrays, model_spec, parse_config
from . import hdf5

FORMAT = "twingrad-case"
GROUPS = ("params", "inputs", "targets")
REQUIRED = ("format", "format_version", "name", "model", "config")
OPTIONAL = ("seed", "generator", "digest", "oracle_digest")


@dataclass(frozen=True)
class Case:
    """A checked case.

    `groups` holds the arrays of "params", "inputs" and "targets" by name; `oracle` those under `/oracle` by their
    path in it ("loss", "outputs/prediction", "grads/K", ...), or None. `digest` is computed where the file has none.
    """

    name: str
    model: str
    config_text: str
    groups: Mapping[str, Arrays]
    oracle: Arrays | None = None
    seed: int | None = None
    generator: str | None = None
    sealed: bool = False
    path: Path | None = None

    @property
    def spec(self) -> ModelSpec:
        """What the case's model is made of."""
        return model_spec(self.model, f"{self.path or self.name}, attribute model")

    @property
    def config(self) -> ModelConfig:
        """The model's settings."""
        return parse_config(self.spec, self.config_text, f"{self.path or self.name}, attribute config")

    @property
    def digest(self) -> str:
        """SHA-256 over everything but the oracle (FORMAT.md, "Digests")."""
        attributes: list[tuple[str, hdf5.Attribute]] = [("format", FORMAT), ("format_version", hdf5.FORMAT_VERSION)]
        attributes += [("name", self.name), ("model", self.model), ("config", self.config_text)]
        arrays = {f"{group}/{name}": array for group in GROUPS for name, array in self.groups[group].items()}
        return hdf5.digest(attributes, arrays)

    @property
    def oracle_digest(self) -> str:
        """SHA-256 over the oracle."""
        return hdf5.digest([], {f"oracle/{path}": array for path, array in (self.oracle or {}).items()})

    def check(self) -> None:
        """Refuse settings, arrays or an oracle that do not fit the model; raises InputError."""
        where, spec, config = str(self.path or self.name), self.spec, self.config
        sizes: dict[str, int] = {}
        check_layers(config, self.groups["params"], where)
        for group, specs in (("params", spec.params), ("inputs", spec.inputs), ("targets", spec.targets)):
            check_arrays(specs(config), self.groups[group], f"{where}, /{group}", sizes)
        if (wrong := config.check(self.groups)) is not None:
            entry, expected, found = wrong
            raise InputError(f"{where}, /{entry}", expected=expected, found=found)
        if self.oracle is not None:
            check_arrays(oracle_specs(spec, config), self.oracle, f"{where}, /oracle", sizes)

    def write(self, path: Path) -> None:
        """Write the case, sealed with its digests."""
        attributes: hdf5.Attributes = {
            "format": FORMAT,
            "format_version": hdf5.FORMAT_VERSION,
            "name": self.name,
        }
        attributes |= {"model": self.model, "config": self.config_text}
        if self.seed is not None:
            attributes["seed"] = self.seed
        if self.generator is not None:
            attributes["generator"] = self.generator
        attributes["digest"] = self.digest
        arrays = {f"{group}/{name}": array for group in GROUPS for name, array in self.groups[group].items()}
        if self.oracle is not None:
            attributes["oracle_digest"] = self.oracle_digest
            arrays |= {f"oracle/{name}": array for name, array in self.oracle.items()}
        hdf5.write(path, attributes, arrays)


def check_layers(config: ModelConfig, params: Arrays, where: str) -> None:
    """Refuse settings of more layers than there are arrays, before the arrays of every layer are listed."""
    if (layers := getattr(config, "layers", 0)) > len(params):
        found = f"{layers} layers"
        raise InputError(f"{where}, attribute config", expected=f"layers for {len(params)} arrays", found=found)


def oracle_specs(spec: ModelSpec, config: ModelConfig) -> dict[str, ArraySpec]:
    """The entries of `/oracle`: loss, outputs, statistics, gradients by parameters and floating-point inputs."""
    params = spec.params(config)
    inputs = {name: array for name, array in spec.inputs(config).items() if array.dtype == "float64"}
    return {
        "loss": ArraySpec("float64", ()),
        **{f"outputs/{name}": array for name, array in spec.outputs(config).items()},
        **{f"grads/{name}": ArraySpec("float64", array.dims) for name, array in params.items() if array.trained},
        **{f"statistics/{name}": array for name, array in params.items() if not array.trained},
        **{f"grads_inputs/{name}": ArraySpec("float64", array.dims) for name, array in inputs.items()},
    }


def read_case(path: Path) -> Case:
    """Read and check a case file; raises InputError naming file, entry, expected and found."""
    contents = hdf5.read(path, FORMAT)
    contents.check_names(required=REQUIRED, optional=OPTIONAL, groups=(*GROUPS, "oracle"))
    oracle = contents.below("oracle")
    case = Case(
        name=contents.text("name"),
        model=contents.text("model"),
        config_text=contents.text("config"),
        groups={group: contents.below(group) for group in GROUPS},
        oracle=oracle or None,
        seed=contents.integer("seed") if "seed" in contents.attributes else None,
        generator=contents.text("generator") if "generator" in contents.attributes else None,
        sealed="digest" in contents.attributes,
        path=Path(path),
    )
    if hdf5.NAME.fullmatch(case.name) is None:
        found = repr(case.name)
        raise InputError(f"{path}, attribute name", expected="a name of A-Z a-z 0-9 _ . -", found=found)
    hdf5.parse_json(case.config_text, f"{path}, attribute config")
    case.check()
    if case.sealed:
        hdf5.check_digest(contents, "digest", case.digest)
        if oracle:
            hdf5.check_digest(contents, "oracle_digest", case.oracle_digest)
    return case


def seal(path: Path) -> Case:
    """Add the digests to a case file, in place; a case that has them is checked and left alone."""
    case = read_case(path)
    if not case.sealed:
        case.write(Path(path))
    return replace(case, sealed=True)
