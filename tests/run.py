"""Builds facet and runs its tests, counts what was skipped, and fails when the skips differ from tests/skips.txt.

    python3 tests/run.py [--full]        (./start test installs what this needs first)

Everyday: gcc build, C tests, the checks of tests/checks, a clang build, black-box tests in Python. --full adds the C
tests under ASan and UBSan, a minute of fuzzing a target, and the Python tests with torch and diffusers at hand:
FACET_PYTHON names an interpreter that has them (with pytest); otherwise they are installed into build/venv.
"""

import argparse
import concurrent.futures
import fnmatch
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parents[1]
BUILD = ROOT / "build"
WORKERS = min(os.cpu_count() or 1, 4)
# C tests that take longest, which begin first
LONG = {"sae_planted", "session", "device", "sae_blocks"}
SMALL = ["pytest", "numpy", "safetensors", "Pillow"]
LARGE = ["torch", "diffusers==0.35.2", "transformers==4.57.*"]
CMOCKA = re.compile(r"^\[ +(OK|SKIPPED|FAILED|ERROR) +\] ([\w]+)$", re.M)


class Tally:
    """What passed, failed and was skipped, by name."""

    def __init__(self) -> None:
        self.passed = 0
        self.failed: list[str] = []
        self.skipped: dict[str, str] = {}

    def one(self, name: str, good: bool, output: str = "") -> bool:
        """Counts one test; shows the output of a failure."""
        if good:
            self.passed += 1
        else:
            self.failed.append(name)
            print(output.rstrip()[-6000:])
            print(f"FAILED {name}", flush=True)
        return good

    def skip(self, name: str, why: str) -> None:
        """Counts a skipped test."""
        self.skipped[name] = why


STARTED = time.monotonic()


def say(text: str) -> None:
    """One line on what is being done, and when."""
    print(f"test: {time.monotonic() - STARTED:4.0f} s  {text}", flush=True)


def run(command: list[str], env: dict[str, str] | None = None, limit: float = 1800) -> tuple[bool, str]:
    """Runs to the end; whether it succeeded and what it said."""
    try:
        done = subprocess.run(command, cwd=ROOT, env={"OMP_WAIT_POLICY": "passive", **os.environ, **(env or {})},
                              stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                              timeout=limit, check=False)
    except subprocess.TimeoutExpired as late:
        said = late.stdout.decode(errors="replace") if isinstance(late.stdout, bytes) else late.stdout or ""
        return False, f"{said}\n{command[0]} took more than {limit:.0f} s"
    return done.returncode == 0, done.stdout


def build(folder: pathlib.Path, options: list[str], env: dict[str, str] | None = None) -> tuple[bool, str]:
    """Sets a build folder up when it is not, and builds everything in it."""
    if (folder / "build.ninja").exists():
        good, said = run(["meson", "configure", str(folder), *options])
    else:
        good, said = run(["meson", "setup", str(folder), str(ROOT), *options], env)
    return run(["ninja", "-C", str(folder)], env) if good else (good, said)


def c_tests(tally: Tally, folder: pathlib.Path, label: str) -> None:
    """Every test that meson knows, one process each, as many at once as there are cores; cmocka programs are counted by
    their single tests."""
    good, said = run(["meson", "introspect", "--tests", str(folder)])
    tests = json.loads(said) if good else []
    tests.sort(key=lambda test: test["name"] not in LONG)
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        done = list(pool.map(lambda test: run(test["cmd"], test["env"], limit=1800), tests))
    for test, (good, said) in zip(tests, done):
        name = f"{label}/{test['name']}"
        results = CMOCKA.findall(said)
        for result, single in results:
            if result == "OK":
                tally.passed += 1
            elif result == "SKIPPED":
                tally.skip(f"{name}: {single}", "it says so")
        if not good or not results:
            tally.one(name, good, said)


