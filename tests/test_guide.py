"""The guide says what is there: its commands parse, its links lead somewhere, its proofs and references exist."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest
import typer

from twingrad import paths
from twingrad.cli import app

ROOT = paths.root()
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "shared_fixtures" / "FORMAT.md", *DOCS.rglob("*.md")])


def names_of(pages: list[Path]) -> list[str]:
    return [page.relative_to(ROOT).as_posix() for page in pages]


# ---- commands


def shell_lines(page: Path) -> Iterator[list[str]]:
    """The words of each command in the page's blocks of shell, without comments."""
    for block in re.findall(r"```sh\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
        for line in re.split(r"\n|&&", block.replace("\\\n", " ")):
            if words := shlex.split(line.split(" > ")[0], comments=True):
                yield words


def twingrad_words(page: Path) -> Iterator[list[str]]:
    """What follows `twingrad` in the page's commands; "..." stands for what a reader fills in."""
    for words in shell_lines(page):
        called = [word for word in words if "=" not in word or word.startswith("-")]
        if called[:1] and (called[0] == "twingrad" or called[0].endswith("bin/twingrad")):
            yield [word for word in called[1:] if word != "..."]
        elif "-m" in called and called[called.index("-m") + 1] == "twingrad":
            yield [word for word in called[called.index("-m") + 2 :] if word != "..."]


COMMAND = typer.main.get_command(app)


def parse(words: list[str]) -> None:
    """Raise click's usage error where the command line has an unknown verb, option or value."""
    command, name = COMMAND, "twingrad"
    while True:
        context = command.make_context(name, list(words))
        if not hasattr(command, "resolve_command"):
            return
        name, command, words = command.resolve_command(context, [*context._protected_args, *context.args])


@pytest.mark.parametrize("page", PAGES, ids=names_of(PAGES))
def test_commands_of_a_page_parse(page: Path):
    for words in twingrad_words(page):
        try:
            parse(words)
        except typer.Exit:
            continue  # --version
        except Exception as error:
            pytest.fail(f"{page}: twingrad {shlex.join(words)}: {error!r}")


def test_commands_are_found_and_wrong_ones_fail():
    assert ["compare"] in list(twingrad_words(DOCS / "start-python.md"))
    for wrong in (["compair"], ["compare", "--stepps", "3"], ["train", "gpt", "--preset"], ["run", "--side", "torch"]):
        with pytest.raises(Exception, match=r"No such|Missing|requires"):
            parse(wrong)


# ---- links


def anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    return {anchor(heading) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=names_of(PAGES))
def test_links_of_a_page_lead_somewhere(page: Path):
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text("utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, fragment = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{page}: {link}"
        assert not fragment or target.suffix != ".md" or fragment in anchors(target), f"{page}: {link}"


# ---- conventions


CONVENTIONS = DOCS / "conventions.md"
PYTHON, JULIA = ROOT / "tests" / "test_conventions.py", ROOT / "julia" / "test" / "conventions.jl"
NUMBERS = re.compile(r"`([-+\d.,;\[\]() ef]*\d[-+\d.,;\[\]() ef]*)`")


@cache
def rows() -> dict[str, list[str]]:
    """The cells after the first of each row, by the first, which is the trap's name."""
    found = {}
    for line in CONVENTIONS.read_text("utf-8").splitlines():
        if line.startswith("|") and not line.startswith(("| trap", "|---")):
            name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
            assert len(cells) == 4, line
            assert name not in found, name
            found[name] = cells
    return found


@cache
def python_tests() -> dict[str, str]:
    """The source of each test of conventions by its name."""
    text = PYTHON.read_text("utf-8")
    return {
        node.name: ast.get_source_segment(text, node) or ""
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


@cache
def julia_tests() -> dict[str, str]:
    """The source of each test set of conventions by its name."""
    return dict(
        re.findall(r'^@testset "([^"]*)" begin\n(.*?)^end$', JULIA.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    )


def python_name(trap: str) -> str:
    return "test_" + re.sub(r"\W+", "_", trap.lower())


def test_every_row_has_a_test_on_each_side_and_every_test_a_row():
    traps = rows()
    assert {python_name(trap) for trap in traps} == set(python_tests())
    assert set(traps) == set(julia_tests())


@pytest.mark.parametrize("trap", rows())
def test_numbers_of_a_row_are_those_of_its_tests(trap: str):
    torch, flux, *_ = rows()[trap]
    for cell, source in ((torch, python_tests()[python_name(trap)]), (flux, julia_tests()[trap])):
        for number in NUMBERS.findall(cell):
            assert number in source, f"{trap}: {number} is not in the test"


def test_every_proof_that_the_conventions_name_exists():
    cases = [file.stem for file in paths.case_files()]
    python = "\n".join(
        file.read_text("utf-8") for folder in ("tests", "compare") for file in (ROOT / folder).glob("*.py")
    )
    julia = "\n".join(file.read_text("utf-8") for file in (ROOT / "julia" / "test").glob("*.jl"))
    sources = [ROOT, ROOT / "julia" / "src", ROOT / "python" / "twingrad"]
    for trap, (_, _, remedy, proof) in rows().items():
        for span in re.findall(r"`([^`]+)`", remedy + proof):
            if re.fullmatch(r"(control_net|gpt|mlp|resnet)-[\w*-]+", span):
                assert any(fnmatch(case, span) for case in cases), f"{trap}: no case {span}"
            elif re.fullmatch(r"[\w./]+\.(jl|py|h5)", span):
                assert any((folder / span).is_file() for folder in sources), f"{trap}: no file {span}"
            elif span.startswith("test_"):
                assert f"def {span}(" in python, f"{trap}: no test {span}"
        for quoted in re.findall(r'"([^"]+)"', proof):
            assert f'@testset "{quoted}' in julia, f"{trap}: no test set {quoted!r}"


# ---- bibliography


BIBLIOGRAPHY, BIBTEX = DOCS / "bibliography.md", DOCS / "references.bib"
REQUIRED = {
    "article": {"author", "title", "journal", "year", "volume"},
    "book": {"author", "title", "publisher", "year"},
    "inproceedings": {"author", "title", "booktitle", "year"},
    "misc": {"author", "title", "year"},
    "techreport": {"author", "title", "institution", "year"},
}


@cache
def entries() -> dict[str, tuple[str, set[str]]]:
    """Kind and fields of each BibTeX entry by its key."""
    found = {}
    for kind, key, body in re.findall(
        r"^@(\w+)\{([^,]+),\n(.*?)^\}$", BIBTEX.read_text("utf-8"), re.DOTALL | re.MULTILINE
    ):
        assert key not in found, key
        assert body.count("{") == body.count("}"), key
        found[key] = kind, set(re.findall(r"^  (\w+) *= \{", body, re.MULTILINE))
    return found


def test_every_reference_has_an_entry_and_every_entry_a_reference():
    cited = re.findall(r"`([a-z]+\d{4}[a-z]*)`", BIBLIOGRAPHY.read_text("utf-8"))
    assert sorted(cited) == sorted(entries())


def test_entries_are_complete():
    assert len(entries()) == BIBTEX.read_text("utf-8").count("\n@") + 1
    for key, (kind, fields) in entries().items():
        assert REQUIRED[kind] <= fields, f"{key} lacks {REQUIRED[kind] - fields}"
        year = re.findall(r"\d{4}", key)[0]
        assert re.search(rf"\{{{key},(?:(?!\n@).)*\n  year *= \{{{year}\}}", BIBTEX.read_text("utf-8"), re.DOTALL), key


def test_the_places_that_references_name_exist():
    text = BIBLIOGRAPHY.read_text("utf-8").split("\n## ", 1)[1]
    places = set(re.findall(r"`([a-z0-9_]+(?:/[a-z0-9_]+)?)`", text)) - set(entries()) - {"strang"}
    assert "models/gpt" in places
    for place in places:
        found = [*(ROOT / "python/twingrad").glob(f"{place}.py"), *(ROOT / "julia/src").glob(f"{place}.jl")]
        assert found, place


# ---- references of the languages


def test_the_names_of_the_julia_reference_are_documented():
    page = (DOCS / "reference-julia.md").read_text("utf-8")
    rows = "\n".join(line for line in page.splitlines() if line.startswith("|"))
    names = re.findall(r"`([A-Za-z_]+!?)`( ∗)?", rows)
    sources = "\n".join(file.read_text("utf-8") for file in sorted((ROOT / "julia" / "src").rglob("*.jl")))
    exported = set(re.findall(r"[\w!]+", " ".join(re.findall(r"^export (.*)$", sources, re.MULTILINE))))
    assert {name for name, star in names if star} == exported
    for name, _ in names:
        kinds = r"(?:(?:Base\.@kwdef )?(?:mutable |abstract )?(?:struct|type) |function |const )?"
        definition = rf'"\n{kinds}{re.escape(name)}(?:[({{ ]|$)'
        assert re.search(definition, sources, re.MULTILINE), f"{name} has no docstring"


def test_the_names_of_the_python_reference_exist():
    for name in re.findall(r"^::: (\S+)$", (DOCS / "reference-python.md").read_text("utf-8"), re.MULTILINE):
        module, attribute = name.rsplit(".", 1)
        source = (ROOT / "python" / Path(*module.split(".")).with_suffix(".py")).read_text("utf-8")
        assert re.search(rf"^(?:def|class) {attribute}\b", source, re.MULTILINE), name
