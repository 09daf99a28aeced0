"""`twingrad.julia.load()`: the Julia module in a process of its own, equal to the worker."""

import os
import subprocess
import sys
from pathlib import Path

import juliapkg
import numpy as np
import pytest

from twingrad import harness, paths
from twingrad.format import read_case

CASE = "control_net-odenet-kutta3-d5"

NOTEBOOK = f"""
import json, sys
import numpy as np
import twingrad.julia
from twingrad import paths, read_case

case = read_case(paths.cases() / "{CASE}.h5")
TwinGrad = twingrad.julia.load()
assert "torch" not in sys.modules
found = twingrad.julia.evaluate(case.model, json.loads(case.config_text), steps=3, **case.groups)
np.savez(sys.argv[1], **{{path.replace("/", "|"): array for path, array in found.items()}})
print(TwinGrad)
"""


def has_python_call() -> bool:
    return bool(os.environ.get("TWINGRAD_JULIA")) or juliapkg.resolve(dry_run=True)


def test_the_module_computes_what_the_worker_computes(both_live: harness.Sides, tmp_path: Path) -> None:
    if not has_python_call():
        pytest.skip("NOT RUN: no Julia with PythonCall here; 'twingrad setup' installs it")
    out = tmp_path / "notebook.npz"
    run = subprocess.run([sys.executable, "-c", NOTEBOOK, str(out)], capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip().endswith("TwinGrad")
    file = paths.cases() / f"{CASE}.h5"
    case = read_case(file)
    expected = both_live.result("flux", case, file, "float64", 3).arrays
    with np.load(out) as found:
        assert {name.replace("|", "/") for name in found} == expected.keys()
        for path, array in expected.items():
            assert np.array_equal(found[path.replace("/", "|")], array), path
    assert np.allclose(expected["grads/K"], case.oracle["grads/K"], rtol=1e-10, atol=1e-16)
