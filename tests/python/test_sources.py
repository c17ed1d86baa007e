"""Where training takes rows from: a model with no store between, files of rows, damaged stores. What comes out is compared
with what comes out of a store, byte by byte; what is refused is refused in one sentence."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import time
from pathlib import Path

import pytest
from cli_util import PROMPTS, bad, facet, good, need_demo, result, run

np = pytest.importorskip("numpy", reason="numpy makes rows")
load_file = pytest.importorskip("safetensors.numpy", reason="safetensors reads rows").load_file
save_file = pytest.importorskip("safetensors.numpy", reason="safetensors writes rows").save_file

FILES = ["sae_weights.safetensors", "stats.safetensors", "cfg.json", "facet.json"]


def same(a: Path, b: Path, names: list[str] = FILES) -> None:
    for name in names:
        assert (a / name).read_bytes() == (b / name).read_bytes(), name


def prompts(folder: Path, n: int) -> Path:
    need_demo()
    lines = PROMPTS.read_text().splitlines()
    (folder / "p.txt").write_text("\n".join((lines * (1 + n // len(lines)))[:n]) + "\n")
    return folder / "p.txt"


def test_model_instead_of_a_store(tmp_path: Path) -> None:
    """In the store's order the rows are the store's, so the weights are too; the mixing buffer is as good."""
    p = prompts(tmp_path, 200)
    good("capture", "--prompts", p, "--blocks", "up.0.1", "--store-dtype", "bf16", "-o", tmp_path / "store")
    more = ["--preset", "demo", "--steps", "40", "--batch-size", "256", "--order"]
    good("train", "--store", tmp_path / "store", *more, "sequential", "-o", tmp_path / "a")
    live = ["train", "--prompts", p, "--block", "up.0.1", "--store-dtype", "bf16", "--shuffle-memory", "1", *more]
    good(*live, "sequential", "-o", tmp_path / "b")
    same(tmp_path / "a", tmp_path / "b", FILES[:1])
    told = json.loads((tmp_path / "b" / "facet.json").read_text())
    assert told["data"]["prompts"] == 200 and told["block"] == "up.0.1" and told["model"] == "demo"
    held = result(*live, "shuffled", "--hold-out", "1000", "-o", tmp_path / "c")["held_out"]
    assert held["rows"] >= 1000 and held["ev"] > 0.3  # observed 0.63


def test_model_rows_survive_a_kill(tmp_path: Path) -> None:
    args = ["train", "--prompts", prompts(tmp_path, 600), "--block", "up.0.1", "--preset", "demo", "--steps", "130",
            "--batch-size", "256", "--checkpoint-every", "7", "--shuffle-memory", "1", "-o"]  # fmt: skip
    good(*args, tmp_path / "whole")
    part, folder = tmp_path / "part", tmp_path / "part.checkpoint"
    program = subprocess.Popen([facet(), *map(str, args), str(part)], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, env={**os.environ, "OMP_WAIT_POLICY": "passive"})  # fmt: skip
    while program.poll() is None and not any(folder.glob("*.safetensors")):
        time.sleep(0.005)
    program.send_signal(signal.SIGKILL)
    assert program.wait() == -signal.SIGKILL, "it was over before it could be killed"
    bad(*args, part, says="holds an interrupted training")
    good(*args, part, "--resume")
    same(tmp_path / "whole", part)


def test_stopped_while_rows_are_made(tmp_path: Path) -> None:
    """Ctrl-C finds the training waiting for the model, most of the time: what was learned is kept all the same."""
    args = ["train", "--prompts", prompts(tmp_path, 200), "--block", "up.0.1", "--preset", "demo", "--steps", "45",
            "--batch-size", "256", "--shuffle-memory", "1", "--log-every", "5"]  # fmt: skip
    part, log = tmp_path / "part", tmp_path / "t.jsonl"
    program = subprocess.Popen([facet(), *map(str, args), "--log", str(log), "-o", str(part)], stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, env={**os.environ, "OMP_WAIT_POLICY": "passive"})  # fmt: skip
    while program.poll() is None and not (log.exists() and len(log.read_text().splitlines()) > 2):
        time.sleep(0.005)
    program.send_signal(signal.SIGINT)
    said = program.communicate()[1]
    assert program.returncode == 130, "it was over before it could be stopped"
    assert b"--resume goes on from here" in said and list((tmp_path / "part.checkpoint").glob("*.safetensors"))
    done = good(*args, "--log", log, "-o", part, "--resume")
    assert b"continuing at step" in done.stderr
    good(*args, "-o", tmp_path / "whole")
    same(tmp_path / "whole", part)


def test_files_of_rows(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((4000, 24)).astype(np.float16)
    np.save(tmp_path / "rows.npy", rows)
    np.save(tmp_path / "wide.npy", rows.astype(np.float64))
    save_file({"acts": rows.astype(np.float32), "labels": np.zeros(3, np.float32)}, tmp_path / "rows.safetensors")
    more = ["--block", "mid.0", "--preset", "demo", "--steps", "30", "--batch-size", "256", "-o"]
    for name in ("rows.npy", "wide.npy", "rows.safetensors"):
        good("train", "--store", tmp_path / name, *more, tmp_path / f"sae-{name}")
        same(tmp_path / "sae-rows.npy", tmp_path / f"sae-{name}", FILES[:2])
    assert json.loads((tmp_path / "sae-rows.npy" / "facet.json").read_text())["block"] == "mid.0"
    before = (tmp_path / "sae-rows.npy" / "stats.safetensors").read_bytes()
    good("features", "stats", "--sae", tmp_path / "sae-rows.npy", "--store", tmp_path / "rows.npy")
    after = (tmp_path / "sae-rows.npy" / "stats.safetensors").read_bytes()
    assert len(before) == len(after)  # the same rows in another order: sums differ in the last digits


def test_rows_that_nothing_learns_from(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((4000, 24)).astype(np.float32)
    np.save(tmp_path / "good.npy", rows)
    more = ["--preset", "demo", "--steps", "30", "--batch-size", "256", "-o", tmp_path / "sae"]
    for value in (np.nan, np.inf):
        rows[3210, 5] = value
        np.save(tmp_path / "rows.npy", rows)
        bad("train", "--store", tmp_path / "rows.npy", *more, says="block rows, row 3210 holds a number that is not finite")
        assert not (tmp_path / "sae").exists()
    np.save(tmp_path / "none.npy", rows[:0])
    bad("train", "--store", tmp_path / "none.npy", *more, says="there are no rows in it")
    np.save(tmp_path / "flat.npy", rows.ravel())
    bad("train", "--store", tmp_path / "flat.npy", *more, says=["want rows [n,D]", "[96000]"])
    np.save(tmp_path / "whole.npy", rows[:9].astype(np.int64))
    bad("train", "--store", tmp_path / "whole.npy", *more, says="want rows in floating point, the file has i64")
    good("train", "--store", tmp_path / "good.npy", *more)
    np.save(tmp_path / "narrow.npy", np.zeros((4000, 23), np.float32))
    bad("features", "stats", "--sae", tmp_path / "sae", "--store", tmp_path / "narrow.npy",
        says="takes rows of 24 numbers, these have 23")  # fmt: skip
    shutil.rmtree(tmp_path / "sae")
    good("capture", "--import", tmp_path / "good.npy", "-o", tmp_path / "store")
    shard = tmp_path / "store/rows/00000.safetensors"
    shard.write_bytes(shard.read_bytes()[:100000])
    bad("train", "--store", tmp_path / "store", *more, says="cut short: it has 100000 bytes")
    shard.unlink()
    bad("train", "--store", tmp_path / "store", *more, says="00000.safetensors")
    (tmp_path / "store/store.json").rename(tmp_path / "store/progress.json")
    bad("train", "--store", tmp_path / "store", *more, says="not finished")
    assert not (tmp_path / "sae").exists()


def test_bad_rows_that_come_late(tmp_path: Path) -> None:
    """The last good checkpoint stays; with the rows mended --resume is refused, since they are other rows."""
    rows = np.random.default_rng(0).standard_normal((4000, 24)).astype(np.float32)
    train = ["train", "--store", "rows.npy", "--preset", "demo", "--batch-size", "100", "--steps", "35", "--order", "sequential",
             "--checkpoint-every", "10", "-o", "sae"]  # fmt: skip
    for value, says in ((np.nan, "block rows, row 3210 holds a number that is not finite"), (1e30, "the loss is not finite")):
        late = rows.copy()
        late[3210, 5] = value
        np.save(tmp_path / "rows.npy", late)
        bad(*train, cwd=tmp_path, says=says)
        assert {p.name for p in (tmp_path / "sae.checkpoint").iterdir()} == {f"checkpoint-{n:012}.safetensors" for n in (20, 30)}
        assert b"the last good checkpoint stays in sae.checkpoint" in run(*train, "--resume", cwd=tmp_path).stderr
        assert not (tmp_path / "sae").exists()
        shutil.rmtree(tmp_path / "sae.checkpoint")


def test_rows_that_are_all_the_same(tmp_path: Path) -> None:
    for value in (0, 2.3):
        np.save(tmp_path / "rows.npy", np.full((4000, 24), value, np.float32))
        bad("train", "--store", tmp_path / "rows.npy", "--preset", "demo", "--steps", "5", "--batch-size", "100",
            "-o", tmp_path / "sae", says="the 1000 calibration rows are all the same")  # fmt: skip
    np.save(tmp_path / "none.npy", np.zeros((0, 24), np.float32))
    bad("capture", "--import", tmp_path / "none.npy", "-o", tmp_path / "store", says="there are no rows in it")
    assert not (tmp_path / "store").exists() and not (tmp_path / "sae").exists()


def test_ways_to_say_it_wrongly(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a red circle\n")
    np.save(tmp_path / "rows.npy", np.zeros((10, 4), np.float32))
    out = ["-o", tmp_path / "sae"]
    p, rows = ["--prompts", tmp_path / "p.txt"], ["--store", tmp_path / "rows.npy"]
    bad("train", *p, *rows, *out, code=2, says="give one")
    bad("train", *out, code=2, says="--store STORE is missing")
    bad("train", *rows, "--limit", "3", *out, code=2, says="--limit goes with --prompts")
    bad("train", *p, "--tensor", "x", *out, code=2, says="--tensor goes with --store")
    bad("train", *p, *out, code=2, says="--block BLOCK is missing")


def test_archive_of_the_authors(tmp_path: Path) -> None:
    """WebDataset tars of torch pickles: the rows in the order prompt, step, y, x, against NumPy's own transposition."""
    torch = pytest.importorskip("torch", reason="torch pickles the samples")
    path = tmp_path / "unet.up_blocks.0.attentions.1.tar"
    rng = np.random.default_rng(0)
    samples = [rng.standard_normal((b, 2, 24, 4, 5)).astype(np.float16) for b in (3, 3, 1, 3)]
    for form in (tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        with tarfile.open(path, "w", format=form) as tar:
            for i, x in enumerate(samples):
                for kind, what in (("output", x * 0), ("diff", x)):
                    held = io.BytesIO()
                    torch.save(torch.from_numpy(what), held)
                    name = ("long/" * 30 if form != tarfile.USTAR_FORMAT else "") + f"sample_{i}.{kind}.pth"
                    info = tarfile.TarInfo(name)
                    info.size = held.tell()
                    held.seek(0)
                    tar.addfile(info, held)
                info = tarfile.TarInfo(f"sample_{i}.gen_args.json")
                info.size = 2
                tar.addfile(info, io.BytesIO(b"{}"))
        store = tmp_path / f"store-{form}"
        good("capture", "--import", path, "-o", store)
        rows = np.concatenate([x.transpose(0, 1, 3, 4, 2).reshape(-1, 24) for x in samples])
        got = load_file(store / "up.0.1" / "00000.safetensors")["rows"]
        assert got.dtype == np.float16 and (got == rows).all()
    more = ["--preset", "demo", "--steps", "20", "--batch-size", "128", "--k", "4", "--order", "sequential", "-o"]
    good("train", "--store", path, *more, tmp_path / "a")
    good("train", "--store", tmp_path / "store-0", *more, tmp_path / "b")
    same(tmp_path / "a", tmp_path / "b", FILES[:1])
    assert json.loads((tmp_path / "a" / "facet.json").read_text())["block"] == "up.0.1"
    bad("train", "--store", path, "--tensor", "image", *more, tmp_path / "c", says="no member is named *.image.pth")
    bad("train", "--store", path, "--block", "mid.0", *more, tmp_path / "c", says="is named for block up.0.1, not for mid.0")
    path.write_bytes(path.read_bytes()[:30000])
    bad("train", "--store", path, *more, tmp_path / "c", says="cut short")


def test_constant_columns_are_told(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((4000, 24)).astype(np.float32)
    rows[:, 3], rows[:, 17] = 2.5, 0
    np.save(tmp_path / "rows.npy", rows)
    done = good("train", "--store", tmp_path / "rows.npy", "--preset", "demo", "--steps", "40", "--batch-size", "256",
                "-o", tmp_path / "sae")  # fmt: skip
    assert b"2 of 24 columns are constant in the first 1000 rows" in done.stderr
    for t in load_file(tmp_path / "sae" / "sae_weights.safetensors").values():
        assert np.isfinite(t).all()


def test_sweep_on_a_model(tmp_path: Path) -> None:
    """Several blocks are made once; each SAE ends as it does on a store of the same rows, to the byte."""
    p = prompts(tmp_path, 128)  # 8 batches of 16 prompts, 64 rows a prompt
    good("capture", "--prompts", p, "--blocks", "up.0.1,down.2.1", "-o", tmp_path / "store")
    sweep = {"options": {"preset": "demo", "steps": 20, "batch-size": 256}, "grid": {"k": [4, 8]}}
    for blocks in (["up.0.1", "down.2.1"], ["down.2.1"]):
        (tmp_path / "sweep.json").write_text(json.dumps({**sweep, "blocks": blocks}))
        out = [tmp_path / f"{kind}-{len(blocks)}" for kind in ("live", "stored")]
        more = ["--order", "sequential", "--hold-out", "1024", "-o"]
        good("train", tmp_path / "sweep.json", "--prompts", p, *more, out[0])
        good("train", tmp_path / "sweep.json", "--store", tmp_path / "store", *more, out[1])
        for block in blocks:
            for k in (4, 8):
                same(out[0] / f"{block}_k{k}", out[1] / f"{block}_k{k}", FILES[:1])
        held = [[s["held_out"] for s in json.loads((o / "results.json").read_text())["saes"]] for o in out]
        assert held[0] == held[1]
    (tmp_path / "sweep.json").write_text(json.dumps({"blocks": ["up.0.1"], "configs": [{"k": 4, "prompts": "x"}]}))
    bad("train", tmp_path / "sweep.json", "--prompts", p, "-o", tmp_path / "no", says="is of the whole run")
