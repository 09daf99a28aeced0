"""Texts as tokens: tokenizers, corpora and their tokens file, batches, and where texts come from."""

import hashlib
import http.server
import json
import os
import re
import sysconfig
import threading

import numpy as np
import pytest

from twingrad.data import corpora
from twingrad.data.batches import training_batch, training_starts, window_batch, windows
from twingrad.data.corpora import download_shakespeare, standard_library
from twingrad.data.philox import Stream
from twingrad.data.text import (
    TOKENIZER_KINDS,
    ByteTokenizer,
    CharTokenizer,
    Corpus,
    open_corpus,
    tokenizer_from_json,
)
from twingrad.errors import InputError

# What `julia/test/text.jl` pins too.
TEXT = "\ufeffDie Größe,\r\n文字 🙂\u2028é = é!\n"
CHARACTERS = "\n\r !,=DGeirßéö\u2028字文\ufeff🙂"
DIGEST = "1ac5c0a1fb86325b99ea7eb52de3222e2d1f18c7ffcfea72e37f11579ed9fe40"
TOKENS_DIGEST = "e20aed8bbca1631d8609b21ab6fbe7237e3d06ad7e6e6a0b47dc3bdec5f190c6"
PINNED_STARTS = [  # n, seed, first, starts of four samples with context 64
    (1000, 1, 0, [821, 764, 676, 60]),
    (1000, 1, 7, [383, 78, 62, 230]),
    (1000, 1, 10**12, [758, 675, 614, 892]),
    (10**13, 2**63 - 1, 10**12 + 1, [1791930244189, 6238857695086, 25250405153, 3397832747235]),
]
# Bytes and their text: a character cut short is one �, every other foreign byte one each.
FOREIGN_BYTES = [
    (b"a\xe6\x96", "a�"),
    (b"\xf0\x9f\x99a\xf0\x9f", "�a�"),
    (b"\xc3\xc3\xb6\x80", "�ö�"),
    (b"\xc0\x80\xed\xa0\x80", "�����"),
    (b"\xf0\x80\x80\xf8\x80", "�����"),
]


@pytest.fixture
def text_file(tmp_path):
    file = tmp_path / "text.txt"
    file.write_bytes(TEXT.encode())
    return file


def corpus_of(count):
    return Corpus(ByteTokenizer(), np.arange(count, dtype=np.uint8), "", "text.txt")


# ---- the random words, from any place on


@pytest.mark.parametrize("first", [0, 1, 2, 7, 8])
def test_words_from_a_place_on_are_the_words_there(first):
    stream = Stream(3, "some/stream")
    for count in (0, 1, 2, 5):
        assert np.array_equal(stream.words(count, first), stream.words(20)[first : first + count])


def test_words_far_out_are_what_the_julia_side_pins():
    words = Stream(1, "batch/train").words(3, 10**12 + 1)
    assert [int(word) for word in words] == [10258262835625400283, 8887697407934798222, 2209714783497502588]
    assert np.array_equal(words[1:], Stream(1, "batch/train").words(2, 10**12 + 2))


# ---- tokenizers


def test_characters_there_and_back():
    tokenizer = CharTokenizer(CHARACTERS)
    ids = tokenizer.encode(TEXT)
    assert tokenizer.vocab == 19
    assert ids.dtype == np.int64
    assert ids.tolist() == [CHARACTERS.index(character) for character in TEXT]
    assert tokenizer.decode(ids) == tokenizer.decode(ids.tolist()) == TEXT
    assert tokenizer.encode("").size == 0
    assert tokenizer.decode([]) == ""


def test_bytes_there_and_back():
    tokenizer = ByteTokenizer()
    ids = tokenizer.encode(TEXT)
    assert tokenizer.vocab == 256
    assert ids.dtype == np.int64
    assert ids.tolist() == list(TEXT.encode())
    assert tokenizer.decode(ids) == TEXT
    assert tokenizer.decode([]) == ""
    assert tokenizer.encode(os.fsdecode(b"\xff\x61")).tolist() == [0xFF, 0x61]


@pytest.mark.parametrize(("data", "text"), FOREIGN_BYTES)
def test_bytes_that_are_no_utf8_become_replacement_characters(data, text):
    assert ByteTokenizer().decode(list(data)) == text


def test_a_character_outside_the_vocabulary_is_named_with_its_place():
    with pytest.raises(InputError, match=r"^prompt: .* found 'z' at position 2\. The vocabulary holds 3 different"):
        CharTokenizer("abc").encode("abz")
    with pytest.raises(InputError, match=r"^--text: .*'\\udcff' at position 0"):
        CharTokenizer("abc").encode("\udcff", where="--text")
    with pytest.raises(InputError, match=r"'\\ud800' at position 1"):
        ByteTokenizer().encode("a\ud800")


