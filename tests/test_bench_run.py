"""Runs with workers that make their times up: order, saving, resuming, what could not be timed. Nothing is timed."""

import io
import json
import sys
import textwrap

import pytest
from rich.console import Console

from twingrad.bench import machine
from twingrad.bench import run as running
from twingrad.bench.run import Settings, make_plan, run
from twingrad.bench.saved import Bench, Measured, NotRun, Visit, read_bench
from twingrad.bench.summary import TAKEN_OUT, ceiling_rows, growths, rows, warnings
from twingrad.bench.terminal import digits, print_bench, print_plan
from twingrad.bench.workloads import Choice
from twingrad.errors import InputError, Interrupted, SideError
from twingrad.report.language import ENGLISH
from twingrad.sides import Worker

SECONDS = {"torch": 1.0, "flux": 2.0}


class FakeWorker:
    """Answers with made-up seconds.

    `asked` has every request of every worker, `started` every worker, `broken` the exception to raise by side and
    workload, `versions_of` what a side says of itself; the fixture below makes them anew for each test.
    """

    out = None
    interrupt_at = None

    def __init__(self, name, *, threads, silence_seconds, without):
        self.name, self.threads = name, threads
        assert without == TAKEN_OUT
        FakeWorker.started.append((name, threads))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    @property
    def versions(self):
        found = self.versions_of.get(self.name, {"language": "L", "framework": "F", "blas": "B"})
        if isinstance(found, Exception):
            raise found
        return {"threads": self.threads, **found}

    def request(self, verb, arguments):
        assert verb == "bench"
        work = arguments["workload"]
        FakeWorker.asked.append((self.name, work["implementation"], work["name"], arguments["first"]))
        if FakeWorker.out is not None and FakeWorker.out.exists():
            saved = read_bench(FakeWorker.out)
            visits = sum(len(one.visits) for one in (*saved.ceilings, *saved.workloads))
            assert visits + len(saved.not_run) >= len(FakeWorker.asked) - 1, "each visit is saved before the next"
        if FakeWorker.interrupt_at == len(FakeWorker.asked):
            raise KeyboardInterrupt
        if (self.name, work["name"]) in self.broken:
            raise self.broken[self.name, work["name"]]
        scale = SECONDS[self.name] * (10.0 if work["kind"] == "ceiling" else 1.0) / self.threads
        return {
            **{
                "seconds": [0.001 * scale, 0.001 * scale, 0.00101 * scale],
                "calls": 1,
                "checksum": 0.5,
                "tool": "made up",
            },
            **{"first_call_seconds": 0.02 if arguments["first"] else None, "gc_share": None},
            **{"allocated_bytes": 8 if arguments["first"] else None, "peak_bytes": 2**20},
        }


@pytest.fixture(autouse=True)
def _fakes(monkeypatch, tmp_path):
    for name, value in (("asked", []), ("started", []), ("broken", {}), ("versions_of", {}), ("interrupt_at", None)):
        monkeypatch.setattr(FakeWorker, name, value, raising=False)
    monkeypatch.setattr(FakeWorker, "out", tmp_path / "bench.json")
    monkeypatch.setattr(running, "is_available", lambda name: True)
    monkeypatch.setattr(running, "write_arrays", lambda work, sizes, folder: folder / f"{work.name}.h5")
    monkeypatch.setattr(machine.os, "getloadavg", lambda: (0.0, 0.0, 0.0))


def plan_of(only=("mlp-step",), *, threads=(1,), rounds=2, dtypes=("float32",), sides=("torch", "flux"), **options):
    profile = options.pop("profile", "quick")
    return make_plan(Settings(Choice(profile, dtypes, "cpu", only, **options), sides, threads, rounds))


def bench_of(tmp_path, plan=None, **options) -> Bench:
    return run(plan or plan_of(**options), tmp_path / "bench.json", FakeWorker)


def text_of(bench, width=80):
    console = Console(file=io.StringIO(), width=width)
    print_bench(console, bench)
    return console.file.getvalue()


# ---- order


def test_sides_take_turns_and_change_places_in_odd_rounds(tmp_path):
    bench_of(tmp_path, rounds=3)
    assert [(side, name) for side, _, name, _ in FakeWorker.asked] == [
        ("torch", "matmul"), ("flux", "matmul"), ("torch", "mlp-step"), ("flux", "mlp-step"),
        ("flux", "matmul"), ("torch", "matmul"), ("flux", "mlp-step"), ("torch", "mlp-step"),
        ("torch", "matmul"), ("flux", "matmul"), ("torch", "mlp-step"), ("flux", "mlp-step"),
    ]  # fmt: skip
    assert [first for *_, first in FakeWorker.asked] == [True] * 4 + [False] * 8


