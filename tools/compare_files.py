"""Tells where two files first differ, in the words of their format, leaving out what must differ from run to run.

    python3 tools/compare_files.py OLD NEW [--ignore KEY]

Durations and rates, the version of facet and (named in a note by compare_builds.py) the hash of the plan of a run are left
out; every other byte counts. Knows JSON, JSON lines, safetensors, PNG, HTML and TensorBoard's event files; other files are
compared byte by byte. Needs nothing beside Python.
"""

from __future__ import annotations

import argparse
import json
import re
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

# what no two runs, or no two versions, have in common
IGNORED = ("seconds", "details/rows_per_second", "rows_per_second", "version", "facet_version", "wall_time", "plan")
DURATION = re.compile(rb"\b[0-9.]+ (seconds?|minutes?|s|ms)\b")
ITEM = {"F64": "d", "F32": "f", "I64": "q", "U64": "Q", "I32": "i", "U32": "I", "I16": "h", "U16": "H", "F16": "e", "BF16": "H",
        "I8": "b", "U8": "B", "BOOL": "B"}  # fmt: skip


def masked(text: bytes, ignore: tuple[str, ...]) -> bytes:
    """JSON text with the values of ignored keys taken out."""
    keys = "|".join(re.escape(key) for key in ignore)
    return re.sub(rb'("(?:' + keys.encode() + rb')":\s*)("(?:[^"\\]|\\.)*"|[-+0-9.eE]+|null)', rb"\1~", text)


def first_byte(a: bytes, b: bytes) -> int | None:
    """Where two byte strings part; None: nowhere."""
    if a == b:
        return None
    lo, hi = 0, min(len(a), len(b))
    while lo < hi:  # the longest common start, by halving
        middle = (lo + hi + 1) // 2
        lo, hi = (middle, hi) if a[:middle] == b[:middle] else (lo, middle - 1)
    return lo


def in_bytes(a: bytes, b: bytes) -> str | None:
    """In files of no known format, or where a format tells no more."""
    at = first_byte(a, b)
    if at is None:
        return None
    return f"byte {at} of {len(a)} and {len(b)}: {a[at : at + 40]!r} / {b[at : at + 40]!r}"


def in_json(a: Any, b: Any, ignore: tuple[str, ...], where: str = "") -> str | None:
    """The path to the first value that differs."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in [*a, *(k for k in b if k not in a)]:
            if key in ignore:
                continue
            if key not in a or key not in b:
                return f"{where}/{key}: only in the {'old' if key in a else 'new'} one"
            if found := in_json(a[key], b[key], ignore, f"{where}/{key}"):
                return found
        return None
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return next((f for i in range(len(a)) if (f := in_json(a[i], b[i], ignore, f"{where}/{i}"))), None)
    return None if type(a) is type(b) and a == b else f"{where or '/'}: {str(a)[:80]} / {str(b)[:80]}"


def in_json_text(a: bytes, b: bytes, ignore: tuple[str, ...]) -> str | None:
    """JSON, or JSON lines: the values first, then how they are written."""
    at = first_byte(masked(a, ignore), masked(b, ignore))
    if at is None:
        return None
    try:
        found = in_json(json.loads(a), json.loads(b), ignore)
    except ValueError:
        old, new = a.splitlines(), b.splitlines()
        if len(old) != len(new):
            return f"{len(old)} / {len(new)} lines"
        line = next(i for i in range(len(old)) if masked(old[i], ignore) != masked(new[i], ignore))
        try:
            return f"line {line + 1}: {in_json(json.loads(old[line]), json.loads(new[line]), ignore)}"
        except ValueError:
            return f"line {line + 1}: {old[line][:80]!r} / {new[line][:80]!r}"
    return found or f"the same values, written differently: {in_bytes(masked(a, ignore), masked(b, ignore))}"


def in_safetensors(a: bytes, b: bytes, ignore: tuple[str, ...]) -> str | None:
    """The header, then the first number of the first tensor that differs."""
    size = [struct.unpack("<Q", x[:8])[0] for x in (a, b)]
    text = [x[8 : 8 + n] for x, n in zip((a, b), size)]
    if found := in_json_text(*text, ignore):
        return f"header: {found}"
    data = [x[8 + n :] for x, n in zip((a, b), size)]
    for name, tensor in json.loads(text[0]).items():
        if name == "__metadata__":
            continue
        first, end = tensor["data_offsets"]
        old, new = (x[first:end] for x in data)
        at = first_byte(old, new)
        if at is None:
            continue
        code = ITEM.get(tensor["dtype"], "B")
        n = at // struct.calcsize(code)
        values = [struct.unpack_from("<" + code, x, n * struct.calcsize(code))[0] for x in (old, new)]
        return f"tensor {name} {tensor['dtype']}{tensor['shape']}: number {n}: {values[0]!r} / {values[1]!r}"
    return in_bytes(*data)


def png_chunks(data: bytes) -> list[tuple[str, bytes]]:
    """The chunks in their order; pictures' bytes in one piece."""
    chunks: list[tuple[str, bytes]] = []
    at = 8
    while at + 8 <= len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + size]
        if kind == b"IDAT" and chunks and chunks[-1][0] == "IDAT":
            chunks[-1] = ("IDAT", chunks[-1][1] + body)
        else:
            chunks.append((kind.decode("latin-1"), body))
        at += 12 + size
    return chunks


