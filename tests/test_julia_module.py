"""`twingrad.julia.load()`: the Julia module in a process of its own, equal to the worker."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from twingrad import paths
from twingrad.format import read_case, read_result
from twingrad.sides import Worker, is_available

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
    import juliapkg

    return bool(os.environ.get("TWINGRAD_JULIA")) or (is_available("flux") and juliapkg.resolve(dry_run=True))


def test_the_module_computes_what_the_worker_computes(tmp_path):
    if not has_python_call():
        pytest.skip("NOT RUN: no Julia with PythonCall here; 'twingrad setup' installs it")
    out = tmp_path / "notebook.npz"
    run = subprocess.run([sys.executable, "-c", NOTEBOOK, str(out)], capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip().endswith("TwinGrad")
    file = paths.cases() / f"{CASE}.h5"
    with Worker("flux") as worker:
        worker.request("run", {"case": str(file), "out": str(tmp_path / "worker.h5"), "steps": 3})
    expected = read_result(tmp_path / "worker.h5").arrays
    with np.load(out) as found:
        assert {name.replace("|", "/") for name in found} == expected.keys()
        for path, array in expected.items():
            assert np.array_equal(found[path.replace("/", "|")], array), path
    oracle = read_case(file).oracle
    assert np.allclose(expected["grads/K"], oracle["grads/K"], rtol=1e-10, atol=1e-16)


def test_torch_in_the_process_is_refused():
    code = "import torch, twingrad.julia\ntry:\n    twingrad.julia.load()\nexcept Exception as e:\n    print(e)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "expected a process without torch, found torch already loaded" in run.stdout


def test_juliapkg_json_names_the_package_in_julia():
    import tomllib

    requirement = json.loads((paths.root() / "python/twingrad/juliapkg.json").read_text())["packages"]["TwinGrad"]
    project = tomllib.loads((paths.root() / "julia/Project.toml").read_text())
    assert requirement["uuid"] == project["uuid"]
    assert (paths.root() / "python/twingrad" / requirement["path"]).resolve() == paths.root() / "julia"


def test_versions_are_equal_everywhere():
    import tomllib

    python = tomllib.loads((paths.root() / "pyproject.toml").read_text())["project"]["version"]
    assert tomllib.loads((paths.root() / "julia/Project.toml").read_text())["version"] == python
    assert f"## {python}" in (paths.root() / "CHANGELOG.md").read_text()