def test_peers_come_after_the_projects_own(tmp_path):
    bench = bench_of(tmp_path, peers=True, rounds=2)
    steps = [(side, implementation) for side, implementation, name, _ in FakeWorker.asked if name == "mlp-step"]
    own = [("torch", "twingrad"), ("flux", "twingrad")]
    peers = [("torch", "plain"), ("flux", "reference"), ("flux", "flux-layers")]
    assert steps == [*own, *peers, *(own + peers)[::-1]]
    assert bench.workloads[0].implementations() == [*own, *peers]


def test_each_number_of_threads_has_its_workers_and_plots_have_the_first(tmp_path):
    bench = bench_of(tmp_path, only=("gpt-step",), threads=(2, 1), rounds=1)
    assert FakeWorker.started == [("torch", 2), ("flux", 2), ("torch", 1), ("flux", 1)]
    assert [(one.name, one.threads) for one in bench.workloads] == [
        ("gpt-step", 2), ("gpt-step-batch-3", 2), ("gpt-step-batch-6", 2), ("gpt-step", 1),
    ]  # fmt: skip
    assert [one.threads for one in bench.ceilings] == [2, 1]
    assert bench.threads == [2, 1]


def test_visits_are_counted_beforehand(tmp_path):
    plan, labels = plan_of(only=("gpt-step", "layer-norm"), threads=(1, 2), peers=True), []
    run(plan, tmp_path / "bench.json", FakeWorker, labels.append)
    assert len(labels) == plan.visits() == len(FakeWorker.asked)
    assert labels[0] == "matmul float32"


# ---- saving and resuming


def test_a_saved_run_reads_as_it_was_written(tmp_path):
    bench = bench_of(tmp_path)
    assert read_bench(tmp_path / "bench.json") == bench
    assert bench.complete
    assert [visit.round for visit in bench.workloads[0].of("flux")] == [0, 1]
    assert bench.sides["torch"].keys() >= {"language", "framework", "blas", "source_digest"}
    assert "threads" not in bench.sides["torch"]
    assert bench.command == (
        "twingrad bench --quick --sides torch,flux --threads 1 --device cpu --dtype float32 --rounds 2 "
        "--only 'mlp-step'"
    )


def test_an_interrupted_run_keeps_what_it_has_and_goes_on(tmp_path, monkeypatch):
    whole = run(plan_of(rounds=2), tmp_path / "whole.json", FakeWorker)
    asked = list(FakeWorker.asked)
    FakeWorker.asked.clear()
    monkeypatch.setattr(FakeWorker, "interrupt_at", 5)
    with pytest.raises(Interrupted):
        bench_of(tmp_path, rounds=2)
    left = read_bench(tmp_path / "bench.json")
    assert not left.complete
    assert sum(len(one.visits) for one in (*left.ceilings, *left.workloads)) == 4
    monkeypatch.setattr(FakeWorker, "interrupt_at", None)
    monkeypatch.setattr(FakeWorker, "out", None)
    FakeWorker.asked.clear()
    bench = bench_of(tmp_path, rounds=2)
    assert FakeWorker.asked == asked[4:]
    assert bench.complete
    assert (bench.workloads, bench.ceilings) == (whole.workloads, whole.ceilings)


def test_a_place_that_cannot_be_written_to_is_told_before_anything_is_timed(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="expected a folder to write to"):
        run(plan_of(), tmp_path / "file" / "bench.json", FakeWorker)
    assert FakeWorker.asked == []
    run(plan_of(), tmp_path / "new" / "folder" / "bench.json", FakeWorker)


def test_a_complete_run_asks_nobody(tmp_path):
    first = bench_of(tmp_path)
    FakeWorker.asked.clear(), FakeWorker.started.clear()
    assert bench_of(tmp_path) == first
    assert FakeWorker.asked == FakeWorker.started == []


def test_another_command_needs_another_file(tmp_path):
    bench_of(tmp_path)
    with pytest.raises(
        InputError, match=r"bench.json, command: .*--rounds 3.*found .*--rounds 2.*Choose another --out"
    ):
        bench_of(tmp_path, rounds=3)
    with pytest.raises(InputError, match=r"bench.json, command: expected twingrad bench --sides"):
        bench_of(tmp_path, profile="full")


def test_another_machine_needs_another_file(tmp_path, monkeypatch):
    bench_of(tmp_path)
    monkeypatch.setattr(machine, "processor", lambda: "Another 9000")
    with pytest.raises(InputError, match=r"bench.json, machine: expected Another 9000.*Choose another --out"):
        bench_of(tmp_path)