@pytest.mark.parametrize("wrong", [-1, 3, 256])
def test_an_id_outside_the_vocabulary_is_named_with_its_place(wrong):
    with pytest.raises(InputError, match=f"expected numbers from 0 to 2, found {wrong} at position 1"):
        CharTokenizer("abc").decode([0, wrong])
    if not 0 <= wrong < 256:
        with pytest.raises(InputError, match="expected numbers from 0 to 255"):
            ByteTokenizer().decode([0, wrong])


@pytest.mark.parametrize("tokenizer", [ByteTokenizer(), CharTokenizer(CHARACTERS), CharTokenizer("\0")])
def test_tokenizers_survive_json(tokenizer):
    value = json.loads(json.dumps(tokenizer.as_json()))
    assert tokenizer_from_json(value, "file") == tokenizer
    assert value["kind"] in TOKENIZER_KINDS


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "file: expected a JSON object with kind, found None"),
        ([], r"file: expected a JSON object with kind, found \[\]"),
        ({}, "file, kind: expected one of char, byte, found nothing"),
        ({"kind": "word"}, "file, kind: .* found 'word'"),
        ({"kind": ["char"]}, "file, kind: "),
        ({"kind": "byte", "characters": "ab"}, "file: expected only kind, found 'characters'"),
        ({"kind": "char", "characters": "ab", "size": 2}, "file: expected only kind, characters, found 'size'"),
        ({"kind": "char"}, "file, characters: .* found nothing"),
        ({"kind": "char", "characters": 3}, "file, characters: .* found 3"),
        ({"kind": "char", "characters": ""}, "file, characters: "),
        ({"kind": "char", "characters": "ba"}, "file, characters: .* found 'ba'"),
        ({"kind": "char", "characters": "aab"}, "file, characters: "),
        ({"kind": "char", "characters": "a\ud800"}, "file, characters: "),
    ],
)
def test_what_is_no_tokenizer_is_refused(value, message):
    with pytest.raises(InputError, match=f"^{message}"):
        tokenizer_from_json(value, "file")


# ---- corpora


def test_byte_corpus_is_the_file_itself(text_file, tmp_path):
    steps = []
    corpus = open_corpus(text_file, "byte", tmp_path / "cache", lambda *step: steps.append(step), chunk=16)
    assert (corpus.tokenizer, corpus.digest, corpus.name) == (ByteTokenizer(), DIGEST, "text.txt")
    assert isinstance(corpus.tokens, np.memmap)
    assert corpus.tokens.dtype == np.uint8
    assert corpus.tokens.tobytes() == TEXT.encode()
    assert not corpus.tokens.flags.writeable
    assert steps == [(16, 40), (32, 40), (40, 40)]
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 7, 2**20])
def test_char_corpus_is_what_the_julia_side_pins(text_file, tmp_path, chunk):
    steps = []
    corpus = open_corpus(text_file, "char", tmp_path / "a" / "cache", lambda *step: steps.append(step), chunk=chunk)
    assert (corpus.tokenizer, corpus.digest, corpus.name) == (CharTokenizer(CHARACTERS), DIGEST, "text.txt")
    assert isinstance(corpus.tokens, np.memmap)
    assert corpus.tokens.dtype == np.uint16
    assert not corpus.tokens.flags.writeable
    assert corpus.tokenizer.decode(corpus.tokens) == TEXT
    assert steps == sorted(steps)
    assert steps[-1] == (80, 80)
    files = sorted((tmp_path / "a" / "cache").iterdir())
    assert [file.name for file in files] == [f"tokens-{DIGEST[:16]}.bin", f"tokens-{DIGEST[:16]}.json"]
    assert hashlib.sha256(files[0].read_bytes()).hexdigest() == TOKENS_DIGEST
    assert json.loads(files[1].read_bytes()) == {
        "format": "twingrad-tokens",
        "format_version": 1,
        "digest": DIGEST,
        "characters": CHARACTERS,
        "count": len(TEXT),
        "tokens_digest": TOKENS_DIGEST,
    }


