"""Files: what is written is read; what is damaged, foreign or contradictory gets one clear error."""

# ruff: noqa: E501  (a table with a row per kind of damage)

import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from twingrad import engine, paths
from twingrad.errors import InputError
from twingrad.format import Recorded, Result, Training, hdf5, read_case, read_recorded, read_result, read_training, seal


def rewrite(file: Path, name: str, value: object) -> None:
    with h5py.File(file, "r+") as h5:
        del h5[name]
        if value is not None:
            h5[name] = value


def set_attribute(file: Path, name: str, value: object) -> None:
    with h5py.File(file, "r+") as h5:
        del h5.attrs[name]
        if value is not None:
            h5.attrs[name] = value


def drop_digest(file: Path) -> None:
    set_attribute(file, "digest", None)


def test_a_case_survives_writing(case_file, small_case):
    case = read_case(case_file)
    assert case.digest == small_case.digest
    assert case.sealed
    assert case.config == small_case.config
    for group, arrays in small_case.groups.items():
        for name, array in arrays.items():
            assert np.array_equal(case.groups[group][name], array)


def config(**settings: str) -> str:
    return json.dumps({"network": "odenet", "method": "kutta3", "scale": "mean", **settings})


# What is done to a good file (after its digest is dropped), and what the error must say: entry, expected, found.
DAMAGES = {
    "missing array": (lambda f: rewrite(f, "params/b", None), "/params/b: expected float64 array (N, d), found no such entry"),
    "missing group": (lambda f: rewrite(f, "targets", None), "/targets/c: expected float64 array (samples,)"),
    "extra array": (lambda f: add(f, "params/extra", 1.0), "/params/extra: expected only K, b, W, mu, dt, found an extra"),
    "extra group": (lambda f: add(f, "more/x", 1.0), "/more/x: expected only /params, /inputs, /targets, /oracle"),
    "shape": (lambda f: rewrite(f, "params/b", np.zeros((2, 3))), "/params/b: expected shape (N, d) = (2, 2), found shape (2, 3)"),
    "dimensions": (lambda f: rewrite(f, "params/mu", 0.0), "/params/mu: expected shape (1,), found shape ()"),
    "no samples": (lambda f: rewrite(f, "inputs/x", np.zeros((0, 2))), "/inputs/x: expected shape (samples, d)"),
    "float32": (lambda f: rewrite(f, "params/mu", np.zeros(1, "f4")), "/params/mu: expected dtype float64, found dtype float32"),
    "integers": (lambda f: rewrite(f, "targets/c", np.zeros(3, "i8")), "/targets/c: expected dtype float64, found dtype int64"),
    "booleans": (lambda f: rewrite(f, "targets/c", np.zeros(3, "?")), "/targets/c: expected dtype float64, float32, int64, found dtype bool"),
    "big-endian": (lambda f: rewrite(f, "params/mu", np.zeros(1, ">f8")), "/params/mu: expected little-endian numbers"),
    "text": (lambda f: rewrite(f, "params/mu", "zero"), "/params/mu: expected dtype"),
    "not a number": (lambda f: rewrite(f, "params/dt", [0.1, np.nan]), "/params/dt: expected finite numbers, found nan at index (1,)"),
    "infinite": (lambda f: rewrite(f, "inputs/x", [[0, 1], [np.inf, 0], [1, 1.0]]), "/inputs/x: expected finite numbers, found inf at index (1, 0)"),
    "label": (lambda f: rewrite(f, "targets/c", [0.0, 2.0, 1.0]), "/targets/c: expected labels 0 or 1, found"),
    "format": (lambda f: set_attribute(f, "format", "other"), "attribute format: expected 'twingrad-case', found 'other'"),
    "version": (lambda f: set_attribute(f, "format_version", 2), "attribute format_version: expected 1, found 2"),
    "version text": (lambda f: set_attribute(f, "format_version", "1"), "attribute format_version: expected an integer, found '1'"),
    "no name": (lambda f: set_attribute(f, "name", None), "attribute name: expected this attribute, found no such attribute"),
    "name": (lambda f: set_attribute(f, "name", "../up"), "attribute name: expected a name of A-Z a-z 0-9 _ . -, found '../up'"),
    "extra attribute": (lambda f: attribute(f, "colour", "red"), "attribute colour: expected only format"),
    "model": (lambda f: set_attribute(f, "model", "contrl_net"), "attribute model: expected one of control_net, gpt, mlp, resnet, found 'contrl_net'"),
    "no JSON": (lambda f: set_attribute(f, "config", "{network"), "attribute config: expected a JSON object"),
    "network": (lambda f: set_attribute(f, "config", config(network="unet")), "config, network: expected one of 'net', 'resnet', 'odenet' or 'odenet-simplex', found 'unet'"),
    "method": (lambda f: set_attribute(f, "config", config(method="rk4")), "config, method: expected one of 'euler'"),
    "no scale": (lambda f: set_attribute(f, "config", '{"network": "odenet", "method": "euler"}'), "config, scale: expected this entry, found nothing"),
    "extra setting": (lambda f: set_attribute(f, "config", config(depth="3")), "config, depth: expected only network, method, scale"),
    "net with kutta3": (lambda f: set_attribute(f, "config", config(network="net")), "network 'net' is no time discretisation"),
    "wrong dt": (lambda f: set_attribute(f, "config", config(network="resnet")), "/params/dt: expected every time step 0.5 (network 'resnet')"),
    "no simplex": (lambda f: set_attribute(f, "config", config(network="odenet-simplex")), "/params/dt: expected time steps >= 0 with sum 1"),
    "link": (lambda f: link(f, h5py.SoftLink("/params/W")), "/params/mu: expected data stored in the file, found a link"),
    "external": (lambda f: link(f, h5py.ExternalLink("/etc/hosts", "/x")), "/params/mu: expected data stored in the file, found a link"),
    "array name": (lambda f: add(f, "params/a b", 1.0), "/params/a b: expected a name of A-Z a-z 0-9 _ . -"),
    "half an oracle": (lambda f: add(f, "oracle/loss", 1.0), "/oracle/grads/K: expected float64 array"),
}  # fmt: skip


