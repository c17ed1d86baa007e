"""Measures the demo model: does it draw what the caption says, through the blocks that facet watches?

    python tools/train_demo/scores.py --model models/demo --count 500 --sheet sheet.png

Prints one line a condition: for each factor the share of pictures in which the checker reads the value, over the
captions that speak of it; the share of pictures whose objects all stand within an eighth of the width of where the
noise puts them; the share that the checker cannot read.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import checker
import common
import numpy as np
import taps
import torch
import world
from PIL import Image

import model as m

CHANCE = {f: 1 / len(v) for f, v in world.FACTORS.items()}
NEAR = 1 / 8


def score(machine: taps.Machine, some: list[taps.Case], **how: Any) -> dict[str, float]:
    scenes, centres = machine.read(some, **how)
    hits: dict[str, list[bool]] = {f: [] for f in world.FACTORS}
    left: list[bool] = []
    near = []
    for case, got, where in zip(some, scenes, centres):
        for factor in world.FACTORS:
            right = got is not None and got[factor] == case.scene[factor]
            if factor in case.said:
                hits[factor].append(right)
            elif factor in world.BY_NOISE:
                left.append(right)
        near.append(checker.match(where, np.array(case.at), len(case.at)) <= NEAR)
    out = {f: float(np.mean(h)) for f, h in hits.items()}
    return out | {"place": float(np.mean(near)), "by noise": float(np.mean(left)),
                  "unreadable": float(np.mean([s is None for s in scenes]))}


def line(name: str, values: dict[str, float]) -> str:
    return f"{name:18}" + "".join(f"{v:11.3f}" for v in values.values())


def seeds_differ(machine: taps.Machine, captions: list[str]) -> float:
    """mean difference of two seeds' pictures, in bytes"""
    a, b = (machine.show(taps.cases(captions, seed)) for seed in (1, 2))
    return ((a - b).abs().mean() * 127.5).item()


def sheet(machine: taps.Machine, some: list[taps.Case], path: Path) -> None:
    pictures = machine.show(some[:40])
    rows = [torch.cat(list(pictures[i:i + 8]), 2) for i in range(0, 40, 8)]
    Image.fromarray(((torch.cat(rows, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()).save(path)


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--model", type=Path, required=True)
    ap.add_argument("--count", type=int, default=500, help="pairs for quality and four steps; the rest use half")
    ap.add_argument("--seed", type=int, default=77)
    ap.add_argument("--sheet", type=Path, help="PNG to write: the first 40 pictures")
    ap.add_argument("--forced", action="store_true", help="read values off unreadable pictures too: not the acceptance")
    ap.add_argument("--json", type=Path, help="file to write the table to")
    ap.add_argument("--threads", type=int, default=2)
    args = ap.parse_args()
    common.threads(args.threads)
    machine = taps.Machine(args.model)
    machine.forced = args.forced
    captions = (args.model / "prompts" / "heldout.txt").read_text(encoding="utf-8").splitlines()[:args.count]
    some = taps.cases(captions, args.seed)
    half = some[:max(1, args.count // 2)]
    table: dict[str, dict[str, float]] = {}

    def add(name: str, cases: list[taps.Case], edits: tuple[str, ...] = (), **how: Any) -> None:
        machine.taps.edits = {b: taps.erase for b in edits}
        table[name] = score(machine, cases, **how)
        machine.taps.edits = {}
        if len(table) == 1:
            print(" " * 18 + "".join(f"{n:>11}" for n in table[name]))
        print(line(name, table[name]), flush=True)

    if args.sheet:
        sheet(machine, some, args.sheet)
    add("one step", some)
    print(line("chance", CHANCE))
    add("four steps", some, steps=4)
    add("pooled empty", half, pooled_empty=True)
    add("context empty", half, context_empty=True)
    for block in m.BLOCKS:
        add(f"{block} zeroed", half, (block,))
    add("all four zeroed", half, tuple(m.BLOCKS))
    print(f"two seeds differ by {seeds_differ(machine, captions[:50]):.1f} of 255 on average")
    if args.json:
        args.json.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
