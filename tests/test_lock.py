"""Locks: the second command at the same work is told who does it; what is killed leaves nothing in the way."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from twingrad import files, lock, paths
from twingrad.errors import InputError
from twingrad.files import replacing
from twingrad.format import hdf5
from twingrad.lock import locked

OTHER = "twingrad other --out here"

HOLDER = f"""
import sys
from pathlib import Path
from twingrad.files import replacing
from twingrad.lock import locked

path = Path(sys.argv[1])
with locked(path, {OTHER!r}), replacing(path) as temporary:
    temporary.write_text("half")
    print("held", flush=True)
    sys.stdin.read()
"""


def names(folder):
    return sorted(file.name for file in folder.iterdir())


@pytest.fixture
def holder():
    """Starts a process that holds a lock on a path and writes half of it; returns the process."""
    started = []

    def start(path):
        command = [sys.executable, "-c", HOLDER, str(path)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_the_second_is_told_who_is_at_work(tmp_path):
    path = tmp_path / "torch"
    with locked(path, OTHER):
        assert json.loads((tmp_path / ".torch.lock").read_text())["command"] == OTHER
        says = (
            rf"{re.escape(str(path))}: expected nobody else at work on it, found '{OTHER}' \(process {os.getpid()} on "
            r"\S+, since \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\)\. Wait until it has ended, or choose another --out\."
        )
        with pytest.raises(InputError, match=says), locked(path, "twingrad mine"):
            pytest.fail("it is another's")
        with locked(tmp_path / "flux", "twingrad mine"):
            pass
    assert names(tmp_path) == []
    with locked(path, OTHER):
        pass


def test_the_lock_of_a_killed_process_is_free(tmp_path, holder):
    path = tmp_path / "torch"
    process = holder(path)
    with pytest.raises(InputError, match=rf"'{OTHER}' \(process {process.pid} on "), locked(path, "mine"):
        pytest.fail("it is another's")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert ".torch.lock" in names(tmp_path)
    with locked(path, "mine"):
        assert json.loads((tmp_path / ".torch.lock").read_text())["command"] == "mine"
        with replacing(path) as temporary:
            temporary.write_text("whole")
    assert names(tmp_path) == ["torch"]
    assert path.read_text() == "whole"


def test_never_two_at_once(tmp_path):
    """Holders remove the file that others open: none of these may take what has been removed for the lock."""
    inside, worst, done = [], [], []

    def work():
        while len(done) < 200:
            try:
                with locked(tmp_path / "x", "c"):
                    inside.append(1)
                    worst.append(len(inside))
                    done.append(1)
                    inside.pop()
            except InputError:
                continue

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(worst) == 1
    assert names(tmp_path) == []


def removing_once(file_of, real):
    """`try_lock`, before whose first success another process removes the file."""
    left = [1]

    def try_lock(handle, **options):
        if left and file_of().exists():
            left.pop()
            file_of().unlink()
        return real(handle, **options)

    return try_lock


def test_what_was_removed_before_it_was_locked_is_no_lock(tmp_path, monkeypatch):
    file = tmp_path / ".x.lock"
    monkeypatch.setattr(lock, "try_lock", removing_once(lambda: file, lock.try_lock))
    with locked(tmp_path / "x", "c"):
        assert file.exists()
        with pytest.raises(InputError, match="found 'c'"), locked(tmp_path / "x", "c"):
            pytest.fail("it is another's")


def test_a_temporary_file_removed_before_it_was_locked_is_made_anew(tmp_path, monkeypatch):
    def part():
        return next(tmp_path.glob(".x.*.part"))

    monkeypatch.setattr(files, "try_lock", removing_once(part, files.try_lock))
    with replacing(tmp_path / "x") as temporary:
        assert part() == temporary
        temporary.write_text("whole")
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize("content", [b"", b"[", b"[1]", b'{"command": "c"}', b"\xff" * 9])
def test_a_holder_that_cannot_be_read(tmp_path, content):
    with locked(tmp_path / "x", "c"):
        (tmp_path / ".x.lock").write_bytes(content)
        with pytest.raises(InputError, match="found another process"), locked(tmp_path / "x", "c"):
            pytest.fail("it is another's")


@pytest.mark.parametrize("module", [None, lock.fcntl])
def test_without_locks_work_goes_on(tmp_path, monkeypatch, module):
    def refuse(*_):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(lock, "fcntl", module)
    if module is not None:
        monkeypatch.setattr(module, "flock", refuse)
    left = tmp_path / ".x.abc.part"
    left.write_text("perhaps somebody's")
    with locked(tmp_path / "x", "c"), locked(tmp_path / "x", "c"), replacing(tmp_path / "x") as temporary:
        temporary.write_text("whole")
    assert (tmp_path / "x").read_text() == "whole"
    assert left.exists(), "nobody can tell whether its writer is dead"


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_folder_that_takes_no_lock_file(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(lock.os, "open", refuse)
        with locked(tmp_path / "x", "c"):
            pass
    with locked(tmp_path / "nowhere" / "x", "c"):
        pass


def test_a_full_disk_leaves_the_lock_without_its_holder(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(lock.os, "write", refuse)
    with (
        locked(tmp_path / "x", "c"),
        pytest.raises(InputError, match="found another process"),
        locked(tmp_path / "x", "c"),
    ):
        pytest.fail("it is another's")
    assert names(tmp_path) == []


def test_writers_at_once_leave_each_other_alone(tmp_path):
    """Two writers of one file, as two processes may be: each one's temporary file stays until it has ended."""
    path = tmp_path / "x[1]"
    (tmp_path / ".x[1].killed.part").write_text("half")
    with replacing(path) as first:
        with replacing(path) as second:
            assert len(names(tmp_path)) == 2, "what was left behind is gone, what is written now is not"
            second.write_text("second")
        first.write_text("first")
    assert names(tmp_path) == ["x[1]"]
    assert path.read_text() == "first"


