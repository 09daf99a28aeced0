"""The packages as users get them: a wheel that works far from the repository, Julia's folder alone, one version."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from packaging.version import Version

from twingrad import __version__, paths
from twingrad.errors import InputError
from twingrad.sides import side, sides, source_digest

ROOT = Path(__file__).parents[1]
TOOLS = Path(sys.executable).parent
SHARED = {"presets.toml", "digits/digits-images-idx3-ubyte.gz", "digits/digits-labels-idx1-ubyte.gz"}
"""What Julia trains with where there is no checkout."""


def build(kind: str, source: Path, out: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(out)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, text=True)
    (made,) = out.iterdir()
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as pip would install it, into a folder of its own."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def in_wheel(unpacked: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs Python in a folder far from the repository, with the unpacked wheel and no Julia."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TWINGRAD_")}
    environment |= {"PYTHONPATH": str(unpacked), "TWINGRAD_JULIA": "none"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def checksums(wheel: Path) -> dict[str, int]:
    with zipfile.ZipFile(wheel) as archive:
        return {entry.filename: entry.CRC for entry in archive.infolist()}


def tracked(*patterns: str) -> set[str]:
    """The repository's files, and new ones that git does not ignore."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if run.returncode:
        pytest.skip("NOT RUN: this is no git repository")
    return set(run.stdout.split("\n")) - {""}


def test_a_wheel_carries_what_the_repository_tracks_and_nothing_else(wheel: Path):
    carried = "twingrad/checkout/"
    expected = {file.removeprefix("python/") for file in tracked("python/twingrad")}
    expected |= {carried + file for file in tracked("shared_fixtures", "compare/mutants", "julia/src", "julia/*.*")}
    expected -= {file for file in expected if file.startswith((carried + "julia/test", carried + "julia/share"))}
    found = {name for name in checksums(wheel) if ".dist-info/" not in name}
    assert found == expected
    assert wheel.stat().st_size < 20e6


def test_a_source_distribution_makes_the_same_wheel(wheel: Path, tmp_path: Path):
    archive = build("sdist", ROOT, tmp_path / "sdist")
    shutil.unpack_archive(archive, tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    assert checksums(build("wheel", source, tmp_path / "wheel")) == checksums(wheel)


def test_a_wheel_compares_far_from_the_repository(unpacked: Path, tmp_path: Path):
    run = in_wheel(unpacked, tmp_path, "-m", "twingrad", "compare", "control_net-odenet-kutta3-d5")
    assert run.returncode == 0, run.stderr
    assert "AGREE" in run.stdout
    assert "Flux.jl RECORDED" in run.stdout


SOURCES = """
import json
from twingrad import paths
from twingrad.sides import side, sides, source_digest
print(json.dumps([str(paths.root()), {name: source_digest(side(name), {}) for name in sides()}]))
"""


def test_a_wheel_has_the_sources_of_its_recordings(unpacked: Path, tmp_path: Path):
    run = in_wheel(unpacked, tmp_path, "-c", SOURCES)
    assert run.returncode == 0, run.stderr
    root, digests = json.loads(run.stdout)
    assert root == str(unpacked / "twingrad" / "checkout")
    assert digests == {name: source_digest(side(name), {}) for name in sides()}


def test_an_installed_package_writes_no_cases_and_recordings_of_its_own(
    twingrad: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(paths, "CARRIED", paths.root())
    for name in ("record", "fixtures"):
        status, out, err = twingrad(name)
        assert (status, out) == (2, "")
        assert "TWINGRAD_ROOT: expected a checkout of TwinGrad, whose files this command writes" in err


def test_without_shared_files_one_is_told_how_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TWINGRAD_ROOT", str(tmp_path))
    with pytest.raises(InputError, match="TWINGRAD_ROOT: expected a checkout of TwinGrad with shared_fixtures"):
        paths.root()


def test_juliapkg_finds_the_julia_package_in_both_layouts(unpacked: Path):
    uuid = tomllib.loads((ROOT / "julia/Project.toml").read_text("utf-8"))["uuid"]
    for package in (ROOT / "python/twingrad", unpacked / "twingrad"):
        said = json.loads((package / "juliapkg.json").read_text("utf-8"))
        entry = said["packages"]["TwinGrad"]
        assert (package / entry["path"] / "src/TwinGrad.jl").is_file()
        assert entry["uuid"] == uuid


def test_julia_alone_has_copies_of_what_it_trains_with():
    """After a change of the shared files: make share."""
    copies = ROOT / "julia/share"
    assert {file.relative_to(copies).as_posix() for file in copies.rglob("*") if file.is_file()} == SHARED
    for name in SHARED:
        assert (copies / name).read_bytes() == (ROOT / "shared_fixtures" / name).read_bytes(), name


def versions(root: Path) -> dict[str, str]:
    julia = tomllib.loads((root / "julia/Project.toml").read_text("utf-8"))["version"]
    return {"Julia": julia, "citation": yaml.safe_load((root / "CITATION.cff").read_text("utf-8"))["version"]}


def test_there_is_one_version():
    changes = [line.split()[1] for line in (ROOT / "CHANGELOG.md").read_text("utf-8").splitlines() if line[:3] == "## "]
    assert set(versions(ROOT).values()) == {__version__}
    assert changes[0] == __version__, "the first heading of CHANGELOG.md is the version's"
    assert changes == sorted(changes, key=Version, reverse=True)


def test_one_command_sets_the_version_everywhere(tmp_path: Path):
    for name in ("Makefile", "pyproject.toml", "CITATION.cff", "julia/Project.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    command = ["make", "version", "VERSION=9.8.7", f"BIN={TOOLS}"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert set(versions(tmp_path).values()) == {"9.8.7"}
    compat = [tomllib.loads((root / "julia/Project.toml").read_text("utf-8"))["compat"] for root in (ROOT, tmp_path)]
    assert compat[0] == compat[1]


def test_the_citation_is_valid(tmp_path: Path):
    def check(file: Path) -> int:
        command = [str(TOOLS / "check-jsonschema"), "--builtin-schema", "vendor.citation-file-format"]
        return subprocess.run([*command, "--force-filetype", "yaml", str(file)], capture_output=True).returncode

    assert check(ROOT / "CITATION.cff") == 0
    wrong = tmp_path / "CITATION.cff"
    wrong.write_text((ROOT / "CITATION.cff").read_text("utf-8").replace("authors:", "writers:"), "utf-8")
    assert check(wrong) == 1
