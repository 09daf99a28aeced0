"""Full and read-only disks: every command that writes says so in one line, and the files that were there stay whole."""

import contextlib
import errno
import os
import re
import shutil
import subprocess
import sys
import tempfile

import pytest
from matplotlib.figure import Figure

from killed_runs import NAMES
from test_report_write import contents, put_experiments
from twingrad import harness
from twingrad.errors import InputError

pytestmark = pytest.mark.usefixtures("_commands_share_a_worker", "_small_figures")

SMALL = ("--layers", 2, "--samples", 20, "--samples-test", 10, "--no-figures")
GPT = ("--text", "text.txt", "--layers", 1, "--heads", 1, "--width", 4, "--context", 4, "--no-figures")
COMMANDS = {
    "train control": [("train", "control", "--out", "out", "--iterations", steps, *SMALL) for steps in (2, 4)],
    "train gpt": [("train", "gpt", "--out", "out", "--until", steps, *GPT) for steps in (0, 1)],
    "train mlp": [("train", "mlp", "--out", "out", "--until", steps, "--no-figures") for steps in (0, 1)],
    "run": [("run", "--side", "torch", "--case", "small.h5", "--out", "result.h5")] * 2,
    "fixtures": [("fixtures", name, "--out", "cases") for name in NAMES[:2]],
    "report": [("report", "--out", ".")] * 2,
    "bench": [("bench", "--list"), ("bench", "--quick", "--only", "mlp-step", "--out", "bench.json")],
    "data python": [("data", "python")] * 2,
    "attack": [("attack", "--checkpoint", "out", "--sides", "torch", "--out", "attack")] * 2,
}
"""Each once on a disk with space, and then on one without."""


@pytest.fixture
def _small_figures(monkeypatch):
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **_: file.write(b"a figure"))


@pytest.fixture
def disk(tmp_path):
    """A folder on a disk of its own, of 32 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "none", str(folder)]
    can = sys.platform == "linux" and shutil.which("mount") is not None
    if not can or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk can be mounted by root alone, on Linux")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(params=["full", "read-only"])
def spoil(request, disk):
    """Fills the disk, or makes it read-only; what the system then says."""

    def fill():
        with (disk / "filler").open("wb") as file:
            for size in (2**20, 2**12):
                with contextlib.suppress(OSError):
                    while True:
                        os.write(file.fileno(), bytes(size))
        return "No space left on device"

    def freeze():
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        return "Read-only file system"

    return fill if request.param == "full" else freeze


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_so(twingrad, torch_worker, disk, spoil, case_file, monkeypatch, name):
    assert torch_worker.versions, "it has started elsewhere than on the disk"
    monkeypatch.chdir(disk)
    (disk / "text.txt").write_text("the cat sat on a mat. " * 50)
    shutil.copy(case_file, disk / "small.h5")
    put_experiments(disk)
    first, second = COMMANDS[name]
    if name == "attack":
        twingrad(*COMMANDS["train control"][0])
    status, out, err = twingrad(*first)
    assert status == 0, out + err
    says = spoil()
    before = contents(disk)
    status, _, err = twingrad(*second)
    assert (status, err.count("\n")) == (2, 1), err
    assert re.fullmatch(rf"twingrad: .+: expected a (place|folder|file) to \w+( to)?, found {says}\n", err)
    assert contents(disk) == before


def test_a_comparison_that_cannot_be_saved(disk, spoil):
    comparison = harness.Comparison([])
    harness.save(comparison, disk / "comparison.json")
    says, before = spoil(), contents(disk)
    comparison.failures.append("x" * 2**20)
    with pytest.raises(InputError, match=f"expected a place to write to, found {says}"):
        harness.save(comparison, disk / "comparison.json")
    assert contents(disk) == before


def test_a_full_disk_of_temporary_files(twingrad, case_file, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/twingrad-x")

    monkeypatch.setattr(tempfile, "TemporaryDirectory", refuse)
    status, out, err = twingrad("attack", "--checkpoint", case_file)
    assert (status, out) == (2, "")
    assert err == "twingrad: /tmp/twingrad-x: expected a place to write to, found No space left on device\n"
