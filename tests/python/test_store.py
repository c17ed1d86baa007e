"""Stores and SAEs on disk, from outside: kill -9 in capture and training, torch and safetensors as readers, diffusers as a second
maker of stores.

Run:  FACET=build/facet FACET_BUILD=build python -m pytest tests/python/test_store.py
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_util import PROMPTS, ROOT, facet, good, need_demo

np = pytest.importorskip("numpy", reason="numpy compares tensors")
load_file = pytest.importorskip(
    "safetensors.numpy", reason="reads safetensors"
).load_file

BUILD = Path(os.environ.get("FACET_BUILD") or ROOT / "build")


def digest(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def kill_when(args: list[str | Path], ready, limit: float = 120) -> bool:
    """Starts facet and kills it as soon as ready() holds; False when it was done before that."""
    done = time.monotonic() + limit
    with subprocess.Popen(
        [facet(), *map(str, args)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while process.poll() is None and not ready() and time.monotonic() < done:
            time.sleep(0.01)
        if process.poll() is not None:
            return False
        process.send_signal(signal.SIGKILL)
        process.wait()
    return True


def capture_args(store: Path) -> list[str | Path]:
    """f32 at batch 4 with every block: shards of a few hundred prompts; 700 prompts make two of them."""
    return ["capture", "--prompts", PROMPTS, "--blocks", "down.2.1,up.0.1", "--batch", "8", "-W", "64", "-H", "64",
            "--store-dtype", "f32", "-o", store]  # fmt: skip


def test_capture_survives_a_kill(tmp_path: Path) -> None:
    need_demo()
    whole, part = tmp_path / "whole", tmp_path / "part"
    begun = time.monotonic()
    good(*capture_args(whole))
    took = time.monotonic() - begun
    for share in (0.6, 0.4, 0.2, 0.1):  # of the time that the whole one took: machines are noisy
        started = time.monotonic()
        killed = kill_when(
            capture_args(part), lambda: time.monotonic() > started + share * took
        )
        if killed:
            break
        shutil.rmtree(part)
    assert killed, "the capture was over before it could be killed"
    assert not (part / "store.json").exists()
    good(*capture_args(part))
    assert digest(whole) == digest(part)


def test_training_survives_a_kill(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((20000, 48)).astype(np.float32) @ rng.standard_normal(
        (48, 48)
    ).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    good("capture", "--import", tmp_path / "rows.npy", "-o", tmp_path / "store")

    def args(name: str) -> list[str | Path]:
        return ["train", "--store", tmp_path / "store", "--preset", "demo", "--steps", "600", "--batch-size", "512",
                "--checkpoint-every", "20", "-o", tmp_path / name]  # fmt: skip

    folder = tmp_path / "part.checkpoint"
    good(*args("whole"))
    assert kill_when(args("part"), lambda: any(folder.glob("checkpoint-*.safetensors"))), (
        "the training was over before it could be killed"
    )
    assert not (tmp_path / "part").exists()
    good(*args("part"), "--resume")
    for name in (
        "sae_weights.safetensors",
        "stats.safetensors",
        "cfg.json",
        "facet.json",
    ):
        assert (tmp_path / "whole" / name).read_bytes() == (
            tmp_path / "part" / name
        ).read_bytes(), name
    assert not folder.exists()


def test_sae_folder_is_saelens(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((4096, 16)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    good(
        "capture",
        "--import",
        tmp_path / "rows.npy",
        "--block",
        "mid.0",
        "-o",
        tmp_path / "store",
    )
    sae = tmp_path / "sae"
    good(
        "train",
        "--store",
        tmp_path / "store",
        "--preset",
        "demo",
        "--expansion-factor",
        "4",
        "--k",
        "4",
        "--batch-size",
        "256",
        "--steps",
        "30",
        "-o",
        sae,
    )
    cfg = json.loads((sae / "cfg.json").read_text())
    assert (cfg["architecture"], cfg["d_in"], cfg["d_sae"], cfg["k"]) == (
        "topk",
        16,
        64,
        4,
    )
    assert (cfg["dtype"], cfg["device"], cfg["apply_b_dec_to_input"]) == (
        "float32",
        "cpu",
        True,
    )
    assert (cfg["normalize_activations"], cfg["reshape_activations"]) == (
        "none",
        "none",
    )
    assert cfg["rescale_acts_by_decoder_norm"] is False
    assert cfg["metadata"]["hook_name"] == "unet.mid_block.attentions.0"
    w = load_file(sae / "sae_weights.safetensors")
    assert {k: v.shape for k, v in w.items()} == {
        "W_enc": (16, 64),
        "b_enc": (64,),
        "W_dec": (64, 16),
        "b_dec": (16,),
    }
    good(
        "encode",
        "--sae",
        sae,
        "--in",
        tmp_path / "rows.npy",
        "--out",
        tmp_path / "codes.safetensors",
    )
    codes = load_file(tmp_path / "codes.safetensors")
    assert codes["indices"].dtype == np.int32 and codes["indices"].shape == (4096, 4)
    pre = np.maximum((rows - w["b_dec"]) @ w["W_enc"] + w["b_enc"], 0)
    want = -np.sort(-pre, axis=1)[:, :4]
    assert np.abs(codes["values"] - want).max() < 1e-4
    assert (
        np.abs(
            np.take_along_axis(pre, codes["indices"].astype(np.int64), 1)
            - codes["values"]
        ).max()
        < 1e-4
    )
    assert all(len(set(row)) == 4 for row in codes["indices"].tolist())
    stats = load_file(sae / "stats.safetensors")
    assert {k: v.shape for k, v in stats.items()} == {
        k: (64,) for k in ("density", "mean", "std", "max")
    }


def test_authors_layout(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch reads its own files")
    subprocess.run([BUILD / "tests" / "test_sae", tmp_path], check=True)
    file = torch.load(tmp_path / "authors" / "state_dict.pth", weights_only=True)
    state = file["state_dict"]
    names = [
        "pre_bias",
        "latent_bias",
        "stats_last_nonzero",
        "encoder.weight",
        "decoder.weight",
    ]
    assert list(file) == ["state_dict"] and list(state) == names
    assert state["decoder.weight"].stride() == (1, 6) and state[
        "decoder.weight"
    ].shape == (6, 10)
    assert state["stats_last_nonzero"].dtype == torch.int64
    lens = load_file(tmp_path / "saelens" / "sae_weights.safetensors")
    for ours, theirs in (("W_enc", "encoder.weight"), ("W_dec", "decoder.weight")):
        assert (lens[ours] == state[theirs].numpy().T).all()
    assert (lens["b_dec"] == state["pre_bias"].numpy()).all()
    mean = torch.load(tmp_path / "authors" / "mean.pt", weights_only=True)
    assert mean.shape == (10,) and mean.dtype == torch.float32
    config = json.loads((tmp_path / "authors" / "config.json").read_text())
    assert config == {
        "n_dirs_local": 10,
        "d_model": 6,
        "k": 3,
        "auxk": 10,  # 256, but no more than features: their forward would fail
        "dead_steps_threshold": 2441,
    }


def test_store_of_diffusers_is_the_same(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch and diffusers make the other store")
    pytest.importorskip("diffusers", reason="torch and diffusers make the other store")
    twin = tmp_path / "twin"
    subprocess.run(
        [BUILD / "tests" / "twin", ROOT / "tests/golden/twin/a.json", twin], check=True
    )
    (tmp_path / "p.txt").write_text(
        "a red circle above the sea\ntwo blue stars\n\nthe cat's picture\n"
    )
    options = ["-m", twin, "--prompts", tmp_path / "p.txt", "--blocks", "down.2.1,up.0.*", "--steps", "3", "--at-steps", "1,3",
               "--guidance", "4", "-n", "a hat", "--branch", "both", "--seed", "5", "--batch", "2", "-W", "96", "-H", "72",
               "--dtype", "f32", "--store-dtype", "f32"]  # fmt: skip
    for what in ("delta", "in", "out"):
        ours, theirs = tmp_path / f"ours-{what}", tmp_path / f"theirs-{what}"
        good("capture", *options, "--what", what, "-o", ours)
        tool = [
            sys.executable,
            ROOT / "tools/store_from_diffusers.py",
            *options,
            "--what",
            what,
            "-o",
            theirs,
        ]
        subprocess.run(list(map(str, tool)), check=True, stdout=subprocess.DEVNULL)
        a, b = (json.loads((s / "store.json").read_text()) for s in (ours, theirs))
        assert a["prompts"] == b["prompts"] and len(a["blocks"]) >= 2
        for x, y in zip(a["blocks"], b["blocks"], strict=True):
            assert {k: v for k, v in x.items() if k != "shards"} == {
                k: v for k, v in y.items() if k != "shards"
            }
            one, two = (
                [load_file(s / x["name"] / f["file"]) for f in block["shards"]]
                for s, block in ((ours, x), (theirs, y))
            )
            for key in ("prompt", "step", "branch", "yx"):
                left, right = (
                    np.concatenate([t[key] for t in side]) for side in (one, two)
                )
                assert left.dtype == right.dtype and (left == right).all(), key
            left, right = (
                np.concatenate([t["rows"] for t in side]) for side in (one, two)
            )
            off = np.linalg.norm(left - right) / np.linalg.norm(right)
            print(what, x["name"], left.shape, f"{off:.2g}")
            assert off < 1e-4, (what, x["name"], off)
        good("info", theirs)


def test_rows_in_eight_bits(tmp_path: Path) -> None:
    """Against NumPy on the f32 rows of the same capture: each number within half a step of its row, the error as told."""
    (tmp_path / "p.txt").write_text("a red circle\ntwo blue stars\n")
    stores = {}
    for kind in ("f32", "i8", "f16"):
        stores[kind] = tmp_path / kind
        said = good("capture", "--prompts", tmp_path / "p.txt", "--blocks", "up.0.1", "--store-dtype", kind,
                    "-o", stores[kind])  # fmt: skip
        assert b"relative rounding error" in said.stdout
    exact = load_file(stores["f32"] / "up.0.1/00000.safetensors")["rows"].astype("f8")
    for kind, bound in (("i8", 0.02), ("f16", 4e-4)):
        shard = load_file(stores[kind] / "up.0.1/00000.safetensors")
        rows = shard["rows"].astype("f8")
        if kind == "i8":
            step = np.abs(exact).max(1) / 127
            assert np.allclose(shard["scale"], step, rtol=1e-6, atol=0)
            rows *= shard["scale"][:, None]
            assert (np.abs(rows - exact) <= step[:, None] * 0.50001).all()
        error = np.linalg.norm(rows - exact) / np.linalg.norm(exact)
        told = json.loads((stores[kind] / "store.json").read_text())["blocks"][0]["rounding_error"]
        assert abs(told / error - 1) < 1e-6 and error < bound, (kind, told, error)
    assert json.loads((stores["f32"] / "store.json").read_text())["blocks"][0]["rounding_error"] == 0
