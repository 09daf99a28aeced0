"""GPT-2's tokenizer from the files of Hugging Face: tokenizer.json, or the older vocab.json and merges.txt."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from ..data.bpe import GPT2Tokenizer, checked_tokenizer
from ..validation import validate
from .json_file import read_json_object, read_text

END_OF_TEXT = "<|endoftext|>"
"""GPT-2's only special token; the older files do not say so."""


class PreTokenizer(BaseModel):
    """How a text is cut into words."""

    type: Literal["ByteLevel"]
    add_prefix_space: Literal[False]
    use_regex: Literal[True] = True


class PostProcessor(BaseModel):
    """What is added to the tokens: nothing."""

    type: Literal["ByteLevel", "TemplateProcessing"]
    special_tokens: dict[str, Any] = Field(default={}, max_length=0)


class Decoder(BaseModel):
    """How tokens become text."""

    type: Literal["ByteLevel"]


class Model(BaseModel):
    """How words become tokens."""

    type: Literal["BPE"]
    vocab: dict[str, int]
    merges: list[str] | list[tuple[str, str]]
    dropout: Literal[None] = None
    continuing_subword_prefix: Literal["", None] = None
    end_of_word_suffix: Literal["", None] = None
    byte_fallback: Literal[False] = False
    ignore_merges: Literal[False] = False


class AddedToken(BaseModel):
    """A token that is found whole in a text."""

    id: int
    content: str = Field(min_length=1)
    single_word: Literal[False] = False
    lstrip: Literal[False] = False
    rstrip: Literal[False] = False


class TokenizerFile(BaseModel):
    """What `tokenizer.json` must say for the tokenizer to be GPT-2's."""

    normalizer: Literal[None] = None
    pre_tokenizer: PreTokenizer
    post_processor: PostProcessor | None = None
    decoder: Decoder
    model: Model
    added_tokens: list[AddedToken] = []


def read_gpt2_tokenizer(folder: Path) -> GPT2Tokenizer | None:
    """The tokenizer of a folder, or None where the folder has none; raises InputError naming file and entry."""
    whole, vocab, merges = (folder / name for name in ("tokenizer.json", "vocab.json", "merges.txt"))
    if whole.exists():
        return _from_tokenizer_json(whole)
    if not vocab.exists() and not merges.exists():
        return None
    tokens = read_json_object(vocab)
    lines = [line.removesuffix("\r") for line in read_text(merges).split("\n")]
    pairs = [line for line in (lines[1:] if lines[0].startswith("#version") else lines) if line]
    special = [END_OF_TEXT] if END_OF_TEXT in tokens else []
    return checked_tokenizer(
        tokens, pairs, special, {"vocab": str(vocab), "merges": str(merges), "special": str(vocab)}
    )


def _from_tokenizer_json(file: Path) -> GPT2Tokenizer:
    found = validate(TokenizerFile, read_json_object(file), str(file))
    tokens = found.model.vocab | {added.content: added.id for added in found.added_tokens}
    pairs = [pair if isinstance(pair, str) else " ".join(pair) for pair in found.model.merges]
    special = [added.content for added in found.added_tokens]
    places = {"vocab": "model.vocab", "merges": "model.merges", "special": "added_tokens"}
    return checked_tokenizer(tokens, pairs, special, {name: f"{file}, {entry}" for name, entry in places.items()})
