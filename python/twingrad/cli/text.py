"""Text: data shakespeare, data python, generate, import gpt2."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError
from ..files import make_folder
from .app import Device, SideName, Threads, TimeLimit, app, at_work_on, console, data_app, import_app
from .download import show_download

if TYPE_CHECKING:
    from ..format import Checkpoint

Folder = Annotated[Path, typer.Option(help="Folder for the file.")]
CheckpointPlace = Annotated[Path, typer.Option(help="A checkpoint, or a folder of 'twingrad train'.")]
Last = Annotated[bool, typer.Option("--last", help="Take last.h5 instead of best.h5.")]
DType = Annotated[str, typer.Option(help="float32 or float64.")]


@data_app.command("shakespeare")
def shakespeare(out: Folder = Path("data")) -> None:
    """Download tiny Shakespeare (1.1 MB) and check it."""
    from ..data.corpora import download_shakespeare

    make_folder(out)
    with at_work_on(out / "tinyshakespeare.txt"):
        show_download("tiny Shakespeare", lambda report: download_shakespeare(out, report))


@data_app.command("python")
def python(out: Folder = Path("data")) -> None:
    """Write the sources of Python's own library into one text: a corpus that needs no network."""
    from ..data.corpora import standard_library

    console().print(f"{standard_library(out)}", soft_wrap=True)


@app.command()
def generate(
    checkpoint: CheckpointPlace,
    prompt: Annotated[str | None, typer.Option(help="The text to continue; a line end where none is given.")] = None,
    prompt_ids: Annotated[
        str | None, typer.Option(help="Token ids to continue in place of a text, as 15496,11; prints the new ids.")
    ] = None,
    side: SideName = "torch",
    tokens: Annotated[int, typer.Option(min=0, help="How many tokens to add.")] = 500,
    temperature: Annotated[float, typer.Option(min=0.0, help="0: always the likeliest token.")] = 0.8,
    top_k: Annotated[int, typer.Option(min=0, help="Draw among the k likeliest tokens; 0: among all.")] = 0,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Chooses the draws.")] = 1,
    last: Last = False,
    dtype: DType = "float32",
    device: Device = "cpu",
    threads: Threads = 1,
    time_limit: TimeLimit = 300.0,
) -> None:
    """Continue a text by a trained GPT. Both sides draw the same random numbers."""
    from ..format import find_checkpoint, read_checkpoint
    from ..sides import Worker
    from ..sides import side as find_side
    from ..specs import GPTConfig

    find_side(side)
    if prompt is not None and prompt_ids is not None:
        raise InputError("--prompt-ids", expected="this option or --prompt", found="both")
    file = find_checkpoint(checkpoint, side, "last" if last else "best")
    found = read_checkpoint(file)
    if not isinstance(found.config, GPTConfig):
        raise InputError(f"{file}, attribute model", expected="'gpt'", found=repr(found.model))
    shown = _Text(file, found, prompt) if prompt_ids is None else _Ids(prompt_ids, found.config.vocab)
    arguments = {
        **{"checkpoint": str(file.resolve()), "prompt": shown.prompt, "count": tokens},
        **{"temperature": temperature, "top_k": top_k, "seed": seed, "dtype": dtype, "device": device},
    }
    with Worker(side, threads=threads, silence_seconds=time_limit) as worker:
        worker.request("generate", arguments, lambda state: shown.add(state["token"]))
    shown.end()


class _Text:
    """Shows a prompt and the text that is added to it; nothing before the first token is there."""

    def __init__(self, file: Path, checkpoint: Checkpoint, text: str | None) -> None:
        from ..data.text import tokenizer_from_json

        where = f"{file}, attribute data, tokenizer"
        if "tokenizer" not in checkpoint.data:
            hint = "Without one, --prompt-ids 15496,11 continues token ids."
            raise InputError(where, expected="a tokenizer", found="none", hint=hint)
        self._tokenizer = tokenizer_from_json(checkpoint.data["tokenizer"], where)
        self.prompt: list[int] = self._tokenizer.encode("\n" if text is None else text).tolist()
        self._waiting = list(self.prompt)

    def add(self, token: int) -> None:
        self._waiting.append(token)
        text = self._tokenizer.decode(self._waiting)
        if not text.endswith("\N{REPLACEMENT CHARACTER}"):  # bytes of a character that is not whole yet
            _print(text)
            self._waiting.clear()

    def end(self) -> None:
        _print(f"{self._tokenizer.decode(self._waiting)}\n")


class _Ids:
    """Shows the ids that are added to ids, with commas between, as they could be given again."""

    def __init__(self, text: str, vocab: int) -> None:
        from ..data.text import checked_ids

        parts = [part.strip() for part in text.split(",")]
        wrong = next((part for part in parts if not (part.isascii() and part.isdigit()) or len(part) > 18), None)
        if wrong is not None:
            raise InputError("--prompt-ids", expected="numbers with commas between, as 15496,11", found=repr(wrong))
        self.prompt: list[int] = checked_ids([int(part) for part in parts], vocab).tolist()
        self._separator = ""

    def add(self, token: int) -> None:
        _print(f"{self._separator}{token}")
        self._separator = ","

    def end(self) -> None:
        _print("\n")


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


@import_app.command("gpt2")
def import_gpt2(
    folder: Annotated[Path, typer.Argument(help="Holds model.safetensors and config.json of Hugging Face.")],
    out: Annotated[Path, typer.Option(help="The checkpoint to write.")] = Path("gpt2.h5"),
) -> None:
    """Turn GPT-2 weights of Hugging Face into a checkpoint."""
    from ..importers.gpt2 import read_gpt2

    make_folder(out.parent)
    read_gpt2(folder).write(out)
    console().print(f"{out}", soft_wrap=True)
