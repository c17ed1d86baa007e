"""Checks what can be checked of the style: line and file lengths, opening comments, leftovers.

    python3 tests/checks/style.py [ROOT]
"""

import pathlib
import re
import sys

from common import ROOT, project_files, report, strip_c

MAX_LINE, MAX_FILE = 100, 800
MAX_LINE_SCRIPT = 140  # Python and CSS
CODE = {".c", ".h", ".py", ".js", ".css", ".sh"}
TEXT = CODE | {".md", ".txt", ".json", ".html", ".build"}
# "tests/golden" and the like hold data, not text that people write
DATA = ("tests/golden/", "tests/vectors/", "tests/fuzz/corpus/", "models/", "LICENSE")
LEFTOVER = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")
REGISTRY = re.compile(r"(pypi\.|files\.pythonhosted\.|deb\.debian\.|registry\.npmjs\.|proxy\.golang\.)", re.I)
PROTOTYPE = re.compile(r"^(?!static\b|typedef\b|return\b|else\b)[A-Za-z_][\w \t\*]*\b\w+\s*\([^;{}=]*\)\s*;\s*$", re.M)


def opens_with_comment(path: pathlib.Path, text: str) -> bool:
    """A file says first why it exists."""
    first = text.lstrip().splitlines()[0] if text.strip() else ""
    if path.suffix in (".c", ".h", ".css"):
        return first.startswith("/*")
    if path.suffix == ".js":
        return first.startswith(("/*", "//"))
    return first.startswith(("#", '"""'))


def check_file(path: pathlib.Path, shown: str) -> list[str]:
    """The problems of one file."""
    problems = []
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = text.splitlines()
    if REGISTRY.search(text) and not shown.endswith("checks/style.py"):
        problems.append(f"{shown}: names a package registry's host")
    if path.suffix not in CODE:
        return problems
    if len(lines) > MAX_FILE:
        problems.append(f"{shown}: {len(lines)} lines, at most {MAX_FILE}: split it by idea")
    if not opens_with_comment(path, text):
        problems.append(f"{shown}: open it with a comment that says why it exists")
    for number, line in enumerate(lines, 1):
        limit = MAX_LINE_SCRIPT if path.suffix in (".py", ".css") else MAX_LINE
        if len(line) > limit and "://" not in line:
            problems.append(f"{shown}:{number}: {len(line)} columns, at most {limit}")
        if "\t" in line:
            problems.append(f"{shown}:{number}: a tab")
        if line != line.rstrip():
            problems.append(f"{shown}:{number}: space at the end of the line")
        if LEFTOVER.search(line):
            problems.append(f"{shown}:{number}: a leftover note")
    if path.suffix == ".c":
        for match in PROTOTYPE.finditer(strip_c(text)):
            number = text.count("\n", 0, match.start()) + 1
            problems.append(f"{shown}:{number}: a prototype in a .c file: it belongs in a header")
    return problems


def check(root: pathlib.Path) -> list[str]:
    """All violations under root."""
    problems = []
    for path in project_files(root):
        shown = path.relative_to(root).as_posix()
        if path.suffix in TEXT and not shown.startswith(DATA):
            problems += check_file(path, shown)
    return problems


if __name__ == "__main__":
    where = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
    sys.exit(report("style", check(where)))
