"""GPT-2's tokenizer, on the PyTorch side only: byte pair encoding of UTF-8 bytes.

Sources: Sennrich, Haddow, Birch, "Neural machine translation of rare words with subword units", ACL 2016; Radford et
al., "Language models are unsupervised multitask learners", 2019. The package `tokenizers` does the work; it is needed
for text only, and installed by `pip install 'twingrad[gpt2]'`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from ..errors import InputError
from .text import Ids, checked_ids

ENTRIES = ("vocab", "merges", "special")


@dataclass(frozen=True)
class GPT2Tokenizer:
    """One token for a word, or for a part of one.

    Args:
        tokens: in the order of their ids; each byte is written as one character, as GPT-2 does it ("Ġ" is a space).
        merges: pairs of tokens that become one, written "a b"; the first ones come first.
        special: tokens that are found whole in a text and are not of bytes, as <|endoftext|>.
    """

    tokens: tuple[str, ...]
    merges: tuple[str, ...]
    special: tuple[str, ...]
    kind: ClassVar[str] = "gpt2"

    @property
    def vocab(self) -> int:
        """How many ids there are."""
        return len(self.tokens)

    def encode(self, text: str, where: str = "prompt") -> Ids:
        """Ids (n,) of a text; raises InputError, naming `where`, for what has no bytes in UTF-8 or no token."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            found = f"{text[error.start]!r} at position {error.start}"
            raise InputError(where, expected="text that UTF-8 can write", found=found) from None
        ids = self._ids(text)
        if self._text(ids) != text:  # bytes without a token were left out
            place = next((i for i, character in enumerate(text) if self._text(self._ids(character)) != character), 0)
            found = f"{text[place]!r} at position {place}"
            raise InputError(where, expected="characters whose bytes are tokens", found=found)
        return np.asarray(ids, dtype=np.int64)

    def decode(self, ids: ArrayLike) -> str:
        """The text of ids (n,), with � where they are no UTF-8; raises InputError for an id outside 0 .. vocab - 1."""
        return self._text(checked_ids(ids, self.vocab).tolist())

    def as_json(self) -> dict[str, Any]:
        """What `tokenizer_from_json` takes."""
        return {
            "kind": self.kind,
            "vocab": {token: i for i, token in enumerate(self.tokens)},
            "merges": list(self.merges),
            "special": list(self.special),
        }

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._pairs.encode(text, add_special_tokens=False).ids
        return ids

    def _text(self, ids: list[int]) -> str:
        text: str = self._pairs.decode(ids, skip_special_tokens=False)
        return text

    @cached_property
    def _pairs(self) -> Any:
        try:
            from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
        except ImportError:
            hint = "Run: pip install 'twingrad[gpt2]'. Without it, --prompt-ids takes numbers instead of text."
            expected = "this Python package, which GPT-2's tokenizer needs"
            raise InputError("tokenizers", expected=expected, found="none", hint=hint) from None
        merges = [(first, second) for first, second in (merge.split(" ") for merge in self.merges)]
        pairs = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(self.tokens)}, merges=merges))
        pairs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        pairs.decoder = decoders.ByteLevel()
        pairs.add_special_tokens([AddedToken(token, normalized=False) for token in self.special])
        return pairs


def gpt2_tokenizer_from_json(value: Mapping[str, Any], where: str) -> GPT2Tokenizer:
    """The tokenizer that `as_json` described; raises InputError naming `where` and the entry."""
    known = ("kind", *ENTRIES)
    for name in sorted(value.keys() - set(known)):
        raise InputError(where, expected=f"only {', '.join(known)}", found=repr(name))
    for name in ENTRIES:
        if name not in value:
            raise InputError(f"{where}, {name}", expected="this entry", found="nothing")
    places = {name: f"{where}, {name}" for name in ENTRIES}
    return checked_tokenizer(value["vocab"], value["merges"], value["special"], places)


def checked_tokenizer(vocab: Any, merges: Any, special: Any, places: Mapping[str, str]) -> GPT2Tokenizer:
    """The tokenizer of these entries; raises InputError, naming the entry as `places` does.

    Args:
        vocab: {token: id}, with ids from 0 on without a gap.
        merges: list of "a b", where a, b and ab are tokens.
        special: list of tokens.
        places: what to call each of these three.
    """
    if not isinstance(vocab, dict) or not vocab or set(map(repr, vocab.values())) != set(map(repr, range(len(vocab)))):
        found = f"{len(vocab)} tokens with other ids" if isinstance(vocab, dict) and vocab else repr(vocab)[:60]
        raise InputError(places["vocab"], expected="tokens with the ids 0, 1, 2, ..., each once", found=found)
    for name, values in (("merges", merges), ("special", special)):
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise InputError(places[name], expected="a list of texts", found=repr(values)[:60])
    for i, merge in enumerate(merges):
        parts = merge.split(" ")
        if len(parts) != 2 or not {*parts, "".join(parts)} <= vocab.keys():
            expected = "two tokens and a space between, which together are a token"
            raise InputError(places["merges"], expected=expected, found=f"{merge!r} at place {i}")
    for token in special:
        if token not in vocab:
            raise InputError(places["special"], expected="tokens of the vocabulary", found=repr(token))
    return GPT2Tokenizer(tuple(sorted(vocab, key=vocab.__getitem__)), tuple(merges), tuple(special))
