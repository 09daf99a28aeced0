"""Broken files: whatever is done to a file, it is refused or read right; and the audit tells where that is not so."""

import contextlib
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from twingrad.audit import broken_files
from twingrad.audit.corruption import NOT_UTF8, WAYS
from twingrad.audit.saved import BrokenFiles, read
from twingrad.audit.sound_files import sound_files
from twingrad.audit.terminal import print_broken_files
from twingrad.errors import InputError, SideError
from twingrad.format import hdf5, read_case
from twingrad.reading import READERS, read_digest


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("broken")


@pytest.fixture(scope="module")
def several(folder):
    return sound_files(folder)


def digest_of(sound, folder):
    shutil.rmtree(folder, ignore_errors=True)
    file, kept = sound.put(folder)
    return read_digest(sound.reader, file, kept)


@pytest.fixture(scope="module")
def digests(several, folder):
    return {sound.name: digest_of(sound, folder / "x") for sound in several}


def test_there_is_a_sound_file_for_every_reader(several):
    assert {sound.reader for sound in several} == READERS.keys()
    assert len({sound.name for sound in several}) == len(several)


@pytest.mark.parametrize("reader", READERS)
@settings(max_examples=12, derandomize=True, deadline=None, database=None)
@given(data=st.data())
def test_a_broken_file_is_refused_or_read_right(several, digests, folder, reader, data):
    sound = data.draw(st.sampled_from([sound for sound in several if sound.reader == reader]))
    way, seed = data.draw(st.sampled_from(sorted(WAYS))), data.draw(st.integers(0, 2**32))
    others = [other.files[other.broken] for other in several]
    broken = bytes(WAYS[way](bytearray(sound.files[sound.broken]), others, np.random.default_rng(seed)))
    try:
        found = digest_of(replace(sound, files={**sound.files, sound.broken: broken}), folder / "x")
    except InputError as error:
        found = str(error)
        ok = "\n" not in found
    else:
        ok = found == digests[sound.name] or not sound.protected
    assert ok, found


@pytest.mark.parametrize("reader", ["case", "result", "recorded", "training", "checkpoint"])
def test_a_bit_of_any_array_breaks_a_digest(several, folder, reader):
    for sound in (sound for sound in several if sound.reader == reader):
        data = sound.files[sound.broken]
        with h5py.File(io.BytesIO(data)) as h5:
            starts = []
            h5.visititems(lambda _, item, to=starts: to.append(getattr(item.id, "get_offset", lambda: None)()))
        starts = [start for start in starts if start is not None]
        assert len(starts) > 4
        for place in starts:
            broken = bytearray(data)
            broken[place] ^= 1
            with pytest.raises(InputError, match=r"digest|finite numbers|labels 0 or 1"):
                digest_of(replace(sound, files={sound.broken: bytes(broken)}), folder / "x")


@pytest.mark.parametrize("way", WAYS)
def test_every_way_breaks_a_file_and_does_the_same_again(way):
    data = bytes(range(1, 256)) * 20
    several = [bytes(WAYS[way](bytearray(data), [b"other" * 99], np.random.default_rng(seed))) for seed in (3, 3, 4)]
    assert several[0] == several[1] != several[2]
    assert sum(one != data for one in several) >= 2


@pytest.mark.parametrize("part", NOT_UTF8)
def test_no_utf8_is_refused(several, folder, part):
    sound = next(sound for sound in several if sound.reader == "char")
    with pytest.raises(InputError, match="no whole character at byte 3"):
        digest_of(replace(sound, files={"text.txt": b"abc" + part + b"d"}), folder / "x")


# ---- files that mean harm


@pytest.fixture
def by_hand(several, folder):
    """Changes a case, without its digests, in `change(h5)`, and returns what reading it says."""
    data = next(sound for sound in several if sound.name == "case as h5py writes it").files["x.h5"]

    def said(change):
        file = folder / "hand.h5"
        file.write_bytes(data)
        with h5py.File(file, "r+") as h5:
            del h5.attrs["digest"], h5.attrs["oracle_digest"]
            change(h5)
        try:
            read_case(file)
        except InputError as error:
            return str(error)
        return "nothing"

    return said


def put(name, value):
    def change(h5):
        if name in h5:
            del h5[name]
        h5[name] = value

    return change


