"""One table in four formats: what is escaped, how numbers are written, that no number is lost; both languages."""

from __future__ import annotations

import csv
import io
import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from string import Formatter
from typing import Any

import pytest

from twingrad.errors import InputError
from twingrad.report import latex, markdown
from twingrad.report.csv_files import csv_text
from twingrad.report.document import (
    CODE,
    COUNT,
    DURATION,
    ERROR,
    MILLISECONDS,
    PERCENT,
    Cell,
    Column,
    Document,
    Fold,
    Listing,
    Listings,
    Paragraph,
    Picture,
    Problems,
    Section,
    Table,
    Verdict,
    parts_of,
    ranges,
    shown,
    significant,
    tables,
    without_empty,
)
from twingrad.report.html import html
from twingrad.report.language import ENGLISH, LANGUAGES, TEXTS, THIN, UNBROKEN, Code, Language, Number, find_language

NASTY = "a|b_c*d `e` <f> & 50% $g$ #h {i} ~j^k\\l \"m\" 'n' [o](p) ‖q‖₂ Δμ 源\nnew line"
FRENCH = Language("fr")
SECONDS = 0.0123456789


def table(**changes: Any) -> Table:
    values: dict[str, Any] = {
        "name": "things",
        "caption": "Things & others",
        "columns": [
            Column("name", "name_1", CODE),
            Column("seconds_median", "median (ms)", MILLISECONDS, group="PyTorch"),
            Column("seconds", "quartiles", ranges(MILLISECONDS, ("lower", "upper")), group="PyTorch"),
            Column("error", "error", ERROR),
            Column("calls", "calls", COUNT),
            Column("share", "share", PERCENT),
        ],
        "rows": [
            (NASTY, SECONDS, (0.012, 1.25), 1.2345e-15, 12345, 0.97214),
            ("two", None, None, Cell(float("inf"), fails=True), Cell(7, remark="of 8"), 1.0),
        ],
        "note": ("Machine: M. Command: ", Code("twingrad x --y_z"), "."),
    }
    return Table(**values | changes)


def document(*parts: Any, language: Language = ENGLISH) -> Document:
    section = Section("Title & more", parts or (table(),), "anchor", short="Title")
    verdict = Verdict("agree", "✓ AGREE", ["All 1,234 of #1."])
    return Document(language, "T_1", verdict, [section], ("Made by ", Code("x|y")))


