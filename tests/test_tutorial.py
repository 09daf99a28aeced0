"""The tutorial's Python programs print what its pages say; the Julia ones are run by `julia/test/tutorial.jl`."""

from pathlib import Path

import matplotlib
import pytest

from tutorial_pages import FOLDER, PAGES, PICTURES, groups, printed

PAGE = PAGES["en"].read_text("utf-8")


def test_programs_print_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib.use("agg")
    monkeypatch.chdir(tmp_path)
    parts = groups(PAGE)
    for group, output in zip(parts, printed(parts, PAGES["en"]), strict=True):
        if "python" in group.programs:
            assert output == group.output, f"{PAGES['en']}, line {group.lines['python']}"
    for picture in PICTURES:
        assert (tmp_path / picture).stat().st_size > 5_000, picture


def test_every_output_is_of_both_languages() -> None:
    parts = [group for group in groups(PAGE) if group.output]
    assert len(parts) > 15
    for group in parts:
        assert group.programs.keys() == {"python", "julia"}, group.lines


def test_both_pages_hold_the_same_programs_and_outputs() -> None:
    english, french = (
        [(group.programs, group.output) for group in groups(page.read_text("utf-8"))] for page in PAGES.values()
    )
    assert english == french


def test_pictures_are_shown_on_both_pages_and_small() -> None:
    assert sorted(file.name for file in FOLDER.glob("*.png")) == sorted(PICTURES)
    for picture in PICTURES:
        assert (FOLDER / picture).stat().st_size < 100_000
        assert all(f"]({picture})" in page.read_text("utf-8") for page in PAGES.values())


def test_groups_are_read_as_they_stand() -> None:
    page = "a\n```python\n1\n```\n\n```julia\n2\n```\n\n```text\n3\n```\n\n```python\n4\n```\nb\n```julia\n5\n```\n"
    found = [(group.programs, group.lines, group.output) for group in groups(page)]
    assert found == [
        ({"python": "1\n", "julia": "2\n"}, {"python": 3, "julia": 7}, "3\n"),
        ({"python": "4\n"}, {"python": 15}, ""),
        ({"julia": "5\n"}, {"julia": 19}, ""),
    ]
    with pytest.raises(ValueError, match="line 2: an output without a program above it"):
        groups("```text\n3\n```\n")
