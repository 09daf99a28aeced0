"""A report as a folder for LaTeX: a file for each table, and a skeleton that puts them between places for texts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import jinja2

from .document import (
    Document,
    Fold,
    Listings,
    Paragraph,
    Part,
    Picture,
    Problems,
    Row,
    Section,
    Table,
    pictures,
    shown,
    tables,
)
from .language import THIN, UNBROKEN, Code, Language, Number, Pieces
from .parts import slug, unique

SKELETON = Path(__file__).with_name("skeleton")
LONG, WIDE = 45, 8
"""A table of more rows goes over several pages; if it has more columns, these are in landscape."""
FULL, LONG_TEXT = 110, 30
"""In a table whose lines have more characters than fit, a column with a longer text takes several lines."""
HEADINGS = ("section", "subsection", "subsubsection", "paragraph")
SPECIAL = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        '"': r"\textquotedbl{}",
        "`": r"\textasciigrave{}",
    },
    **{UNBROKEN: "~", THIN: r"\,", "–": "--", "—": "---", "…": r"\dots{}", "’": "'", "‘": "`", "“": "``", "”": "''"},
    **{"•": r"\textbullet{}", "°": r"\textdegree{}", "œ": r"\oe{}", "Œ": r"\OE{}", "�": "?"},
    **{"«": r"\guillemotleft{}", "»": r"\guillemotright{}"},
}
MATHEMATICS = {
    **{"−": "-", "×": r"\times", "±": r"\pm", "·": r"\cdot", "≤": r"\leq", "≥": r"\geq", "≈": r"\approx", "≠": r"\neq"},
    **{"‖": r"\|", "∂": r"\partial", "∇": r"\nabla", "∞": r"\infty", "→": r"\to", "∈": r"\in", "√": r"\surd"},
    **{"✓": r"\surd", "✗": r"\times", "∼": r"\sim"},
    **{sub: f"_{number}" for number, sub in enumerate("₀₁₂₃₄₅₆₇₈₉")},
    **{power: f"^{number}" for number, power in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
}
GREEK = {
    **dict(
        zip(
            "αβγδεζηθικλμνξπρστυφχψω",
            (
                *(
                    "alpha",
                    "beta",
                    "gamma",
                    "delta",
                    "epsilon",
                    "zeta",
                    "eta",
                    "theta",
                    "iota",
                    "kappa",
                    "lambda",
                    "mu",
                ),
                *("nu", "xi", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega"),
            ),
            strict=True,
        )
    ),
    **{"Γ": "Gamma", "Δ": "Delta", "Θ": "Theta", "Λ": "Lambda", "Ξ": "Xi", "Π": "Pi", "Σ": "Sigma", "Φ": "Phi"},
    **{"Ψ": "Psi", "Ω": "Omega", "µ": "mu"},
}
MATHEMATICS |= {letter: f"\\{name}" for letter, name in GREEK.items()}
CITED = re.compile(r" ?\[@([a-z0-9, ]+)\]")


def table_name(table: Table) -> str:
    """The path of a table's file in the folder."""
    return f"tables/{table.name}.tex"


def picture_names(document: Document, out: Path) -> dict[Path, str]:
    """The paths of the copies of the pictures in the folder, by the pictures' own."""
    files = list(dict.fromkeys(picture.file for picture in pictures(document)))
    names = unique([slug(file.relative_to(out).with_suffix("").as_posix()) for file in files])
    return {file: f"figures/{name}.png" for file, name in zip(files, names, strict=True)}


def latex_files(document: Document) -> dict[str, str]:
    """The texts of the files that are written anew each time, by their paths in the folder."""
    files = {table_name(table): table_text(table, document.language) for table in tables(document)}
    return {**files, "twingrad.sty": (SKELETON / "twingrad.sty").read_text("utf-8")}


def references() -> str:
    """The text of references.bib."""
    return (SKELETON / "references.bib").read_text("utf-8")


