"""Audits with workers that make their results up: what counts as caught, what is planted again, what is drawn."""

import importlib.util
import io
import re
import sys
from functools import cache
from typing import ClassVar

import pytest
from rich.console import Console

from twingrad import paths
from twingrad.audit import alarms, defects
from twingrad.audit.mutants import NO_MUTANT, Caught, is_meant, mutants_file, read_mutants
from twingrad.audit.saved import Alarms, Defects, Planted, read
from twingrad.audit.terminal import print_defects, print_false_alarms
from twingrad.comparator import Check
from twingrad.comparator.compare import part
from twingrad.engine import evaluate
from twingrad.errors import InputError, SideError
from twingrad.fixtures.random_recipes import FIRST_SEED, random_case
from twingrad.fixtures.recipes import recipes
from twingrad.format import Recorded, Result, read_case
from twingrad.harness import STEPS
from twingrad.sides import side, sides

PACKAGES = {"torch": "python/twingrad", "flux": "julia/src"}
CASE = "mlp-sigmoid-mse-small"


@pytest.mark.parametrize("name", sides())
def test_every_mutant_changes_one_place_and_names_cases_that_are_there(name):
    mutants, known = read_mutants(side(name)), {file.stem for file in paths.case_files()}
    assert len(mutants) >= 60
    assert 4 <= sum(mutant.quick for mutant in mutants) < 10
    for mutant in mutants:
        source = (paths.root() / PACKAGES[name] / mutant.file).read_text("utf-8")
        assert source.count(mutant.old) == 1, f"{mutant.name}: its text is there {source.count(mutant.old)} times"
        assert mutant.old != mutant.new
        assert set(mutant.cases) <= known, mutant.name


@pytest.mark.parametrize(
    ("array", "check", "meant"),
    [
        ("grads/K", "manual", True),
        ("grads/b", "manual", False),
        ("grads/K", "oracle", False),
    ],
)
def test_what_an_assertion_is_meant_for(array, check, meant):
    found = Check("case", "float64", check, "torch", "oracle", array, 1.0, 1e-11, "wrong")
    assert is_meant(Caught(check="manual", array="grads/K"), found) is meant
    assert is_meant(Caught(check="manual", array="grads/*"), found) is (check == "manual")


def test_a_table_with_two_mutants_of_one_name_is_refused(tmp_path, monkeypatch):
    entry = (
        '[[mutant]]\nname = "a"\ntopic = "t"\nmistake = "m"\nfile = "f"\nold = "o"\nnew = "n"\ncases = ["c"]\n'
        'caught_by = { check = "oracle", array = "loss" }\n'
    )
    file = tmp_path / "torch.toml"
    file.write_text("format_version = 1\n" + 2 * entry)
    monkeypatch.setattr("twingrad.audit.mutants.mutants_file", lambda _: file)
    with pytest.raises(InputError, match="names of their own, found a"):
        read_mutants(side("torch"))


def mutated_worker():
    file = paths.root() / "compare" / "mutants" / "worker.py"
    spec = importlib.util.spec_from_file_location("mutated_worker", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_planted_mistake_is_imported_and_no_file_changes(monkeypatch):
    source = paths.root() / "python/twingrad/schedule.py"
    before = source.read_bytes()
    finder = mutated_worker().MutatedFinder("schedule.py", "(step + 1) / (self.warmup + 1)", "17.0")
    spec = finder.find_spec("twingrad.schedule", None)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "twingrad.schedule", module)
    spec.loader.exec_module(module)
    assert module.COMPARED["sgd"].rate(0) == 17.0 * module.COMPARED["sgd"].learning_rate
    assert source.read_bytes() == before
    assert finder.find_spec("twingrad.engine", None) is None


def test_a_mistake_whose_text_is_gone_is_refused():
    finder = mutated_worker().MutatedFinder("schedule.py", "no such text", "")
    with pytest.raises(SystemExit, match="once, found it 0 times"):
        finder.find_spec("twingrad.schedule", None).loader.get_code("twingrad.schedule")


@cache
def recorded(file):
    """The recording of a side as if `CASE` were all cases, computed here."""
    case = read_case(paths.cases() / f"{CASE}.h5")
    common = {
        "side": file.stem,
        "dtype": "float64",
        "device": "cpu",
        "versions": {},
        "source_digest": "",
        "created": "",
    }
    arrays = evaluate(case.model, case.config, case.groups, steps=STEPS)
    return Recorded(**common, results={CASE: Result(CASE, case.digest, arrays=arrays, **common)})


