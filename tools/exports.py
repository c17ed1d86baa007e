"""Writes the linker's list of the functions that libfacet.so shows: those which the public headers mark with FCT_API.

    python3 tools/exports.py --version 0.1 include/facet/*.h > exports.map

-fvisibility=hidden alone is not enough: gcc shows functions that it compiles for several instruction sets (target_clones),
and OpenMP's named locks. Needs nothing beside Python.
"""

import argparse
import re
from pathlib import Path

COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
EXPORT = re.compile(r"FCT_API\b[^;{}]*?\b(fct_\w+)\s*\(")


def main() -> None:
    """The list, on standard output."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", required=True, help="of the binary interface: the soname's numbers")
    parser.add_argument("headers", nargs="+", type=Path)
    args = parser.parse_args()
    names = sorted({name for header in args.headers for name in EXPORT.findall(COMMENT.sub(" ", header.read_text()))})
    print(f"FACET_{args.version} {{\nglobal:")
    print("".join(f"    {name};\n" for name in names) + "local:\n    *;\n};")


if __name__ == "__main__":
    main()
