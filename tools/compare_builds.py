"""Compares what two builds of facet write, byte for byte: pictures, stores, SAEs, codes, recipes, features, the demo.

    python3 tools/compare_builds.py OLD/build/facet build/facet [--full] [--model DIR]

Gives the commands of tools/compare_builds.txt to both, on the demo model (or DIR) and on a random twin of SDXL's topology,
and says of every case whether all of its files and printed results are the same, and if not, where the first difference
lies (tools/compare_files.py, which also tells what is left out). The new build must also open the old one's files. Exits
1 when anything differs. Takes about a minute a build on two idle cores, some ten with --full; what the old build wrote is
kept in build-compare/ and used again while program, model and commands stay as they are.
Needs nothing beside Python; the twin comes from tests/twin beside one of the programs, and is left out when neither has it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from compare_files import IGNORED, difference

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = Path(__file__).with_suffix(".txt")
SWEEP = {"blocks": ["down.2.1", "up.0.1"], "seeds": [0, 1], "options": {"preset": "demo", "batch-size": 128, "steps": 15},
         "grid": {"k": [4, 8]}, "configs": [{"name": "wide", "n-features": 256, "arch": "batchtopk"}]}  # fmt: skip
PLAIN = ["a red circle", "two blue stars, isn't it", "portrait of an old man", "the moon at night", "mountains"]
SMALL = ["-W", "128", "-H", "128", "--dtype", "f32"]


@dataclass
class Bench:
    """One program at work in the working folder: every build runs in the same one, so that paths are the same."""

    program: Path
    folder: Path
    model: Path
    twin: Path | None
    threads: int
    failed: list[str] = field(default_factory=list)

    def run(self, words: list[str], case: str) -> None:
        """One command; what it prints is kept as a file of its case."""
        more = ["--json", "-t", str(self.threads)]
        done = subprocess.run([self.program, *words, *more], cwd=self.folder, capture_output=True, stdin=subprocess.DEVNULL,
                              env={**os.environ, "OMP_WAIT_POLICY": "passive"}, check=False)  # fmt: skip
        said = done.stdout
        if done.returncode != 0:
            last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            said = json.dumps({"exit": done.returncode, "says": last}).encode()
            self.failed.append(f"{shlex.join(words)}: {' '.join(last)}")
        printed = self.folder / case / "printed"
        printed.mkdir(parents=True, exist_ok=True)
        (printed / f"{len(list(printed.iterdir())):02}.json").write_bytes(said)

    def kill_and_resume(self, words: list[str], out: str, case: str) -> None:
        """Kills a training after its first checkpoint, keeps that one, and goes on from it."""
        held = self.folder / f"{out}.checkpoint"
        process = subprocess.Popen([self.program, *words, "-q", "-t", str(self.threads)], cwd=self.folder,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        files: list[Path] = []
        while process.poll() is None and not files:
            time.sleep(0.005)
            files = sorted(p for p in held.glob("*") if ".tmp" not in p.name) if held.exists() else []
        process.send_signal(signal.SIGKILL)
        process.wait()
        files = sorted(held.glob("*")) if held.exists() else []
        for late in files[1:]:
            late.unlink()
        if not files:
            self.failed.append(f"{shlex.join(words)}: no checkpoint was caught")
            return
        shutil.copytree(held, self.folder / case / "kept")
        self.run([*words, "--resume"], case)

    def resume(self, words: list[str], out: str, case: str) -> None:
        """Goes on from the checkpoint that another case kept."""
        shutil.copytree(self.folder / words[1] / "kept", self.folder / f"{out}.checkpoint")
        self.run([*words[2:], "--resume"], case)

    def features(self, look: str, block: str) -> list[int]:
        """The strongest features of a block, as a `features look` printed them; 0 where it failed."""
        for printed in sorted((self.folder / look / "printed").glob("*.json")):
            said = json.loads(printed.read_bytes())
            blocks = said.get("blocks") if isinstance(said, dict) else None
            if isinstance(blocks, dict) and blocks.get(block):
                return [one["feature"] for one in blocks[block]]
        return [0, 0]

    def values(self) -> dict[str, list[str]]:
        """What the words in braces stand for."""
        model = ["-m", str(self.model)]
        return {"demo": model, "twin": ["-m", str(self.twin)], "small": SMALL,
                "prompts": ["prompts.txt"], "sweep": ["sweep.json"], "mask": ["mask.png"],
                "e": [*model, "--recipe", "pictures/stars.png", "--sae", "saes"]}  # fmt: skip

    def expand(self, line: str) -> list[str]:
        """The words of a line; a word that is one brace becomes several."""
        words: list[str] = []
        values = self.values()
        if "{up" in line or "{down" in line:
            up = self.features("look", "up.0.1")
            values |= {"up": [str(up[0])], "up2": [str(up[-1])], "down": [str(self.features("look", "down.2.1")[0])]}
        if "{twinup" in line:
            values["twinup"] = [str(self.features("twin", "up.0.1")[0])]
        for word in shlex.split(line):
            if word[:1] == "{" and word[-1:] == "}":
                words += values[word[1:-1]]
            else:
                words.append(word.format(**{key: value[0] for key, value in values.items()}))
        return words

    def line(self, line: str) -> None:
        """One line of the list, without its first word."""
        words = self.expand(line)
        out = next((words[i + 1] for i, word in enumerate(words) if word in ("-o", "--out")), words[0])
        case = out.split("/")[0]
        (self.folder / case).mkdir(exist_ok=True)
        if words[0] == "kill":
            self.kill_and_resume(words[1:], out, case)
        elif words[0] == "resume":
            self.resume(words, out, case)
        else:
            self.run(words, case)


def read_commands(tiers: tuple[str, ...], twin: bool) -> list[str]:
    """The lines of these tiers, in order."""
    lines = [line.split(" ", 1) for line in COMMANDS.read_text().splitlines() if line and not line.startswith("#")]
    return [rest for tier, rest in lines if tier in tiers and (twin or "twin" not in rest)]


def lay_out(bench: Bench) -> None:
    """An empty working folder with the files that commands read."""
    shutil.rmtree(bench.folder, ignore_errors=True)
    bench.folder.mkdir(parents=True)
    theirs = bench.model / "prompts" / "heldout.txt"
    prompts = theirs.read_text() if theirs.exists() else "\n".join(f"{p} {i}" for i in range(20) for p in PLAIN)
    (bench.folder / "prompts.txt").write_text(prompts)
    (bench.folder / "sweep.json").write_text(json.dumps(SWEEP))
    shutil.copy(ROOT / "tests/golden/edit/mask.png", bench.folder / "mask.png")


def write_twin(programs: list[Path], folder: Path) -> Path | None:
    """The random twin, written by the first build that has its writer."""
    for program in programs:
        writer = program.parent / "tests" / "twin"
        if not writer.exists():
            continue
        if not folder.exists():
            subprocess.run([writer, ROOT / "tests/golden/twin/a.json", folder], check=True)
        return folder
    return None


def key_of(old: Path, args: argparse.Namespace) -> str:
    """What the old build's results depend on."""
    parts = [old.read_bytes(), COMMANDS.read_bytes(), Path(__file__).read_bytes(), str(args.model.resolve()).encode(),
             f"{args.full} {args.threads} {os.cpu_count()}".encode()]  # fmt: skip
    parts += [f"{p} {p.stat().st_size}".encode() for p in sorted(args.model.rglob("*")) if p.is_file()]
    return hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:16]


