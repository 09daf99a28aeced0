"""Killed trainings of the Flux side go on to the same end, and each language minds the other's locks."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from twingrad import harness, paths
from twingrad.errors import SideError
from twingrad.format import read_checkpoint, read_training
from twingrad.lock import locked
from twingrad.sides import side
from twingrad.sides.worker_process import command_of
from twingrad.specs import Arrays
from twingrad.training.settings import control_settings, gpt_settings, preset

SMALL = {
    **{"dataset": "spiral2d", "network": "odenet", "method": "euler", "layers": 3, "samples": 30, "samples_test": 20},
    **{"dtype": "float64", "evaluate_every": 1000},
}
GPT = {
    **{"layers": 1, "heads": 2, "width": 8, "context": 8, "batch": 2, "iterations": 20000, "warmup": 2},
    **{"evaluate_every": 1000, "evaluation_windows": 5},
}
FOREVER = 10**9
SECONDS = 300.0


def assert_equal(a: Arrays, b: Arrays) -> None:
    assert a.keys() == b.keys()
    for name, array in a.items():
        assert name == "seconds" or np.array_equal(array, b[name]), name


def wait_for(happened, what: str) -> None:
    end = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < end, f"{what}: not in {SECONDS} s"
        time.sleep(0.02)


def is_dead(pid: int) -> bool:
    """Whether a process is gone, or a zombie that nobody has buried yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a worker notices when it reads or writes next")
def test_a_killed_harness(both_live: harness.Sides, tmp_path: Path) -> None:
    """Its worker dies in the middle of the training, and another one goes on from the file."""
    out, file = tmp_path / "out", tmp_path / "out" / "flux.h5"
    options = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    command = [sys.executable, "-m", "twingrad", "train", "control", "--side=flux", f"--iterations={FOREVER}"]
    with subprocess.Popen([*command, f"--out={out}", *options]) as training:
        wait_for(lambda: file.exists() or training.poll() is not None, "the training file")
        tasks = Path(f"/proc/{training.pid}/task").glob("*/children")
        workers = [int(pid) for task in tasks for pid in task.read_text().split()]
        training.kill()
    assert len(workers) == 1
    wait_for(lambda: is_dead(workers[0]), "the end of the worker")
    assert (out / ".flux.lock").exists()
    reached, settings = read_training(file).iteration, control_settings(SMALL).as_json()
    request = {"settings": settings, "iterations": reached + 20}
    for place in (file, tmp_path / "whole.h5"):
        both_live.workers["flux"].request("train-control", {**request, "out": str(place)})
    killed, whole = read_training(file), read_training(tmp_path / "whole.h5")
    assert (killed.iteration, killed.step_constant) == (whole.iteration, whole.step_constant)
    for group in ("params", "initial", "history", "picture"):
        assert_equal(getattr(killed, group), getattr(whole, group))
    assert not list(out.rglob("*.part"))


def test_a_killed_worker(both_live: harness.Sides, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("the cat sat on a mat. " * 50)
    worker = both_live.workers["flux"]
    settings = gpt_settings({**preset("gpt", "cpu"), **GPT}).as_json()
    request = {"settings": settings, "text": str(tmp_path / "text.txt")}

    def kill(_: object) -> None:
        os.kill(worker.process_id, signal.SIGKILL)

    with pytest.raises(SideError, match="side flux: the worker was killed by SIGKILL"):
        worker.request("train-gpt", {**request, "out": str(tmp_path / "killed")}, kill)
    assert read_checkpoint(tmp_path / "killed" / "flux" / "last.h5").iteration < GPT["iterations"]
    for name in ("killed", "whole"):
        worker.request("train-gpt", {**request, "out": str(tmp_path / name)})
    killed, whole = (read_checkpoint(tmp_path / name / "flux" / "last.h5") for name in ("killed", "whole"))
    assert killed.status == whole.status == "complete"
    for group in ("params", "first_moment", "second_moment", "history"):
        assert_equal(getattr(killed, group), getattr(whole, group))


def test_julia_minds_a_lock_of_python(both_live: harness.Sides, tmp_path: Path) -> None:
    command = [*command_of(side("flux"))[:-1], "train", "control", "--out", str(tmp_path), "--iterations", "1"]
    environment = {**os.environ, "TWINGRAD_ROOT": str(paths.root())}
    with locked(tmp_path / "flux", "twingrad other"):
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    found = f"found 'twingrad other' (process {os.getpid()} on "
    assert done.stderr.startswith(f"twingrad: {tmp_path / 'flux'}: expected nobody else at work on it, {found}")
    assert list(tmp_path.iterdir()) == []
