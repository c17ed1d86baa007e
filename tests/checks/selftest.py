"""Plants one violation of every rule in a made-up tree and checks that each check finds it, and nothing in a clean one.

    python3 tests/checks/selftest.py
"""

import pathlib
import sys
import tempfile
from collections.abc import Callable

import banned
import headers
import layers
import style
from common import report

CLEAN = {
    "include/facet/base.h": "/* base.h - clean. */\n#ifndef B_H\n#define B_H\nint fct_a(void);\n#endif\n",
    "src/base/a.c": '/* a.c - clean. */\n#include "facet/base.h"\n\nint fct_a(void)\n{\n    return 1; /* free( */\n}\n',
    "src/cli/main.c": '/* main.c - clean. */\n#include <stdio.h>\n\nint main(void)\n{\n    printf("gets(");\n}\n',
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
    (headers.check, "src/base/x.h", HEAD + "int f(size_t n);\n", "does not compile alone"),
    (headers.check, "include/facet/x.h", HEAD + "int f(int class);\n", "as C++"),
] + [
    (banned.check, "src/base/x.c", HEAD + f"int x(void)\n{{\n    {name} (0);\n}}\n", f"{name} is banned")
    for name, allowed in banned.BANNED.items() if "src/base/" not in allowed
] + [
    (banned.check, "src/model/x.c", HEAD + f"int x(void)\n{{\n    {name}(0);\n}}\n", f"{name} is banned")
    for name, allowed in banned.BANNED.items() if "src/base/" in allowed
]


def write_tree(root: pathlib.Path, files: dict[str, str]) -> None:
    """Writes a small project."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)


def main() -> int:
    """Runs every check on the clean tree, then on one with each violation."""
    problems = []
    checks = (layers.check, style.check, banned.check, headers.check)
    with tempfile.TemporaryDirectory() as folder:
        write_tree(pathlib.Path(folder), CLEAN)
        for check in checks:
            problems += [f"clean tree: {found}" for found in check(pathlib.Path(folder))]
    for check, name, content, words in PLANTED:
        with tempfile.TemporaryDirectory() as folder:
            write_tree(pathlib.Path(folder), {**CLEAN, name: content})
            if not any(words in found for found in check(pathlib.Path(folder))):
                problems.append(f"{check.__module__} did not see: {words} in {name}")
    return report("selftest of the checks", problems)


if __name__ == "__main__":
    sys.exit(main())
