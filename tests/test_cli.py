"""The command: exit statuses, one-line errors, tables of 80 columns, JSON."""

import dataclasses
import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from rich.console import Console

from twingrad import harness, paths
from twingrad.format import read_case, read_recorded, read_result
from twingrad.report.terminal import print_comparison
from twingrad.sides import side, sides, source_digest

CASES = ("control_net-resnet-kutta4-donut2d", "control_net-odenet-simplex-improved-euler-squares2d")


pytestmark = pytest.mark.usefixtures("_commands_share_a_worker", "small_checkout")


@pytest.fixture(scope="module")
def small_checkout(tmp_path_factory, torch_worker):
    """A checkout with two of the cases, and recorded results of these: reading all of them takes seconds."""
    assert torch_worker.versions  # started in the whole one
    root = tmp_path_factory.mktemp("small") / "checkout"
    for folder in ("shared_fixtures", "python/twingrad", "julia/src"):
        ignored = shutil.ignore_patterns("cases", "recorded", "__pycache__")
        shutil.copytree(paths.root() / folder, root / folder, ignore=ignored)
    (root / "shared_fixtures" / "cases").mkdir()
    (root / "shared_fixtures" / "recorded").mkdir()
    for name in CASES:
        shutil.copy(paths.cases() / f"{name}.h5", root / "shared_fixtures" / "cases")
    whole = {name: read_recorded(paths.recorded(name)) for name in sides()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWINGRAD_ROOT", str(root))
        digests = {name: read_case(paths.cases() / f"{name}.h5").digest for name in CASES}
        for name, recorded in whole.items():
            results = {case: recorded.results[case] for case in CASES}
            source = source_digest(side(name), digests)
            dataclasses.replace(recorded, results=results, source_digest=source).write(paths.recorded(name))
        yield root


@pytest.fixture(scope="module")
def running(_commands_share_a_worker, small_checkout):
    """The live PyTorch side and the recorded Flux results."""
    with harness.Sides(("flux",)) as started:
        yield started


@pytest.fixture(scope="module")
def comparison(running):
    """Both on two cases."""
    return harness.compare([paths.cases() / f"{name}.h5" for name in CASES], running)


@pytest.fixture
def compared(monkeypatch, comparison):
    """Makes `twingrad compare` print that comparison without running it again."""
    monkeypatch.setattr(harness, "compare", lambda *_: dataclasses.replace(comparison, failures=[]))


def test_compare_agrees_and_fits_80_columns(twingrad, compared):
    status, out, err = twingrad("compare", *CASES, "--recorded", "flux")
    assert status == 0, out + err
    assert "AGREE" in out
    assert "Recorded results stood in: Flux.jl RECORDED on" in out
    table = [line for line in out.splitlines() if "worst" in line or "euler" in line or "e-1" in line]
    assert len(table) >= 6
    assert max(len(line) for line in table) <= 80


def test_compare_speaks_json(twingrad, compared, tmp_path):
    status, out, _ = twingrad("compare", CASES[0], "--recorded", "flux", "--json", "--save", tmp_path / "c.json")
    found = json.loads(out)
    assert json.loads((tmp_path / "c.json").read_text()) == found
    assert status == 0
    assert (found["format"], found["format_version"], found["agrees"]) == ("twingrad-comparison", 1, True)
    assert [(source["side"], source["live"]) for source in found["sources"]] == [("torch", True), ("flux", False)]
    kinds = {(check["dtype"], check["check"]) for check in found["checks"]}
    exact = ("sides", "oracle", "manual", "fast", "steps")
    assert kinds == {*(("float64", kind) for kind in exact), ("float32", "oracle")}


def test_disagreement_is_exit_status_1(twingrad, tmp_path):
    """A case whose oracle is wrong by one part in a million."""
    file = tmp_path / "wrong.h5"
    shutil.copy(paths.cases() / f"{CASES[0]}.h5", file)
    with h5py.File(file, "r+") as h5:
        h5["oracle/grads/b"][1, 0] *= 1 + 1e-6
        del h5.attrs["digest"], h5.attrs["oracle_digest"]
    status, out, _ = twingrad("compare", file, "--recorded", "flux")
    assert status == 1
    assert "DISAGREE" in out
    assert "torch against oracle, grads/b: worst at index [1, 0]:" in out


def test_a_stale_recording_is_a_disagreement(twingrad, compared, monkeypatch):
    monkeypatch.setattr(harness, "stale_recordings", lambda: ["recorded/flux.h5: stale"])
    status, out, _ = twingrad("compare", "--recorded", "flux")
    assert status == 1
    assert "recorded/flux.h5: stale" in out


def test_changed_sources_make_a_recording_stale(small_checkout, tmp_path, monkeypatch):
    root = tmp_path / "checkout"
    shutil.copytree(small_checkout, root)
    monkeypatch.setenv("TWINGRAD_ROOT", str(root))
    assert harness.stale_recordings() == []
    changes = {"python/twingrad/control/costate.py": "torch", "julia/src/models/control_net.jl": "flux"}
    for source, name in changes.items():
        before = source_digest(side(name), {})
        text = (root / source).read_text("utf-8")
        (root / source).write_text(text.replace("\n", "\r\n"), "utf-8", newline="")
        assert source_digest(side(name), {}) == before, "line ends make no difference"
        (root / source).write_text(text.replace("+", "-", 1), "utf-8")
        assert source_digest(side(name), {}) != before
    torch, flux = harness.stale_recordings()
    assert "recorded/torch.h5: expected results of the present sources" in torch
    assert "recorded/flux.h5: expected results of the present sources" in flux


def test_run_writes_a_result_with_the_oracles_gradient(twingrad, tmp_path):
    case = paths.cases() / f"{CASES[0]}.h5"
    status, out, _ = twingrad("run", "--side", "torch", "--case", case, "--out", tmp_path / "out.h5", "--steps", 3)
    assert status == 0
    result = read_result(tmp_path / "out.h5")
    assert (result.side, result.dtype, result.case) == ("torch", "float64", CASES[0])
    assert result.arrays["steps/descent/losses"].shape == (3,)
    with h5py.File(case) as h5:
        assert np.allclose(result.arrays["grads/K"], h5["oracle/grads/K"][()], rtol=1e-12)
    assert "loss 0." in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("run", "--side", "lux", "--case", "x.h5", "--out", "y.h5"), "side: expected one of torch, flux, found 'lux'"),
        (
            ("run", "--side", "torch", "--case", "x.h5", "--out", "y.h5"),
            "x.h5: expected a file of format twingrad-case",
        ),
        (("compare", "no-such-case"), "no-such-case: expected a case file or the name of a case, found neither"),
        (("compare", CASES[0], "--dtype", "float16"), "dtype: expected one of float64, float32, found 'float16'"),
        (
            ("compare", CASES[0], "--recorded", "flux", "--steps", 5),
            "steps: expected 0 or 10, as recorded",
        ),
        (("compare", CASES[0], "--recorded", "lux"), "side: expected one of torch, flux, found 'lux'"),
        (("fixtures", "no-such-case"), "case: expected one of control_net-net-euler-d17"),
        (("seal", "x.h5"), "x.h5: expected a file of format twingrad-case, found no such file"),
        (("train", "control", "--out", "OUT", "--dataset", "moons"), "dataset: expected one of 'donut1d'"),
        (("train", "control", "--out", "OUT", "--network", "unet"), "network: expected one of 'net'"),
        (("train", "control", "--out", "OUT", "--method", "rk4"), "method: expected one of 'euler'"),
        (("train", "control", "--out", "OUT", "--freeze", "Q"), "freeze.0: expected one of 'K'"),
        (("train", "control", "--out", "/proc/nowhere"), "/proc/nowhere: expected a folder to write to"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(arguments, says, twingrad, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = twingrad(*arguments)
    assert status == 2
    assert err.startswith("twingrad: ")
    assert says in err
    assert err.count("\n") == 1
    assert out == ""
    assert list(tmp_path.iterdir()) == []


def test_an_unusable_out_leaves_nothing(twingrad, case_file, tmp_path):
    status, _, err = twingrad("run", "--side", "torch", "--case", case_file, "--out", tmp_path / "none" / "out.h5")
    assert status == 2
    assert "expected a place to write to" in err
    assert [file.name for file in tmp_path.iterdir()] == [case_file.name]


def test_unknown_options_are_exit_status_2(twingrad):
    assert twingrad("compare", "--colour", "red")[0] == 2
    assert twingrad("dance")[0] == 2


def test_train_control_trains_and_resumes(twingrad, tmp_path):
    options = ("--out", tmp_path, "--layers", 3, "--samples", 30, "--samples-test", 20, "--no-figures")
    status, out, err = twingrad("train", "control", *options, "--iterations", 4)
    assert status == 0, err
    assert "complete after 4 iterations" in out
    status, out, _ = twingrad("train", "control", *options, "--iterations", 8)
    assert "complete after 8 iterations" in out


def test_a_user_case_without_recording_says_what_was_compared(running, case_file, capsys):
    comparison = harness.compare([case_file], running)
    assert comparison.agrees
    print_comparison(Console(width=80), comparison)
    out = capsys.readouterr().out
    assert "by hand against AD" in out
    assert "side against side" not in out


def test_no_steps_are_compared_where_none_are_wanted(running):
    checks, failures = running.compare(paths.cases() / f"{CASES[0]}.h5", ("float64",), steps=0)
    assert not failures
    assert {check.check for check in checks} == {"sides", "oracle", "manual", "fast"}
    assert all(check.passed for check in checks)


def test_nothing_compared_is_no_agreement(capsys):
    empty = harness.Comparison([])
    assert not empty.agrees
    print_comparison(Console(width=80), empty)
    assert "NOTHING COMPARED" in capsys.readouterr().out


def test_doctor_says_what_is_missing(twingrad, monkeypatch):
    monkeypatch.setenv("TWINGRAD_JULIA", "none")
    monkeypatch.setattr(harness, "stale_recordings", lambda: ["recorded/flux.h5: stale"])
    status, out, _ = twingrad("doctor")
    assert status == 0
    for word in (
        "Python",
        "PyTorch: hdf5",
        "PyTorch: framework",
        "PyTorch: blas",
        "Julia is switched off",
        "not on this machine",
    ):
        assert word in out
    assert "→ recorded/flux.h5: stale" in out
    assert "→ No Julia can be used, so recorded Flux results stand in." in out


def test_cli_starts_without_a_framework():
    import subprocess
    import sys

    code = "import sys, twingrad.cli, twingrad.harness; print([m for m in ('torch', 'juliacall') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
    assert Path(harness.__file__).exists()
