"""Bad input, full disks, kills and Ctrl-C: one clear sentence, the right exit code, nothing half-written, exact continuation.

Run:  FACET=build/facet python -m pytest tests/python/test_cli_faults.py

Needs numpy, safetensors and Pillow. What needs root (a small file system of its own) is skipped elsewhere.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_util import DEMO, PROMPTS, bad, facet, good, need_demo, run

np = pytest.importorskip("numpy", reason="numpy makes rows")
safetensors = pytest.importorskip("safetensors.numpy", reason="safetensors reads what facet writes")
Image = pytest.importorskip("PIL.Image", reason="Pillow makes pictures")

SMALL = ["-W", "64", "-H", "64", "--dtype", "f32", "-t", "1"]
CAPTURE = [
    "capture",
    "--prompts",
    PROMPTS,
    "--limit",
    "192",
    "--blocks",
    "down.2.1,up.0.1",
    "-b",
    "2",
    *SMALL,
]
TRAIN = [
    "train",
    "--store",
    "store",
    "--block",
    "mine",
    "--preset",
    "demo",
    "--batch-size",
    "64",
    "--steps",
    "1200",
    "--n-features",
    "256",
    "--checkpoint-every",
    "50",
    "--seed",
    "4",
    "-t",
    "1",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows, a store of them, an SAE of width 24, one of the demo model's width, and a picture."""
    need_demo()
    folder = tmp_path_factory.mktemp("faults")
    rng = np.random.default_rng(0)
    np.save(folder / "rows.npy", rng.standard_normal((4000, 24)).astype(np.float32))
    good("capture", "--import", "rows.npy", "--block", "mine", "-o", "store", cwd=folder)
    good(
        "train",
        "--store",
        "store",
        "--preset",
        "demo",
        "--batch-size",
        "500",
        "--steps",
        "5",
        "-o",
        "narrow",
        cwd=folder,
    )
    np.save(folder / "wide.npy", rng.standard_normal((600, 96)).astype(np.float32))
    good("capture", "--import", "wide.npy", "--block", "up.0.1", "-o", "wide-store", cwd=folder)
    good(
        "train",
        "--store",
        "wide-store",
        "--preset",
        "demo",
        "--batch-size",
        "200",
        "--steps",
        "5",
        "-o",
        "up.0.1",
        cwd=folder,
    )
    good("generate", "-p", "a star", *SMALL, "-o", "star.png", cwd=folder)
    return folder


def listing(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*")}


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def broken_model(place: Path, name: str, change: Callable[[Path], None]) -> Path:
    model = place / name
    shutil.copytree(DEMO, model, dirs_exist_ok=True)
    change(model)
    return model


# ---- models ----

UNET = "unet/diffusion_pytorch_model.safetensors"


def truncate(model: Path) -> None:
    os.truncate(model / UNET, 5_000_000)


def set_config(key: str, value: object) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        path = model / "unet/config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))

    return change


def lfs_pointer(model: Path) -> None:
    (model / UNET).write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 5135149760\n"
    )


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("missing-weights", lambda m: (m / UNET).unlink(), ["unet"]),
        ("truncated-weights", truncate, ["unet", "diffusion_pytorch_model.safetensors"]),
        ("broken-json", lambda m: (m / "unet/config.json").write_text("{"), ["unet/config.json"]),
        ("wrong-shapes", set_config("cross_attention_dim", 64), ["unet"]),
        ("unsupported-field", set_config("addition_embed_type", "image"), ["addition_embed_type"]),
        ("missing-vocabulary", lambda m: (m / "tokenizer/vocab.json").unlink(), ["vocab.json"]),
        ("pointer", lfs_pointer, ["LFS"]),
    ],
)
def test_broken_models(
    place: Path, name: str, change: Callable[[Path], None], says: list[str]
) -> None:
    model = broken_model(place, name, change)
    bad("generate", "-m", model, "-p", "a star", *SMALL, "-o", "no.png", cwd=place, says=says)
    assert not (place / "no.png").exists()
    shutil.rmtree(model)


