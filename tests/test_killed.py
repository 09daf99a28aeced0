"""What is killed at any moment goes on, or starts clean, and ends as if nothing had been; no half file is ever read."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from killed_runs import NAMES
from test_report_write import contents, put_experiments
from twingrad import paths
from twingrad.bench.saved import read_bench
from twingrad.format import read_case, read_checkpoint, read_recorded, read_training
from twingrad.harness import stale_recordings

MOMENTS = ({"half": 1}, {"after": 1}, {"after": 4}, {"half": 2}, {"after": 7}, {"half": 3}, {"after": 12})
"""A temporary file that is half written, and a kill while the work goes on after so many things that it told."""
VARIES = {"created", "history/seconds"}
FOLDERS = {"fixtures": "cases"}
SECONDS = 60.0
BUSY = """
    from twingrad.sides.worker_process import leave_with_harness

    leave_with_harness()
    print('{"hello": {"protocol": 1, "versions": {}}}', flush=True)
    input()
    print('{"id": 1, "progress": {}}', flush=True)
    while True:
        pass
"""
HARNESS = f"""
    import os, sys, threading
    from twingrad.sides import Worker

    worker = Worker("torch", command=[sys.executable, "-c", {textwrap.dedent(BUSY)!r}])
    start = threading.Thread(target=worker.versions.get, args=("", ""))
    start.start()
    start.join()
    worker.request("x", {{}}, lambda _: print(worker.process_id, flush=True))
"""


@pytest.fixture(scope="module")
def do():
    """Does a piece of work in a folder, killed at a moment if one is given; whether it was killed."""
    command = [sys.executable, str(Path(__file__).with_name("killed_runs.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def ask(work, folder, moment=None):
            request = {"work": work, "folder": str(folder), "moment": moment or {}}
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            reply = process.stdout.readline()
            assert reply, f"{work} failed"
            return json.loads(reply)

        yield ask
        process.stdin.close()


def state_of(file):
    """All that a file of a known kind holds but what no two runs share; fails where it is not whole."""
    match file.parent.name, file.name:
        case ("cases", _):
            return read_case(file).digest
        case ("recorded", _):
            return {name: bytes_of(result.arrays) for name, result in read_recorded(file).results.items()}
        case (_, "bench.json"):
            saved = read_bench(file)
            return [[(visit.side, visit.round) for visit in one.visits] for one in (*saved.ceilings, *saved.workloads)]
        case (_, "last.h5" | "best.h5"):
            saved = read_checkpoint(file)
            groups = ("params", "first_moment", "second_moment", "history")
        case (_, "torch.h5"):
            saved = read_training(file)
            groups = ("params", "initial", "history", "picture")
        case _:
            return file.read_bytes()
    arrays = {f"{group}/{name}": array for group in groups for name, array in getattr(saved, group).items()}
    return saved.iteration, saved.status, bytes_of(arrays)


def bytes_of(arrays):
    return {name: np.asarray(array).tobytes() for name, array in arrays.items() if name not in VARIES}


def states(folder):
    """The states of all files by name, without temporary ones."""
    files = (file for file in sorted(folder.rglob("*")) if file.is_file() and file.suffix != ".part")
    return {file.relative_to(folder).as_posix(): state_of(file) for file in files}


def parts(folder):
    return sorted(file.name for file in folder.rglob("*.part"))


def kill_at_all_moments(do, work, folder):
    """Kill the work again and again, each time where the last kill has left it; then let it end."""
    kills = 0
    for moment in MOMENTS:
        kills += do(work, folder, moment)
        left = [name.rsplit(".", 2)[0] for name in parts(folder)]
        assert len(left) == len(set(left)), "the next writer of a name removes what the last one left behind"
        states(folder)
    assert kills >= 3
    assert not do(work, folder)


@pytest.mark.parametrize("work", ["train_control", "train_gpt", "train_mlp", "fixtures", "time_workloads"])
def test_a_killed_work_goes_on(do, tmp_path, work):
    folders = [tmp_path / name / FOLDERS.get(work, "out") for name in ("whole", "killed")]
    for folder in folders:
        folder.mkdir(parents=True)
    assert not do(work, folders[0])
    kill_at_all_moments(do, work, folders[1])
    assert states(folders[1]) == states(folders[0])
    assert parts(tmp_path) == []


def test_a_killed_report_is_written_anew(do, tmp_path):
    folders = [tmp_path / name for name in ("whole", "killed")]
    for folder in folders:
        put_experiments(folder)
    assert not do("report", folders[0])
    kill_at_all_moments(do, "report", folders[1])
    assert contents(folders[1]) == contents(folders[0])


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with three cases, and recorded results of other sources."""
    root = tmp_path / "checkout"
    for folder in ("shared_fixtures", "python/twingrad", "julia/src"):
        ignored = shutil.ignore_patterns("cases", "recorded", "digits", "__pycache__")
        shutil.copytree(paths.root() / folder, root / folder, ignore=ignored)
    for folder in ("cases", "recorded"):
        (root / "shared_fixtures" / folder).mkdir()
    for name in NAMES:
        shutil.copy(paths.cases() / f"{name}.h5", root / "shared_fixtures" / "cases")
    monkeypatch.setenv("TWINGRAD_ROOT", str(root))
    return root


def test_a_killed_record_is_told(do, checkout):
    """Recordings of two sides belong together: where one is missing or of other sources, the comparison says so."""
    folder = checkout / "shared_fixtures" / "recorded"
    assert len(stale_recordings()) == 2
    assert do("record", checkout, {"half": 2})
    assert list(states(folder)) == ["torch.h5"]
    assert len(stale_recordings()) == 1
    kill_at_all_moments(do, "record", checkout)
    assert stale_recordings() == []
    assert parts(checkout) == []
    for name in ("engine.py", "evaluation.py"):
        (checkout / "python" / "twingrad" / name).write_text("# changed\n")
    assert do("record", checkout, {"half": 1})
    assert len(stale_recordings()) == 1, "torch.h5 is whole, but of other sources"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a worker notices when it reads or writes next")
def test_a_worker_in_the_middle_of_a_computation_dies_with_its_harness():
    command = [sys.executable, "-c", textwrap.dedent(HARNESS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as harness:
        pid = int(harness.stdout.readline())
        os.kill(pid, 0)
        harness.kill()
    wait_for_death(pid)


def wait_for_death(pid):
    """Returns once the process is gone, or a zombie that nobody has buried yet."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state in "ZX":
            return
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("it lives on")
