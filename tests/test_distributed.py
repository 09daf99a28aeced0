"""Two processes that train together compute what one process does: gradients, steps, files, and how they end."""

import json
import os
import random
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from twingrad.format.checkpoint import read_checkpoint
from twingrad.training.distributed import Team
from twingrad.training.gpt import train_gpt
from twingrad.training.settings import gpt_settings
from two_processes import SETTINGS, STEPS, steps

STAGES = 9
SECONDS = 100


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What one process computed in this folder, and two did after it."""
    place = tmp_path_factory.mktemp("together")
    draw = random.Random(1)
    for name in ("text.txt", "other.txt"):
        (place / name).write_text("".join(draw.choice("abcdefg hij") for _ in range(900)))
    np.savez(place / "one.npz", **steps(Team(), place / "text.txt", place / "alone", clip=0.0))
    alone(place, "one")
    alone(place, "parts", until=2)
    with ExitStack() as sockets:
        opened = [sockets.enter_context(socket.socket()) for _ in range(STAGES)]
        for each in opened:
            each.bind(("127.0.0.1", 0))
        ports = [str(each.getsockname()[1]) for each in opened]
    script, environment = Path(__file__).with_name("two_processes.py"), {**os.environ, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, script, str(rank), place, *ports],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for process in processes:
            said, _ = process.communicate(timeout=SECONDS)
            assert process.returncode == 0, said
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stdout.close()
    return place


def alone(place, name, until=None):
    """The training of `SETTINGS` in this process."""
    return train_gpt(gpt_settings(SETTINGS), place / "text.txt", place / name, {"test": 1}, lambda _: None, until=until)


def told(folder, stage):
    """[(exit status, what was told)] of both processes in a stage."""
    return [json.loads((folder / f"{rank}.json").read_text())[stage] for rank in range(2)]


def error(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_processes_compute_what_one_does(folder, kind):
    one = np.load(folder / "one.npz")
    for rank in range(2):
        two = np.load(folder / f"{kind}-{rank}.npz")
        assert two.keys() == one.keys()
        for name in one.files:
            assert error(two[name], one[name]) < 1e-10, f"{name}: {error(two[name], one[name])}"
    assert one["loss"].shape == (STEPS,)


def assert_equal(a, b):
    """Two checkpoints of the same training, but for when and by how many processes."""
    described = ("model", "config", "data", "side", "dtype", "settings", "iteration", "status")
    assert [getattr(a, name) for name in described] == [getattr(b, name) for name in described]
    for group in ("params", "first_moment", "second_moment", "history"):
        one, two = getattr(a, group), getattr(b, group)
        assert one.keys() == two.keys()
        for name in one.keys() - {"seconds"}:
            assert one[name].dtype == two[name].dtype
            assert error(two[name], one[name]) < 1e-10, f"{group}/{name}"


@pytest.mark.parametrize("file", ["last.h5", "best.h5"])
def test_the_files_are_those_of_one_process(folder, file):
    assert [status for status, _ in told(folder, "ddp")] == [0, 0]
    assert_equal(read_checkpoint(folder / "one/torch" / file), read_checkpoint(folder / "ddp/torch" / file))


def test_the_process_that_leads_tells(folder):
    leader, other = told(folder, "ddp")
    assert "last.h5: complete after 6 iterations" in leader[1]
    assert other == [0, ""]


def test_a_signal_to_one_process_saves_and_all_go_on_in_other_company(folder):
    """One process, two with FSDP, two with DDP, one: the numbers are those of one that trained without a break."""
    leader, other = told(folder, "signalled")
    assert leader[0] == other[0] == 75
    assert leader[1] == "twingrad: saved after 4 of 6 steps, as a signal asked; the same command goes on\n"
    assert other[1] == ""
    assert [status for status, _ in told(folder, "resumed")] == [0, 0]
    assert read_checkpoint(folder / "parts/torch/last.h5").iteration == 5
    assert_equal(read_checkpoint(folder / "one/torch/last.h5"), alone(folder, "parts"))


@pytest.mark.parametrize(
    ("stage", "says"),
    [
        ("unequal", "batch: expected a multiple of 2, the processes, found 3"),
        ("unknown", "parallel: expected one of ddp, fsdp, found 'dpp'"),
        ("other text", "All machines must read the same text."),
        ("nan", "training step 2: the loss is nan"),
    ],
)
def test_all_refuse_and_one_tells_why(folder, stage, says):
    leader, other = told(folder, stage)
    assert leader[0] == 2
    assert says in leader[1]
    assert leader[1].count("\n") == 1
    assert other == [2, ""]


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_processes_that_read_different_files_are_refused(folder, kind):
    says = "file: expected 1 steps taken in all processes, found 2 steps taken in process 1. Look."
    assert told(folder, f"{kind} differs") == [says, says]
