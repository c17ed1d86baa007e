"""Checks that fields which many places would like to interpret are read in few files, so that a default is resolved once.

    python3 tests/checks/fields.py [ROOT]
"""

import pathlib
import re
import sys

from common import ROOT, c_files, report, strip_c

# field: files of src/ that may read or write it, at most
MOST = {"guidance": 10}


def check(root: pathlib.Path) -> list[str]:
    """Fields that stand in too many files under root/src."""
    problems = []
    for field, most in MOST.items():
        access = re.compile(r"(?:\.|->)\s*" + field + r"\b")
        files = [path.relative_to(root).as_posix() for path in c_files(root)
                 if path.relative_to(root).as_posix().startswith("src/") and access.search(strip_c(path.read_text()))]
        if len(files) > most:
            problems.append(f"the field {field} is read in {len(files)} files, at most {most}: {', '.join(files)}")
    return problems


if __name__ == "__main__":
    where = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
    sys.exit(report("fields", check(where)))
