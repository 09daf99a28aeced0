"""The comparator, above all that it fails."""

from dataclasses import replace

import numpy as np
import pytest

from twingrad import engine, paths
from twingrad.comparator import compare_array, compare_arrays, compare_case, read_bounds, relative_error
from twingrad.format import Result, read_case

BOUNDS = read_bounds(paths.shared_fixtures() / "bounds.toml")


def test_relative_error_is_as_defined():
    a, b = np.array([3.0, 4.0, 1.0]), np.array([3.0, 4.0, 0.0])
    assert relative_error(a, b) == pytest.approx(1 / 5)
    assert relative_error(b, b) == 0
    assert relative_error(np.array([0.0, -2.0]), np.zeros(2)) == 2
    assert relative_error(np.array([np.nan]), np.ones(1)) == np.inf
    assert relative_error(np.float64(1.5), np.float64(1.0)) == 0.5


def test_message_names_index_values_error_and_bound():
    a = np.zeros((2, 3))
    b = np.ones((2, 3))
    a[:] = b
    a[1, 2] = 1.5
    error, message = compare_array(a, b, 1e-10)
    assert error == pytest.approx(0.5 / np.sqrt(6))
    assert message == "worst at index [1, 2]: 1.5 against 1.0, error 2.04e-01, bound 1e-10"
    assert compare_array(b, b, 0.0) == (0.0, "")


@pytest.mark.parametrize(
    ("a", "b", "says"),
    [
        (np.zeros(2), np.zeros(3), "shape (2,) against (3,)"),
        (np.zeros((2, 1)), np.zeros((1, 2)), "shape (2, 1) against (1, 2)"),
        (np.zeros(2, np.int64), np.zeros(2), "dtype int64 against float64"),
        (np.zeros(2), np.zeros(2, np.float32), "dtype float64 against float32"),
        (np.array([np.nan]), np.zeros(1), "error inf"),
        (np.array([1e-9]), np.zeros(1), "error 1.00e-09"),
    ],
)
def test_what_cannot_agree_does_not(a, b, says):
    error, message = compare_array(a, b, 1e-10)
    assert error > 1e-10
    assert says in message


def test_float32_may_be_held_against_float64():
    assert compare_array(np.ones(2, np.float32), np.ones(2), 0.0) == (0.0, "")


def test_key_sets_must_be_equal():
    one, two = {"a": np.ones(1), "b": np.ones(1)}, {"a": np.ones(1), "c": np.ones(1)}
    checks = list(compare_arrays(one, two, 1.0, case="x", dtype="float64", check="sides", names=("torch", "flux")))
    assert {check.array: check.message for check in checks} == {
        "a": "",
        "b": "missing on the side of flux",
        "c": "missing on the side of torch",
    }


def both_sides(name, steps):
    """A case of the checkout and one result under the names of both sides."""
    case = read_case(paths.cases() / f"{name}.h5")
    arrays = engine.evaluate(case.model, case.config, case.groups, steps=steps)
    torch = Result(case.name, case.digest, "torch", "float64", "cpu", {}, "", "", arrays)
    return case, {"torch": torch, "flux": replace(torch, side="flux")}


@pytest.fixture(scope="module")
def results():
    return both_sides("control_net-odenet-kutta3-spiral2d", steps=3)


def test_equal_results_agree_in_every_kind_of_check(results):
    case, both = results
    checks = compare_case(case, both, BOUNDS)
    assert all(check.passed for check in checks)
    assert {(check.check, check.left, check.right) for check in checks} == {
        ("oracle", "torch", "oracle"),
        ("oracle", "flux", "oracle"),
        ("manual", "torch by hand", "torch"),
        ("manual", "flux by hand", "flux"),
        *(("oracle", f"{side} fast", "oracle") for side in both),
        *(("fast", f"{side} fast", side) for side in both),
        *(("steps", f"{side} fast", side) for side in both),
        ("sides", "torch", "flux"),
        ("steps", "torch", "flux"),
    }
    arrays = {check.array for check in checks if check.check == "sides"}
    names = {"K", "b", "W", "mu", "dt"}
    assert {f"grads/{name}" for name in names} | {f"grads_manual/{name}" for name in names} <= arrays
    assert {"loss", "outputs/prediction", "grads_inputs/x", "grads_inputs_manual/x"} <= arrays
    assert {check.array for check in checks if check.check == "steps"} == {
        "steps/descent/losses",
        *(f"steps/descent/params_after/{name}" for name in names),
    }