def text_of(kind: str, body: bytes) -> tuple[str, bytes]:
    """Keyword and text of a tEXt, zTXt or iTXt chunk."""
    key, _, rest = body.partition(b"\0")
    if kind == "zTXt":
        rest = zlib.decompress(rest[1:])
    if kind == "iTXt":
        packed, rest = rest[0], rest[2:].split(b"\0", 2)[2]
        rest = zlib.decompress(rest) if packed else rest
    return key.decode("latin-1"), rest


def in_png(a: bytes, b: bytes, ignore: tuple[str, ...]) -> str | None:
    """The first chunk that differs; of the picture itself, the row."""
    old, new = png_chunks(a), png_chunks(b)
    if [kind for kind, _ in old] != [kind for kind, _ in new]:
        return f"chunks {' '.join(k for k, _ in old)} / {' '.join(k for k, _ in new)}"
    for (kind, x), (_, y) in zip(old, new):
        if x == y:
            continue
        if kind.endswith("Xt") or kind.endswith("XT") or kind == "tEXt":
            (key, x), (other, y) = text_of(kind, x), text_of(kind, y)
            if key == "parameters":  # "..., Version: facet 0.1.0"
                x, y = (re.sub(rb"Version: [^,\n]*", b"", t) for t in (x, y))
            if found := in_json_text(x, y, ignore) or (None if key == other else f"{key} / {other}"):
                return f"text {key}: {found}"
        elif kind == "IDAT":
            x, y = zlib.decompress(x), zlib.decompress(y)
            at = first_byte(x, y)
            height = struct.unpack(">I", dict(old)["IHDR"][4:8])[0]
            if at is None:
                return "the same pixels, packed differently"
            return f"pixels differ from row {at // (len(x) // height)} of {height} on"
        else:
            return f"chunk {kind}: {in_bytes(x, y)}"
    return None


def events(data: bytes) -> bytes:
    """TensorBoard's records without their checksums, times (field 1, a double, comes first) and rates."""
    out, at = b"", 0
    while at + 12 <= len(data):
        size = struct.unpack("<Q", data[at : at + 8])[0]
        body = data[at + 12 : at + 12 + size]
        body = body[9:] if body[:1] == b"\x09" else body
        out += re.sub(rb"(rows_per_second\x15)....", rb"\1~", body, flags=re.DOTALL)
        at += 16 + size
    return out


def difference(old: Path, new: Path, ignore: tuple[str, ...] = IGNORED) -> str | None:
    """Where the files first differ; None: nowhere, but for what must differ."""
    a, b = old.read_bytes(), new.read_bytes()
    if a == b:
        return None
    if a[:8] == b[:8] == b"\x89PNG\r\n\x1a\n":
        return in_png(a, b, ignore)
    if old.suffix == ".safetensors":
        return in_safetensors(a, b, ignore)
    if old.suffix in (".json", ".jsonl"):
        return in_json_text(a, b, ignore)
    if "tfevents" in old.name:
        return in_bytes(events(a), events(b))
    if old.suffix == ".html":
        a, b = (DURATION.sub(b"~", x) for x in (a, b))
    return in_bytes(a, b)


def main() -> int:
    """1 when the files differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--ignore", action="append", default=[], metavar="KEY", help="a further JSON key that may differ")
    args = parser.parse_args()
    found = difference(args.old, args.new, IGNORED + tuple(args.ignore))
    print(found or "the same")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
