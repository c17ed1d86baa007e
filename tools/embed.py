"""Writes files into a C source as byte arrays with a table of them.

    python tools/embed.py OUT.c PREFIX FILE...

The table is `PREFIX_files[]` of {name, data, size}, ended by an empty row; each array ends with a
NUL beyond its size.
Run by the build.
"""

import sys
from pathlib import Path


def main() -> None:
    out, prefix, *files = sys.argv[1:]
    lines = ["/* Made by tools/embed.py. */", '#include "report/web.h"', ""]
    rows = []
    for i, name in enumerate(files):
        data = Path(name).read_bytes() + b"\0"
        lines.append(f"static const unsigned char {prefix}_{i}[] = {{")
        lines += [
            "    " + "".join(f"{b}," for b in data[k : k + 24]) for k in range(0, len(data), 24)
        ]
        lines.append("};")
        rows.append(f'    {{"{Path(name).name}", (const char *){prefix}_{i}, {len(data) - 1}}},')
    lines += ["", f"const fct_web_file {prefix}_files[] = {{", *rows, "    {0, 0, 0},", "};", ""]
    Path(out).write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