def test_a_change_of_any_array_is_caught_where_it_belongs(results):
    case, both = results
    flux = both["flux"]
    for path, array in flux.arrays.items():
        wrong = np.array(array)
        wrong.flat[-1] += 1e-6 * (np.linalg.norm(array) or 1.0)
        changed = {**both, "flux": replace(flux, arrays={**flux.arrays, path: wrong})}
        failed = [check for check in compare_case(case, changed, BOUNDS) if not check.passed]
        kinds = {check.check for check in failed}
        assert kinds
        if path.startswith("fast/"):
            assert kinds == ({"steps"} if "/steps/" in path else {"oracle", "fast"}), path
            assert {check.left for check in failed} == {"flux fast"}
        elif path.startswith("steps/"):
            assert kinds == {"steps"}, path
        elif "_manual" in path:
            assert kinds == {"sides", "manual"}, path
        elif path.startswith("grads"):
            assert kinds == {"sides", "oracle", "manual", "fast"}, path
        else:
            assert kinds == {"sides", "oracle", "fast"}, path


def test_every_optimizer_has_its_steps():
    case, both = both_sides("mlp-sigmoid-mse-small", steps=3)
    checks = compare_case(case, both, BOUNDS)
    assert all(check.passed for check in checks)
    stepped = {check.array for check in checks if check.check == "steps"}
    assert {array.split("/")[1] for array in stepped} == {"gradient-descent", "sgd", "adam", "adamw"}
    assert len(stepped) == 4 * (1 + 2 * 3)
    wrong = {**both["flux"].arrays, "steps/sgd/losses": both["flux"].arrays["steps/adam/losses"]}
    failed = compare_case(case, {**both, "flux": replace(both["flux"], arrays=wrong)}, BOUNDS)
    assert [(check.check, check.array) for check in failed if not check.passed] == [("steps", "steps/sgd/losses")]


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_running_statistics_are_held_against_the_oracle_and_the_other_side(mode):
    case, both = both_sides(f"resnet-20-{mode}-small", steps=0)
    path = "statistics/layer2.1.bn2.running_var"
    wrong = both["flux"].arrays[path].copy()
    wrong[1] *= 1 + 1e-9
    changed = {**both, "flux": replace(both["flux"], arrays={**both["flux"].arrays, path: wrong})}
    assert all(check.passed for check in compare_case(case, both, BOUNDS))
    failed = {(check.check, check.array) for check in compare_case(case, changed, BOUNDS) if not check.passed}
    assert failed == {("sides", path), ("oracle", path), ("fast", path)}


def test_a_missing_array_is_caught(results):
    case, both = results
    flux = both["flux"]
    for path in flux.arrays:
        fewer = {name: array for name, array in flux.arrays.items() if name != path}
        checks = compare_case(case, {**both, "flux": replace(flux, arrays=fewer)}, BOUNDS)
        assert any("missing" in check.message for check in checks), path


def test_transposed_and_permuted_weights_are_caught(results):
    case, both = results
    flux = both["flux"]
    for path, wrong in {
        "grads/K": np.swapaxes(flux.arrays["grads/K"], 1, 2),
        "grads/b": flux.arrays["grads/b"][::-1].copy(),
        "grads/dt": np.roll(flux.arrays["grads/dt"], 1),
    }.items():
        checks = compare_case(case, {**both, "flux": replace(flux, arrays={**flux.arrays, path: wrong})}, BOUNDS)
        assert {check.array for check in checks if not check.passed} == {path}


def test_results_of_two_dtypes_are_not_compared(results):
    case, both = results
    with pytest.raises(ValueError, match="one dtype"):
        compare_case(case, {**both, "flux": replace(both["flux"], dtype="float32")}, BOUNDS)