def play(bench: Bench, lines: list[str], to: Path, what: str) -> None:
    """All lines with one program; the working folder then moves away."""
    start = time.monotonic()
    for line in lines:
        bench.line(line)
    shutil.rmtree(to, ignore_errors=True)
    bench.folder.rename(to)
    print(f"{what}: {len(lines)} commands, {time.monotonic() - start:.0f} s", flush=True)


def compare(old: Path, new: Path, cases: set[str] | None, ignore: tuple[str, ...]) -> list[str]:
    """Prints a line a case; the files that differ."""
    bad: list[str] = []
    plans = 0
    folders = {p.name for side in (old, new) for p in side.iterdir() if p.is_dir()}
    for case in sorted(folders if cases is None else cases):
        files = sorted({p.relative_to(side) for side in (old, new) for p in (side / case).rglob("*") if p.is_file()})
        found = []
        for name in (n for n in files if "tfevents" not in n.name):
            if not (old / name).exists() or not (new / name).exists():
                found.append(f"{name}: only the {'old' if (old / name).exists() else 'new'} build wrote it")
            elif where := difference(old / name, new / name, ignore):
                found.append(f"{name}: {where}")
            elif (old / name).read_bytes() != (new / name).read_bytes():
                plans += difference(old / name, new / name, tuple(k for k in ignore if k != "plan")) is not None
        boards = [sorted((side / case).rglob("*tfevents*")) for side in (old, new)]  # their names hold the time
        found += [f"{a.relative_to(old)}: {where}" for a, b in zip(*boards) if (where := difference(a, b, ignore))]
        print(f"{'different' if found else 'same     '}  {case}: {len(files)} files", flush=True)
        for line in found[:5]:
            print(f"           {line}")
        if len(found) > 5:
            print(f"           and {len(found) - 5} more")
        bad += found
    if plans:
        print(f"note: the plan's hash differs in {plans} files; it names how the numbers were made, not what they are")
    return bad