def checks(tally: Tally) -> None:
    """The scripts of tests/checks, each of which has planted violations in selftest.py."""
    for script in ("selftest", "layers", "style", "banned", "headers", "circles", "public", "unreached", "fields"):
        good, said = run([sys.executable, str(ROOT / "tests/checks" / f"{script}.py")])
        tally.one(f"checks/{script}", good, said)


def make_venv(packages: list[str]) -> tuple[pathlib.Path | None, str]:
    """The interpreter of build/venv with these packages, or None and why not."""
    venv = BUILD / "venv"
    python = venv / "bin" / "python"
    stamp = venv / "installed.txt"
    wanted = "\n".join(packages)
    if python.exists() and stamp.exists() and set(packages) <= set(stamp.read_text().split("\n")):
        return python, ""
    good, said = run([sys.executable, "-m", "venv", str(venv)]) if not python.exists() else (True, "")
    if good:
        good, said = run([str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages])
    if not good:
        return None, (said.strip().splitlines() or ["no reason given"])[-1]
    stamp.write_text(wanted)
    return python, ""


def real_vocabulary(tally: Tally, python: pathlib.Path | None) -> None:
    """The tokenizer on CLIP's own 49,408 tokens, which PyPI's open_clip_torch carries, against transformers."""
    folder = BUILD / "vocabulary"
    folder.mkdir(exist_ok=True)
    pip = [str(python or sys.executable), "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps"]
    good, said = run([*pip, "open_clip_torch", "-d", str(folder)]) if python else (False, "no Python with torch")
    if not good:
        tally.skip("real vocabulary", (said.strip().splitlines() or ["no reason given"])[-1])
        return
    wheel = max(folder.glob("open_clip_torch-*.whl"))
    good, said = run([str(python), str(ROOT / "tools/make_tokenizer_vectors.py"), "--open-clip", str(wheel),
                      "--folder", str(folder), "--out", str(folder / "tokenizer.json")])
    if tally.one("real vocabulary/vectors", good, said):
        good, said = run([str(BUILD / "tests/test_tokenizer")], {"FACET_TOKENIZER_DIR": str(folder)})
        good = good and ("OK", "test_real") in CMOCKA.findall(said)
        tally.one("real vocabulary/test_real", good, said)


def python_with(tally: Tally, full: bool) -> tuple[pathlib.Path | None, str]:
    """The interpreter for the Python tests, or None and why there is none."""
    given = os.environ.get("FACET_PYTHON") if full else None
    if given:
        return pathlib.Path(given), ""
    python, why = make_venv(SMALL + (LARGE if full else []))
    if python is None and full:
        tally.skip("python with torch", f"packages cannot be installed: {why}")
        python, why = make_venv(SMALL)
    return python, why


def python_tests(tally: Tally, python: pathlib.Path | None, why: str, full: bool) -> None:
    """tests/python under pytest."""
    if python is None:
        tally.skip("python", f"packages cannot be installed: {why}")
        return
    report = BUILD / "pytest.xml"
    report.unlink(missing_ok=True)
    env = {"FACET": str(BUILD / "facet"), "FACET_BUILD": str(BUILD), "FACET_FULL": "1" if full else ""}
    good, said = run([str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}",
                      str(ROOT / "tests/python")], env, limit=3600)
    if not report.exists():
        tally.one("python", False, said)
        return
    failures = False
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        name = f"python/{case.get('classname', '').split('.')[-1]}: {case.get('name')}".replace("python/: ", "python/")
        skipped = case.find("skipped")
        if skipped is not None:
            why = skipped.get("message") or ""
            if why == "collection skipped":  # a whole file: the reason stands in the text
                why = (skipped.text or "").partition("Skipped: ")[2].rstrip("')")
            tally.skip(name, re.sub(r"\s+", " ", why)[:200])
        elif case.find("failure") is not None or case.find("error") is not None:
            tally.one(name, False)
            failures = True
        else:
            tally.passed += 1
    if failures or not good:
        print(said[-8000:])
        if not failures:
            tally.one("python", False, "pytest failed")


