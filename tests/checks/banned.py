"""Checks that banned functions are not called outside the places where they are allowed.

    python3 tests/checks/banned.py [ROOT]
"""

import pathlib
import re
import sys

from common import ROOT, c_files, report, strip_c

# name, folders where it is allowed (tests and timing programs may use malloc, printf, exit and abort)
NEVER: tuple[str, ...] = ()
BASE = ("src/base/", "tests/", "bench/")
CLI = ("src/cli/", "tests/", "bench/")
BANNED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("strcpy", "strcat", "sprintf", "vsprintf", "gets", "strtok", "atoi", "atol", "atof",
                     "alloca", "longjmp", "system", "popen", "rand", "srand"), NEVER),
    "setjmp": NEVER,
    **dict.fromkeys(("malloc", "calloc", "realloc", "free", "aligned_alloc", "strdup", "strndup",
                     "posix_memalign"), BASE),
    **dict.fromkeys(("printf", "fprintf", "vprintf", "puts", "fputs", "putchar", "perror", "exit", "_exit",
                     "abort"), CLI),
}
CALL = re.compile(r"(?<![\w.>])(" + "|".join(BANNED) + r")\s*\(")


def check(root: pathlib.Path) -> list[str]:
    """All violations in C files under root."""
    problems = []
    for path in c_files(root):
        shown = path.relative_to(root).as_posix()
        text = strip_c(path.read_text())
        for match in CALL.finditer(text):
            if shown.startswith(BANNED[match.group(1)]):
                continue
            number = text.count("\n", 0, match.start()) + 1
            problems.append(f"{shown}:{number}: {match.group(1)} is banned here")
    return problems


if __name__ == "__main__":
    where = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
    sys.exit(report("banned", check(where)))