def test_a_reader_sees_old_or_new(tmp_path):
    """The HDF5 library locks what it reads, and a writer's lock on its temporary file must not be in its way."""
    file, contents = tmp_path / "x.h5", [{"a": np.full(5000, value)} for value in (1.0, 2.0)]

    def write(number):
        hdf5.write_sealed(file, "x", {"number": number}, contents[number])

    def write_many():
        for turn in range(60):
            write(turn % 2)

    write(0)
    writer = threading.Thread(target=write_many)
    writer.start()
    seen = set()
    while writer.is_alive():
        found = hdf5.read_sealed(file, "x", ("number",), ("a",))
        assert np.array_equal(found.arrays["a"], contents[found.integer("number")]["a"])
        seen.add(found.integer("number"))
    writer.join()
    assert seen
    assert names(tmp_path) == ["x.h5"]


COMMANDS = {
    "train control": ("torch", ("train", "control", "--out", ".")),
    "train gpt": ("torch", ("train", "gpt", "--out", ".", "--text", "text.txt")),
    "train mlp": ("flux", ("train", "mlp", "--out", ".", "--side", "flux")),
    "train resnet": ("torch", ("train", "resnet", "--out", ".")),
    "bench": ("bench.json", ("bench", "--quick", "--out", "bench.json")),
    "report": ("report", ("report", "--out", ".")),
    "experiment depth": ("depth", ("experiment", "depth", "--out", ".")),
    "experiment paper": ("paper", ("experiment", "paper", "--out", ".")),
    "experiment flow": ("flow", ("experiment", "flow", "--out", ".")),
    "attack": ("attack", ("attack", "--checkpoint", "torch.h5", "--out", ".")),
    "fixtures": ("cases", ("fixtures", "--out", "cases")),
    "record": ("shared_fixtures/recorded", ("record",)),
    "record while fixtures": ("shared_fixtures/cases", ("record",)),
    "data mnist": ("mnist", ("data", "mnist", "--out", ".")),
    "data shakespeare": ("tinyshakespeare.txt", ("data", "shakespeare", "--out", ".")),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_take_the_lock(twingrad, tmp_path, monkeypatch, name):
    small = shutil.ignore_patterns("cases", "recorded", "digits")
    shutil.copytree(paths.shared_fixtures(), tmp_path / "shared_fixtures", ignore=small)
    monkeypatch.setenv("TWINGRAD_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    Path("torch.h5").touch()
    Path("text.txt").touch()
    path, arguments = COMMANDS[name]
    before = names(tmp_path)
    with locked(Path(path), OTHER):
        status, out, err = twingrad(*arguments)
    assert (status, out) == (2, "")
    assert re.fullmatch(rf"twingrad: \S+: expected nobody else at work on it, found '{OTHER}' .*\n", err), err
    assert set(names(tmp_path)) - set(before) <= {"cases", "mnist"}


def test_under_torchrun_the_process_that_leads_takes_the_lock(twingrad, tmp_path, monkeypatch):
    (tmp_path / "text.txt").touch()
    for variable, value in (("RANK", "0"), ("WORLD_SIZE", "1"), ("MASTER_ADDR", "x"), ("MASTER_PORT", "1")):
        monkeypatch.setenv(variable, value)
    with locked(tmp_path / "torch", OTHER):
        status, _, err = twingrad("train", "gpt", "--out", tmp_path, "--text", tmp_path / "text.txt")
    assert status == 2
    assert f"nobody else at work on it, found '{OTHER}'" in err
    assert names(tmp_path) == ["text.txt"]
