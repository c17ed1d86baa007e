"""Checks that folders include only what layers.txt allows.

    python3 tests/checks/layers.py [ROOT]
"""

import pathlib
import re
import sys

from common import ROOT, c_files, report

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)


def read_rules(path: pathlib.Path) -> tuple[dict[str, set[str]], dict[str, set[str]], dict[str, str]]:
    """Allowed folders of each folder, the homes of guarded library headers, the folders of public headers."""
    folders: dict[str, set[str]] = {}
    guarded: dict[str, set[str]] = {}
    public: dict[str, str] = {}
    for line in path.read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        key, _, values = line.partition(":")
        if key.startswith("only "):
            guarded[key[5:]] = set(values.split())
        elif key.startswith("public "):
            public[key[7:]] = values.strip()
        else:
            folders[key] = set(values.split())
    return folders, guarded, public


def folder_of(relative: str, folders: dict[str, set[str]]) -> str:
    """The longest listed folder that holds a path below src/."""
    parts = relative.split("/")[:-1]
    for n in range(len(parts), 0, -1):
        if "/".join(parts[:n]) in folders:
            return "/".join(parts[:n])
    return "/".join(parts)


def target_of(name: str, source: pathlib.Path, src: pathlib.Path, folders: dict[str, set[str]],
              public: dict[str, str]) -> str | None:
    """The folder that a quoted include leads to; None when it is not one of the project's."""
    outward = re.fullmatch(r"facet/(\w+)\.h", name)
    if outward:
        return public.get(outward.group(1) + ".h", outward.group(1))
    if (source.parent / name).is_file() and not (src / name).is_file():
        name = (source.parent / name).resolve().relative_to(src).as_posix()
    return folder_of(name, folders) if "/" in name else None


def check(root: pathlib.Path) -> list[str]:
    """All violations under root/src."""
    folders, guarded, public = read_rules(pathlib.Path(__file__).with_name("layers.txt"))
    src = (root / "src").resolve()
    problems = []
    for path in c_files(root):
        path = path.resolve()
        if not path.is_relative_to(src):
            continue
        shown = path.relative_to(root.resolve()).as_posix()
        folder = folder_of(path.relative_to(src).as_posix(), folders)
        if folder not in folders:
            problems.append(f"{shown}: folder {folder} is not in layers.txt")
            continue
        allowed = folders[folder] | {folder}
        for kind, name in INCLUDE.findall(path.read_text()):
            if name in guarded and folder not in guarded[name]:
                problems.append(f"{shown}: {name} belongs to {', '.join(sorted(guarded[name]))}")
            target = target_of(name, path, src, folders, public) if kind == '"' else None
            outward = "public" in allowed and name.startswith("facet/")
            if target and target not in allowed and name not in allowed and not outward:
                problems.append(f"{shown}: {folder} may not include {name} (of {target})")
    return problems


if __name__ == "__main__":
    where = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
    sys.exit(report("layers", check(where)))