def elsewhere(h5):
    del h5["params/mu"]
    h5.create_dataset("params/mu", (1,), "f8", external=[("/etc/passwd", 0, 8)])


def virtual(h5):
    del h5["params/mu"]
    layout = h5py.VirtualLayout((1,), "f8")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (1,))
    h5.create_virtual_dataset("params/mu", layout)


def vast(h5):
    del h5["inputs/x"]
    h5.create_dataset("inputs/x", (2**40, 2), "f8", chunks=(2**10, 2))


def config(text):
    return lambda h5: h5.attrs.__setitem__("config", text)


HARM = {
    "soft link": (put("params/mu", h5py.SoftLink("/params/b")), "/params/mu: expected data stored in the file"),
    "external link": (put("params/mu", h5py.ExternalLink("/etc/x.h5", "x")), "/params/mu: expected data stored in the"),
    "external data": (elsewhere, "/params/mu: expected an array stored in the file"),
    "virtual data": (virtual, "/params/mu: expected an array stored in the file"),
    "vast": (vast, "/inputs/x: expected numbers stored in the file, found a shape (1099511627776, 2) that it cannot"),
    "a group in itself": (lambda h5: put("params/more", h5["params"])(h5), "found a group with several"),
    "dots": (put("params/..x", 1.0), "/params/..x: expected only K, b, W, mu, dt"),
    "attribute's name": (lambda h5: h5.attrs.__setitem__("a\nb", 1), r"attribute 'a\nb': expected a name of"),
    "vast integer": (lambda h5: h5.attrs.__setitem__("seed", np.uint64(2**63)), "seed: expected an integer of 64 bits"),
    "deep JSON": (config(10**5 * "["), "attribute config: expected a JSON object"),
    "integers beyond 64 bits": (config('{"layers": 9223372036854775808}'), "has more than 64 bits"),
    "more digits": (config('{"layers": ' + 9999 * "1" + "}"), "has more than 64 bits"),
    "NaN": (config('{"dt": NaN}'), "is not finite"),
    "too large": (config('{"dt": 1e999}'), "is not finite"),
    "half a character": (config('{"network": "\\ud800"}'), "surrogates not allowed"),
}


@pytest.mark.parametrize("name", HARM)
def test_what_a_case_by_hand_cannot_do(by_hand, name):
    change, says = HARM[name]
    assert by_hand(lambda h5: None) == "nothing"
    found = by_hand(change)
    assert says in found
    assert "\n" not in found


def test_text_that_is_no_utf8_is_refused(by_hand, folder):
    def change(h5):
        h5.attrs.create("generator", b"\xff", dtype=h5py.string_dtype("utf-8"))

    assert "attribute generator: expected UTF-8 text" in by_hand(change)


def test_settings_of_more_layers_than_arrays_are_refused_at_once(by_hand):
    def change(h5):
        h5.attrs["model"] = "gpt"
        h5.attrs["config"] = json.dumps({"vocab": 2, "context": 2, "layers": 2**60, "heads": 1, "width": 1})

    assert "attribute config: expected layers for 5 arrays, found 1152921504606846976 layers" in by_hand(change)


def test_what_twingrad_writes_is_under_checksums(several):
    """Text of variable length is not, nor is anything in the format of HDF5 before 1.8."""
    for sound in several:
        data = sound.files[sound.broken]
        if data.startswith(b"\x89HDF") and sound.name != "case as h5py writes it":
            assert data[8] == 2, sound.name
            assert hdf5.HEAP not in data, sound.name


@pytest.mark.parametrize(("place", "value"), [(8, 4095), (8, 2**63), (24, 0), (24, 2**64 - 8)])
def test_a_heap_without_end_is_refused(several, folder, place, value):
    """The HDF5 library would look through it forever."""
    data = bytearray(next(sound for sound in several if sound.name == "case as h5py writes it").files["x.h5"])
    start = data.find(hdf5.HEAP)
    data[start + place : start + place + 8] = value.to_bytes(8, "little")
    (folder / "heap.h5").write_bytes(data)
    with pytest.raises(InputError, match=f"the heap at byte {start}"):
        read_case(folder / "heap.h5")


# ---- the audit