def cells(line: str) -> list[str]:
    """The cells of a line of a Markdown table."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_csv_holds_every_number_as_it_is() -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text(table()))))
    assert list(rows[0]) == ["name", "seconds_median", "seconds_lower", "seconds_upper", "error", "calls", "share"]
    first, second = rows
    assert first["name"] == NASTY
    assert [float(first[name]) for name in ("seconds_median", "seconds_lower", "seconds_upper")] == [
        SECONDS,
        0.012,
        1.25,
    ]
    assert (float(first["error"]), int(first["calls"]), float(first["share"])) == (1.2345e-15, 12345, 0.97214)
    assert (second["seconds_median"], second["seconds_lower"], second["error"], second["calls"]) == ("", "", "inf", "7")


def test_markdown_rows_have_as_many_cells_as_the_head() -> None:
    lines = "\n".join(markdown.table_blocks(table(), ENGLISH)).splitlines()
    rows = [cells(line) for line in lines if line.startswith("|")]
    assert [len(row) for row in rows] == [6] * 4
    assert rows[0] == ["name\\_1", "PyTorch: median (ms)", "PyTorch: quartiles", "error", "calls", "share"]
    assert rows[1] == [":---", "---:", "---:", "---:", "---:", "---:"]
    assert rows[2][1:] == ["12.3", "12.0 – 1,250", "1.2e-15", "12,345", "97.21 %"]
    assert rows[3] == ["`two`", "–", "–", "**✗ not comparable**", "7 of 8", "100.00 %"]
    assert lines[0] == "**Things &amp; others**"
    assert lines[-1] == "Machine: M. Command: `twingrad x --y_z`."


def test_markdown_escapes() -> None:
    text = markdown.escape(NASTY)
    assert text.startswith(r"a\|b\_c\*d \`e\` \<f\> &amp; 50% \$g\$ \#h \{i\} \~j^k\\l")
    assert r"\[o\](p)" in text
    assert "\n" not in text
    assert markdown.escape("1. one") == r"1\. one"
    assert markdown.escape("- one") == r"\- one"
    assert markdown.inline((Code("a`b"), " ", Code("`c`")), ENGLISH) == "``a`b`` `` `c` ``"


def test_latex_rows_have_as_many_cells_as_the_head() -> None:
    lines = [line.strip() for line in latex.table_text(table(), ENGLISH).splitlines()]
    assert lines[0].startswith("% Written by twingrad")
    rows = [re.split(r"(?<!\\)&", line.removesuffix(r"\\")) for line in lines if line.endswith(r"\\")]
    assert [len(row) for row in rows] == [5, 6, 6, 6]  # two heads stand below one
    assert r"\cmidrule(lr){2-3}" in lines
    assert [cell.strip() for cell in rows[2][1:]] == [
        r"\num{12.3}",
        r"\num{12.0} -- \num{1250}",
        r"\num{1.2e-15}",
        r"\num{12345}",
        r"\num{97.21} \%",
    ]
    assert rows[3][3].strip() == r"\fails{not comparable}"
    assert [line for line in lines if line.startswith("\\begin")] == [
        r"\begin{table}[H]",
        r"\begin{fitted}",
        r"\begin{tabular}{Wrrrrr}",
    ]
    assert r"\caption{Things \& others}\label{tab:things}" in lines
    assert r"\tablenote{Machine: M. Command: \texttt{twingrad x -{}-y\_\allowbreak{}z}.}" in lines


def test_latex_escapes() -> None:
    text = latex.escape(NASTY)
    assert text.startswith(r"a\textbar{}b\_c*d \textasciigrave{}e\textasciigrave{} \textless{}f\textgreater{} \& 50\%")
    assert r"\$g\$ \#h \{i\} \textasciitilde{}j\textasciicircum{}k\textbackslash{}l" in text
    assert r"\ensuremath{\|}q\ensuremath{\|}\ensuremath{_2} \ensuremath{\Delta}\ensuremath{\mu} ? new line" in text
    assert not re.search(r"(?<!\\)[%#$&]", text)
    assert latex.escape("é œ ﬁ –\N{NO-BREAK SPACE}") == r"é \oe{} f --~"
    assert latex.cited("as in [@he2016, benning2019].") == r"as in~\cite{he2016,benning2019}."
    everything = "".join(chr(code) for code in range(0x20, 0x3000))
    assert all(character < "\N{LATIN SMALL LETTER LONG S}" for character in latex.escape(everything))


def test_long_tables_go_over_pages_and_wide_ones_are_turned() -> None:
    rows = [("a", 1.0, (1.0, 2.0), 0.0, 1, 0.5)] * (latex.LONG + 1)
    text = latex.table_text(table(rows=rows), ENGLISH)
    assert r"\begin{longtable}{lrrrrr}" in text
    assert text.count(r"\endhead") == 1
    assert "landscape" not in text
    wide = table(columns=[Column(f"c{k}", f"c{k}", COUNT) for k in range(9)], rows=[tuple(range(9))] * (latex.LONG + 1))
    assert r"\begin{landscape}" in latex.table_text(wide, ENGLISH)


def test_every_citation_has_its_reference() -> None:
    entries = re.findall(r"^@\w+\{(\w+),", latex.references(), re.MULTILINE)
    assert len(entries) == len(set(entries))
    for language in (ENGLISH, FRENCH):
        text = latex.skeleton(document(language=language), {})
        cited = {key for keys in re.findall(r"\\cite\{([^}]+)\}", text) for key in keys.split(",")}
        assert cited
        assert cited <= set(entries)  # the others are for the reader's own text
    for name in ("vaswani2017", "he2016", "benning2019", "goodfellow2015", "paszke2019", "innes2018flux"):
        assert name in entries


def test_the_skeleton() -> None:
    file = Path("out/training/a b/curves.png")
    picture = Picture(file, "Caption 50 %", "alt")
    parts = [
        Paragraph(("Some ", Number("1,234"))),
        table(),
        picture,
        Problems(["a_b"]),
        Listings([Listing("t", " x\n%")]),
    ]
    of = document(*parts, language=FRENCH)
    names = latex.picture_names(of, Path("out"))
    assert names == {file: "figures/training-a-b-curves.png"}
    text = latex.skeleton(of, names)
    for expected in (
        r"\usepackage[french]{twingrad}",
        r"\section{Title \& more}",
        r"Some \num{1234}",
        r"\input{tables/things}",
        r"\includegraphics[width=\linewidth,height=0.4\textheight,keepaspectratio]{figures/training-a-b-curves.png}",
        r"\item a\_b",
        "~x\\\\\n\\%\\par}",
        r"\bibliography{references}",
        "% Votre texte.",
    ):
        assert expected in text
    assert text.count(r"\begin{document}") == text.count(r"\end{document}") == 1
    assert r"\appendix" not in text


def test_html() -> None:
    page = html(document(Fold("m", "2 < 3", [table()], opened=True), Paragraph(("<b>", Code("<c>")), soft=True)))
    assert "<b>" not in page
    assert '<p class="soft">&lt;b&gt;<code>&lt;c&gt;</code></p>' in page
    assert "<details open>\n<summary><strong>m</strong> 2 &lt; 3</summary>" in page
    assert '<td class="number fails">✗ not comparable</td>' in page
    assert '<th scope="colgroup" colspan="2" class="group">PyTorch</th>' in page
    assert '<p class="note">Machine: M. Command: <code>twingrad x --y_z</code>.</p>' in page
    opened: list[str] = []

    class Checker(HTMLParser):
        def handle_starttag(self, tag: str, attrs: Any) -> None:
            if tag not in ("meta", "img"):
                opened.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert opened.pop() == tag

    Checker().feed(page)
    assert opened == []


def test_french_numbers() -> None:
    texts = ["".join(line) for line in markdown.table_blocks(table(), FRENCH)]
    assert f"12,0 – 1{THIN}250" in texts[1]
    assert "1,2e-15" in texts[1]
    assert "97,21 %" in texts[1]
    assert r"\num{12.3}" in latex.table_text(table(), FRENCH)
    assert FRENCH("verdict.nothing_sentence", sides="A") == f"A{UNBROKEN}: rien n'a été comparé."
    assert FRENCH.count("count.check", 12345) == f"12{THIN}345 contrôles"
    assert (ENGLISH.count("count.check", 1), FRENCH.count("count.check", 1)) == ("1 check", "1 contrôle")
    assert ENGLISH.joined(["A", "B", "C"]) == "A, B and C"
    assert FRENCH.joined(["A"]) == "A"


@pytest.mark.parametrize(
    ("number", "digits", "expected"),
    [
        (0.0, 3, "0"),
        (0.012345, 3, "0.0123"),
        (0.99951, 3, "1.00"),
        (12.345, 3, "12.3"),
        (999.96, 3, "1,000"),
        (12345.6, 3, "12,346"),
        (1.2e-7, 3, "1.20e-07"),
        (2.5e9, 3, "2.50e+09"),
        (-1.5, 2, "-1.5"),
    ],
)
def test_significant_digits(number: float, digits: int, expected: str) -> None:
    assert significant(number, digits) == expected


def test_durations_and_remarks() -> None:
    def said(seconds: float | None) -> str:
        return ENGLISH.plain(shown(Column("s", "s", DURATION), Cell(seconds), ENGLISH))

    assert [said(seconds) for seconds in (None, 1.25, 59.9, 300.0, 3725.0)] == [
        "–",
        "1.2 s",
        "59.9 s",
        "5 min",
        "1 h 02 min",
    ]


def test_misshapen_tables_and_equal_names_are_refused() -> None:
    with pytest.raises(ValueError, match="2 cells in a row of 6 columns"):
        table(rows=[("a", 1.0)])
    with pytest.raises(ValueError, match="two tables of one name"):
        tables(document(table(), Fold("a", "b", [table()])))
    assert len(parts_of(document(table(), Fold("a", "b", [table(name="other")])).sections)) == 4


def test_empty_columns_are_left_out() -> None:
    of = table(rows=[("a", None, (1.0, 2.0), None, Cell(None), 0.5)])
    columns, rows = without_empty(of.columns, of.rows)
    assert [column.key for column in columns] == ["name", "seconds", "share"]
    assert rows == [["a", (1.0, 2.0), 0.5]]
    assert len(without_empty(of.columns, [])[0]) == 6


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


def test_both_languages_say_the_same_things() -> None:
    for section, entries in tomllib.loads(TEXTS.read_text("utf-8")).items():
        for key, texts in entries.items():
            where = f"{section}.{key}"
            assert set(texts) == set(LANGUAGES), where
            english, french = texts["en"], texts["fr"]
            assert type(english) is type(french), where
            pairs = zip(english, french, strict=True) if isinstance(english, list) else [(english, french)]
            for one, other in pairs:
                assert one, where
                assert other, where
                assert placeholders(one) == placeholders(other), where
                assert re.findall(r"\[@[^]]+\]", one) == re.findall(r"\[@[^]]+\]", other), where
            assert not isinstance(english, list) or len(english) == 2, where


def test_every_text_that_is_asked_for_is_there() -> None:
    """Of keys that are written out in the sources; others are asked for by the tests of the sections."""
    known = {f"{section}.{key}" for section, keys in tomllib.loads(TEXTS.read_text("utf-8")).items() for key in keys}
    sources = [path.read_text("utf-8") for path in TEXTS.parent.glob("*.py")]
    asked = {
        key for text in sources for key in re.findall(r'(?:language|pieces|count)\(\s*"([a-z_]+\.[a-z_0-9]+)"', text)
    }
    assert len(asked) > 80
    assert asked <= known


def test_unknown_languages_are_refused() -> None:
    with pytest.raises(InputError, match=r"--lang: expected one of en, fr, found 'de'"):
        find_language("de")