def fuzz(tally: Tally, seconds: int) -> None:
    """Each target for a while, on top of its corpus."""
    folder = ROOT / "build-fuzz"
    say(f"fuzzing, {seconds} s a target")
    good, said = build(folder, ["-Dfuzz=enabled", "-Dtests=disabled", "-Dbuildtype=debugoptimized"], {"CC": "clang"})
    if not tally.one("fuzz/build", good, said):
        return
    for target in sorted((folder / "tests/fuzz").glob("fuzz_*")):
        if target.is_dir():
            continue
        corpus = ROOT / "tests/fuzz/corpus" / target.name.removeprefix("fuzz_")
        finds = folder / "finds" / target.name
        finds.mkdir(parents=True, exist_ok=True)
        good, said = run([str(target), f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=4000",
                          f"-artifact_prefix={finds}/", str(finds), str(corpus)], limit=seconds + 300)
        tally.one(f"fuzz/{target.name}", good, said)


def compare_skips(tally: Tally, full: bool) -> None:
    """Every skip must be written down for this tier; a line marked `must` must have happened."""
    tier = "full" if full else "everyday"
    rules = []
    for line in (ROOT / "tests/skips.txt").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            tiers, must, pattern, why = (part.strip() for part in line.split("|"))
            if tier in tiers.split():
                rules.append((must, pattern, why))
    for name, why in sorted(tally.skipped.items()):
        print(f"skipped: {name}: {why}")
        if not any(fnmatch.fnmatchcase(name, pattern) for _, pattern, _ in rules):
            tally.one(f"skip of {name}", False, f"{name} was skipped, but tests/skips.txt does not say that it may be")
    for must, pattern, why in rules:
        whole = pattern.split("/")[0] in tally.skipped      # a suite that was skipped whole runs none of its tests
        if must == "must" and not whole and not any(fnmatch.fnmatchcase(name, pattern) for name in tally.skipped):
            tally.one(f"no skip of {pattern}", False, f"tests/skips.txt says {pattern} is skipped ({why}); it was not")


def main() -> int:
    """All of it; 1 when anything failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="with sanitizers, fuzzing and torch")
    parser.add_argument("--fuzz-seconds", type=int, default=60, help="time for each fuzz target (default 60)")
    args = parser.parse_args()
    tally = Tally()
    say("building with gcc into ./build")
    good, said = build(BUILD, ["-Dbuildtype=release", "-Dtests=enabled"])
    if tally.one("build/gcc", good, said):
        say("C tests")
        c_tests(tally, BUILD, "unit")
    say("checks of style and layers")
    checks(tally)
    if shutil.which("clang"):
        say("building with clang into ./build-clang")
        good, said = build(ROOT / "build-clang", ["-Dbuildtype=debug", "-Dtests=enabled"], {"CC": "clang"})
        tally.one("build/clang", good, said)
    else:
        tally.skip("build/clang", "no clang")
    say("black-box tests in Python")
    python, why = python_with(tally, args.full)
    python_tests(tally, python, why, args.full)
    if args.full:
        say("the tokenizer on CLIP's own vocabulary")
        real_vocabulary(tally, python)
        say("C tests under ASan and UBSan, in ./build-asan")
        good, said = build(ROOT / "build-asan", ["-Db_sanitize=address,undefined", "-Dbuildtype=debugoptimized",
                                                 "-Dtests=enabled", "-Dmpi=disabled"])
        if tally.one("build/sanitizers", good, said):
            c_tests(tally, ROOT / "build-asan", "asan")
        fuzz(tally, args.fuzz_seconds)
    compare_skips(tally, args.full)
    for name in tally.failed:
        print(f"failed: {name}")
    say("done")
    print(f"{tally.passed} passed, {len(tally.failed)} failed, {len(tally.skipped)} skipped", flush=True)
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
