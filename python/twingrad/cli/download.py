"""The bar that all downloads show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from .app import console

if TYPE_CHECKING:
    from ..data.download import Progress as Report


def show_download(title: str, get: Callable[[Report], Path]) -> None:
    """Print the place that `get` downloads to; a bar on stderr shows what it reports, where stderr is a terminal."""
    err = console(stderr=True)
    columns = (TextColumn(title), BarColumn(bar_width=20), DownloadColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("download", total=None)
        place = get(lambda done, total: bar.update(task, completed=done, total=total))
    console().print(f"{place}", soft_wrap=True)
