"""The cases: what the generator makes, what confirms it, and a lint of the folder."""

import numpy as np
import pytest

from twingrad import engine, paths
from twingrad.errors import SideError
from twingrad.fixtures import generate
from twingrad.fixtures.control_net import METHODS, control_net_recipes
from twingrad.fixtures.finite_differences import confirm
from twingrad.fixtures.gpt import gpt_recipes
from twingrad.fixtures.mlp import KINK, mlp_recipes
from twingrad.fixtures.recipes import recipes
from twingrad.fixtures.resnet import resnet_recipes
from twingrad.format import read_case


def test_recipes_cover_every_network_method_and_data_set():
    made = list(control_net_recipes())
    covered = {(recipe.network, recipe.method, recipe.dataset) for recipe in made}
    datasets = {"donut1d", "donut2d", "squares2d", "spiral2d"}
    assert covered >= {(n, m, data) for n, methods in METHODS.items() for m in methods for data in datasets}
    assert {recipe.d for recipe in made} >= {2, 3, 64}
    assert {recipe.layers for recipe in made} >= {1, 5, 20, 100}


def test_recipes_of_gpt_cover_what_goes_wrong():
    made = list(gpt_recipes())
    assert any(recipe.tokens == 1 < recipe.context for recipe in made)
    assert any(recipe.tokens == recipe.context > 1 for recipe in made)
    assert {recipe.heads for recipe in made} >= {1, 2, 3, 8}
    splittings = {(recipe.splitting, recipe.dt == 1.0) for recipe in made}
    assert splittings == {(splitting, usual) for splitting in ("lie", "strang") for usual in (True, False)}
    assert {recipe.tied for recipe in made} == {True, False}


def test_recipes_of_mlp_cover_every_activation_loss_and_number_of_outputs():
    made = list(mlp_recipes())
    outputs = {(recipe.activation, recipe.loss, min(recipe.sizes[-1], 3)) for recipe in made if len(recipe.sizes) > 2}
    assert outputs >= {(a, loss, n) for a in ("sigmoid", "relu") for loss in ("mse", "cross-entropy") for n in (1, 3)}
    assert {(recipe.loss, recipe.sizes[-1]) for recipe in made if len(recipe.sizes) == 2} >= {
        *(("mse", 1), ("cross-entropy", 1), ("cross-entropy", 4))
    }
    assert {recipe.samples for recipe in made} >= {1, 7}


def test_recipes_of_resnet_cover_both_families_modes_and_sizes_that_do_not_halve():
    made = list(resnet_recipes())
    assert {(recipe.variant, recipe.mode) for recipe in made} >= {
        *((variant, mode) for variant in ("resnet20", "resnet18") for mode in ("train", "eval")),
        ("resnet50", "train"),
    }
    assert any(recipe.size[0] % 4 and recipe.size[1] % 4 for recipe in made if recipe.variant == "resnet20")
    assert any(recipe.size[0] != recipe.size[1] for recipe in made)
    assert {recipe.residual for recipe in made} == {True, False}
    assert any(recipe.images == 1 for recipe in made)


def test_names_and_seeds_are_used_once():
    made = recipes()
    kinds = (control_net_recipes(), gpt_recipes(), mlp_recipes(), resnet_recipes())
    assert len({recipe.name for recipe in made.values()}) == len(made) == sum(len(list(kind)) for kind in kinds)


@pytest.mark.parametrize("path", ["grads/K", "grads/b", "grads/W", "grads/mu", "grads/dt", "grads_inputs/x"])
@pytest.mark.parametrize("damage", ["sign", "scale", "one entry"])
def test_finite_differences_catch_a_wrong_gradient(small_case, path, damage):
    oracle = engine.evaluate("control_net", small_case.config, small_case.groups)
    oracle = {name: array for name, array in oracle.items() if name.startswith(("grads/", "grads_inputs/"))}

    loss = engine.loss_function("control_net", small_case.config)
    assert all(found.holds for found in confirm(loss, small_case.groups, oracle, seed=1))
    wrong = oracle[path].copy()
    if damage == "sign":
        wrong = -wrong
    elif damage == "scale":
        wrong *= 1 + 1e-6
    else:
        wrong.flat[-1] += 1e-5 * np.linalg.norm(wrong)
    found = confirm(loss, small_case.groups, {**oracle, path: wrong}, seed=1)
    assert {one.path for one in found if not one.holds} == {path}


def test_nothing_is_written_where_finite_differences_contradict(monkeypatch, tmp_path):
    honest = engine.evaluate

    def lying(*arguments, **options):
        result = honest(*arguments, **options)
        return result | {"grads/b": -result["grads/b"]}

    monkeypatch.setattr(engine, "evaluate", lying)
    with pytest.raises(SideError, match=r"grads/b.*finite differences.*Nothing was written"):
        generate.write_cases(["control_net-net-euler-donut1d"], tmp_path, lambda *_: None)
    assert list(tmp_path.iterdir()) == []


def test_writing_twice_writes_once(tmp_path):
    names = ["control_net-net-euler-donut1d", "control_net-odenet-kutta4-one-layer"]
    assert generate.write_cases(names, tmp_path, lambda *_: None) == 2
    stamps = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert generate.write_cases(names, tmp_path, lambda *_: None) == 0
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == stamps
    case = read_case(tmp_path / f"{names[0]}.h5")
    assert case.digest == read_case(paths.cases() / f"{names[0]}.h5").digest


def test_lint_names_orphans_missing_and_foreign_files(tmp_path, small_case):
    name = "control_net-net-euler-donut1d"
    small_case.write(tmp_path / "orphan.h5")
    small_case.write(tmp_path / f"{name}.h5")
    found = "\n".join(generate.problems(tmp_path))
    assert "orphan.h5: expected a case of the generator, found an orphan" in found
    assert f"{name}.h5: expected a sealed case '{name}'" in found
    assert "control_net-net-euler-donut2d.h5: expected a case, found no file" in found


def test_no_hidden_unit_of_a_relu_case_is_at_its_kink():
    cases = [read_case(file) for file in paths.case_files() if file.stem.startswith("mlp-relu")]
    assert len(cases) >= 8
    for case in cases:
        params, y = case.groups["params"], case.groups["inputs"]["x"]
        for layer in range(len(case.config.sizes) - 2):
            before = y @ params[f"layers.{layer}.weight"].T + params[f"layers.{layer}.bias"]
            assert np.abs(before).min() > KINK, f"{case.name}, layer {layer}"
            y = np.maximum(before, 0.0)
