"""Workers that behave and workers that do not: died, hung, noisy, restarted."""

import sys
import textwrap
from pathlib import Path

import pytest

from twingrad import worker as torch_worker
from twingrad.errors import InputError, Interrupted, SideError
from twingrad.sides import Worker

HELLO = 'print(\'{"hello": {"protocol": 1, "side": "x", "versions": {"language": "L"}}}\', flush=True)\n'


@pytest.fixture
def worker_of(tmp_path):
    workers = []

    def make(body: str, **options) -> Worker:
        script = tmp_path / f"worker{len(workers)}.py"
        script.write_text("import json, os, sys, time\n" + textwrap.dedent(body))
        worker = Worker("torch", command=[sys.executable, str(script)], **options)
        workers.append(worker)
        return worker

    yield make
    for worker in workers:
        worker.close(at_once=True)


ECHO = HELLO + textwrap.dedent(
    """
    for line in sys.stdin:
        request = json.loads(line)
        arguments = request["arguments"]
        if arguments.get("die"):
            print("something went wrong", file=sys.stderr, flush=True)
            os._exit(7)
        if arguments.get("kill"):
            os.kill(os.getpid(), 9)
        if "line" in arguments:
            print(arguments["line"], flush=True)
        if arguments.get("hang"):
            time.sleep(60)
        if arguments.get("noise"):
            print("noise on the pipe", flush=True)
        for number in range(arguments.get("progress", 0)):
            print(json.dumps({"id": request["id"], "progress": {"number": number}}), flush=True)
        if "error" in arguments:
            print(json.dumps({"id": request["id"], "error": arguments["error"]}), flush=True)
        else:
            print(json.dumps({"id": request["id"], "result": {"pid": os.getpid()}}), flush=True)
    """
)


def test_one_process_serves_many_requests(worker_of):
    worker = worker_of(ECHO)
    assert worker.versions == {"language": "L"}
    seen = []
    pids = {worker.request("x", {"progress": 3}, seen.append)["pid"] for _ in range(5)}
    assert len(pids) == 1
    assert seen[:3] == [{"number": 0}, {"number": 1}, {"number": 2}]


def test_a_dead_worker_is_reported_with_its_stderr_and_restarted(worker_of):
    worker = worker_of(ECHO)
    first = worker.request("x", {})["pid"]
    with pytest.raises(SideError, match=r"died with exit status 7 during the request 'x'.*\n.*something went wrong"):
        worker.request("x", {"die": True})
    assert worker.request("x", {})["pid"] != first


def test_a_hung_worker_is_stopped_and_restarted(worker_of):
    worker = worker_of(ECHO, silence_seconds=0.5)
    first = worker.request("x", {})["pid"]
    with pytest.raises(SideError, match=r"hung: nothing for 0.5 s during the request 'x'"):
        worker.request("x", {"hang": True})
    assert not Path(f"/proc/{first}").exists() or sys.platform != "linux"
    assert worker.request("x", {})["pid"] != first


def test_noise_on_the_pipe_is_named(worker_of):
    worker = worker_of(ECHO)
    with pytest.raises(SideError, match=r"sent a line that is no JSON object.*noise on the pipe"):
        worker.request("x", {"noise": True})
    worker.request("x", {})


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"kill": True}, "was killed by SIGKILL, as where memory ran out, during the request 'x'"),
        ({"line": "[" * 100_000}, r"sent a line that is no JSON object.*: '\[{200}'$"),
        ({"line": '{"id": 1, "result": 7}'}, "sent a message without progress, result, error: {'id': 1, 'result': 7}"),
        ({"line": '{"id": 1, "progress": []}'}, "sent a message without progress, result, error"),
        ({"line": '{"id": 1, "error": "it broke"}'}, "sent a message without progress, result, error"),
        ({"line": '{"id": 9, "result": {}}'}, "answered request 9 instead of 1"),
    ],
)
def test_a_worker_that_breaks_the_protocol_is_named(worker_of, arguments, says):
    worker = worker_of(ECHO)
    with pytest.raises(SideError, match=says):
        worker.request("x", arguments)
    worker.request("x", {})


def test_out_of_memory_is_a_failure_that_is_named(monkeypatch, capsys):
    def fill(*_):
        raise MemoryError

    monkeypatch.setitem(torch_worker.VERBS, "run", fill)
    reply = torch_worker.answer({"verb": "run"}, lambda _: None)
    assert reply == {"error": {"kind": "failure", "message": "MemoryError"}}
    assert "MemoryError" in capsys.readouterr().err


def test_errors_keep_their_kind(worker_of):
    worker = worker_of(ECHO)
    wrong = {"kind": "input", "where": "my.h5, /params/K", "expected": "a", "found": "b", "hint": "Do c."}
    with pytest.raises(InputError, match=r"my.h5, /params/K: expected a, found b. Do c."):
        worker.request("x", {"error": wrong})
    with pytest.raises(SideError, match="side torch: it broke"):
        worker.request("x", {"error": {"kind": "failure", "message": "it broke"}})
    worker.request("x", {})


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("sys.exit('no such package')", "no such package"),
        ('print(\'{"hello": {"protocol": 99}}\', flush=True); time.sleep(60)', "expected a hello of protocol 1"),
        ('print(\'{"hello": {"protocol": 1}}\', flush=True); time.sleep(60)', "a hello of protocol 1 with versions"),
        ("print('Hello!', flush=True); time.sleep(60)", "no JSON object during its start"),
        ("time.sleep(60)", "hung: nothing for 1 s during its start"),
    ],
)
def test_a_worker_that_does_not_start_is_named(worker_of, body, says):
    worker = worker_of(body, start_seconds=1.0 if "hung" in says else 30.0)
    with pytest.raises(SideError, match=says) as first:
        worker.request("x", {})
    with pytest.raises(SideError) as again:
        worker.request("x", {})
    assert again.value is first.value, "it is not started again"


def test_a_missing_program_is_named():
    with pytest.raises(SideError, match="cannot start /no/such/program"):
        Worker("torch", command=["/no/such/program"]).request("x", {})


def test_the_torch_worker_keeps_prints_out_of_the_protocol(case_file, tmp_path):
    """The real worker: two requests, one of them bad, and its own answers only."""
    with Worker("torch") as worker:
        assert worker.versions["framework"].startswith("PyTorch")
        out = tmp_path / "out.h5"
        done = worker.request("run", {"case": str(case_file), "out": str(out)})
        assert done["loss"] > 0
        assert out.exists()
        with pytest.raises(InputError, match=r"none.h5: expected a file of format twingrad-case"):
            worker.request("run", {"case": "none.h5", "out": str(out)})
        with pytest.raises(
            InputError,
            match="verb: expected run, train-control, train-gpt, train-classifier, classify, evaluate, "
            "generate, attack, convergence, stream, bench, read, found 'dance'",
        ):
            worker.request("dance", {})
        with pytest.raises(InputError, match="dtype: expected one of float64, float32, bfloat16, found 'float16'"):
            worker.request("run", {"case": str(case_file), "out": str(out), "dtype": "float16"})


def test_an_interrupt_stops_the_worker(worker_of):
    worker = worker_of(ECHO)
    pid = worker.request("x", {})["pid"]

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        worker.request("x", {"progress": 1}, interrupt)
    assert not Path(f"/proc/{pid}").exists() or sys.platform != "linux"
