"""What the checks of built objects share: which file of src/ defines which symbols, and which it takes from others.

Objects are those of the gcc build (build/, or the folder named by FACET_BUILD); compile_commands.json there tells which
source each one is of, nm which symbols it has.
"""

import json
import os
import pathlib
import re
import subprocess
from dataclasses import dataclass

from common import strip_c

PROGRAM = ("report", "server", "cli")  # what is built on the library
EXPORT = re.compile(r"FCT_API\b[^;{}]*?\b(fct_\w+)\s*\(")


@dataclass
class Object:
    """One source of src/ as it was built."""

    source: str  # "src/base/str.c"
    defines: set[str]
    takes: set[str]

    @property
    def room(self) -> str:
        """The first folder below src/."""
        return self.source.split("/")[1]


def build_of(root: pathlib.Path) -> pathlib.Path:
    """The build folder whose objects are read."""
    given = os.environ.get("FACET_BUILD")
    return pathlib.Path(given).resolve() if given and root == pathlib.Path(__file__).resolve().parents[2] else root / "build"


def symbols(path: pathlib.Path) -> tuple[set[str], set[str]]:
    """The external symbols that an object defines, and those that it takes."""
    said = subprocess.run(["nm", "-g", "-P", str(path)], capture_output=True, text=True, check=True).stdout
    words = [line.split() for line in said.splitlines()]
    return {w[0] for w in words if w[1] not in "Uw"}, {w[0] for w in words if w[1] in "Uw"}


def read_objects(root: pathlib.Path) -> list[Object]:
    """All sources below src/ that the build compiles, each once."""
    build = build_of(root)
    found: dict[str, Object] = {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        source = (pathlib.Path(entry["directory"]) / entry["file"]).resolve()
        built = pathlib.Path(entry["directory"]) / entry["output"]
        if not source.is_relative_to(root.resolve() / "src") or not built.exists():
            continue
        name = source.relative_to(root.resolve()).as_posix()
        if name not in found:
            found[name] = Object(name, *symbols(built))
    return sorted(found.values(), key=lambda o: o.source)


def homes(objects: list[Object]) -> dict[str, Object]:
    """Which object defines a symbol."""
    return {symbol: o for o in objects for symbol in o.defines}


def exported(root: pathlib.Path) -> dict[str, str]:
    """The functions that public headers declare, and the header of each."""
    return {
        name: path.relative_to(root).as_posix()
        for path in sorted((root / "include/facet").glob("*.h"))
        for name in EXPORT.findall(strip_c(path.read_text()))
    }
