"""Checks that the program takes from the library only what a public header declares (base apart, which both sides link).

    python3 tests/checks/public.py [ROOT]
"""

import pathlib
import sys

from common import ROOT, report
from objects import PROGRAM, exported, homes, read_objects


def check(root: pathlib.Path) -> list[str]:
    """A line for each symbol that report, server or cli take from the library's inside, with those who take it."""
    objects = read_objects(root)
    public = exported(root)
    home = homes([o for o in objects if o.room not in (*PROGRAM, "base")])
    takers: dict[str, list[str]] = {}
    for o in objects:
        if o.room in PROGRAM:
            for symbol in o.takes:
                if symbol in home and symbol not in public:
                    takers.setdefault(symbol, []).append(o.source)
    return [
        f"{symbol} of {home[symbol].source} is in no public header; taken by {', '.join(sorted(files))}"
        for symbol, files in sorted(takers.items(), key=lambda item: (home[item[0]].source, item[0]))
    ]


if __name__ == "__main__":
    where = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
    sys.exit(report("public", check(where)))