def test_tokens_file_is_used_again_and_one_text_does_not_disturb_another(text_file, tmp_path):
    open_corpus(text_file, "char", tmp_path)
    tokens_file = tmp_path / f"tokens-{DIGEST[:16]}.bin"
    written = tokens_file.stat().st_mtime_ns, tokens_file.stat().st_ino
    (tmp_path / "other.txt").write_text("another text", encoding="utf-8")
    open_corpus(tmp_path / "other.txt", "char", tmp_path)
    corpus = open_corpus(text_file, "char", tmp_path)
    assert (tokens_file.stat().st_mtime_ns, tokens_file.stat().st_ino) == written
    assert corpus.tokenizer.decode(corpus.tokens) == TEXT


def changed(entry, value):
    def change(tokens_file, sidecar):
        sidecar.write_text(json.dumps({**json.loads(sidecar.read_bytes()), entry: value}), encoding="utf-8")

    return change


@pytest.mark.parametrize(
    "damage",
    [
        lambda tokens_file, sidecar: tokens_file.unlink(),
        lambda tokens_file, sidecar: sidecar.unlink(),
        lambda tokens_file, sidecar: tokens_file.write_bytes(tokens_file.read_bytes()[:-2]),
        lambda tokens_file, sidecar: tokens_file.write_bytes(b"\1\0" + tokens_file.read_bytes()[2:]),
        lambda tokens_file, sidecar: sidecar.write_bytes(b""),
        lambda tokens_file, sidecar: sidecar.write_bytes(b"\xff"),
        lambda tokens_file, sidecar: sidecar.write_bytes(b"[1]"),
        changed("format_version", 2),
        changed("digest", "0" * 64),
        changed("characters", CHARACTERS[:-1]),
        changed("count", 3),
        changed("extra", 3),
    ],
)
def test_damaged_tokens_file_is_written_again(text_file, tmp_path, damage):
    open_corpus(text_file, "char", tmp_path)
    tokens_file = tmp_path / f"tokens-{DIGEST[:16]}.bin"
    sidecar = tokens_file.with_suffix(".json")
    whole = tokens_file.read_bytes(), sidecar.read_bytes()
    damage(tokens_file, sidecar)
    assert open_corpus(text_file, "char", tmp_path).tokenizer.characters == CHARACTERS
    assert (tokens_file.read_bytes(), sidecar.read_bytes()) == whole


@pytest.mark.parametrize("chunk", [1, 2, 3, 2**20])
@pytest.mark.parametrize(
    ("data", "byte"),
    [
        (b"ab\xff", 2),
        ("文字".encode()[:-1], 3),
        ("🙂".encode()[:3], 0),
        (b"a\xed\xa0\x80", 1),
        ("aé".encode("latin-1") + b"bcdefgh", 1),
    ],
)
def test_what_is_no_utf8_is_refused_with_its_place(tmp_path, data, byte, chunk):
    (tmp_path / "text").write_bytes(data)
    with pytest.raises(InputError, match=f"expected UTF-8 text, .* byte {byte}, counted from 0. `--tokenizer byte`"):
        open_corpus(tmp_path / "text", "char", tmp_path, chunk=chunk)
    assert open_corpus(tmp_path / "text", "byte", tmp_path, chunk=chunk).tokens.tobytes() == data


def test_texts_that_cannot_be_read_are_refused(tmp_path):
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    for kind in TOKENIZER_KINDS:
        for name, found in [
            ("missing", "no such file"),
            ("", "a folder"),
            ("empty", "an empty file"),
            ("pipe", "no ordinary file"),
            ("empty/text", "Not a directory"),
            ("a" * 300, "File name too long"),
        ]:
            with pytest.raises(InputError, match=rf"^{re.escape(str(tmp_path / name))}: .*found {found}$"):
                open_corpus(tmp_path / name, kind, tmp_path)


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="root may read and write everything")
def test_a_text_and_a_folder_without_permission_are_refused(text_file, tmp_path):
    (tmp_path / "cache").mkdir(mode=0o500)
    with pytest.raises(InputError, match="expected a place to write to, found Permission denied"):
        open_corpus(text_file, "char", tmp_path / "cache")
    text_file.chmod(0)
    with pytest.raises(InputError, match="expected a readable file, found Permission denied"):
        open_corpus(text_file, "char", tmp_path)


def test_unknown_tokenizer_and_unusable_folder_are_refused(text_file, tmp_path):
    with pytest.raises(InputError, match=r"^tokenizer: expected one of char, byte, found 'word'"):
        open_corpus(text_file, "word", tmp_path)
    with pytest.raises(InputError, match="expected a folder to write to, found File exists"):
        open_corpus(text_file, "char", text_file)