def add(file: Path, name: str, value: object) -> None:
    with h5py.File(file, "r+") as h5:
        h5[name] = value


def attribute(file: Path, name: str, value: object) -> None:
    with h5py.File(file, "r+") as h5:
        h5.attrs[name] = value


def link(file: Path, target: object) -> None:
    with h5py.File(file, "r+") as h5:
        del h5["params/mu"]
        h5["params/mu"] = target


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_case_gets_one_clear_error(damage, case_file):
    do, says = DAMAGES[damage]
    drop_digest(case_file)
    read_case(case_file)
    do(case_file)
    with pytest.raises(InputError) as caught:
        read_case(case_file)
    assert str(caught.value).startswith(str(case_file))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_change_breaks_the_digest(case_file):
    changes = {
        "params/K": lambda h5: h5["params/K"].__setitem__((0, 0, 0), 7.0),
        "inputs/x": lambda h5: h5["inputs/x"].__setitem__((2, 1), 7.0),
        "targets/c": lambda h5: h5["targets/c"].__setitem__(0, 1.0 - h5["targets/c"][0]),
        "config": lambda h5: h5.attrs.__setitem__("config", config(scale="sum")),
        "name": lambda h5: h5.attrs.__setitem__("name", "renamed"),
    }
    original = case_file.read_bytes()
    for change in changes.values():
        case_file.write_bytes(original)
        with h5py.File(case_file, "r+") as h5:
            change(h5)
        with pytest.raises(InputError, match=r"attribute digest: expected [0-9a-f]{64}, found [0-9a-f]{64}"):
            read_case(case_file)


def test_a_changed_oracle_breaks_its_digest(tmp_path):
    file = tmp_path / "case.h5"
    file.write_bytes(paths.case_files()[0].read_bytes())
    with h5py.File(file, "r+") as h5:
        h5["oracle/grads/mu"][0] *= 1.0000001
    with pytest.raises(InputError, match="attribute oracle_digest: expected"):
        read_case(file)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.95])
def test_a_truncated_file_is_refused(share, case_file):
    whole = case_file.read_bytes()
    case_file.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError, match="expected a whole HDF5 file, found a damaged or foreign one"):
        read_case(case_file)


def test_foreign_and_missing_files_are_refused(tmp_path):
    (tmp_path / "text.h5").write_text("not HDF5")
    with pytest.raises(InputError, match="damaged or foreign"):
        read_case(tmp_path / "text.h5")
    with pytest.raises(InputError, match="found no such file"):
        read_case(tmp_path / "none.h5")
    with h5py.File(tmp_path / "other.h5", "w") as h5:
        h5["x"] = 1.0
    with pytest.raises(InputError, match="attribute format: expected text, found no such attribute"):
        read_case(tmp_path / "other.h5")


