"""Texts as sequences of tokens: two tokenizers, and corpora that stay on the disk.

Specified in `shared_fixtures/FORMAT.md`, "Text"; the same file on the Julia side is `julia/src/data/text.jl`, and both
write the same tokens file byte for byte.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError, one_of
from ..files import make_folder, reading, replacing

if TYPE_CHECKING:
    from .bpe import GPT2Tokenizer

Ids = NDArray[np.int64]
Tokens = NDArray[np.uint8] | NDArray[np.uint16]
CodePoints = NDArray[np.uint32]
Progress = Callable[[int, int], None]

TOKENIZER_KINDS = ("char", "byte")
MOST_CHARACTERS = 2**16  # an id is kept in 16 bits
CODE_POINTS = 0x110000
CHUNK_BYTES = 2**20
TAKE_BYTES = "`--tokenizer byte` takes any bytes."


@dataclass(frozen=True)
class CharTokenizer:
    """One token for one Unicode character; its id is its place in `characters`, which stand in code point order."""

    characters: str
    kind: ClassVar[str] = "char"

    @property
    def vocab(self) -> int:
        """How many ids there are."""
        return len(self.characters)

    def encode(self, text: str, where: str = "prompt") -> Ids:
        """Ids (n,) of the n characters; raises InputError, naming `where`, for a character without an id."""
        known, wanted = _code_points(self.characters), _code_points(text)
        missing = np.flatnonzero(~np.isin(wanted, known))
        if missing.size:
            raise InputError(
                where,
                expected="characters of the vocabulary",
                found=f"{text[missing[0]]!r} at position {missing[0]}",
                hint=f"The vocabulary holds {self.vocab} different characters.",
            )
        return np.searchsorted(known, wanted).astype(np.int64)

    def decode(self, ids: ArrayLike) -> str:
        """The text of ids (n,); raises InputError for an id outside 0 .. vocab - 1."""
        return "".join(self.characters[i] for i in checked_ids(ids, self.vocab))

    def as_json(self) -> dict[str, Any]:
        """What `tokenizer_from_json` takes."""
        return {"kind": self.kind, "characters": self.characters}


@dataclass(frozen=True)
class ByteTokenizer:
    """One token for one byte of the text in UTF-8; its id is the byte."""

    kind: ClassVar[str] = "byte"
    vocab: ClassVar[int] = 256

    def encode(self, text: str, where: str = "prompt") -> Ids:
        """Ids (n,) of the n bytes; raises InputError, naming `where`, for text that has no bytes in UTF-8."""
        try:  # a command line's bytes that are no UTF-8 arrive as surrogates, and become these bytes again
            data = text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            found = f"{text[error.start]!r} at position {error.start}"
            raise InputError(where, expected="text that UTF-8 can write", found=found) from None
        return np.frombuffer(data, np.uint8).astype(np.int64)

    def decode(self, ids: ArrayLike) -> str:
        """The text of ids (n,), with � where they are no UTF-8; raises InputError for an id outside 0 .. 255."""
        return bytes(checked_ids(ids, self.vocab).astype(np.uint8)).decode("utf-8", errors="replace")

    def as_json(self) -> dict[str, Any]:
        """What `tokenizer_from_json` takes."""
        return {"kind": self.kind}


Tokenizer: TypeAlias = "CharTokenizer | ByteTokenizer | GPT2Tokenizer"


def _code_points(text: str) -> CodePoints:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def checked_ids(ids: ArrayLike, vocab: int) -> Ids:
    """Ids (n,) as integers; raises InputError for one outside 0 .. vocab - 1."""
    checked = np.asarray(ids, dtype=np.int64)
    wrong = np.flatnonzero((checked < 0) | (checked >= vocab))
    if wrong.size:
        found = f"{checked[wrong[0]]} at position {wrong[0]}"
        raise InputError("token ids", expected=f"numbers from 0 to {vocab - 1}", found=found)
    return checked


def tokenizer_from_json(value: Any, where: str) -> Tokenizer:
    """The tokenizer that `as_json` described; raises InputError naming `where` and the entry."""
    if not isinstance(value, dict):
        raise InputError(where, expected="a JSON object with kind", found=repr(value)[:60])
    kind = value.get("kind")
    if kind == "gpt2":  # of imported checkpoints; no text is trained on with it
        from .bpe import gpt2_tokenizer_from_json

        return gpt2_tokenizer_from_json(value, where)
    if kind not in TOKENIZER_KINDS:
        raise InputError(
            f"{where}, kind", expected=one_of(TOKENIZER_KINDS), found=repr(kind)[:60] if "kind" in value else "nothing"
        )
    known = ["kind", "characters"] if kind == "char" else ["kind"]
    for name in sorted(value.keys() - set(known)):
        raise InputError(where, expected=f"only {', '.join(known)}", found=repr(name))
    if kind == "byte":
        return ByteTokenizer()
    characters = value.get("characters")
    if not isinstance(characters, str) or not _is_vocabulary(characters):
        raise InputError(
            f"{where}, characters",
            expected=f"a text of 1 to {MOST_CHARACTERS} different characters in the order of their code points",
            found=repr(characters)[:60] if "characters" in value else "nothing",
        )
    return CharTokenizer(characters)


def _is_vocabulary(characters: str) -> bool:
    points = _code_points(characters)
    surrogate = (points >= 0xD800) & (points < 0xE000)
    return 1 <= points.size <= MOST_CHARACTERS and bool(np.all(points[1:] > points[:-1])) and not surrogate.any()


@dataclass(frozen=True)
class Corpus:
    """A text as tokens.

    Args:
        tokenizer: what the tokens mean.
        tokens: (n,) uint8 or uint16, read-only and mapped from the disk.
        digest: SHA-256 of the text file's bytes.
        name: the text file's name.
    """

    tokenizer: Tokenizer
    tokens: Tokens
    digest: str
    name: str

    def split(self, name: str, context: int) -> Tokens:
        """The "train" part, the first nine tenths, or the "validation" part, the rest; both views of `tokens`.

        Raises InputError where one of the two parts is shorter than context + 1 tokens.
        """
        n, least = self.tokens.size, 10 * context + 1
        if n < least:
            hint = f"A tenth is kept for validation, and must hold the {context} tokens of the context and one more."
            raise InputError(self.name, expected=f"a text of at least {least} tokens", found=f"{n} tokens", hint=hint)
        parts = {"train": self.tokens[: 9 * n // 10], "validation": self.tokens[9 * n // 10 :]}
        if name not in parts:
            raise InputError("split", expected=one_of(parts), found=repr(name))
        return parts[name]


def open_corpus(
    text: Path, kind: str, folder: Path, progress: Progress = lambda done, total: None, chunk: int = CHUNK_BYTES
) -> Corpus:
    """The tokens of a text file of any size, at constant memory.

    Args:
        text: the file; its bytes are taken as they are, line ends and byte order mark included.
        kind: "char" or "byte".
        folder: where the tokens file of `char` is kept and found again; made if need be.
        progress: called with the bytes read so far and the bytes to read in all.
        chunk: how many bytes to read at a time.

    Raises InputError for a text that is missing, unreadable, empty, or, with `char`, no UTF-8 or of more than 65536
    different characters; for an unknown kind; and where `folder` cannot be written to.
    """
    text = Path(text)
    if kind not in TOKENIZER_KINDS:
        raise InputError("tokenizer", expected=one_of(TOKENIZER_KINDS), found=repr(kind))
    size = _size(text)
    if kind == "byte":
        sha = hashlib.sha256()
        for _ in _pieces(text, chunk, sha, lambda done: progress(done, size)):
            pass
        return Corpus(ByteTokenizer(), _mapped(text, np.uint8), sha.hexdigest(), text.name)
    digest, characters, count = _survey(text, chunk, lambda done: progress(done, 2 * size))
    tokenizer = CharTokenizer(characters)
    tokens_file = Path(folder) / f"tokens-{digest[:16]}.bin"
    description = {
        "format": "twingrad-tokens",
        "format_version": 1,
        "digest": digest,
        "characters": characters,
        "count": count,
    }
    if not _is_kept(tokens_file, description):
        _keep(tokens_file, description, text, chunk, lambda done: progress(size + done, 2 * size))
    progress(2 * size, 2 * size)
    return Corpus(tokenizer, _mapped(tokens_file, np.dtype("<u2")), digest, text.name)


def _size(text: Path) -> int:
    expected = "a text file"
    with reading(text):
        status = text.stat()
    if stat.S_ISDIR(status.st_mode):
        raise InputError(str(text), expected=expected, found="a folder")
    if not stat.S_ISREG(status.st_mode):
        raise InputError(str(text), expected=expected, found="no ordinary file")
    if status.st_size == 0:
        raise InputError(str(text), expected=expected, found="an empty file")
    return status.st_size


def _mapped(file: Path, dtype: Any) -> Tokens:
    with reading(file):
        return np.memmap(file, dtype=dtype, mode="r")


def _pieces(file: Path, chunk: int, sha: Any, progress: Callable[[int], None]) -> Iterator[bytes]:
    """The bytes of a file, `chunk` at a time, each piece added to `sha` first."""
    with reading(file):
        opened = file.open("rb")
    done = 0
    with opened:
        while True:
            with reading(file):
                piece = opened.read(chunk)
            if not piece:
                return
            sha.update(piece)
            yield piece
            done += len(piece)
            progress(done)


def _decoded(text: Path, pieces: Iterator[bytes]) -> Iterator[CodePoints]:
    """The code points of the pieces of a text, whose borders may lie inside a character."""
    decoder, end = codecs.getincrementaldecoder("utf-8")(), 0
    for piece in chain(pieces, [b""]):
        start = end - len(decoder.getstate()[0])  # the decoder still holds the bytes of an unfinished character
        end += len(piece)
        try:
            characters = decoder.decode(piece, final=not piece)
        except UnicodeDecodeError as error:
            found = f"no whole character at byte {start + error.start}, counted from 0"
            raise InputError(str(text), expected="UTF-8 text", found=found, hint=TAKE_BYTES) from None
        yield _code_points(characters)


def _survey(text: Path, chunk: int, progress: Callable[[int], None]) -> tuple[str, str, int]:
    """The text's digest, its different characters in code point order, and how many characters it has."""
    sha, seen, count = hashlib.sha256(), np.zeros(CODE_POINTS, bool), 0
    for points in _decoded(text, _pieces(text, chunk, sha, progress)):
        seen[points] = True
        count += points.size
    characters = "".join(chr(point) for point in np.flatnonzero(seen))
    if len(characters) > MOST_CHARACTERS:
        expected = f"a text of at most {MOST_CHARACTERS} different characters"
        raise InputError(str(text), expected=expected, found=str(len(characters)), hint=TAKE_BYTES)
    return sha.hexdigest(), characters, count


