"""facet capture and features stats by several ranks: the same store, to the byte, also after kills and with other numbers."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from cli_util import PROMPTS, good, need_demo
from ranks_util import ENV, bad_ranks, end_of, good_ranks, need_killing, need_ranks, start
from safetensors.numpy import load_file

# every step is kept and shards are small, so that a few prompts fill several
WORDS = ["capture", "--prompts", PROMPTS, "--limit", "160", "--blocks", "down.1.0,down.1.1", "--batch", "4", "-W", "64", "-H", "64",
         "--steps", "20", "--store-dtype", "f32", "--shard-size", "1"]  # fmt: skip


def digest(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_ranks()
    need_demo()
    folder = tmp_path_factory.mktemp("whole")
    good(*WORDS, "-o", "store", cwd=folder, env=ENV)
    assert len(list((folder / "store" / "down.1.0").iterdir())) >= 5, "too few shards to share"
    return folder / "store"


@pytest.mark.parametrize("n", [2, 4])
def test_same_store(whole: Path, tmp_path: Path, n: int) -> None:
    good_ranks(n, *WORDS, "-o", "store", cwd=tmp_path)
    assert digest(tmp_path / "store") == digest(whole)
    again = good_ranks(n, *WORDS, "-o", "store", cwd=tmp_path)
    assert b"complete already" in again.stderr


@pytest.mark.parametrize("who", ["all", 1])
def test_killed_and_continued(whole: Path, tmp_path: Path, who: str | int) -> None:
    """3 ranks are killed (or lose one) after the first round; 2 go on, are killed; one process ends it: the same bytes."""

    def kill(n: int, shards: int) -> str:
        process = start(n, *WORDS, "-o", "store", cwd=tmp_path)
        until, pids = time.monotonic() + 120, []
        while len(list(tmp_path.glob("store/down.1.0/*.safetensors"))) < shards or len(pids) < n:
            assert process.poll() is None and time.monotonic() < until, process.communicate()[1].decode()[-2000:]
            pids = sorted(map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()))
            time.sleep(0.001)
        for pid in [*pids, process.pid] if who == "all" else [pids[int(who)]]:
            os.kill(pid, signal.SIGKILL)
        text = end_of(process, 60)[1].decode()
        assert process.returncode != 0 and not (tmp_path / "store/store.json").exists(), text
        return text

    text = kill(3, 1)
    if who != "all":
        assert f"facet: capture: rank {who} (process " in text, text
    kill(2, 4)
    said = good(*WORDS, "-o", "store", cwd=tmp_path, env=ENV).stderr
    assert b"continuing at prompt" in said
    assert digest(tmp_path / "store") == digest(whole)


def test_refused(tmp_path: Path) -> None:
    need_killing()
    np.save(tmp_path / "rows.npy", np.zeros((8, 4), np.float32))
    bad_ranks(2, "capture", "--import", "rows.npy", "-o", "store", cwd=tmp_path, says="--import runs in one process")
    bad_ranks(2, "capture", "--prompts", "-", "-o", "store", cwd=tmp_path, says="standard input reaches one rank only")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("extra", [[], ["--max-rows", "1001"]])
def test_statistics(tmp_path: Path, extra: list[str]) -> None:
    """What 1, 2 and 4 ranks count is the same; sums differ by rounding."""
    need_ranks()
    rng = np.random.default_rng(3)
    np.save(tmp_path / "rows.npy", rng.standard_normal((5003, 24)).astype(np.float32))
    good("train", "--store", "rows.npy", "--preset", "demo", "--k", "3", "--steps", "20", "--batch-size", "64", "-o", "sae", cwd=tmp_path)
    seen = []
    for n in (0, 1, 2, 4):
        shutil.copytree(tmp_path / "sae", tmp_path / f"sae{n}")
        (tmp_path / f"sae{n}" / "stats.safetensors").unlink()
        good_ranks(n, "features", "stats", "--sae", f"sae{n}", "--store", "rows.npy", *extra, cwd=tmp_path)
        seen.append(load_file(tmp_path / f"sae{n}" / "stats.safetensors"))
    for other in seen[1:]:
        assert np.array_equal(other["density"], seen[0]["density"]) and np.array_equal(other["max"], seen[0]["max"])
        for name in ("mean", "std"):
            np.testing.assert_allclose(other[name], seen[0][name], rtol=1e-5, atol=1e-7)
    assert seen[0]["density"].sum() == pytest.approx(3, rel=0.01)
