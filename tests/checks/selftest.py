"""Plants one violation of every rule in a made-up tree and checks that each check finds it, and nothing in a clean one.

    python3 tests/checks/selftest.py
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable

import banned
import circles
import fields
import headers
import layers
import public
import style
import unreached
from common import report

CLEAN = {
    "include/facet/base.h": "/* base.h - clean. */\n#ifndef B_H\n#define B_H\n#define FCT_API\nFCT_API int fct_a(void);\n#endif\n",
    "src/base/a.c": '/* a.c - clean. */\n#include "facet/base.h"\n\nint fct_a(void)\n{\n    return 1; /* free( */\n}\n',
    "src/cli/main.c": '/* main.c - clean. */\n#include <stdio.h>\n\n#include "facet/base.h"\n\n'
                      'int main(void)\n{\n    printf("gets(");\n    return fct_a();\n}\n',
}
HEAD = "/* x - planted. */\n"

# check, file, content, words that the report must hold
PLANTED: list[tuple[Callable[[pathlib.Path], list[str]], str, str, str]] = [
    (layers.check, "src/sae/x.c", HEAD + '#include "model/model.h"\n', "sae may not include"),
    (layers.check, "src/sae/x.c", HEAD + '#include "facet/store.h"\n', "sae may not include"),
    (layers.check, "src/base/x.c", HEAD + '#include "tensor/tensor.h"\n', "base may not include"),
    (layers.check, "src/recipe/x.c", HEAD + '#include "edit/edit.h"\n', "recipe may not include"),
    (layers.check, "src/recipe/x.c", HEAD + '#include "sae/sae.h"\n', "recipe may not include"),
    (layers.check, "src/compute/ref/x.c", HEAD + '#include "compute/cpu/cpu.h"\n', "may not include"),
    (layers.check, "src/model/load/x.c", HEAD + '#include "model/model.h"\n', "model/load may not include"),
    (layers.check, "src/model/x.c", HEAD + "#include <dnnl.h>\n", "belongs to compute/cpu"),
    (layers.check, "src/cli/x.c", HEAD + '#include "sae/sae.h"\n', "cli may not include"),
    (layers.check, "src/report/x.c", HEAD + '#include "image/image.h"\n', "report may not include"),
    (layers.check, "src/report/x.c", HEAD + '#include "cli/cli.h"\n', "report may not include"),
    (layers.check, "src/new/x.c", HEAD, "not in layers.txt"),
    (style.check, "src/base/x.c", HEAD + "int x; /* " + "y" * 100 + " */\n", "columns"),
    (style.check, "src/base/x.c", HEAD + "int x;\n" * 800, "lines"),
    (style.check, "src/base/x.c", "int x;\n", "open it with a comment"),
    (style.check, "tools/x.py", "import os\n", "open it with a comment"),
    (style.check, "src/base/x.c", HEAD + "/* TO" "DO: more */\n", "leftover"),
    (style.check, "src/base/x.c", HEAD + "int\tx;\n", "tab"),
    (style.check, "src/base/x.c", HEAD + "int x; \n", "space at the end"),
    (style.check, "src/base/x.c", HEAD + "int other(int a,\n          int b);\n", "prototype"),
    (style.check, "README.md", "see https://py" "pi.org/x\n", "registry"),
    (fields.check, "src/edit/x.c", HEAD + "int f(int *d)\n{\n    return d->guidance;\n}\n", "the field guidance is read in 11"),
    (headers.check, "src/base/x.h", HEAD + "int f(size_t n);\n", "does not compile alone"),
    (headers.check, "include/facet/x.h", HEAD + "int f(int class);\n", "as C++"),
] + [
    (banned.check, "src/base/x.c", HEAD + f"int x(void)\n{{\n    {name} (0);\n}}\n", f"{name} is banned")
    for name, allowed in banned.BANNED.items() if "src/base/" not in allowed
] + [
    (banned.check, "src/model/x.c", HEAD + f"int x(void)\n{{\n    {name}(0);\n}}\n", f"{name} is banned")
    for name, allowed in banned.BANNED.items() if "src/base/" in allowed
]

# the same for checks that read objects: files, which are compiled
TAKES = HEAD + "int {0}(void);\nint {1}(void);\nint {1}(void)\n{{\n    return {0}();\n}}\n"
BUILT: list[tuple[Callable[[pathlib.Path], list[str]], dict[str, str], str]] = [
    (circles.check, {"src/sae/x.c": TAKES.format("fct_y", "fct_x"), "src/sae/y.c": TAKES.format("fct_x", "fct_y")},
     "circle of 2 files: src/sae/x.c takes fct_y"),
    (circles.check, {"src/sae/x.c": TAKES.format("fct_y", "fct_x"), "src/store/y.c": TAKES.format("fct_z", "fct_y"),
                     "src/edit/z.c": TAKES.format("fct_x", "fct_z")}, "circle of 3 files: src/edit/z.c takes fct_x"),
    (public.check, {"src/sae/x.c": HEAD + "int fct_in = 1;\n",
                    "src/cli/x.c": HEAD + "extern int fct_in;\nint fct_c(void);\nint fct_c(void)\n{\n    return fct_in;\n}\n"},
     "fct_in of src/sae/x.c is in no public header; taken by src/cli/x.c"),
    (public.check, {"src/sae/x.c": TAKES.format("fct_a", "fct_in"), "src/report/x.c": TAKES.format("fct_in", "fct_r")},
     "fct_in of src/sae/x.c is in no public header; taken by src/report/x.c"),
    (unreached.check, {"include/facet/sae.h": HEAD + "#define FCT_API\nFCT_API int fct_x(\n    void);\n",
                       "src/sae/x.c": TAKES.format("fct_a", "fct_x")}, "fct_x of src/sae/x.c is called by nobody"),
    (unreached.check, {"include/facet/sae.h": HEAD + "#define FCT_API\nFCT_API int fct_x(void);\n"}, "fct_x is declared and defined"),
]  # fmt: skip


def build_tree(root: pathlib.Path) -> None:
    """Compiles a small project as Meson would leave it for the checks: objects, and the list of what each is of."""
    build = root / "build"
    build.mkdir()
    commands = []
    for source in sorted((root / "src").glob("**/*.c")):
        built = "_".join(source.relative_to(root).parts) + ".o"
        subprocess.run([os.environ.get("CC", "cc"), "-I", root / "include", "-c", source, "-o", build / built], check=True)
        commands.append({"directory": str(build), "file": str(source), "output": built})
    (build / "compile_commands.json").write_text(json.dumps(commands))


def write_tree(root: pathlib.Path, files: dict[str, str]) -> None:
    """Writes a small project."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)