class FakeWorker:
    """Reads in this process, but for what `wrong` says by side and number of the request: a digest or an error."""

    wrong: ClassVar = {}
    asked = 0

    def __init__(self, name):
        self.name, self.versions, self.silence_seconds = name, {"language": "L"}, 0.0
        self.count = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def request(self, verb, arguments):
        assert verb == "read"
        type(self).asked += 1
        self.count += 1
        change = self.wrong.get((self.name, self.count))
        if isinstance(change, Exception):
            raise change
        digest = read_digest(arguments["kind"], Path(arguments["file"]), Path(arguments["folder"]))
        return {"digest": change or digest}


@pytest.fixture
def audited(tmp_path, monkeypatch, several):
    few = [sound for sound in several if sound.name in ("case", "text, by byte", "comparison")]
    monkeypatch.setattr(broken_files, "sound_files", lambda folder: few)
    monkeypatch.setattr(broken_files, "is_available", lambda name: True)
    monkeypatch.setattr(broken_files, "corrupted", lambda data, others, draw: ("nothing", data))

    def run(count, wrong):
        monkeypatch.setattr(FakeWorker, "wrong", wrong)
        monkeypatch.setattr(FakeWorker, "asked", 0)
        return broken_files.audit(
            count, 1, "twingrad audit", tmp_path / "broken-files.json", FakeWorker, lambda _: None
        )

    return run


def test_what_becomes_of_files(audited, tmp_path):
    """Torch reads three sound files before the broken ones, flux two."""
    hang, crash = SideError("side torch: the worker hung: nothing"), SideError("side flux: the worker died with exit")
    found = audited(
        9,
        {
            ("torch", 4): 64 * "0",
            ("flux", 4): 64 * "1",
            ("torch", 7): hang,
            ("flux", 5): crash,
            ("torch", 8): SideError("side torch: KeyError"),
            ("flux", 8): InputError("text.txt", expected="e", found="f"),
        },
    )
    assert [(one.number, one.side, one.outcome) for one in found.unsound] == [
        (0, "torch", "WRONG"),
        (1, "flux", "WRONG"),
        (3, "torch", "hang"),
        (3, "flux", "crash"),
        (4, "torch", "failure"),
        (7, "flux", "WRONG"),
    ]
    assert found.counts["torch"]["case"] == {"WRONG": 1, "hang": 1, "right": 1}
    assert "text, by byte" in found.counts["flux"]
    assert "comparison" not in found.counts["flux"]
    assert not found.sound
    assert len(list((tmp_path / "broken-files").iterdir())) == 5
    console = Console(width=80, file=io.StringIO())
    print_broken_files(console, found)
    said = console.file.getvalue()
    assert "PyTorch, file 3, case, nothing: hang: side torch: the worker hung" in said
    assert max(map(len, said.splitlines()[:4])) <= 80


def test_an_audit_goes_on(audited, tmp_path):
    assert audited(3, {}).sound
    asked = FakeWorker.asked
    found = audited(6, {})
    assert FakeWorker.asked == asked == 10
    assert found.sound
    assert found.files == 6
    assert read(BrokenFiles, tmp_path / "broken-files.json") == found


def test_sides_that_read_sound_files_unlike_are_not_audited(audited):
    with pytest.raises(SideError, match="is read as 000"):
        audited(1, {("flux", 1): 64 * "0"})


# ---- JSON


def places(value, place=()):
    """The ways to all entries of a document."""
    yield place
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, entry in entries:
        yield from places(entry, (*place, name))


@pytest.mark.parametrize("value", [10**400, 2**63, -1, "\ud800", None, [[]]])
@pytest.mark.parametrize(
    "reader", ["comparison", "bench", "convergence", "degradation", "attack", "paper", "flow", "classified"]
)
def test_no_entry_of_a_document_makes_a_reader_fail(several, folder, reader, value):
    sound = next(sound for sound in several if sound.reader == reader)
    text = sound.files[sound.broken]
    for place in places(json.loads(text)):
        document = holder = {"": json.loads(text)}
        for name in ("", *place)[:-1]:
            holder = holder[name]
        holder[("", *place)[-1]] = value
        broken = replace(sound, files={sound.broken: json.dumps(document[""]).encode()})
        with contextlib.suppress(InputError):
            digest_of(broken, folder / "x")
