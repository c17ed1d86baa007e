"""Trains the same autoencoders with the plain f32 step and with the fast one, and compares what comes of it.

    python bench/equal_result.py --facet build/facet --work DIR [--only NAME,...] [--json FILE]

Rows, 2 million a time: what block down.2.1 of the demo model writes for its own prompts, 64 rows a prompt, captured into
DIR/store; and sums of 4 of 512 planted directions in 64 dimensions, drawn into DIR/planted.npy (needs numpy). Both stay there for
the next call. Features count as dead after 200,000 rows without them, else none could die in so few rows.

Held-out explained variance must agree within 0.2 points and the share of dead features within 1 point, or the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROWS, CELLS, HOLD_OUT, DEAD_ROWS = 2_000_000, 64, 40_000, 200_000
MOST_EV, MOST_DEAD = 0.002, 0.01

# name: rows, options. With 768 features k 4 and 10 take the int8 product, k 32 takes bf16.
CASES = {
    "demo, paper's recipe": ("store", "--preset unboxing --k 10 --n-features 768"),
    "demo, k 10": ("store", "--preset demo --k 10 --n-features 768"),
    "demo, k 32": ("store", "--preset demo --k 32 --n-features 768"),
    "planted, k 4": ("planted.npy", "--preset demo --k 4 --n-features 768"),
    "planted, paper's recipe": ("planted.npy", "--preset unboxing --k 4 --n-features 768"),
}


def capture(facet: Path, work: Path) -> None:
    """A prompt seen again has another seed, so its rows are others."""
    own = [line for name in ("train", "heldout") for line in prompts(name)]
    lines = [own[i % len(own)] for i in range(ROWS // CELLS)]
    (work / "prompts.txt").write_text("\n".join(lines) + "\n")
    command = [facet, "capture", "--prompts", work / "prompts.txt", "--blocks", "down.2.1", "-o", work / "store"]
    subprocess.run(command, check=True)


def prompts(name: str) -> list[str]:
    return (ROOT / "models" / "demo" / "prompts" / f"{name}.txt").read_text().splitlines()


def plant(path: Path) -> None:
    import numpy as np

    directions, d, active, part = 512, 64, 4, 50_000
    rng = np.random.default_rng(23)
    dictionary = rng.standard_normal((directions, d)).astype(np.float32)
    dictionary /= np.linalg.norm(dictionary, axis=1, keepdims=True)
    half = path.with_suffix(".half.npy")
    rows = np.lib.format.open_memmap(half, mode="w+", dtype=np.float16, shape=(ROWS, d))
    for at in range(0, ROWS, part):
        which = rng.integers(directions, size=(part, active))
        size = rng.uniform(1, 2, size=(part, active, 1)).astype(np.float32)
        rows[at : at + part] = (size * dictionary[which]).sum(axis=1) + 0.3 * (np.arange(d) % 3)
    rows.flush()
    half.rename(path)


def train(a: argparse.Namespace, name: str, engine: str) -> dict:
    rows, options = CASES[name]
    out = a.work / f"{name.replace(' ', '_')}.{engine}"
    command = [a.facet, "train", "--store", a.work / rows, "-o", out, "--engine", engine, *options.split()]
    command += ["--dead-rows", str(DEAD_ROWS), "--hold-out", str(HOLD_OUT), "--json", "--quiet"]
    answer = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    plan = json.loads((out / "facet.json").read_text())["training"]
    return {
        "case": name,
        "engine": engine,
        "product": plan["encoder_product"],
        "steps": answer["train"]["steps"],
        "ev": answer["held_out"]["ev"],
        "dead": answer["train"]["dead"] / answer["train"]["n_features"],
        "unused": answer["held_out"]["dead_share"],
    }


def compare(a: argparse.Namespace, name: str) -> list[dict]:
    plain, fast = (train(a, name, engine) for engine in ("plain", "fast"))
    off = {key: abs(fast[key] - plain[key]) for key in ("ev", "dead", "unused")}
    fast["equal"] = off["ev"] <= MOST_EV and max(off["dead"], off["unused"]) <= MOST_DEAD
    for r in (plain, fast):
        dead = f"dead {100 * r['dead']:6.2f} %, silent on held-out rows {100 * r['unused']:6.2f} %"
        print(f"{name:24} {r['engine']:5} ({r['product']:4}) {r['steps']:5} steps  EV {100 * r['ev']:7.3f} %  {dead}")
    print(f"{'':24} {'equal' if fast['equal'] else 'NOT EQUAL'}", flush=True)
    return [plain, fast]


def main() -> int:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--facet", type=Path, default=Path("build/facet"))
    ap.add_argument("--work", type=Path, required=True)
    ap.add_argument("--only", help="names of cases, else all")
    ap.add_argument("--json", type=Path)
    a = ap.parse_args()
    a.facet = a.facet.resolve()
    a.work.mkdir(parents=True, exist_ok=True)
    names = [n for n in CASES if not a.only or any(part in n for part in a.only.split(","))]
    if not names:
        ap.error(f"--only {a.only}: want parts of {'; '.join(CASES)}")
    if any(CASES[n][0] == "store" for n in names):
        capture(a.facet, a.work)
    if any(CASES[n][0] != "store" for n in names) and not (a.work / "planted.npy").exists():
        plant(a.work / "planted.npy")
    result = [r for n in names for r in compare(a, n)]
    if a.json:
        a.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if all(r.get("equal", True) for r in result) else 1


if __name__ == "__main__":
    sys.exit(main())