def test_a_full_disk_is_an_input_error_and_leaves_nothing(tmp_path):
    resource = pytest.importorskip("resource")
    text = tmp_path / "text"
    text.write_bytes(b"ab" * 10_000)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"tokens-.*: expected a place to write to, found File too large"):
            open_corpus(text, "char", tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == [text]


def test_more_characters_than_16_bits_can_count_are_refused(tmp_path):
    points = [*range(0xD800), *range(0xE000, 0x10800)]
    text = tmp_path / "text"
    text.write_bytes("".join(chr(point) for point in points).encode())
    assert open_corpus(text, "char", tmp_path).tokens.tolist() == list(range(65536))
    text.write_bytes("".join(chr(point) for point in [*points, 0x10800]).encode())
    with pytest.raises(InputError, match=r"at most 65536 different characters, found 65537. `--tokenizer byte`"):
        open_corpus(text, "char", tmp_path)


def test_a_text_that_changes_while_it_is_read_is_refused(text_file, tmp_path):
    def change(done, total):
        if done == total // 2:
            text_file.write_bytes(TEXT.replace("D", "G").encode())

    with pytest.raises(InputError, match="found other bytes at the second reading"):
        open_corpus(text_file, "char", tmp_path / "cache", change)
    assert list((tmp_path / "cache").iterdir()) == []


def test_split_keeps_a_tenth_for_validation(text_file, tmp_path):
    corpus = open_corpus(text_file, "char", tmp_path)
    train, validation = corpus.split("train", 2), corpus.split("validation", 2)
    assert (train.size, validation.size) == (22, 3)
    assert np.array_equal(np.concatenate([train, validation]), corpus.tokens)
    assert np.shares_memory(train, corpus.tokens)
    assert [corpus_of(n).split("train", 1).size for n in (11, 19, 20, 21)] == [9, 17, 18, 18]
    with pytest.raises(InputError, match=r"^split: expected one of train, validation, found 'test'"):
        corpus.split("test", 2)


@pytest.mark.parametrize("context", [1, 2, 9])
def test_split_says_how_long_a_text_must_be(context):
    least = 10 * context + 1
    for name in ("train", "validation"):
        assert corpus_of(least).split(name, context).size >= context + 1
        with pytest.raises(InputError, match=f"expected a text of at least {least} tokens, found {least - 1} tokens"):
            corpus_of(least - 1).split(name, context)


# ---- batches


@pytest.mark.parametrize(("n", "seed", "first", "starts"), PINNED_STARTS)
def test_training_starts_are_what_the_julia_side_pins(n, seed, first, starts):
    assert training_starts(n, 64, seed, first, 4).tolist() == starts
    assert training_starts(n, 64, seed, first + 1, 2).tolist() == starts[1:3]


@pytest.mark.parametrize(("context", "first"), [(1, 0), (5, 3), (29, 10**12)])
def test_training_batch_is_its_definition(context, first):
    tokens = np.arange(30, dtype=np.uint8) + 226
    inputs, targets = training_batch(tokens, context, seed=4, first=first, count=6)
    assert inputs.shape == targets.shape == (6, context)
    assert inputs.dtype == targets.dtype == np.int64
    for i, word in enumerate(Stream(4, "batch/train").words(6, first)):
        start = int(word) % (30 - context)
        assert inputs[i].tolist() == tokens[start : start + context].tolist()
        assert targets[i].tolist() == tokens[start + 1 : start + context + 1].tolist()


@pytest.mark.parametrize(
    ("n", "context", "count", "starts"),
    [
        (2, 1, 0, [0]),
        (65, 64, 0, [0]),
        (65, 64, 10, [0]),
        (128, 64, 0, [0]),
        (129, 64, 0, [0, 64]),
        (1000, 64, 4, [0, 192, 448, 704]),
        (1000, 64, 1, [0]),
        (1000, 64, 0, [64 * j for j in range(15)]),
        (1000, 64, 15, [64 * j for j in range(15)]),
        (1000, 64, 10**6, [64 * j for j in range(15)]),
    ],
)
def test_windows_are_spread_and_do_not_overlap(n, context, count, starts):
    assert windows(n, context, count).tolist() == starts
    assert starts[-1] + context + 1 <= n


def test_window_batch_reads_the_windows():
    tokens = np.arange(100, 121, dtype=np.uint16)
    inputs, targets = window_batch(tokens, 4, windows(21, 4, 0))
    assert inputs.ravel().tolist() == list(range(100, 120))
    assert targets.ravel().tolist() == list(range(101, 121))
    assert inputs.dtype == targets.dtype == np.int64


def test_too_few_tokens_are_refused():
    for call in (lambda: windows(64, 64, 0), lambda: training_starts(64, 64, 1, 0, 1)):
        with pytest.raises(InputError, match=r"^tokens: expected at least context \+ 1 = 65, found 64"):
            call()


# ---- where texts come from


@pytest.fixture
def server(monkeypatch):
    """A web server on this machine that stands for the source of tiny Shakespeare; `server.answer` is settable."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            status, body, length = self.server.answer
            self.send_response(status)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as served:
        body = b"First Citizen:\n" * 10_000
        served.answer = (200, body, len(body))
        monkeypatch.setenv("no_proxy", "*")
        monkeypatch.setattr(corpora, "SHAKESPEARE_URL", f"http://127.0.0.1:{served.server_port}/input.txt")
        monkeypatch.setattr(corpora, "SHAKESPEARE_SHA256", hashlib.sha256(body).hexdigest())
        monkeypatch.setattr(corpora, "SHAKESPEARE_BYTES", len(body))
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield served
        served.shutdown()
        thread.join()


def test_shakespeare_is_downloaded_once(server, tmp_path, monkeypatch):
    steps = []
    file = download_shakespeare(tmp_path / "data", lambda *step: steps.append(step))
    assert file == tmp_path / "data" / "tinyshakespeare.txt"
    assert file.read_bytes() == server.answer[1]
    assert len(steps) > 1
    assert steps[-1] == (150_000, 150_000)
    server.answer = (500, b"", 0)
    assert download_shakespeare(tmp_path / "data") == file
    file.write_bytes(b"something else")
    with pytest.raises(InputError, match=r"expected tiny Shakespeare, SHA-256 .*, found SHA-256 .* Remove the file"):
        download_shakespeare(tmp_path / "data")
    assert file.read_bytes() == b"something else"


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ((404, b"", 0), "the answer 404 Not Found"),
        ((200, b"First", 5), "5 bytes of SHA-256 "),
        ((200, b"F" * 300_000, 300_000), r"\d+ bytes of SHA-256 "),
        ((200, b"First", 500), "5 bytes of SHA-256 "),
    ],
)
def test_a_failed_download_leaves_nothing_and_says_what_else_to_do(server, tmp_path, answer, found):
    server.answer = answer
    with pytest.raises(InputError, match=rf"^http://.*found {found}.*without --text .* `--text FILE`"):
        download_shakespeare(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_network_is_an_input_error(tmp_path, monkeypatch):
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as closed:
        port = closed.server_port
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(corpora, "SHAKESPEARE_URL", f"http://127.0.0.1:{port}/input.txt")
    with pytest.raises(InputError, match=r"found no answer \(.*refused\)\. Without a network"):
        download_shakespeare(tmp_path)


def test_a_connection_that_breaks_or_hangs_is_an_input_error(tmp_path, monkeypatch):
    class Reply:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def read(self, _):
            raise TimeoutError("The read operation timed out")

    monkeypatch.setattr("urllib.request.urlopen", lambda url, timeout: Reply())
    with pytest.raises(InputError, match=r"found no whole answer \(The read operation timed out\)"):
        download_shakespeare(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_unusable_folder_is_an_input_error(text_file):
    for source in (download_shakespeare, standard_library):
        with pytest.raises(InputError, match="expected a folder to write to, found File exists"):
            source(text_file)


def test_standard_library_is_its_ascii_sources_in_order(tmp_path, monkeypatch):
    library = tmp_path / "library"
    (library / "package").mkdir(parents=True)
    for name, source in [
        ("b.py", b"y = 2"),
        ("a.py", b"x = 1\n"),
        ("c.py", "é".encode()),
        ("package/d.py", b"z = 3\n"),
    ]:
        (library / name).write_bytes(source)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(library))
    monkeypatch.setattr("platform.python_version", lambda: "3.99.1")
    file = standard_library(tmp_path / "data")
    assert file == tmp_path / "data" / "python-3.99.1.txt"
    assert file.read_bytes() == b"x = 1\n\ny = 2\n\n"
    assert standard_library(tmp_path / "data").read_bytes() == b"x = 1\n\ny = 2\n\n"


def test_a_python_without_sources_is_an_input_error(tmp_path, monkeypatch):
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(InputError, match=r"the sources of Python's standard library, found none. `--text FILE`"):
        standard_library(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_this_python_has_sources(tmp_path):
    file = standard_library(tmp_path)
    assert file.stat().st_size > 10**6
    assert open_corpus(file, "byte", tmp_path).tokens.max() < 128