def skeleton(document: Document, names: Mapping[Path, str]) -> str:
    """The text of report.tex, with the pictures under the given names."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(SKELETON),
        undefined=jinja2.StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
    )
    language = document.language

    def body(detail: bool) -> str:
        lines = [
            line for part in document.sections if part.detail is detail for line in _lines(part, 0, language, names)
        ]
        return "\n".join(lines)

    return environment.get_template("report.tex.jinja").render(
        french=language.name == "fr",
        title=escape(document.title),
        verdict=[escape(sentence) for sentence in document.verdict.sentences],
        text=lambda key: cited(language(f"skeleton.{key}")),
        results=body(False),
        details=body(True),
    )


def escape(text: str) -> str:
    """A text in one line, of characters that every LaTeX has."""
    return "".join(_character(character) for character in " ".join(text.splitlines()))


def cited(text: str) -> str:
    """A text whose [@key, @key] are citations."""
    parts = CITED.split(text)
    written = [escape(part) if place % 2 == 0 else _cite(part) for place, part in enumerate(parts)]
    return "".join(written)


def _cite(keys: str) -> str:
    return f"~\\cite{{{','.join(key.strip() for key in keys.split(','))}}}"


def _character(character: str) -> str:
    """A character that pdfLaTeX knows; of others their parts, or a question mark."""
    if character in SPECIAL:
        return SPECIAL[character]
    if character in MATHEMATICS:
        return f"\\ensuremath{{{MATHEMATICS[character]}}}"
    if character < "\x7f":
        return character if character >= " " else " "
    if character <= "\N{LATIN SMALL LETTER Z WITH CARON}":
        return character
    plain = unicodedata.normalize("NFKD", character)[0]
    return plain if " " <= plain < "\x7f" and plain not in SPECIAL else "?"


def inline(pieces: str | Pieces, language: Language) -> str:
    """Pieces with the commands of LaTeX; numbers are left to siunitx, which knows the language."""
    if isinstance(pieces, str):
        return escape(pieces)
    return "".join(_piece(piece) for piece in pieces)


def _piece(piece: str | Number | Code) -> str:
    match piece:
        case Number(text):
            return f"\\num{{{text.replace(',', '')}}}"
        case Code(text):
            broken = re.sub(r"([/.,]|\\_)", r"\1\\allowbreak{}", escape(text)).replace("--", "-{}-")
            return f"\\texttt{{{broken}}}"
        case str():
            return escape(piece)


def table_text(table: Table, language: Language) -> str:
    """The file of a table: booktabs' rules, and a longtable where there are many rows."""
    long = len(table.rows) > LONG
    head = [*_groups(table), " & ".join(escape(column.head) for column in table.columns) + r" \\"]
    rows = [" & ".join(_cells(row, table, language)) + r" \\" for row in table.rows]
    caption = f"\\caption{{{inline(table.caption, language)}}}\\label{{tab:{table.name}}}"
    note = f"\\tablenote{{{inline(table.note, language)}}}" if table.note else ""
    kinds = _alignment(table, language)
    lines = _long(kinds, caption, head, rows, note) if long else _short(kinds, caption, head, rows, note)
    if long and len(table.columns) > WIDE:
        lines = [r"\begin{landscape}", *lines, r"\end{landscape}"]
    return "\n".join([f"% {language('skeleton.generated')}", *lines]) + "\n"


def _short(kinds: str, caption: str, head: Sequence[str], rows: Sequence[str], note: str) -> list[str]:
    inner = [r"\toprule", *head, r"\midrule", *rows, r"\bottomrule"]
    return [
        *(r"\begin{table}[H]", r"  \centering\small", f"  {caption}", r"  \begin{fitted}"),
        *(f"    \\begin{{tabular}}{{{kinds}}}", *(f"      {line}" for line in inner), r"    \end{tabular}"),
        *(r"  \end{fitted}", f"  {note}", r"\end{table}"),
    ]


