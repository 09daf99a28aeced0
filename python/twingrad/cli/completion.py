"""What a shell completes: the values of options and arguments that are names, each from the one place that lists them.

`twingrad --install-completion` (typer) has bash, zsh, fish and PowerShell ask here. Nothing here loads torch, and where
no shared files are found, nothing is completed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

from ..errors import InputError

Names = Callable[[], list[str]]


def one_of_these(*names: str) -> Names:
    """The given names."""
    return lambda: list(names)


def side_names() -> list[str]:
    """The sides of the table of sides."""
    from ..sides import sides

    return _if_found(lambda: list(sides()))


def case_names() -> list[str]:
    """The cases of the checkout."""
    from ..paths import case_files

    return _if_found(lambda: [file.stem for file in case_files()])


def dataset_names() -> list[str]:
    """The planar data sets."""
    from ..data.planar import DATASETS

    return list(DATASETS)


def network_names() -> list[str]:
    """The control networks."""
    from ..specs.control_net import Network

    return list(get_args(Network))


def method_names() -> list[str]:
    """The methods of control networks."""
    from ..specs.control_net import Method

    return list(get_args(Method))


def variant_names() -> list[str]:
    """The residual networks."""
    from ..specs.resnet import Variant

    return list(get_args(Variant))


def model_names() -> list[str]:
    """The models that `twingrad info` knows."""
    from ..info import KNOWN

    return list(KNOWN)


def preset_names(model: str) -> Names:
    """The presets of a model."""

    def names() -> list[str]:
        from ..training.settings import presets

        return _if_found(lambda: list(presets(model)))

    return names


def _if_found(names: Names) -> list[str]:
    try:
        return names()
    except InputError:
        return []