def test_other_versions_need_another_file(tmp_path, monkeypatch):
    monkeypatch.setattr(FakeWorker, "interrupt_at", 2)
    with pytest.raises(Interrupted):
        bench_of(tmp_path)
    monkeypatch.setattr(FakeWorker, "interrupt_at", None)
    FakeWorker.asked.clear()
    FakeWorker.versions_of["torch"] = {"language": "L", "framework": "F 2", "blas": "B"}
    with pytest.raises(InputError, match=r"sides, torch, framework: expected 'F 2', found 'F'. Choose another --out"):
        bench_of(tmp_path)


def test_a_resumed_run_remembers_the_busier_start(tmp_path, monkeypatch):
    monkeypatch.setattr(machine.os, "getloadavg", lambda: (1.5, 0.0, 0.0))
    bench_of(tmp_path)
    monkeypatch.setattr(machine.os, "getloadavg", lambda: (0.1, 0.0, 0.0))
    assert bench_of(tmp_path).machine.load_before == 1.5


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda saved: saved.update(format="other"), "bench.json, format: expected 'twingrad-bench', found 'other'"),
        (lambda saved: saved.update(format_version=2), "format_version: expected 1, found 2"),
        (lambda saved: saved.update(extra=1), "extra: expected only format"),
        (lambda saved: saved["workloads"][0].pop("visits") and None, None),
        (lambda saved: saved["workloads"][0].pop("name"), r"workloads.0.name: expected this entry"),
        (lambda saved: saved["workloads"][0]["visits"][0].update(seconds=[]), "seconds"),
        (lambda saved: saved["workloads"][0]["visits"][0].update(seconds=[0.0]), "seconds.0"),
        (lambda saved: saved["workloads"][0]["visits"][0].update(seconds=["1"]), "seconds.0"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, change, says):
    bench_of(tmp_path)
    file = tmp_path / "bench.json"
    saved = json.loads(file.read_text())
    change(saved)
    file.write_text(json.dumps(saved))
    if says is None:
        assert read_bench(file).workloads[0].visits == []
    else:
        with pytest.raises(InputError, match=says):
            read_bench(file)


def test_a_file_that_is_no_json_is_named(tmp_path):
    (tmp_path / "bench.json").write_text("{")
    with pytest.raises(InputError, match=r"bench.json: expected JSON of format twingrad-bench"):
        read_bench(tmp_path / "bench.json")
    with pytest.raises(InputError, match=r"none.json: expected a readable file, found no such file"):
        read_bench(tmp_path / "none.json")


# ---- what could not be timed


def test_a_side_that_is_not_there_is_named_and_the_other_is_timed(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "is_available", lambda name: name == "torch")
    bench = bench_of(tmp_path)
    assert {side for side, *_ in FakeWorker.asked} == {"torch"}
    assert bench.complete
    (missing,) = bench.not_run
    assert (missing.side, missing.workload) == ("flux", None)
    assert "NOT RUN on flux: everything: not on this machine." in text_of(bench)
    (row,) = rows(bench)
    assert row.ratio is None
    assert row.own("torch").seconds.median == pytest.approx(1e-3)
    assert row.own("flux") is None


def test_without_any_side_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "is_available", lambda name: False)
    with pytest.raises(InputError, match="sides: expected a side that is on this machine, found torch, flux"):
        bench_of(tmp_path)
    assert not (tmp_path / "bench.json").exists()


def test_a_workload_that_fails_is_asked_once_and_the_rest_goes_on(tmp_path):
    FakeWorker.broken["flux", "mlp-step"] = SideError("side flux: it broke\n  | at line 3")
    bench = bench_of(tmp_path, rounds=3)
    assert [name for side, _, name, _ in FakeWorker.asked if side == "flux"].count("mlp-step") == 1
    (missing,) = bench.not_run
    assert (missing.workload, missing.side, missing.dtype, missing.threads) == ("mlp-step", "flux", "float32", 1)
    assert missing.reason == "side flux: it broke\n  | at line 3"
    assert "NOT RUN on flux: mlp-step f32: side flux: it broke\n" in text_of(bench)
    assert len(bench.workloads[0].of("torch")) == 3


def test_the_same_reason_is_told_once(tmp_path):
    for name in ("gpt-step", "gpt-step-batch-3", "matmul"):
        FakeWorker.broken["flux", name] = InputError("dtype", expected="float32", found="'bfloat16'")
    text = text_of(bench_of(tmp_path, only=("gpt-step",)))
    assert text.count("NOT RUN") == 1
    assert "NOT RUN on flux: matmul f32 and 2 more: dtype: expected float32" in text


