"""The command of a training, kept beside what it trained for the report."""

from __future__ import annotations

from pathlib import Path

from ..files import make_folder, replacing


def keep_command(folder: Path, side: str, command: str) -> None:
    """Write the command into FOLDER/SIDE.command, in the place of an earlier one; raises InputError where it cannot."""
    make_folder(folder)
    with replacing(_file(folder, side)) as temporary:
        temporary.write_text(command + "\n", "utf-8")


def command_of(folder: Path, side: str) -> str:
    """The last command that trained on a side in the folder; empty where none was kept."""
    file = _file(folder, side)
    return file.read_bytes().decode("utf-8", "replace").strip() if file.is_file() else ""


def _file(folder: Path, side: str) -> Path:
    return folder / f"{side}.command"
