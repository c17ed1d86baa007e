"""Trains the same autoencoders with the plain f32 step and with the fast one, and compares what comes of it.

    python bench/equal_result.py --facet build/facet --work DIR [--only WORD,...] [--json FILE]

Rows, 2 million a time: what block down.2.1 of the demo model writes for its own prompts, 64 rows a prompt, captured into
DIR/store; and sums of 4 of 512 planted directions in 64 dimensions, drawn into DIR/planted.npy (needs numpy). Both stay there for
the next call. Features count as dead after 200,000 rows without them, else none could die in so few rows.

Held-out explained variance must agree within 0.2 points and the share of dead features within 1 point, or the exit status is 1.
Beside them the plain step once more with a learning rate that is larger by a ten-millionth: what any other rounding does.
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

# Rows and k: the paper's recipe but for its size. With 768 features of so narrow rows k up to 12 takes the int8 product, more f32.
CASES = {
    "demo k 10": ("store", 10),
    "demo k 32": ("store", 32),
    "planted k 4": ("planted.npy", 4),
    "planted k 32": ("planted.npy", 32),
}
RUNS = {"plain": ("plain", 1e-4), "fast": ("fast", 1e-4), "plain again": ("plain", 1.0000001e-4)}


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


def train(a: argparse.Namespace, case: str, run: str) -> dict:
    rows, k = CASES[case]
    engine, lr = RUNS[run]
    out = a.work / f"{case} {run}".replace(" ", "_")
    command = [a.facet, "train", "--store", a.work / rows, "-o", out, "--engine", engine, "--lr", str(lr), "--k", str(k)]
    command += ["--n-features", "768", "--dead-rows", str(DEAD_ROWS), "--hold-out", str(HOLD_OUT), "--json", "--quiet"]
    answer = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    r = {
        "case": case,
        "run": run,
        "product": json.loads((out / "facet.json").read_text())["training"]["encoder_product"],
        "steps": answer["train"]["steps"],
        "ev": answer["held_out"]["ev"],
        "dead": answer["train"]["dead"] / answer["train"]["n_features"],
        "silent": answer["held_out"]["dead_share"],
    }
    dead = f"dead {100 * r['dead']:6.2f} %, silent on held-out rows {100 * r['silent']:6.2f} %"
    print(f"{case:14} {run:11} ({r['product']}) {r['steps']} steps: EV {100 * r['ev']:.3f} %, {dead}", flush=True)
    return r


def compare(a: argparse.Namespace, case: str) -> list[dict]:
    result = [train(a, case, run) for run in RUNS]
    plain, fast = result[:2]
    off = {key: abs(fast[key] - plain[key]) for key in ("ev", "dead", "silent")}
    fast["equal"] = off["ev"] <= MOST_EV and max(off["dead"], off["silent"]) <= MOST_DEAD
    print(f"{case:14} {'equal' if fast['equal'] else 'NOT EQUAL'}", flush=True)
    return result


def main() -> int:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--facet", type=Path, default=Path("build/facet"))
    ap.add_argument("--work", type=Path, required=True)
    ap.add_argument("--only", help="cases whose names contain one of these, else all")
    ap.add_argument("--json", type=Path)
    a = ap.parse_args()
    a.facet = a.facet.resolve()
    a.work.mkdir(parents=True, exist_ok=True)
    names = [n for n in CASES if not a.only or any(part in n for part in a.only.split(","))]
    if not names:
        ap.error(f"--only {a.only}: words of {'; '.join(CASES)}")
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
