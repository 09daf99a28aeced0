"""The commands data mnist, data fashion-mnist and data cifar10, and the bar of a download."""

import hashlib
import io
import tarfile

import pytest
from rich.console import Console

from twingrad.cli import download
from twingrad.cli.download import show_download
from twingrad.data import corpora, image_corpora
from twingrad.data.download import Source
from twingrad.data.images import IMAGE_KINDS

FILES = {name: (*IMAGE_KINDS[name].train, *IMAGE_KINDS[name].test) for name in ("mnist", "fashion-mnist", "cifar10")}


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A folder that stands for the publishers' servers, with files of a few bytes."""
    folder, sources = tmp_path / "published", {}
    for name in FILES:
        (folder / name).mkdir(parents=True)
        files = write_archive(folder / name) if name == "cifar10" else write_files(folder / name, FILES[name])
        sources[name] = tuple(source(file) for file in files)
    monkeypatch.setattr(image_corpora, "SOURCES", sources)
    return folder


def write_files(folder, names):
    files = [folder / f"{name}.gz" for name in names]
    for file in files:
        file.write_bytes(f"{folder.name} {file.name}".encode())
    return files


def write_archive(folder):
    file = folder / "cifar-10-binary.tar.gz"
    with tarfile.open(file, "w:gz") as archive:
        for name in FILES["cifar10"]:
            entry = tarfile.TarInfo(f"{IMAGE_KINDS['cifar10'].folder}/{name}")
            entry.size = len(name)
            archive.addfile(entry, io.BytesIO(name.encode()))
    return [file]


def source(file):
    content = file.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return Source(file.name, file.as_uri(), len(content), digest, "--data DIR", "Without a network")


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_files_are_downloaded_once(twingrad, published, tmp_path, name):
    place = tmp_path / "new" / "data" / name
    for _ in range(2):
        assert twingrad("data", name, "--out", place.parent) == (0, f"{place}\n", "")
        assert {file.name: file.read_bytes() for file in place.iterdir()} == {
            f"{file}.gz": f"{name} {file}.gz".encode() for file in FILES[name]
        }
        for file in (published / name).iterdir():
            file.unlink(missing_ok=True)


def test_cifar10_is_unpacked(twingrad, published, tmp_path):
    place = tmp_path / "cifar10"
    assert twingrad("data", "cifar10", "--out", tmp_path) == (0, f"{place}\n", "")
    unpacked = place / IMAGE_KINDS["cifar10"].folder
    assert {file.name: file.read_text() for file in unpacked.iterdir()} == {name: name for name in FILES["cifar10"]}


def test_data_is_the_default_folder(twingrad, published, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert twingrad("data", "mnist") == (0, "data/mnist\n", "")


def test_without_a_network_it_says_what_else_to_do(twingrad, published, tmp_path):
    (published / "mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    status, out, err = twingrad("data", "mnist", "--out", tmp_path)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"twingrad: {(published / 'mnist' / 't10k-labels-idx1-ubyte.gz').as_uri()}: expected t10k-")
    assert err.endswith(". Without a network\n")


def test_a_folder_that_cannot_be_made_is_one_line(twingrad, published, tmp_path):
    (tmp_path / "file").touch()
    status, out, err = twingrad("data", "cifar10", "--out", tmp_path / "file")
    assert (status, out) == (2, "")
    assert err.startswith(f"twingrad: {tmp_path / 'file' / 'cifar10'}: expected a folder to write to, found ")
    assert err.count("\n") == 1


# ---- the bar


@pytest.fixture
def screen(monkeypatch):
    """What a terminal in place of stderr gets."""
    screen, plain = io.StringIO(), download.console

    def console(*, stderr=False):
        return Console(file=screen, force_terminal=True, width=80) if stderr else plain()

    monkeypatch.setattr(download, "console", console)
    return screen


def test_a_terminal_sees_how_much_is_there(screen, capsys, tmp_path):
    def get(report):
        report(1_000, 3_000)
        report(3_000, 3_000)
        return tmp_path / "place"

    show_download("MNIST", get)
    assert "MNIST" in screen.getvalue()
    assert "3.0/3.0 kB" in screen.getvalue()
    assert capsys.readouterr().out == f"{tmp_path / 'place'}\n"


def test_the_command_shows_what_it_downloads(twingrad, published, screen, tmp_path):
    total = sum(file.stat().st_size for file in (published / "mnist").iterdir())
    assert twingrad("data", "mnist", "--out", tmp_path)[0] == 0
    assert "MNIST" in screen.getvalue()
    assert f"{total}/{total} bytes" in screen.getvalue()


def test_a_text_is_downloaded_with_the_same_bar(twingrad, screen, tmp_path, monkeypatch):
    (tmp_path / "input.txt").write_bytes(b"First Citizen:\n")
    published = source(tmp_path / "input.txt")
    for name, value in (("URL", published.url), ("SHA256", published.sha256), ("BYTES", published.size)):
        monkeypatch.setattr(corpora, f"SHAKESPEARE_{name}", value)
    file = tmp_path / "data" / "tinyshakespeare.txt"
    assert twingrad("data", "shakespeare", "--out", file.parent) == (0, f"{file}\n", "")
    assert "tiny Shakespeare" in screen.getvalue()
    assert "15/15 bytes" in screen.getvalue()