def main() -> int:
    """Runs every check on the clean tree, then on one with each violation."""
    problems = []
    checks = (layers.check, style.check, banned.check, headers.check, fields.check)
    with tempfile.TemporaryDirectory() as folder:
        write_tree(pathlib.Path(folder), CLEAN)
        build_tree(pathlib.Path(folder))
        for check in (*checks, circles.check, public.check, unreached.check):
            problems += [f"clean tree: {found}" for found in check(pathlib.Path(folder))]
    for check, name, content, words in PLANTED:
        with tempfile.TemporaryDirectory() as folder:
            write_tree(pathlib.Path(folder), {**CLEAN, name: content})
            if check is fields.check:
                write_tree(pathlib.Path(folder), {f"src/model/f{i}.c": content for i in range(fields.MOST["guidance"])})
            if not any(words in found for found in check(pathlib.Path(folder))):
                problems.append(f"{check.__module__} did not see: {words} in {name}")
    for check, files, words in BUILT:
        with tempfile.TemporaryDirectory() as folder:
            write_tree(pathlib.Path(folder), {**CLEAN, **files})
            build_tree(pathlib.Path(folder))
            found = check(pathlib.Path(folder))
            if not any(words in line for line in found):
                problems.append(f"{check.__module__} did not see: {words} in {', '.join(files)}; it saw {found}")
    return report("selftest of the checks", problems)


if __name__ == "__main__":
    sys.exit(main())
