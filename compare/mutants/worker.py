"""The PyTorch side's worker with one mistake of `torch.toml` in it: `python worker.py MUTANT`; `none` for no mistake.

The mistake is put into the text of a module as that is imported; no file changes. Beside it: `worker.jl`.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import tomllib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import CodeType, ModuleType

HERE = Path(__file__).resolve().parent
PACKAGE = Path(str(find_spec("twingrad").origin)).parent
"""Where the package lies, which is not imported yet."""
NO_MUTANT = "none"


class MutatedLoader(importlib.machinery.SourceFileLoader):
    """Loads a module from its file, one piece of whose text is replaced."""

    def __init__(self, fullname: str, path: str, old: str, new: str) -> None:
        super().__init__(fullname, path)
        self.old, self.new = old, new

    def get_code(self, fullname: str) -> CodeType:
        """The module's code, compiled from the changed text."""
        text = Path(self.path).read_text("utf-8")
        if (found := text.count(self.old)) != 1:
            raise SystemExit(f"{self.path}: expected the text to be replaced once, found it {found} times: {self.old}")
        return compile(text.replace(self.old, self.new), self.path, "exec")


class MutatedFinder(importlib.abc.MetaPathFinder):
    """Finds the one module of the file that a mutant changes."""

    def __init__(self, file: str, old: str, new: str) -> None:
        self.path, self.old, self.new = PACKAGE / file, old, new
        self.name = ".".join(["twingrad", *Path(file).with_suffix("").parts])

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The specification of that module, with a loader that changes it; None for all others."""
        if fullname != self.name:
            return None
        loader = MutatedLoader(fullname, str(self.path), self.old, self.new)
        return importlib.machinery.ModuleSpec(fullname, loader, origin=str(self.path))


def plant(name: str) -> str:
    """Have the mutant `name` imported in the place of what it changes; returns the name of the changed module."""
    mutants = tomllib.loads((HERE / "torch.toml").read_text("utf-8"))["mutant"]
    chosen = next((mutant for mutant in mutants if mutant["name"] == name), None)
    if chosen is None:
        raise SystemExit(f"mutant: expected one of torch.toml, found {name!r}")
    finder = MutatedFinder(chosen["file"], chosen["old"], chosen["new"])
    sys.meta_path.insert(0, finder)
    return finder.name


def main(name: str) -> None:
    """Answer requests as the side's worker does."""
    changed = None if name == NO_MUTANT else plant(name)
    from twingrad.worker import main as serve

    if changed is not None and changed not in sys.modules:
        raise SystemExit(f"mutant {name}: the worker does not use {changed}")
    serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
