"""Keeps docs/files.md true: every source file with the first sentence of its opening comment.

python tools/tour.py            # writes the page
python tools/tour.py --check    # exit 1 when it is not current
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "files.md"
# the library from below to above, then the program
ROOMS = ["base", "tensor", "image", "dist", "compute", "model", "sae", "train", "store", "recipe", "edit", "index", "eval",
         "report", "server", "cli"]
HEAD = """# The files

Every source file and what it does, made by `python tools/tour.py` from the sentence that opens the file. Rooms stand in their
order: each includes only what stands before it ([ARCHITECTURE.md](../ARCHITECTURE.md) has the tour).
"""


def purpose(path: Path) -> str:
    """The first sentence of the comment or docstring that opens the file, without the file's name."""
    text = path.read_text(encoding="utf-8")
    found = re.match(r'\s*(?:/\*(.*?)\*/|((?://[^\n]*\n)+)|"""(.*?)""")', text, re.DOTALL)
    if not found:
        return ""
    words = next(g for g in found.groups() if g is not None)
    lines = [re.sub(r"^\s*(\*|//)\s?", "", line).strip() for line in words.strip().splitlines()]
    first = lines[: lines.index("")] if "" in lines else lines
    words = re.sub(rf"^(?:[\w/]+/)?{re.escape(path.name)} - ", "", " ".join(" ".join(first).split()))
    end = re.search(r"(?<=[^.\s])[.:](?= [A-Z`(\"]|$)", words)
    return (words[: end.start()] if end else words).replace("|", "\\|")


def folders() -> list[Path]:
    """The folders of the page, in its order."""
    rooms = [ROOT / "include/facet"]
    for room in ROOMS:
        rooms.append(ROOT / "src" / room)
        rooms += sorted(p for p in (ROOT / "src" / room).glob("*") if p.is_dir())
    return [*rooms, ROOT / "web", ROOT / "tools", ROOT / "bench"]


def listing() -> str:
    """The whole page."""
    lines = [HEAD]
    for folder in folders():
        files = sorted(p for p in folder.glob("*") if p.suffix in (".c", ".h", ".js", ".css", ".py"))
        if files:
            lines += [f"## {folder.relative_to(ROOT)}/", "", "| file | |", "|---|---|"]
            lines += [f"| `{p.name}` | {purpose(p)} |" for p in files]
            lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Writes the page, or says whether it is current."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    made = listing()
    if parser.parse_args().check:
        current = PAGE.exists() and PAGE.read_text(encoding="utf-8") == made
        sys.exit(0 if current else "docs/files.md is not current: run python tools/tour.py")
    PAGE.write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main()
