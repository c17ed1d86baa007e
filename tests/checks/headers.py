"""Checks that every header compiles alone: as C, and the public ones as C++ too.

    python3 tests/checks/headers.py [ROOT]
"""

import os
import pathlib
import shutil
import subprocess
import sys

from common import ROOT, c_files, report

FLAGS = ["-fsyntax-only", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-D_GNU_SOURCE", '-DFCT_VERSION="0"',
         '-DFCT_SOURCE_DIR="."', '-DFCT_DATA_DIR="."', '-DFCT_TEST_DIR="."']


def compile_alone(header: str, root: pathlib.Path, compiler: str, language: list[str]) -> str:
    """What the compiler says about a file that includes this header and nothing else."""
    source = f'#include "{header}"\ntypedef int fct_header_is_alone;\n'
    command = [compiler, *language, *FLAGS, "-I", str(root / "include"), "-I", str(root / "src"),
               "-I", str(root / "tests/unit"), "-"]
    done = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
    return done.stderr.strip().splitlines()[0] if done.returncode else ""


def check(root: pathlib.Path) -> list[str]:
    """All headers that do not stand alone."""
    cc, cxx = os.environ.get("CC", "cc"), os.environ.get("CXX", "c++")
    problems = []
    for path in c_files(root):
        shown = path.relative_to(root).as_posix()
        if path.suffix != ".h" or not shown.startswith(("src/", "include/")):
            continue
        said = compile_alone(str(path), root, cc, ["-x", "c", "-std=c11"])
        if said:
            problems.append(f"{shown} does not compile alone: {said}")
        if shown.startswith("include/") and shutil.which(cxx):
            said = compile_alone(str(path), root, cxx, ["-x", "c++", "-std=c++17"])
            if said:
                problems.append(f"{shown} does not compile alone as C++: {said}")
    return problems


if __name__ == "__main__":
    where = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
    sys.exit(report("headers", check(where)))