def test_models_that_are_not_there(place: Path) -> None:
    bad("generate", "-m", "no/such/folder", "-p", "x", cwd=place, says="no/such/folder")
    bad(
        "generate",
        "-m",
        "stabilityai/no-such-model",
        "-p",
        "x",
        cwd=place,
        says="stabilityai/no-such-model",
        env={"HF_HUB_CACHE": str(place)},
    )
    bad("generate", "-m", "store", "-p", "x", cwd=place, says="model_index.json")


# ---- pictures and recipes ----


def test_broken_pictures_and_recipes(place: Path) -> None:
    data = (place / "star.png").read_bytes()
    (place / "cut.png").write_bytes(data[: len(data) // 2])
    (place / "text.png").write_text("not a picture")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(place / "plain.png")
    (place / "broken.json").write_text('{"facet": ')
    (place / "wrong.json").write_text('{"steps": "many"}')
    for name in ("cut.png", "text.png", "plain.png", "broken.json", "wrong.json", "absent.json"):
        bad("generate", "--recipe", name, "-o", "no.png", cwd=place, says=name)
        bad("features", "look", name, "--sae", "up.0.1", "-o", "no-look", cwd=place, says=name)
    assert not (place / "no.png").exists() and not (place / "no-look").exists()


def test_wrong_use_of_generate(place: Path) -> None:
    bad("generate", code=2, says="--prompt", cwd=place)
    bad("generate", "-p", "x", "-b", "2", "-o", "-", code=2, says="--output -", cwd=place)
    bad("generate", "--recipe", "star.png", "-b", "2", code=2, says="--batch", cwd=place)
    bad("generate", "-p", "x", "-W", "100", code=2, says="divisible by 8", cwd=place)
    for edit in (
        "up.0.1",
        "up.0.1:1",
        "up.0.1:1 +",
        "up.0.1:x +1",
        "up.0.1:1 +1 @box:0,0,1",
        "up.0.1:1 +1 steps=3-1",
        "up.0.1:1 *2",
        "",
    ):
        bad(
            "generate",
            "-p",
            "x",
            "--sae",
            "up.0.1",
            "--edit",
            edit,
            code=2,
            says="--edit",
            cwd=place,
        )


def test_edits_that_cannot_be(place: Path) -> None:
    def refused(edit: str, *says: str) -> None:
        bad(
            "generate",
            "-p",
            "x",
            *SMALL,
            "--sae",
            "up.0.1",
            "--edit",
            edit,
            "-o",
            "no.png",
            cwd=place,
            says=list(says),
        )
        assert not (place / "no.png").exists()

    refused("up.0.1:100000 +1", "100000")
    refused("up.9.9:1 +1", "up.9.9")
    refused("mid.0:1 +1", "mid.0")
    refused("up.0.1:1 +1 steps=7-9 unit=one", "7")
    refused("up.0.1:1 +1 unit=one @absent.png", "absent.png")
    refused("up.0.1 from absent.json:1,2 x1", "absent.json")
    bad(
        "generate",
        "-p",
        "x",
        *SMALL,
        "--sae",
        "up.0.1",
        "--edit",
        "up.0.1 zero",
        "--edit",
        "up.0.1 rebuild",
        "-o",
        "no.png",
        cwd=place,
        says="up.0.1",
    )


def test_saes_that_do_not_fit(place: Path) -> None:
    bad(
        "generate",
        "-p",
        "x",
        *SMALL,
        "--sae",
        "up.0.1=narrow",
        "--edit",
        "up.0.1:1 +1",
        "-o",
        "no.png",
        cwd=place,
        says=["24", "96"],
    )
    bad(
        "generate",
        "-p",
        "x",
        *SMALL,
        "--sae",
        "absent",
        "--edit",
        "up.0.1:1 +1",
        "-o",
        "no.png",
        cwd=place,
        says="absent",
    )
    bad("features", "look", "star.png", code=2, says="--sae", cwd=place)
    bad("features", "icon", "up.0.1:999999", "--sae", "up.0.1", *SMALL, cwd=place, says="999999")
    bad(
        "encode",
        "--sae",
        "narrow",
        "--in",
        "wide.npy",
        "--out",
        "no.safetensors",
        cwd=place,
        says="[n,24]",
    )
    bad("features", "stats", "--sae", "narrow", "--store", "wide-store", cwd=place, says="24")
    (place / "damaged").mkdir()
    shutil.copytree(place / "narrow", place / "damaged", dirs_exist_ok=True)
    os.truncate(place / "damaged/sae_weights.safetensors", 1000)
    bad(
        "convert",
        "damaged",
        "--to",
        "sdxl-unbox",
        "-o",
        "no",
        cwd=place,
        says="sae_weights.safetensors",
    )
    assert not (place / "no").exists() and not (place / "no.safetensors").exists()


# ---- prompts and capture ----


def test_bad_captures(place: Path) -> None:
    (place / "empty.txt").write_text("\n \n")
    (place / "nokey.jsonl").write_text('{"text": "a star"}\n')
    (place / "noprompt.csv").write_text("id,text\n1,a star\n")
    (place / "one.txt").write_text("a star\n")

    def refused(*words: str, code: int = 1, says: str | list[str]) -> None:
        bad("capture", *words, *SMALL, "-o", "no-store", cwd=place, code=code, says=says)
        assert not (place / "no-store").exists()

    refused("--prompts", "empty.txt", says="empty.txt")
    refused("--prompts", "nokey.jsonl", says=["nokey.jsonl", "prompt"])
    refused("--prompts", "noprompt.csv", says=["noprompt.csv", "prompt"])
    refused("--prompts", "absent.txt", says="absent.txt")
    refused("--prompts", "one.txt", "--blocks", "up.7.7", says=["up.7.7", "down.2.1"])
    refused("--prompts", "one.txt", "--at-steps", "6", "--steps", "4", code=2, says="--at-steps")
    refused("--prompts", "one.txt", "--at-steps", "5", "--steps", "4", says="1 to 4")
    refused("--prompts", "one.txt", "--branch", "both", "--guidance", "1", code=2, says="--branch")
    refused(code=2, says="--prompts")
    bad("capture", "--prompts", "one.txt", *SMALL, "-o", "up.0.1", cwd=place, says="up.0.1")
    bad(
        "capture",
        "--import",
        "rows.npy",
        "--import",
        "wide.npy",
        "-o",
        "no-store",
        cwd=place,
        says="wide.npy",
    )
    bad("capture", "--import", "star.png", "-o", "no-store", cwd=place, says="star.png")
    big = np.full((4, 8), 1e6, np.float32)
    np.save(place / "big.npy", big)
    assert not (place / "no-store").exists()
    bad(
        "capture",
        "--import",
        "big.npy",
        "--store-dtype",
        "f16",
        "-o",
        "big-store",
        cwd=place,
        says="f16",
    )
    bad("info", "big-store", cwd=place, says="big-store")
    good("capture", "--import", "big.npy", "--store-dtype", "f32", "-o", "big-store", cwd=place)
    bad(
        "capture",
        "--import",
        "big.npy",
        "--store-dtype",
        "f32",
        "-o",
        "big-store",
        cwd=place,
        says="--block",
    )


def test_bad_training(place: Path) -> None:
    def refused(*words: str, code: int = 1, says: str | list[str]) -> None:
        bad("train", *words, "-o", "no-sae", cwd=place, code=code, says=says)
        assert not (place / "no-sae").exists()

    refused("--store", "absent", says="absent")
    refused("--store", "up.0.1", says="up.0.1")
    refused("--store", "store", "--block", "other", says=["other", "mine"])
    refused("--store", "store", "--k", "100", "--n-features", "50", says=["k 100", "50"])
    refused(
        "--store",
        "store",
        "--n-features",
        "50",
        "--expansion-factor",
        "2",
        code=2,
        says="--n-features",
    )
    refused("--store", "store", "--loss-scale", "many", code=2, says="--loss-scale")
    refused("--store", "store", "--hold-out", "4000", code=2, says="--hold-out")
    refused(
        "--store",
        "store",
        "--preset",
        "demo",
        "--init-from",
        "up.0.1",
        "--steps",
        "1",
        "--batch-size",
        "10",
        says="96",
    )


def test_sae_is_not_put_into_other_folders(place: Path) -> None:
    (place / "two").mkdir(exist_ok=True)
    shutil.copytree(place / "narrow", place / "two/a", dirs_exist_ok=True)
    shutil.copytree(place / "narrow", place / "two/b", dirs_exist_ok=True)
    for folder in ("store", "two"):
        before = contents(place / folder)
        for words in (
            [*TRAIN, "-o"],
            ["convert", "narrow", "--to", "saelens", "-o"],
            ["convert", "narrow", "--to", "sdxl-unbox", "-o"],
            ["features", "stats", "--sae", "narrow", "--store", "store", "-o"],
        ):
            bad(*words, folder, cwd=place, says=[folder, "is not empty and holds no SAE"])
        assert contents(place / folder) == before
    bad("convert", "narrow", "--to", "sdxl-unbox", "-o", "two/a", cwd=place, says="sdxl-unbox layout")


def test_lost_training_is_told(place: Path) -> None:
    train = ["train", "--store", "store", "--preset", "demo", "--batch-size", "64", "--steps", "30"]
    lost = good(*train, "--lr", "10", "-o", "lost", cwd=place)
    assert b"warning: " in lost.stderr and b"explained variance" in lost.stderr


def test_damaged_store(place: Path) -> None:
    train = ["train", "--store", "damaged-store", "--preset", "demo", "--batch-size", "500"]
    train += ["--steps", "5", "-o", "no-sae"]
    shutil.copytree(place / "store", place / "damaged-store")
    shard = next((place / "damaged-store/mine").iterdir())
    os.truncate(shard, 2000)
    bad(*train, cwd=place, says=shard.name)
    shard.unlink()
    bad(*train, cwd=place, says="damaged-store")
    assert not (place / "no-sae").exists()


# ---- places that cannot be written ----


def test_places_that_are_not_there(place: Path) -> None:
    bad("generate", "-p", "x", "-o", "no/such/place.png", cwd=place, says="no/such")
    bad("generate", "-p", "x", "-o", "store", cwd=place, says="folder")
    bad(
        "encode",
        "--sae",
        "narrow",
        "--in",
        "rows.npy",
        "--out",
        "no/c.safetensors",
        cwd=place,
        says="no",
    )
    bad("train", "--store", "store", "-o", "star.png", cwd=place, says="file")
    bad("capture", "--prompts", PROMPTS, "-o", "star.png/store", cwd=place, says="star.png")


@pytest.fixture()
def mount(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Small file systems of their own; only root can make them."""
    made: list[Path] = []

    def make(options: str) -> Path:
        folder = tmp_path / f"mount{len(made)}"
        folder.mkdir()
        words = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
        if (
            os.geteuid() != 0
            or subprocess.run(words, check=False, capture_output=True).returncode != 0
        ):
            pytest.skip("needs root, to mount a small file system")
        made.append(folder)
        return folder

    yield make
    for folder in made:
        subprocess.run(["umount", str(folder)], check=False)


def test_no_space(place: Path, mount: Callable[[str], Path]) -> None:
    full = mount("size=16k")
    bad(
        "generate",
        "-p",
        "a star",
        "-o",
        full / "a.png",
        cwd=place,
        says="No space left",
    )
    bad(
        "encode",
        "--sae",
        "narrow",
        "--in",
        "rows.npy",
        "--out",
        full / "c.safetensors",
        cwd=place,
        says="No space left",
    )
    bad("convert", "up.0.1", "--to", "saelens", "-o", full / "sae", cwd=place, says="No space left")
    bad("convert", "up.0.1", "--to", "sdxl-unbox", "-o", full / "pth", cwd=place)
    said = bad(*CAPTURE, "-o", full / "store", cwd=place, says=str(full))
    assert "MB" in said or "kB" in said, "the size is known and said before the start"
    assert not [p for p in listing(full) if p != "store"], "nothing half-written"


def test_disk_fills_up_in_a_checkpoint(place: Path, mount: Callable[[str], Path]) -> None:
    """A checkpoint is 156 kB, the disk 300 kB: the first one fits, the second does not."""
    small = mount("size=300k")
    train = [*TRAIN, "--log", small / "t.jsonl", "-o", small / "sae"]
    says = ["checkpoint-000000000100", "No space left on device", "the checkpoint of step 50 stays"]
    bad(*train, cwd=place, says=says)
    assert listing(small) == {"t.jsonl", "sae.checkpoint", "sae.checkpoint/checkpoint-000000000050.safetensors"}
    bad(*train, "--resume", cwd=place, says=says)  # again: nothing is lost by trying
    assert listing(small / "sae.checkpoint") == {"checkpoint-000000000050.safetensors"}
    subprocess.run(["mount", "-o", "remount,size=3m", small], check=True)
    good(*train, "--resume", cwd=place)
    good(*TRAIN, "-o", "sae-never-full", cwd=place)
    assert contents(small / "sae") == contents(place / "sae-never-full")
    assert not (small / "sae.checkpoint").exists()


def test_disk_fills_up_as_the_sae_is_saved(place: Path, mount: Callable[[str], Path]) -> None:
    """The work is not lost: the last checkpoint is there, and --resume needs one step."""
    small = mount("size=200k")
    (small / "mine").write_bytes(bytes(8000))
    train = [*TRAIN, "--checkpoint-every", "0", "--steps", "60", "-o", small / "sae"]
    bad(*train, cwd=place, says=["No space left on device", "--resume"])
    assert [p for p in listing(small) if p.startswith("sae.checkpoint/checkpoint-")] and not (small / "sae").exists()
    subprocess.run(["mount", "-o", "remount,size=3m", small], check=True)
    good(*train, "--resume", cwd=place)
    assert listing(small / "sae") >= {"cfg.json", "sae_weights.safetensors"}


def test_unwritable_folder(place: Path, mount: Callable[[str], Path]) -> None:
    closed = mount("size=1m,ro")
    bad("generate", "-p", "a star", *SMALL, "-o", closed / "a.png", cwd=place, says=str(closed))
    bad(
        "capture", "--prompts", PROMPTS, *SMALL, "-o", closed / "store", cwd=place, says=str(closed)
    )
    bad("train", "--store", "store", "-o", closed / "sae", cwd=place, says=str(closed))
    bad(
        "features",
        "look",
        "star.png",
        "--sae",
        "up.0.1",
        "-o",
        closed / "look",
        cwd=place,
        says=str(closed),
    )


# ---- kills ----


def start(*words: str | Path, cwd: Path) -> subprocess.Popen[bytes]:
    env = {"OMP_WAIT_POLICY": "passive", **os.environ}
    return subprocess.Popen(
        [facet(), *map(str, words)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
    )


def wait_for(
    condition: Callable[[], bool], process: subprocess.Popen[bytes], limit: float = 120
) -> bool:
    """True when it came while the process ran."""
    end = time.monotonic() + limit
    while time.monotonic() < end and process.poll() is None:
        if condition():
            return True
        time.sleep(0.002)
    return False


def test_kill_during_capture(place: Path) -> None:
    began = time.monotonic()
    good(*CAPTURE, "-o", "whole", cwd=place)
    took = time.monotonic() - began
    for share in (0.3, 0.6, 0.9):
        process = start(*CAPTURE, "-o", "killed", cwd=place)
        time.sleep(share * took)
        process.kill()
        process.communicate()
    good(*CAPTURE, "-o", "killed", cwd=place)
    assert contents(place / "killed") == contents(place / "whole")


def test_kill_during_training(place: Path) -> None:
    good(*TRAIN, "-o", "sae-whole", cwd=place)
    kills = 0
    for _ in range(3):
        process = start(*TRAIN, "--resume", "-o", "sae-killed", cwd=place)
        before = checkpoint_time(place)
        if wait_for(lambda was=before: checkpoint_time(place) != was, process):
            time.sleep(0.02)
            kills += process.poll() is None
        process.kill()
        process.communicate()
    assert kills > 0, "no kill came in time"
    if (place / "sae-killed.checkpoint").is_dir():
        bad(*TRAIN, "-o", "sae-killed", cwd=place, says=["sae-killed.checkpoint", "--resume"])
        good(*TRAIN, "--resume", "-o", "sae-killed", cwd=place)
    assert not (place / "sae-killed.checkpoint").exists()
    assert contents(place / "sae-killed") == contents(place / "sae-whole")


def test_resume_with_other_threads(place: Path) -> None:
    """Sums are taken in another order: told, and equal within rounding that training carries along."""
    train = [*TRAIN[:-2], "--engine", "plain"]  # -t is given each time
    good(*train, "-t", "1", "-o", "sae-one", cwd=place)
    process = start(*train, "-t", "1", "-o", "sae-both", cwd=place)
    assert wait_for(lambda: any((place / "sae-both.checkpoint").glob("*.safetensors")), process)
    process.kill()
    process.communicate()
    done = good(*train, "-t", "2", "--resume", "-o", "sae-both", cwd=place)
    assert b"made with 1 threads, here are 2: the result will be equal within rounding" in done.stderr
    one, both = (safetensors.load_file(place / name / "sae_weights.safetensors") for name in ("sae-one", "sae-both"))
    for name, t in one.items():
        off = np.linalg.norm(t - both[name]) / np.linalg.norm(t)
        assert off < 1e-4, f"{name}: {off:.2g}"  # another seed: above 1


def test_resume_takes_only_its_own_rows(place: Path) -> None:
    train = [*TRAIN, "-o", "sae-own"]
    folder = place / "sae-own.checkpoint"
    process = start(*train, cwd=place)
    assert wait_for(lambda: any(folder.glob("checkpoint-*.safetensors")), process)
    process.kill()
    process.communicate()
    for change, says in (
        ({"--order": "sequential"}, "order"),
        ({"--hold-out": "100"}, "rows"),
        ({"--store": "wide-store", "--block": "up.0.1"}, "options (d 24, now 96)"),
        ({"--steps": "1300"}, "steps"),
    ):
        words = list(train)
        for name, value in change.items():
            if name in words:
                words[words.index(name) + 1] = value
            else:
                words += [name, value]
        bad(*words, "--resume", cwd=place, says=["was made with other", says])
    (folder / "notes.txt").write_text("mine")
    good(*train, "--resume", cwd=place)
    assert listing(folder) == {"notes.txt"}


def checkpoint_time(place: Path) -> tuple[tuple[str, int], ...]:
    folder = place / "sae-killed.checkpoint"
    try:
        whole = [e for e in os.scandir(folder) if e.name.endswith(".safetensors")]
        return tuple(sorted((e.name, e.stat().st_mtime_ns) for e in whole))
    except OSError:
        return ()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_by_a_signal(place: Path, number: signal.Signals, code: int) -> None:
    out = f"stopped-{code}"
    process = start(*CAPTURE[:4], "600", *CAPTURE[5:], "-o", out, cwd=place)
    assert wait_for((place / out).is_dir, process)
    process.send_signal(number)
    _, text = process.communicate(timeout=60)
    assert process.returncode == code and b"facet: stopped" in text, text
    assert not [p for p in listing(place / out) if ".tmp" in p]
    process = start(
        *TRAIN[:-6],
        "--checkpoint-every",
        "0",
        "--steps",
        "1000000",
        "-t",
        "1",
        "-o",
        f"sae-{code}",
        cwd=place,
    )
    time.sleep(1)
    process.send_signal(number)
    _, text = process.communicate(timeout=60)
    assert process.returncode == code and b"--resume" in text, text
    assert (place / f"sae-{code}.checkpoint").is_dir() and not (place / f"sae-{code}").exists()


def test_stopped_picture_leaves_nothing(place: Path) -> None:
    process = start("generate", "-p", "a star", "--steps", "1000", "-o", "stopped.png", cwd=place)
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=60)
    assert process.returncode == 130 and b"facet: stopped" in text, text
    assert not [p for p in listing(place) if p.startswith("stopped.png")]


def test_json_of_a_stopped_run(place: Path) -> None:
    process = start(
        "generate", "-p", "a star", "--steps", "1000", "-o", "stopped.png", "--json", cwd=place
    )
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert json.loads(out)["status"] == "stopped"


def test_progress_goes_to_stderr_only(place: Path) -> None:
    done = run(
        "train",
        "--store",
        "store",
        "--preset",
        "demo",
        "--batch-size",
        "64",
        "--steps",
        "20",
        "-o",
        "quick",
        "--json",
        cwd=place,
    )
    assert done.returncode == 0 and json.loads(done.stdout)["train"]["steps"] == 20
    assert b"\r" not in done.stderr, "plain lines where there is no terminal"