def test_a_worker_that_does_not_start_is_named(tmp_path):
    FakeWorker.versions_of["flux"] = SideError("side flux: cannot start julia")
    bench = bench_of(tmp_path, threads=(1, 2))
    assert [(one.side, one.workload, one.threads) for one in bench.not_run] == [("flux", None, 1), ("flux", None, 2)]
    assert list(bench.sides) == ["torch"]


def test_a_side_that_works_with_other_threads_is_not_timed(tmp_path):
    FakeWorker.versions_of["flux"] = {"language": "L", "framework": "F", "blas": "B", "threads": 7}
    bench = bench_of(tmp_path)
    assert bench.not_run[0].reason == "side flux: 1 threads were asked for, it works with 7"
    assert not any(side == "flux" for side, *_ in FakeWorker.asked)


def test_an_answer_that_is_no_visit_is_not_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(FakeWorker, "request", lambda self, verb, arguments: {"seconds": [1.0]})
    bench = bench_of(tmp_path)
    assert not bench.workloads[0].visits
    assert "the answer to 'bench', calls: expected this entry, found nothing" in bench.not_run[0].reason


def test_the_workers_do_not_see_the_variables_that_are_taken_out(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "PRESCOTT")
    script = tmp_path / "worker.py"
    script.write_text(
        textwrap.dedent(
            """
            import json, os
            said = {"threads": os.environ["OMP_NUM_THREADS"], "kernel": os.environ.get("OPENBLAS_CORETYPE")}
            print(json.dumps({"hello": {"protocol": 1, "side": "torch", "versions": said}}), flush=True)
            input()
            """
        )
    )
    for without, seen in ((TAKEN_OUT, None), ((), "PRESCOTT")):
        with Worker("torch", threads=3, command=[sys.executable, str(script)], without=without) as worker:
            assert worker.versions == {"threads": "3", "kernel": seen}
    assert machine.this_machine().environment["OPENBLAS_CORETYPE"] == "PRESCOTT", "and the file says what it was"


# ---- what a run says


def test_ratios_shares_and_throughputs_come_from_the_samples(tmp_path):
    bench = bench_of(tmp_path, only=("gpt-step",))
    row = rows(bench)[0]
    assert row.ratio.value == pytest.approx(0.5)
    assert row.ratio.low <= 0.5 <= row.ratio.high
    torch, flux = row.own("torch"), row.own("flux")
    flops = row.measured.flops
    assert torch.flops_per_second == pytest.approx(flops / 1e-3)
    assert flux.items_per_second == pytest.approx(768 / 2e-3)
    assert torch.ceiling == pytest.approx(2 * 1024**3 / 1e-2)
    assert torch.share == pytest.approx(flops / 1e-3 / torch.ceiling)
    assert torch.first_call_seconds == 0.02
    assert ceiling_rows(bench)[0].own("flux").share == pytest.approx(1.0)


def test_a_peer_is_held_against_its_own_side(tmp_path):
    (row,) = rows(bench_of(tmp_path, peers=True))
    assert row.peers["flux", "flux-layers"].value == pytest.approx(1.0)
    assert row.peers.keys() == {("torch", "plain"), ("flux", "reference"), ("flux", "flux-layers")}


def grown(tmp_path):
    """A run whose costs grow with the batch to the power 1 on torch and 1/2 on flux."""
    bench = bench_of(tmp_path, only=("gpt-step",))
    for measured in bench.workloads:
        for visit in measured.visits:
            batch = measured.sweeps["batch"]
            visit.seconds = [0.01 * (batch if visit.side == "torch" else batch**0.5)] * 3
    return bench


def test_exponents_are_fitted_through_all_points_of_a_plot(tmp_path):
    found = {(growth.sweep, growth.side): growth for growth in growths(grown(tmp_path))}
    assert found.keys() == {("batch", "torch"), ("batch", "flux")}, "one point makes no plot"
    assert [size for size, _ in found["batch", "torch"].points] == [3, 6, 12]
    assert found["batch", "torch"].exponent.value == pytest.approx(1.0)
    assert found["batch", "flux"].exponent.value == pytest.approx(0.5)


def test_a_quiet_run_warns_of_nothing(tmp_path):
    assert warnings(bench_of(tmp_path)) == []