class FakeWorker:
    """Answers with the recorded results, changed as `wrong` says by the name of the mutant: {array: factor}."""

    wrong: ClassVar = {}
    asked: ClassVar = []
    takes_out = True

    def __init__(self, name, command):
        self.name, self.mutant = name, command[-1]
        self.versions = {"language": "L", "framework": "F"}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def close(self, at_once):
        pass

    def request(self, verb, arguments):
        if verb == "plant":
            self.mutant = arguments["mutant"] if self.takes_out else self.mutant
            self.mutant = arguments["mutant"] if self.mutant == NO_MUTANT else self.mutant
            return
        type(self).asked.append((self.name, self.mutant))
        change = self.wrong.get(self.mutant, {})
        if isinstance(change, Exception):
            raise change
        case = read_case(arguments["case"])
        before = recorded(paths.recorded(self.name)).results[case.name]
        kept = before.arrays if arguments["steps"] else part(before.arrays, in_steps=False)
        arrays = {path: array * change.get(path, 1.0) for path, array in kept.items()}
        Result(**{**vars(before), "arrays": arrays}).write(arguments["out"])


def printed(print_it, found):
    console = Console(width=80, file=io.StringIO())
    print_it(console, found)
    return console.file.getvalue()


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """An audit of torch with made-up mutants, all meant to be caught by the oracle's gradients of the first bias."""

    monkeypatch.setattr(defects, "command_of", lambda of, mutated: [mutated])  # no worker starts: none need be there
    results = {name: recorded(paths.recorded(name)) for name in sides()}

    def run(wrong, of="torch"):
        first = read_mutants(side(of))[0]
        meant = Caught(check="oracle", array="grads/layers.0.bias")
        mutants = [first.model_copy(update={"name": name, "cases": [CASE], "caught_by": meant}) for name in wrong]
        monkeypatch.setattr(FakeWorker, "wrong", wrong)
        monkeypatch.setattr(FakeWorker, "asked", [])
        plan = defects.Plan("twingrad audit", {of: [one for one in mutants if one.name != NO_MUTANT]}, {}, results)
        return defects.audit(plan, tmp_path / "defects.json", FakeWorker, jobs=1)

    return run


def test_what_becomes_of_mutants(planted):
    found = planted(
        {
            "caught": {"grads/layers.0.bias": 1.5},
            "barely": {"grads/layers.0.bias": 1.0 + 5e-11},
            "elsewhere": {"loss": 1.5},
            "missed": {},
            "failed": SideError("side torch: it fell over"),
        }
    )
    assert {one.name: one.status for one in found.planted} == {
        "caught": "caught",
        "barely": "caught",
        "elsewhere": "elsewhere",
        "missed": "missed",
        "failed": "failed",
    }
    by_name = {one.name: one for one in found.planted}
    assert by_name["caught"].error == pytest.approx(0.5)
    assert by_name["caught"].margin == pytest.approx(0.5 / by_name["caught"].bound)
    assert by_name["barely"].margin < 100
    assert "loss" in by_name["elsewhere"].message
    assert by_name["failed"].message == "side torch: it fell over"
    assert found.score("torch") == (1, 5)
    assert found.controls == {"torch": []}
    assert not found.sound
    said = printed(print_defects, found)
    assert re.search(r"^all +1/5$", said, re.MULTILINE)
    assert "MISSED: every check passed" in said
    assert "but only 5 times the bound" in said


def test_a_failing_control_makes_the_score_worthless(planted):
    found = planted({"caught": {"grads/layers.0.bias": 1.5}, NO_MUTANT: {"loss": 1.1}})
    assert found.score("torch") == (1, 1)
    assert found.controls["torch"]
    assert not found.sound


def test_a_worker_that_stays_is_controlled_before_and_after(planted, monkeypatch):
    found = planted({"one": {"grads/layers.0.bias": 1.5}, "two": {"grads/layers.0.bias": 1.5}}, of="flux")
    assert FakeWorker.asked == [("flux", name) for name in (NO_MUTANT, "one", "two", NO_MUTANT)]
    assert found.sound
    monkeypatch.setattr(FakeWorker, "takes_out", False)
    found = planted({"three": {"grads/layers.0.bias": 1.5}}, of="flux")
    assert found.controls["flux"], "the mistake was not taken out"
    assert not found.sound


