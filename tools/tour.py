"""Keeps the list of files in ARCHITECTURE.md true: the first sentence of each opening comment.

python tools/tour.py            # rewrites the part between the markers
python tools/tour.py --check    # exit 1 when it is not current
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = [
    "include/facet",
    "src/base",
    "src/tensor",
    "src/image",
    "src/dist",
    "src/compute",
    "src/compute/ref",
    "src/compute/cpu",
    "src/model",
    "src/model/load",
    "src/model/net",
    "src/model/text",
    "src/model/sampler",
    "src/sae",
    "src/sae/formats",
    "src/train",
    "src/train/variants",
    "src/store",
    "src/recipe",
    "src/edit",
    "src/index",
    "src/eval",
    "src/report",
    "src/server",
    "src/cli",
    "src/cli/cmd",
    "web",
    "tools",
]
START, END = "<!-- files -->", "<!-- end of files -->"


def purpose(path: Path) -> str:
    """The first sentence of the comment or docstring that opens the file, without its own name."""
    text = path.read_text(encoding="utf-8")
    found = re.match(r'\s*(?:/\*(.*?)\*/|((?://[^\n]*\n)+)|"""(.*?)""")', text, re.DOTALL)
    if not found:
        return ""
    words = next(g for g in found.groups() if g is not None)
    words = " ".join(words.replace("//", " ").split())
    words = re.sub(rf"^(?:\w+/)*{re.escape(path.name)} - ", "", words)
    return re.split(r"(?<=[a-z0-9)\]])[.:;](?: |$)", words)[0].replace("|", "\\|")


def listing() -> str:
    lines = []
    for folder in FOLDERS:
        files = sorted(
            p for p in (ROOT / folder).glob("*") if p.suffix in (".c", ".h", ".js", ".css", ".py")
        )
        if not files:
            continue
        lines += [f"### {folder}/", "", "| file | |", "|---|---|"]
        lines += [f"| `{p.name}` | {purpose(p)} |" for p in files]
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    ap = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ap.add_argument("--check", action="store_true")
    args = ap.parse_args()
    path = ROOT / "ARCHITECTURE.md"
    text = path.read_text(encoding="utf-8")
    before, rest = text.split(START)
    _, after = rest.split(END)
    made = f"{before}{START}\n\n{listing()}\n{END}{after}"
    if args.check:
        sys.exit("ARCHITECTURE.md is not current: run python tools/tour.py" if made != text else 0)
    path.write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main()
