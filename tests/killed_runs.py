"""Does pieces of work in processes that it kills: `python killed_runs.py`, for `test_killed.py`.

A line of JSON in names the work, the folder and the moment of the kill; the line out tells whether the work was killed.
Each work is done in a fork of this process, which has loaded everything: so a kill costs no start.
"""

import json
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
from matplotlib.figure import Figure

from test_classifier_training import SMALL as SMALL_CLASSIFIERS
from test_gpt_training import TEXT, TINY
from test_training import SMALL
from twingrad import harness
from twingrad.bench import run as bench
from twingrad.bench.workloads import Choice
from twingrad.fixtures import generate
from twingrad.format import Result
from twingrad.format.result import now
from twingrad.report.language import ENGLISH
from twingrad.report.write import write_report
from twingrad.sides import sides
from twingrad.training import classifier, control, gpt, run
from twingrad.training.settings import classifier_settings, control_settings, gpt_settings, preset

VERSIONS = {"language": "L", "framework": "F"}
NAMES = ("control_net-net-euler-donut1d", "control_net-odenet-kutta3-d5", "control_net-resnet-euler-donut2d")
BENCH = bench.Settings(Choice("quick", ("float32",), "cpu", ("mlp-step",), False), ("torch", "flux"), (1,), 3)


def train_control(folder, tell):
    control.train_control(control_settings(SMALL), 12, folder / "torch.h5", VERSIONS, tell)


def train_gpt(folder, tell):
    (folder / "text.txt").write_text(TEXT, "utf-8")
    gpt.train_gpt(gpt_settings(TINY), folder / "text.txt", folder / "out", VERSIONS, tell)


def train_mlp(folder, tell):
    settings = classifier_settings("mlp", {**preset("mlp", "cpu"), **SMALL_CLASSIFIERS["mlp"], "optimizer": "adam"})
    classifier.train_classifier("mlp", settings, None, folder / "out", VERSIONS, tell)


def fixtures(folder, tell):
    generate.write_cases(list(NAMES), folder, lambda *state: tell(state))


def record(folder, tell):
    """Record with sides that answer with the oracles; the folder is a checkout."""
    os.environ["TWINGRAD_ROOT"] = str(folder)
    workers = {name: SimpleNamespace(versions=VERSIONS) for name in sides()}

    def result(name, case, _, dtype, __):
        tell()
        return Result(case.name, case.digest, name, dtype, "cpu", VERSIONS, "", now(), case.oracle)

    harness.record(SimpleNamespace(recorded={}, workers=workers, result=result))


class FakeWorker:
    versions = VERSIONS

    def __init__(self, *_, **__):
        self.asked = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def request(self, verb, arguments):
        timed = {"seconds": [0.001, 0.0011], "calls": 1, "checksum": 0.5, "tool": "made up"}
        return {**timed, "first_call_seconds": 0.02 if arguments["first"] else None}


def time_workloads(folder, tell):
    bench.is_available = lambda name: True
    bench.write_arrays = lambda work, sizes, place: place / f"{work.name}.h5"
    bench.run(bench.make_plan(BENCH), folder / "bench.json", FakeWorker, tell)


def report(folder, tell):
    write_report(folder, ENGLISH)


WORKS = {
    work.__name__: work for work in (train_control, train_gpt, train_mlp, fixtures, record, time_workloads, report)
}


def do(work, folder, moment, pipe):
    """Do the work; the pipe gets a byte at each thing it tells and around each renaming."""
    replace, renamings = Path.replace, 0

    def tell(*_):
        os.write(pipe, b".")

    def told_replace(self, target):
        nonlocal renamings
        renamings += 1
        tell()
        if renamings == moment.get("half"):
            os.truncate(self, self.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        replace(self, target)
        tell()

    Path.replace = told_replace
    for module in (control, run):
        module.CHECKPOINT_SECONDS = module.PROGRESS_SECONDS = -1.0
    WORKS[work](Path(folder), tell)


def in_a_fork(work, folder, moment):
    """Do the work in a fork, killed once it has told `moment["after"]` things; whether it was killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            do(work, folder, moment, writing)
            os._exit(0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(1)
    os.close(writing)
    told = 0
    while told < moment.get("after", sys.maxsize) and (piece := os.read(reading, 1)):
        told += len(piece)
    if "after" in moment:
        os.kill(child, signal.SIGKILL)
    os.close(reading)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (0, -signal.SIGKILL):
        raise SystemExit(f"{work} failed")
    return status != 0


def main():
    torch.set_num_threads(1)
    Figure.savefig = lambda self, file, **_: file.write(b"a figure")
    torch.optim.SGD([torch.zeros(1)], 1.0)  # PyTorch loads much at the first optimizer
    for line in sys.stdin:
        sys.stdout.write(json.dumps(in_a_fork(**json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