def test_a_busy_machine_wide_spreads_and_other_checksums_are_warned_of(tmp_path):
    bench = bench_of(tmp_path, peers=True)
    bench.machine.load_before = 0.6
    measured = bench.workloads[0]
    for visit in measured.of("torch"):
        visit.seconds = [1.0, 1.2, 1.4, 1.6, 1.8]
    for visit in measured.of("flux"):
        visit.checksum *= 1.0 + 2e-3
    measured.of("flux", "flux-layers")[0].checksum *= 1.0 + 5e-4
    busy, wide, different = (ENGLISH(f"warned.{one.key}", **one.values) for one in warnings(bench))
    assert busy == f"the machine was busy before the start: a load of 0.6 on {bench.machine.cores} cores"
    start, end = wide.split(" medians have quartiles more than 20 % of the median apart; ")
    assert start.startswith("1 of ")
    assert end == "the widest are 29 % apart, of mlp-step float32 on torch, threads 1"
    assert different.startswith("mlp-step float32 on flux, threads 1: not the same thing, its checksum is 0.501")


def test_float64_checksums_are_held_more_tightly(tmp_path):
    bench = bench_of(tmp_path, dtypes=("float64",))
    for visit in bench.workloads[0].of("flux"):
        visit.checksum *= 1.0 + 1e-7
    assert len(warnings(bench)) == 1


def test_tables_fit_80_columns(tmp_path):
    plan = plan_of(only=(), dtypes=("float64", "float32"), rounds=1, profile="full", peers=True)
    bench = run(plan, tmp_path / "bench.json", FakeWorker)
    for measured in bench.workloads:
        measured.flops = None if measured.flops is None else 1.718e9  # all of the ceiling
    tables = text_of(bench, width=200).split("threads: 1")[1].splitlines()
    assert any("100/100%" in line for line in tables)
    assert max(map(len, tables)) <= 80
    assert text_of(bench).count("…") == 0
    console = Console(file=io.StringIO(), width=80)
    print_plan(console, plan)
    assert max(map(len, console.file.getvalue().splitlines())) <= 80


def test_the_table_shows_times_ratio_first_calls_and_share(tmp_path):
    line = next(line for line in text_of(bench_of(tmp_path)).splitlines() if line.startswith("mlp-step f32"))
    assert line.split()[:5] == ["mlp-step", "f32", "1.00", "2.00", "0.50"]
    assert line.split()[6:] == ["0.02/0.02", "1/1%"]


def test_points_of_plots_stand_in_the_table_of_growth_alone(tmp_path):
    text = text_of(grown(tmp_path))
    assert text.count("gpt-step-batch-3") == 0
    assert "gpt-step f32 batch 3–12 1.00 ± 0.00 0.50 ± 0.00" in " ".join(text.split())


@pytest.mark.parametrize(
    ("value", "text"), [(1234.5, "1234"), (123.4, "123"), (12.34, "12.3"), (1.234, "1.23"), (0.01234, "0.012")]
)
def test_times_have_three_digits(value, text):
    assert digits(value) == text


# ---- the command


def test_the_command_times_prints_and_goes_on(twingrad, tmp_path, monkeypatch):
    monkeypatch.setattr("twingrad.sides.Worker", FakeWorker)
    options = ("bench", "--quick", "--only", "mlp-step", "--threads", "1,1", "--out", tmp_path / "bench.json")
    status, out, err = twingrad(*options)
    assert (status, err) == (0, "")
    assert "mlp-step f32" in out
    assert read_bench(tmp_path / "bench.json").threads == [1]
    FakeWorker.asked.clear()
    assert twingrad(*options)[0] == 0
    assert FakeWorker.asked == []


def test_the_command_lists_without_timing(twingrad):
    status, out, _ = twingrad("bench", "--quick", "--list", "--only", "gpt", "--sides", "torch")
    assert status == 0
    assert "gpt-tokens" in out
    assert "2 rounds, threads 1, torch" in out
    assert FakeWorker.started == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--threads", "0"), "threads: expected numbers from 1 on, or 'all'"),
        (("--threads", "some"), "found 'some'"),
        (("--sides", "lux"), "side: expected one of torch, flux, found 'lux'"),
        (("--dtype", "int8"), "dtype: expected one of float64, float32, bfloat16, found 'int8'"),
        (("--device", "tpu"), "device: expected one of cpu, cuda, found 'tpu'"),
        (("--only", "dance"), "only: expected"),
    ],
)
def test_wrong_options_are_named(twingrad, options, says):
    status, _, err = twingrad("bench", "--list", *options)
    assert status == 2
    assert says in err


def test_entries_are_strict():
    with pytest.raises(ValueError, match="extra"):
        NotRun(workload=None, side="flux", reason="x", extra=1)
    assert Visit.model_config["strict"]
    assert Measured.model_fields["threads"].is_required()