def main() -> int:
    """1 when anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, help="the program of the build to compare with")
    parser.add_argument("new", type=Path, help="the program to be compared")
    parser.add_argument("--model", type=Path, default=ROOT / "models/demo", help="in place of the demo model")
    parser.add_argument("--full", action="store_true", help="longer runs, more formats, the whole demo")
    parser.add_argument("--threads", type=int, default=2, help="threads that compute (default 2)")
    parser.add_argument("--ignore", action="append", default=[], metavar="KEY", help="a further JSON key that may differ")
    parser.add_argument("--work", type=Path, default=ROOT / "build-compare", help="where results stay (default build-compare)")
    args = parser.parse_args()
    old, new = args.old.resolve(strict=True), args.new.resolve(strict=True)
    work = args.work.resolve()
    work.mkdir(exist_ok=True)
    twin = write_twin([old, new], work / "twin")
    if twin is None:
        print("note: no tests/twin beside either program: the random twin is left out")
    lines = read_commands(("quick", "full", "old") if args.full else ("quick", "old"), twin is not None)
    kept, results, crossed = work / f"old-{key_of(old, args)}", work / "new", work / "crossed"

    benches = [Bench(program, work / "run", args.model.resolve(), twin, args.threads) for program in (old, new, new)]
    if not kept.exists():
        lay_out(benches[0])
        play(benches[0], lines, kept, "old build")
    lay_out(benches[1])
    play(benches[1], lines, results, "new build")

    reopen = read_commands(("old",), twin is not None)
    shutil.rmtree(work / "run", ignore_errors=True)
    shutil.copytree(kept, work / "run", ignore=shutil.ignore_patterns("reopened*"))
    play(benches[2], reopen, crossed, "new build on the old one's files")

    ignore = IGNORED + tuple(args.ignore)
    bad = compare(kept, results, None, ignore)
    print("files of the old build, opened by the new one:")
    bad += compare(kept, crossed, {"reopened", "reopened-resumed"}, ignore)
    for text in sorted({text for bench in benches for text in bench.failed}):
        print(f"failed: {text}")
    print(f"{len(bad)} files differ" if bad else "everything is the same")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
