"""What a shell completes, asked as bash, zsh and fish ask."""

from collections.abc import Callable
from pathlib import Path

import pytest

from twingrad import paths
from twingrad.info import KNOWN
from twingrad.sides import sides


@pytest.fixture
def complete(
    twingrad: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], list[str]]:
    """What bash is offered for the last word of a command line."""

    def ask(line: str) -> list[str]:
        monkeypatch.setenv("_TWINGRAD_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
        _, out, err = twingrad()
        assert err == ""
        return out.split()

    return ask


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("twingrad comp", ["compare"]),
        ("twingrad train r", ["resnet"]),
        ("twingrad train control --dataset s", ["squares2d", "spiral2d"]),
        ("twingrad train control --network o", ["odenet", "odenet-simplex"]),
        ("twingrad train control --method k", ["kutta3", "kutta4"]),
        ("twingrad train gpt --preset g", ["gpu"]),
        ("twingrad train resnet --preset ", ["cpu", "gpu"]),
        ("twingrad train resnet --variant resnet1", ["resnet110", "resnet18"]),
        ("twingrad run --device c", ["cpu", "cuda"]),
        ("twingrad train mlp --path r", ["reference"]),
        ("twingrad experiment depth --dataset spi", ["spiral2d"]),
        ("twingrad compare resnet-50", ["resnet-50-train-small"]),
        ("twingrad compare gpt-dt-half gpt-dt-t", ["gpt-dt-two"]),
        ("twingrad compare no-such-case", []),
    ],
)
def test_names_are_completed(complete: Callable[[str], list[str]], line: str, expected: list[str]):
    assert complete(line) == expected


def test_all_names_are_offered(complete: Callable[[str], list[str]]):
    assert complete("twingrad run --side ") == list(sides())
    assert complete("twingrad info ") == list(KNOWN)
    assert complete("twingrad fixtures ") == [file.stem for file in paths.case_files()]


def test_nothing_is_offered_where_the_files_are_missing(
    complete: Callable[[str], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TWINGRAD_ROOT", str(tmp_path))
    assert complete("twingrad compare gpt") == []
    assert complete("twingrad train gpt --preset g") == []
    assert complete("twingrad run --side ") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_for_shells(twingrad: Callable[..., tuple[int, str, str]], shell: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    status, out, _ = twingrad("--show-completion", shell)
    assert status == 0
    assert f"_TWINGRAD_COMPLETE=complete_{shell}" in out