def _is_kept(tokens_file: Path, description: dict[str, Any]) -> bool:
    """Whether the tokens file and its description are there, whole, and of this text."""
    try:
        found = json.loads(tokens_file.with_suffix(".json").read_bytes())
        with tokens_file.open("rb") as file:
            tokens_digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = tokens_file.stat().st_size
    except (OSError, ValueError, RecursionError):
        return False
    return bool(found == {**description, "tokens_digest": tokens_digest} and size == 2 * description["count"])


def _keep(
    tokens_file: Path, description: dict[str, Any], text: Path, chunk: int, progress: Callable[[int], None]
) -> None:
    """Write the tokens file, then its description."""
    make_folder(tokens_file.parent)
    known = _code_points(description["characters"])
    sha, tokens_sha = hashlib.sha256(), hashlib.sha256()
    with replacing(tokens_file) as temporary, temporary.open("wb") as file:
        for points in _decoded(text, _pieces(text, chunk, sha, progress)):
            ids = np.searchsorted(known, points).astype("<u2").tobytes()
            tokens_sha.update(ids)
            file.write(ids)
        if sha.hexdigest() != description["digest"]:
            expected, found = "a file that stays as it is while it is read", "other bytes at the second reading"
            raise InputError(str(text), expected=expected, found=found)
    with replacing(tokens_file.with_suffix(".json")) as temporary:
        whole = {**description, "tokens_digest": tokens_sha.hexdigest()}
        temporary.write_bytes(json.dumps(whole, ensure_ascii=False).encode())