def _long(kinds: str, caption: str, head: Sequence[str], rows: Sequence[str], note: str) -> list[str]:
    return [
        *(r"\begingroup\scriptsize\setlength{\tabcolsep}{3pt}", f"\\begin{{longtable}}{{{kinds}}}"),
        *(f"  {caption} \\\\", r"  \toprule", *(f"  {line}" for line in head), r"  \midrule", r"  \endfirsthead"),
        *(
            r"  \toprule",
            *(f"  {line}" for line in head),
            r"  \midrule",
            r"  \endhead",
            r"  \bottomrule",
            r"  \endlastfoot",
        ),
        *(r"  \midrule", r"  \endfoot"),
        *(f"  {line}" for line in rows),
        *(r"\end{longtable}", note, r"\endgroup"),
    ]


def _alignment(table: Table, language: Language) -> str:
    """The kinds of the columns: of numbers, of texts in a line, and in a wide table of texts in several lines."""
    lengths = []
    for place, column in enumerate(table.columns):
        cells = [table.cells(row)[place][1] for row in table.rows]
        texts = [language.plain(shown(column, cell, language)) for cell in cells]
        lengths.append(max(len(text) for text in [column.head, *texts]))
    wide = sum(lengths) > FULL
    return "".join(
        "r" if column.form.numeric else "W" if wide and length > LONG_TEXT else "l"
        for column, length in zip(table.columns, lengths, strict=True)
    )


def _groups(table: Table) -> Iterator[str]:
    """The line of what stands above several heads, with rules below it."""
    groups = table.groups()
    if not any(group for group, _ in groups):
        return
    cells, rules, place = [], [], 1
    for group, span in groups:
        cells.append(f"\\multicolumn{{{span}}}{{c}}{{{escape(group)}}}" if group else "")
        rules += [f"\\cmidrule(lr){{{place}-{place + span - 1}}}"] if group else []
        place += span
    yield " & ".join(cells) + r" \\"
    yield " ".join(rules)


def _cells(row: Row, table: Table, language: Language) -> Iterator[str]:
    for column, cell in table.cells(row):
        text = inline(shown(column, cell, language), language)
        yield f"\\fails{{{text}}}" if cell.fails else text


def _lines(part: Part, level: int, language: Language, names: Mapping[Path, str]) -> Iterator[str]:
    """The part in the text of the skeleton."""
    match part:
        case Section() | Fold():
            yield f"\n\\{HEADINGS[min(level, 3)]}{{{escape(part.title)}}}"
            if isinstance(part, Section):
                yield f"\\label{{sec:{part.anchor}}}"
                yield f"% {language('skeleton.your_text')}"
            for inner in part.parts:
                yield from _lines(inner, level + 1, language, names)
        case Paragraph():
            yield f"\n{inline(part.pieces, language)}"
        case Table():
            yield f"\n\\input{{tables/{part.name}}}"
        case Picture():
            yield from _figure(part, names[part.file])
        case Listings():
            for item in part.items:
                yield f"\n\\paragraph{{{escape(item.title)}}} {escape(item.remark)}"
                yield _listing(item.text)
        case Problems():
            yield r"\begin{itemize}"
            yield from (f"  \\item {escape(message)}" for message in part.messages)
            yield r"\end{itemize}"


def _figure(picture: Picture, name: str) -> list[str]:
    label = Path(name).stem
    return [
        *("\n\\begin{figure}[H]", r"  \centering"),
        f"  \\includegraphics[width=\\linewidth,height=0.4\\textheight,keepaspectratio]{{{name}}}",
        f"  \\caption{{{escape(picture.caption)}}}\\label{{fig:{label}}}",
        r"\end{figure}",
    ]


def _listing(text: str) -> str:
    """A text in letters of equal width, with its lines and the spaces before them."""
    lines = []
    for line in text.split("\n"):
        rest = line.lstrip(" ")
        lines.append("~" * (len(line) - len(rest)) + (escape(rest) or r"\mbox{}"))
    return "{\\footnotesize\\ttfamily\\raggedright\\noindent\n" + "\\\\\n".join(lines) + "\\par}"
