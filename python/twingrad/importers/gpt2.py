"""GPT-2 of Hugging Face, from local safetensors files. No pickle is read: a pickle can run any program."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ..errors import InputError
from ..format import Checkpoint
from ..models.gpt import LAYER_NORM_EPS
from ..specs import Arrays, GPTConfig, make_config, model_spec
from ..specs.gpt import MLP_WIDTHS
from ..validation import validate
from .gpt2_tokenizer import read_gpt2_tokenizer
from .json_file import read_json_object
from .safetensors_file import Entry, check_names, open_entries

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PREFIX = "transformer."
"""Before every name but the head's where the whole model was saved; not there where the head was left out."""
TRANSPOSED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
"""Of each block: what Hugging Face keeps as Conv1D, (in, out). Here a linear weight is (out, in)."""
BUFFERS = ("attn.bias", "attn.masked_bias")
"""Of each block: the causal mask, which older files hold too."""
HEAD = "lm_head.weight"
TO_CONVERT = (
    "Pickles are not read, for they can run any program; convert it where you trust it: python -c 'from transformers "
    'import AutoModelForCausalLM as M; M.from_pretrained("DIR").save_pretrained("NEW", safe_serialization=True)\''
)
TO_DOWNLOAD = "Local files are read: 'hf download openai-community/gpt2 --local-dir DIR' fetches GPT-2 small."


class HuggingFaceConfig(BaseModel):
    """What `config.json` must say for the network to be this project's; what it says beside makes no difference."""

    model_config = ConfigDict(extra="ignore", strict=True, protected_namespaces=())

    model_type: Literal["gpt2"]
    n_layer: int = Field(ge=1)
    n_head: int = Field(ge=1)
    n_embd: int = Field(ge=1)
    vocab_size: int = Field(ge=1)
    n_positions: int | None = Field(default=None, ge=1)
    n_ctx: int | None = Field(default=None, ge=1)
    n_inner: int | None = None
    activation_function: Literal["gelu_new", "gelu_pytorch_tanh"] = "gelu_new"
    layer_norm_epsilon: float = LAYER_NORM_EPS
    scale_attn_weights: Literal[True] = True
    scale_attn_by_inverse_layer_idx: Literal[False] = False
    add_cross_attention: Literal[False] = False
    tie_word_embeddings: bool = True


class Index(BaseModel):
    """`model.safetensors.index.json`: which file holds which entry."""

    weight_map: dict[str, str]


def read_gpt2(folder: Path) -> Checkpoint:
    """A checkpoint from a folder of Hugging Face.

    Args:
        folder: holds config.json; model.safetensors, or its index and the files that the index names; and, if texts
            are to be continued, tokenizer.json, or vocab.json and merges.txt.

    Returns:
        A checkpoint of `gpt` with status "imported". Weights in float16, bfloat16, float32 and float64 become
        float32; `data` holds the tokenizer, or nothing where the folder has none.

    Raises InputError, naming the file and the entry, for other architectures, missing, extra and misshapen entries,
    numbers that are not finite in float32, damaged files, and pickles.
    """
    folder = Path(folder)
    if not folder.is_dir():
        found = "a file" if folder.exists() else "no such folder"
        raise InputError(str(folder), expected="a folder of Hugging Face's GPT-2", found=found, hint=TO_DOWNLOAD)
    config = _config(folder / "config.json")
    with ExitStack() as opened:
        params = _params(_entries(folder, opened), config, folder)
    tokenizer = read_gpt2_tokenizer(folder)
    if tokenizer is not None and tokenizer.vocab > config.vocab:
        expected = f"a tokenizer of at most {config.vocab} tokens, the vocab_size of config.json"
        raise InputError(str(folder), expected=expected, found=f"{tokenizer.vocab} tokens")
    return Checkpoint(
        model="gpt",
        config=config,
        data={} if tokenizer is None else {"tokenizer": tokenizer.as_json()},
        side="torch",
        dtype="float32",
        versions={"source": f"GPT-2 of Hugging Face, {folder.resolve().name}"},
        settings={},
        iteration=0,
        status="imported",
        params=params,
    )


