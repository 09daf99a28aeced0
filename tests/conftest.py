"""What several test files use: small random problems and small case files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from twingrad.fixtures.control_net import ControlNetRecipe
from twingrad.format import Case
from twingrad.models.control_net import ControlNet
from twingrad.sides import Worker
from twingrad.specs import ControlNetConfig

COMBINATIONS = [("net", "euler")] + [
    (network, method)
    for network in ("resnet", "odenet", "odenet-simplex")
    for method in ("euler", "improved-euler", "kutta3", "kutta4")
]

torch.set_num_threads(1)


def random_problem(
    network: str, method: str, *, N: int = 4, d: int = 3, samples: int = 7, scale: str = "mean", seed: int = 0
) -> tuple[ControlNet, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """A model with random weights in float64, its inputs and its targets."""
    draw = torch.Generator().manual_seed(seed)
    params = {
        "K": torch.randn(N, d, d, generator=draw, dtype=torch.float64),
        "b": torch.randn(N, d, generator=draw, dtype=torch.float64),
        "W": torch.randn(1, d, generator=draw, dtype=torch.float64),
        "mu": torch.randn(1, generator=draw, dtype=torch.float64),
        "dt": torch.rand(N, generator=draw, dtype=torch.float64),
    }
    x = torch.randn(samples, d, generator=draw, dtype=torch.float64)
    c = torch.randint(0, 2, (samples,), generator=draw).double()
    return ControlNet(ControlNetConfig(network=network, method=method, scale=scale), params), {"x": x}, {"c": c}


@pytest.fixture
def small_case() -> Case:
    """A case of two layers and three samples, without oracle."""
    return ControlNetRecipe("odenet", "kutta3", "donut2d", "small", layers=2, samples=3).make(seed=99)


@pytest.fixture
def case_file(small_case: Case, tmp_path: Path) -> Path:
    """The small case in a sealed file."""
    file = tmp_path / "small.h5"
    small_case.write(file)
    return file


@pytest.fixture(scope="session")
def torch_worker() -> Iterator[Worker]:
    """One live worker of the PyTorch side for all tests of a process."""
    with Worker("torch") as worker:
        yield worker


@pytest.fixture(scope="module")
def _commands_share_a_worker(torch_worker: Worker) -> Iterator[None]:
    def shared(name: str, **options: object) -> object:
        return nullcontext(torch_worker) if name == "torch" else Worker(name, **options)

    with pytest.MonkeyPatch.context() as patch:
        for module in ("sides", "harness", "doctor"):
            patch.setattr(f"twingrad.{module}.Worker", shared)
        yield


@pytest.fixture
def twingrad(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Runs the command in this process: (exit status, stdout, stderr)."""
    from twingrad.cli import main

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["twingrad", *map(str, arguments)])
        status = 0
        try:
            main()
        except SystemExit as leaving:
            status = leaving.code if isinstance(leaving.code, int) else 1 if leaving.code else 0
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run