def test_an_audit_goes_on_and_starts_anew_for_other_sources(planted, tmp_path):
    wrong = {"caught": {"grads/layers.0.bias": 1.5}, "failed": SideError("it fell over")}
    planted(wrong)
    again = planted(wrong)
    assert set(FakeWorker.asked) == {("torch", "failed"), ("torch", NO_MUTANT)}
    assert len(again.planted) == 2
    saved = read(Defects, tmp_path / "defects.json")
    saved.digest = "another"
    saved.write(tmp_path / "defects.json")
    planted(wrong)
    assert ("torch", "caught") in FakeWorker.asked


def test_a_damaged_audit_is_refused(planted, tmp_path):
    (tmp_path / "defects.json").write_text("{}")
    with pytest.raises(InputError, match=r"defects\.json"):
        planted({"caught": {}})


def test_an_audit_needs_a_mutant_that_is_meant():
    with pytest.raises(InputError, match="one that is meant, found none for 'no-such-mistake'"):
        defects.make_plan(["torch"], "twingrad audit", only="no-such-mistake")


def test_an_audit_needs_a_side_that_is_there(monkeypatch):
    monkeypatch.setattr(defects, "is_available", lambda name: False)
    with pytest.raises(InputError, match="a side that is on this machine, found flux"):
        defects.make_plan(["flux"], "twingrad audit")


def test_random_cases_are_sound_and_never_those_of_the_checkout():
    drawn = [random_case(FIRST_SEED + number) for number in range(40)]
    for case in drawn:
        case.check()
    assert {case.model for case in drawn} == {"control_net", "gpt", "mlp", "resnet"}
    assert len({case.name for case in drawn}) == 40
    assert max(recipes()) < FIRST_SEED
    assert random_case(FIRST_SEED).digest == random_case(FIRST_SEED).digest


def _manual(path):
    kind, _, name = path.partition("/")
    return f"{kind}_manual/{name}"


class Sided:
    """Answers with the oracle of the case, in the right dtype, but for `wrong`, the factor of flux's loss."""

    wrong = 1.0

    def __init__(self, name):
        self.name, self.versions = name, {"language": "L", "framework": "F"}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def request(self, verb, arguments):
        case = read_case(arguments["case"])
        arrays = dict(case.oracle)
        if case.spec.manual_gradient:
            arrays |= {_manual(path): array for path, array in case.oracle.items() if path.startswith("grads")}
        if self.name == "flux":
            arrays["loss"] = arrays["loss"] * self.wrong
        common = {"case": case.name, "case_digest": case.digest, "side": self.name, "dtype": arguments["dtype"]}
        common |= {"device": "cpu", "versions": self.versions, "source_digest": "", "created": "2025-06-01T00:00:00Z"}
        kind = arguments["dtype"]
        Result(**common, arrays={path: array.astype(kind) for path, array in arrays.items()}).write(arguments["out"])


@pytest.fixture
def every_side(monkeypatch):
    monkeypatch.setattr(alarms, "is_available", lambda name: True)


def test_false_alarms_are_found_kept_and_told(tmp_path, monkeypatch, every_side):
    out, done = tmp_path / "false-alarms.json", []
    found = alarms.audit(3, 7, "twingrad audit", out, Sided, done.append)
    assert found.sound
    assert len(found.cases) == len(done) == 3
    monkeypatch.setattr(Sided, "wrong", 1.1)
    found = alarms.audit(5, 7, "twingrad audit", out, Sided, done.append)
    assert [bool(one.failures) for one in found.cases] == [False, False, False, True, True], "the first three are saved"
    kept = sorted(tmp_path.glob("false-alarms/*.h5"))
    assert [file.stem for file in kept] == sorted(one.name for one in found.cases[3:])
    said = printed(print_false_alarms, found)
    assert max(map(len, said.splitlines()[:5])) <= 80
    assert "torch against flux, loss" in said
    assert read(Alarms, out).cases == found.cases


def test_false_alarms_need_every_side(tmp_path, monkeypatch):
    monkeypatch.setattr(alarms, "is_available", lambda name: name == "torch")
    with pytest.raises(InputError, match="every side live, found no flux"):
        alarms.audit(1, 1, "", tmp_path / "a.json", Sided, print)


def test_margins():
    texts = dict.fromkeys(("name", "digest", "topic", "mistake"), "")
    one = Planted(**texts, side="torch", status="caught", check="oracle", array="loss")
    assert replace_model(one, error=1e-9, bound=1e-11).sound
    assert not replace_model(one, error=9e-10, bound=1e-11).sound
    assert mutants_file("torch").name == "torch.toml"


def replace_model(one, **values):
    return one.model_copy(update=values)
