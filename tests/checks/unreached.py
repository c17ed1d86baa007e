"""Checks that somebody calls every exported function: a command, another file of the library, or a test of the public headers.

    python3 tests/checks/unreached.py [ROOT]

Tests of the headers are the programs in tests/api/, the examples of the headers themselves and those of docs/from-c.md, which
tests/api compiles and runs.
"""

import pathlib
import re
import sys

from common import ROOT, report, strip_c
from objects import exported, homes, read_objects

WORD = re.compile(r"\bfct_\w+")


def words_of_tests(root: pathlib.Path) -> set[str]:
    """The names that tests/api and the examples call."""
    text = "".join(strip_c(path.read_text()) for path in sorted((root / "tests/api").glob("**/*.[ch]")))
    for path in sorted((root / "include/facet").glob("*.h")):
        opening = path.read_text().partition("*/")[0]
        text += opening.partition("Do this")[2]
    page = root / "docs/from-c.md"
    text += "".join(re.findall(r"```c\n(.*?)```", page.read_text(), re.S)) if page.exists() else ""
    return set(WORD.findall(text))


def check(root: pathlib.Path) -> list[str]:
    """A line for each exported function that nobody calls, or that does not exist."""
    objects = read_objects(root)
    home = homes(objects)
    reached = words_of_tests(root)
    for o in objects:
        reached |= {symbol for symbol in o.takes if symbol in home and home[symbol] is not o}
    problems = []
    for name, header in sorted(exported(root).items(), key=lambda item: (item[1], item[0])):
        if name not in home:
            problems.append(f"{header}: {name} is declared and defined nowhere")
        elif name not in reached:
            problems.append(f"{header}: {name} of {home[name].source} is called by nobody")
    return problems


if __name__ == "__main__":
    where = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
    sys.exit(report("unreached", check(where)))
