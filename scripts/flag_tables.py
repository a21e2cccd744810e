"""Write the flag tables of docs/nanobragg.md anew from the parser's own table: python scripts/flag_tables.py."""

from __future__ import annotations

from pathlib import Path

from bragg_numba.dialect.flags import FLAGS, GROUPS, REFUSED

PAGE = Path(__file__).resolve().parent.parent / "docs" / "nanobragg.md"
BEGIN, END = "<!-- flags: begin -->\n", "<!-- flags: end -->\n"


def tables() -> str:
    """Every flag by subject, then the refused ones, as Markdown."""
    lines = []
    for group, title in GROUPS.items():
        lines += ["", f"### {title}", "", "| flag | takes | what |", "|---|---|---|"]
        for flag in FLAGS:
            if flag.group == group:
                names = " ".join(f"`{name}`" for name in flag.names)
                takes = " ".join(name for name, _ in flag.values).replace("|", "\\|")
                lines.append(f"| {names} | {takes} | {flag.help} |")
    lines += ["", "### Refused", "", "| flag | why |", "|---|---|"]
    lines += [f"| `{name}` | {reason} |" for name, reason in REFUSED.items()]
    return "\n".join([*lines, "", ""])


def page_with(text: str) -> str:
    """The page's text with its tables replaced by those of the parser."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + tables() + END + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(page_with(PAGE.read_text()))