def _config(file: Path) -> GPTConfig:
    found = validate(HuggingFaceConfig, read_json_object(file), str(file))
    context = found.n_positions or found.n_ctx
    if context is None:
        raise InputError(f"{file}, n_positions", expected="this entry", found="nothing")
    if found.layer_norm_epsilon != LAYER_NORM_EPS:
        where = f"{file}, layer_norm_epsilon"
        raise InputError(where, expected=str(LAYER_NORM_EPS), found=str(found.layer_norm_epsilon))
    if found.n_inner not in (None, hidden := MLP_WIDTHS * found.n_embd):
        raise InputError(f"{file}, n_inner", expected=f"null or {hidden}", found=str(found.n_inner))
    settings = {
        **{"vocab": found.vocab_size, "context": context, "layers": found.n_layer, "heads": found.n_head},
        **{"width": found.n_embd, "tied": found.tie_word_embeddings},
    }
    config = make_config(model_spec("gpt", str(file)), settings, str(file))
    assert isinstance(config, GPTConfig)
    return config


def _params(entries: dict[str, Entry], config: GPTConfig, folder: Path) -> Arrays:
    """The model's arrays, float32; `entries` by their names without the prefix."""
    specs = model_spec("gpt", str(folder)).params(config)
    shapes = {name: tuple(int(dim) for dim in spec.dims) for name, spec in specs.items()}
    blocks = [f"h.{layer}." for layer in range(config.layers)]
    transposed = {block + name for block in blocks for name in TRANSPOSED}
    buffers = {block + name for block in blocks for name in BUFFERS}
    needless = {HEAD} if config.tied else set()
    hints = {HEAD: "config.json says that the head is not tied to wte.weight."}
    check_names(entries, shapes, buffers | needless, folder, "GPT-2's", hints)
    params = {name: entries[name].read(shape, name in transposed) for name, shape in shapes.items()}
    if config.tied and HEAD in entries:
        head = entries[HEAD].read(shapes["wte.weight"])
        if not np.array_equal(head, params["wte.weight"]):
            expected = "the numbers of wte.weight, to which config.json ties the head"
            hint = 'If the head is one of its own, write "tie_word_embeddings": false into config.json.'
            raise InputError(entries[HEAD].place, expected=expected, found="other numbers", hint=hint)
    return params


def _entries(folder: Path, opened: ExitStack) -> dict[str, Entry]:
    """All entries of a folder by their names without the prefix."""
    entries: dict[str, Entry] = {}
    for file, names in _files(folder).items():
        held = open_entries(file, opened)
        for name in sorted(held.keys() ^ (names or held.keys())):
            expected = f"{'only the entries' if name in held else 'this entry,'} that {INDEX} puts here"
            found = "an extra entry" if name in held else "nothing"
            raise InputError(f"{file}, {name}", expected=expected, found=found)
        for name, entry in held.items():
            if (short := name.removeprefix(PREFIX)) in entries:
                raise InputError(entry.place, expected=f"{short} once", found=f"it twice, with and without {PREFIX}")
            entries[short] = entry
    return entries


def _files(folder: Path) -> dict[Path, set[str] | None]:
    """The safetensors files of a folder, each with the names it must hold, or None where nothing says so."""
    if (folder / WEIGHTS).exists():
        return {folder / WEIGHTS: None}
    index = folder / INDEX
    if not index.exists():
        pickles = sorted(file.name for file in folder.glob("pytorch_model*.bin"))
        found, hint = (pickles[0], TO_CONVERT) if pickles else ("none", TO_DOWNLOAD)
        raise InputError(str(folder), expected=f"{WEIGHTS} or {INDEX}", found=found, hint=hint)
    files: dict[Path, set[str] | None] = {}
    for name, file in validate(Index, read_json_object(index), str(index)).weight_map.items():
        if not file or Path(file).name != file:
            raise InputError(f"{index}, weight_map.{name}", expected="a file in the same folder", found=repr(file))
        names = files.setdefault(folder / file, set())
        assert names is not None
        names.add(name)
    return files
