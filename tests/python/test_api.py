"""facet's library as a stranger has it: installed, from its headers alone.

Run:  FACET_BUILD=build python -m pytest tests/python/test_api.py      (after ninja -C build)

Installs the build into a temporary root, then compiles against the installed headers and the shared library, by what
pkg-config says: every header alone (C and C++), the examples of all headers, which are run in one folder and in the order in
which they feed each other, the programs of tests/api/, and the program of docs/from-c.md.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from cli_util import ROOT, need_demo

HEADERS = sorted(p.name for p in (ROOT / "include/facet").glob("*.h"))
PROGRAMS = sorted(p.stem for p in (ROOT / "tests/api").glob("*.c"))
# what an example leaves behind is there for those after it: a store, an SAE, pictures
ORDER = ["base.h", "facet.h", "device.h", "tensor.h", "image.h", "dist.h", "model.h", "session.h", "option.h", "rows.h", "store.h",
         "train.h", "sae.h", "recipe.h", "edit.h", "index.h", "eval.h"]  # fmt: skip
STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]


def build_folder() -> Path:
    return Path(os.environ.get("FACET_BUILD") or ROOT / "build").resolve()


class Installed:
    """facet in a root of its own."""

    def __init__(self, root: Path) -> None:
        subprocess.run(["meson", "install", "-C", build_folder(), "--no-rebuild", "--quiet", "--destdir", root],
                       check=True, stdin=subprocess.DEVNULL)  # fmt: skip
        self.root = root
        self.library = next(root.rglob("libfacet.so"))
        self.include = next(root.rglob("facet/facet.h")).parent
        self.models = next(root.rglob("models/demo")).parent
        self.env = {
            **os.environ,
            "PKG_CONFIG_PATH": str(next(root.rglob("facet.pc")).parent),
            "PKG_CONFIG_SYSROOT_DIR": str(root),
            "LD_LIBRARY_PATH": str(self.library.parent),
            "FACET_MODELS": str(self.models),
            "OMP_WAIT_POLICY": "passive",
        }
        said = subprocess.run(["pkg-config", "--cflags", "--libs", "facet"], env=self.env, capture_output=True, check=True)
        self.flags = shlex.split(said.stdout.decode())

    def compile(self, source: Path, to: Path) -> None:
        """A program of one C file; what the compiler says fails the test."""
        command = [*compiler(), "-std=c11", "-D_GNU_SOURCE", *STRICT, source, "-o", to, *self.flags, "-lm", "-pthread"]
        done = subprocess.run(command, env=self.env, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()

    def run(self, program: Path, folder: Path, limit: float = 300) -> str:
        """What a program prints; it must end well."""
        done = subprocess.run([program], cwd=folder, env=self.env, capture_output=True, check=False, timeout=limit,
                              stdin=subprocess.DEVNULL)  # fmt: skip
        assert done.returncode == 0, f"{program.name}: exit {done.returncode}\n{done.stdout.decode()}\n{done.stderr.decode()}"
        return done.stdout.decode()


@functools.cache
def compiler() -> list[str]:
    return shlex.split(os.environ.get("CC", "cc"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    need_demo()
    return Installed(tmp_path_factory.mktemp("root"))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, installed: Installed) -> Path:
    """The folder in which the examples run: the models beside them, prompts in a file."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "models").symlink_to(installed.models)
    prompts = (installed.models / "demo/prompts/heldout.txt").read_text().splitlines()
    (folder / "prompts.txt").write_text("\n".join(prompts[:24]) + "\n")
    return folder


def examples(header: str) -> list[str]:
    """The indented blocks after "Do this" in a header's opening comment."""
    opening = (ROOT / "include/facet" / header).read_text().partition("*/")[0]
    blocks = re.findall(r"^   Do this[^\n]*:\n((?:(?: {7}[^\n]*)?\n)+)", opening, re.M)
    return ["\n".join(line[7:] for line in block.rstrip().split("\n")) for block in blocks]


def functions_first(block: str) -> tuple[str, str]:
    """The functions that open an example, and the statements after them."""
    functions = re.match(r"(?:static [^\n]*\n\{\n.*?^\}\n\n?)*", block, re.DOTALL | re.MULTILINE)
    at = functions.end() if functions else 0
    return block[:at], block[at:]