def test_sealing_adds_the_digest_once(case_file, small_case):
    drop_digest(case_file)
    assert not read_case(case_file).sealed
    assert seal(case_file).digest == small_case.digest
    assert read_case(case_file).sealed
    stamp = case_file.stat().st_mtime_ns
    seal(case_file)
    assert case_file.stat().st_mtime_ns == stamp


def test_text_of_variable_length_is_read_too(case_file):
    """What h5py writes where it is told nothing."""
    with h5py.File(case_file, "r+") as h5:
        for name in ("name", "model", "config"):
            text = h5.attrs[name].decode()
            del h5.attrs[name]
            h5.attrs[name] = text
    read_case(case_file)


def a_result(small_case, **changes: object) -> Result:
    arrays = engine.evaluate("control_net", small_case.config, small_case.groups, steps=2)
    fields = {"case": "small", "case_digest": small_case.digest, "side": "torch", "dtype": "float64", "device": "cpu"}
    fields |= {"versions": {"language": "Python"}, "source_digest": "0" * 64, "created": "2026-01-01T00:00:00Z"}
    return Result(**{**fields, "arrays": arrays, **changes})


def test_results_and_recordings_survive_writing(small_case, tmp_path):
    result = a_result(small_case)
    result.write(tmp_path / "result.h5")
    found = read_result(tmp_path / "result.h5")
    assert found.versions == result.versions
    assert found.arrays.keys() == result.arrays.keys()
    assert all(np.array_equal(found.arrays[path], array) for path, array in result.arrays.items())
    common = {
        name: getattr(result, name) for name in ("side", "dtype", "device", "versions", "source_digest", "created")
    }
    Recorded(**common, results={"small": result, "twin": result}).write(tmp_path / "recorded.h5")
    recorded = read_recorded(tmp_path / "recorded.h5")
    assert recorded.results.keys() == {"small", "twin"}
    assert np.array_equal(recorded.results["twin"].arrays["grads/K"], result.arrays["grads/K"])


def test_a_changed_recording_is_refused(small_case, tmp_path):
    result = a_result(small_case)
    common = {
        name: getattr(result, name) for name in ("side", "dtype", "device", "versions", "source_digest", "created")
    }
    file = tmp_path / "recorded.h5"
    changes = {
        "array": lambda h5: h5["cases/small/grads/K"].__setitem__((0, 0, 0), 1.0),
        "case digest": lambda h5: h5["cases/small"].attrs.__setitem__("case_digest", "f" * 64),
        "source digest": lambda h5: h5.attrs.__setitem__("source_digest", "f" * 64),
        "date": lambda h5: h5.attrs.__setitem__("created", "2027-01-01T00:00:00Z"),
    }
    for change in changes.values():
        Recorded(**common, results={"small": result}).write(file)
        with h5py.File(file, "r+") as h5:
            change(h5)
        with pytest.raises(InputError, match="attribute digest"):
            read_recorded(file)


def test_a_training_survives_writing_and_is_checked(tmp_path):
    arrays = {"K": np.zeros((1, 2, 2))}
    history = {name: np.zeros(3 if name == "step_constant" else 4) for name in ("objective", "step_constant")}
    history |= {name: np.zeros(2) for name in ("objective_test", "accuracy_train", "accuracy_test")}
    history["evaluated"] = np.array([0, 3])
    training = Training("torch", {"a": 1}, {"seed": 1}, 3, 0.125, "running", arrays, arrays, history)
    file = tmp_path / "torch.h5"
    training.write(file)
    found = read_training(file)
    assert (found.step_constant, found.iteration, found.settings) == (0.125, 3, {"seed": 1})
    set_attribute(file, "step_constant", 0.25)
    with pytest.raises(InputError, match="attribute digest"):
        read_training(file)
    Training("torch", {}, {}, 4, 0.125, "running", arrays, arrays, history).write(file)
    with pytest.raises(InputError, match=re.escape("/history/objective: expected shape (5,), found shape (4,)")):
        read_training(file)


def test_nothing_half_written_stays(tmp_path, monkeypatch):
    file = tmp_path / "x.h5"
    file.write_bytes(b"old")
    with pytest.raises(KeyError):
        hdf5.write(file, {}, {"a": np.zeros(2), "b": np.zeros(2, "f2")})
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]
    with pytest.raises(InputError, match="expected a place to write to"):
        hdf5.write(tmp_path / "none" / "x.h5", {}, {})
