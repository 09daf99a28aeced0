"""A side that fails at some cases, in the comparison: each failure is told, and all other cases are compared."""

import json
import sys
import textwrap

import pytest

from twingrad import harness
from twingrad.sides import Worker, sides

FAULTS = {
    "killed": ("control_net-net-euler-donut1d", "side torch: the worker was killed by SIGKILL"),
    "hung": ("control_net-net-euler-donut2d", "side torch: the worker hung: nothing for 2 s during the request 'run'"),
    "noisy": ("control_net-net-euler-spiral2d", "side torch: the worker sent a line that is no JSON object"),
    "failed": ("control_net-net-euler-squares2d", "side torch: MemoryError"),
    "lazy": ("control_net-resnet-euler-donut1d", "out a result: expected a file of format twingrad-result"),
    "mistaken": ("control_net-resnet-euler-donut2d", "expected a result of case_digest"),
}
SOUND = ("control_net-odenet-euler-donut1d", "control_net-resnet-kutta3-donut1d")

WORKER = """
    import json, os, sys, time
    from dataclasses import replace
    from pathlib import Path

    from twingrad.format import Result, read_case

    side, faults = sys.argv[1], json.loads(sys.argv[2])


    def say(message):
        sys.stdout.write(json.dumps(message) + chr(10))
        sys.stdout.flush()


    say({"hello": {"protocol": 1, "side": side, "versions": {"language": "L", "framework": "F"}}})
    for line in sys.stdin:
        request = json.loads(line)
        arguments, number = request["arguments"], {"id": request["id"]}
        case = read_case(Path(arguments["case"]))
        fault = faults.get(case.name)
        match fault:
            case "killed":
                os.kill(os.getpid(), 9)
            case "hung":
                time.sleep(600)
            case "noisy":
                print("a library says hello", flush=True)
            case "failed":
                say(number | {"error": {"kind": "failure", "message": "MemoryError"}})
                continue
        digest = "0" * 64 if fault == "mistaken" else case.digest
        by_hand = {name.replace("/", "_manual/", 1): a for name, a in case.oracle.items() if name.startswith("grads")}
        arrays = {**case.oracle, **by_hand}
        result = Result(case.name, digest, side, arguments["dtype"], "cpu", {}, "", "", arrays)
        if fault != "lazy":
            result.write(Path(arguments["out"]))
        say(number | {"result": {"loss": 0.0}})
"""


@pytest.fixture
def _faulty_torch(tmp_path, monkeypatch):
    """Both sides answer with the oracles, but for the faults of one."""
    script = tmp_path / "worker.py"
    script.write_text(textwrap.dedent(WORKER))

    def worker(name, **options):
        faults = {case: fault for fault, (case, _) in FAULTS.items()} if name == "torch" else {}
        return Worker(name, command=[sys.executable, str(script), name, json.dumps(faults)], **options)

    monkeypatch.setattr(harness, "Worker", worker)
    monkeypatch.setattr(harness, "is_available", lambda name: True)


@pytest.mark.usefixtures("_faulty_torch")
def test_faults_are_told_and_stop_nothing_else(twingrad):
    cases = [case for case, _ in FAULTS.values()]
    names = [*cases[:3], SOUND[0], *cases[3:], SOUND[1]]
    options = ("--dtype", "float64", "--steps", "0", "--time-limit", "2", "--json")
    status, out, _ = twingrad("compare", *names, *options)
    found = json.loads(out)
    assert status == 1
    assert not found["agrees"]
    assert len(found["failures"]) == len(FAULTS)
    for (case, says), failure in zip(FAULTS.values(), found["failures"], strict=True):
        assert failure.startswith(f"case {case}, float64: ")
        assert says.split(": ")[-1] in failure
    assert all(check["passed"] for check in found["checks"])
    for name in names:
        pairs = {(check["left"], check["right"]) for check in found["checks"] if check["case"] == name}
        whole = {(side, "oracle") for side in sides()} | {(f"{side} by hand", side) for side in sides()}
        whole.add(tuple(sides()))
        assert pairs == (whole if name in SOUND else {pair for pair in whole if "torch" not in " ".join(pair)})