def exported() -> set[str]:
    """The functions that the headers declare for others."""
    texts = [(ROOT / "include/facet" / name).read_text() for name in HEADERS]
    bare = [re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.S) for text in texts]
    return {name for text in bare for name in re.findall(r"FCT_API\b[^;{}]*?\b(fct_\w+)\s*\(", text)}


# ---- what is installed ----


def test_library_shows_the_public_functions_alone(installed: Installed) -> None:
    said = subprocess.run(["nm", "-D", "--defined-only", "--format=posix", installed.library], capture_output=True, check=True)
    rows = [line.split() for line in said.stdout.decode().splitlines()]
    assert {row[0].partition("@")[0] for row in rows if row[1] != "A"} == exported()


def test_library_needs_no_mpi(installed: Installed) -> None:
    said = subprocess.run(["readelf", "-d", installed.library], capture_output=True, check=True).stdout.decode()
    assert re.search(r"SONAME.*\[libfacet\.so\.\d+\.\d+\]", said) and "libmpi" not in said
    assert sorted(p.name for p in installed.include.glob("*.h")) == HEADERS


def test_versions_agree(installed: Installed, tmp_path: Path) -> None:
    """Of the headers, the library, the pkg-config file and the build."""
    (tmp_path / "v.c").write_text("""#include <facet/facet.h>
#include <stdio.h>
int main(void)
{
    printf("%d.%d.%d %s %s", FCT_VERSION_MAJOR, FCT_VERSION_MINOR, FCT_VERSION_PATCH, FCT_VERSION_TEXT, fct_version());
}
""")
    installed.compile(tmp_path / "v.c", tmp_path / "v")
    said = subprocess.run(["pkg-config", "--modversion", "facet"], env=installed.env, capture_output=True, check=True)
    project = json.loads(subprocess.run(["meson", "introspect", "--projectinfo", build_folder()], capture_output=True,
                                        check=True).stdout)["version"]  # fmt: skip
    assert installed.run(tmp_path / "v", tmp_path).split() + [said.stdout.decode().strip()] == [project] * 4


@pytest.mark.parametrize("header", HEADERS)
def test_header_compiles_alone(installed: Installed, tmp_path: Path, header: str) -> None:
    for language, standard, suffix in (("c", "c11", "c"), ("c++", "c++17", "cc")):
        source = tmp_path / f"alone.{suffix}"
        source.write_text(f"#include <facet/{header}>\ntypedef int alone;\n")
        cc = shlex.split(os.environ.get("CXX", "c++")) if language == "c++" else compiler()
        if not shutil.which(cc[0]):
            continue
        command = [*cc, "-x", language, f"-std={standard}", *STRICT, "-fsyntax-only", f"-I{installed.include.parent}", source]
        done = subprocess.run(command, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()


# ---- examples and programs ----


def test_every_header_has_an_example() -> None:
    assert sorted(ORDER) == HEADERS and all(examples(header) for header in HEADERS)


@pytest.mark.parametrize("header", ORDER)
def test_example(installed: Installed, work: Path, header: str) -> None:
    """As it stands, in a function, after its own functions: one that has a status ends well."""
    for i, block in enumerate(examples(header)):
        functions, statements = functions_first(block)
        body = "".join(f"    {line}\n" for line in statements.split("\n"))
        end = "st == FCT_OK ? 0 : (fputs(fct_error_text(), stderr), 1)" if "fct_status st " in block else "0"
        source = work / f"{header[:-2]}{i}.c"
        source.write_text(f"""#include <facet/facet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

{functions}int main(void)
{{
{body}    return {end};
}}
""")
        installed.compile(source, source.with_suffix(""))
        installed.run(source.with_suffix(""), work)


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(installed: Installed, tmp_path: Path, name: str) -> None:
    installed.compile(ROOT / "tests/api" / f"{name}.c", tmp_path / name)
    installed.run(tmp_path / name, tmp_path)


def test_page_from_c(installed: Installed, tmp_path: Path) -> None:
    """The first block of docs/from-c.md is the whole program: no arguments, pictures in the working folder."""
    blocks = re.findall(r"```c\n(.*?)```", (ROOT / "docs/from-c.md").read_text(), re.DOTALL)
    (tmp_path / "paint.c").write_text(blocks[0])
    installed.compile(tmp_path / "paint.c", tmp_path / "paint")
    installed.run(tmp_path / "paint", tmp_path)
    pictures = {p.name: p.read_bytes() for p in tmp_path.glob("*.png")}
    assert len(set(pictures.values())) == len(pictures) >= 2
