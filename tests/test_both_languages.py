"""The notebook door without Julia, and what Python and Julia must have in common."""

import json
import subprocess
import sys
import tomllib

from twingrad import paths


def test_torch_in_the_process_is_refused():
    code = """
import sys, types
sys.modules["torch"] = types.ModuleType("torch")
import twingrad.julia
try:
    twingrad.julia.load()
except twingrad.InputError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "expected a process without torch, found torch already loaded" in run.stdout


def test_juliapkg_json_names_the_package_in_julia():
    requirement = json.loads((paths.root() / "python/twingrad/juliapkg.json").read_text())["packages"]["TwinGrad"]
    project = tomllib.loads((paths.root() / "julia/Project.toml").read_text())
    assert requirement["uuid"] == project["uuid"]
    assert (paths.root() / "python/twingrad" / requirement["path"]).resolve() == paths.root() / "julia"
