"""SAEs that `facet train` makes on rows of the demo model, of every architecture, through sae-lens: the same codes and rows.

Run:  FACET=build/facet python -m pytest -s tests/python/test_trained.py        (-s prints what was observed)

sae-lens loads each folder with its own loader, and encodes and decodes the rows that the SAE was not trained on. Codes are sums of
as many products as a row has numbers, in an order that torch and oneDNN do not share, so an activation may fall on either side of a
threshold or of the k-th place: at most one in 100,000 active ones may (observed: none), all others must agree.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_util import PROMPTS, good, need_demo

np = pytest.importorskip("numpy", reason="numpy compares tensors")
pytest.importorskip("torch", reason="needs torch and sae-lens")
pytest.importorskip("sae_lens", reason="needs torch and sae-lens")

BLOCKS = ["down.2.1", "up.0.1"]
BASIC = ["--preset", "demo", "--batch-size", "256", "--steps", "150"]
ROWS = 1600
BOUND = 2e-6  # relative L2; observed at most 3e-7

CASES = {
    "topk": [],
    "topk-plain": ["--engine", "plain", "--untied", "--ema", "0.9", "--decoder-norm", "free"],
    "topk-mean-norm": ["--normalize", "mean-norm"],
    "batchtopk": ["--arch", "batchtopk"],
    "matryoshka": ["--arch", "matryoshka"],
    "jumprelu": ["--arch", "jumprelu", "--init-threshold", "0.05", "--bandwidth", "0.05", "--normalize", "norm"],
    "relu": ["--arch", "relu"],
    "gated": ["--arch", "gated", "--normalize", "norm"],
    "modern": ["--preset", "modern", "--n-features", "256"],
}
KINDS = {"topk": "topk", "batchtopk": "jumprelu", "matryoshka": "jumprelu", "jumprelu": "jumprelu", "relu": "standard",
         "gated": "gated", "modern": "jumprelu"}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of the demo model's rows, and the last of them as files."""
    from safetensors.numpy import load_file

    need_demo()
    folder = tmp_path_factory.mktemp("trained")
    size = ["-W", "128", "-H", "128", "--dtype", "f32"]
    good("capture", "--prompts", PROMPTS, "--limit", "600", "--blocks", ",".join(BLOCKS), *size, "-o", "store", cwd=folder)
    last = []
    for block in BLOCKS:
        shards = sorted((folder / "store" / block).glob("*.safetensors"))
        rows = np.concatenate([load_file(s)["rows"] for s in shards])[-ROWS:].astype(np.float32)
        np.save(folder / f"{block}.npy", rows)
        last.append(rows)
    np.save(folder / "both.npy", np.concatenate(last, axis=1))
    return folder


def ours(place: Path, sae: str, rows: str) -> tuple[np.ndarray, np.ndarray]:
    """Dense codes and reconstruction by facet."""
    from safetensors.numpy import load_file

    good("encode", "--sae", sae, "--in", f"{rows}.npy", "--rebuild", "--out", "codes.safetensors", cwd=place)
    got = load_file(place / "codes.safetensors")
    features = json.loads((place / sae / "cfg.json").read_text())["d_sae"]
    codes = np.zeros((ROWS, features), np.float32)
    if "row_offsets" in got:
        row = np.repeat(np.arange(ROWS), np.diff(got["row_offsets"]))
        codes[row, got["indices"]] = got["values"]
    else:
        np.put_along_axis(codes, got["indices"], got["values"], axis=1)
    return codes, got["rebuilt"]


def check(place: Path, sae: str, rows: str, kind: str) -> None:
    import torch
    from sae_lens.saes import SAE

    theirs = SAE.load_from_disk(place / sae)
    assert theirs.cfg.architecture() == kind
    x = torch.from_numpy(np.load(place / f"{rows}.npy"))
    with torch.no_grad():
        want = theirs.encode(x)
        want_rows = theirs.decode(want).numpy()
    want = want.numpy()
    codes, rebuilt = ours(place, sae, rows)
    sides = (codes > 0) != (want > 0)
    active = int((want > 0).sum())
    assert active > ROWS, "codes are all but empty: nothing was compared"
    assert sides.sum() <= active / 100_000
    same = ~sides.any(axis=1)
    off = [float(np.linalg.norm(a[same] - b[same]) / np.linalg.norm(b[same])) for a, b in ((codes, want), (rebuilt, want_rows))]
    print(f"{sae}: {active} active, {int(sides.sum())} on another side, codes {off[0]:.1g}, rows {off[1]:.1g}")
    assert max(off) < BOUND


@pytest.mark.parametrize("name", CASES)
def test_variant(place: Path, name: str) -> None:
    good("train", "--store", "store", "--block", "up.0.1", *BASIC, *CASES[name], "-o", name, cwd=place)
    check(place, name, "up.0.1", KINDS[name.split("-")[0]])


@pytest.mark.parametrize("arch", ["topk", "batchtopk"])
def test_crosscoder(place: Path, arch: str) -> None:
    """For sae-lens it is one SAE of rows side by side."""
    name = f"cross-{arch}"
    good("train", "--store", "store", "--block", ",".join(BLOCKS), "--crosscoder", "--arch", arch, *BASIC, "-o", name, cwd=place)
    check(place, name, "both", KINDS[arch])
    good("convert", name, "--block", "up.0.1", "--to", "saelens", "-o", f"{name}-part", cwd=place)
    check(place, f"{name}-part", "up.0.1", KINDS[arch])


def test_mixed(place: Path) -> None:
    good("train", "--store", "store", "--block", ",".join(BLOCKS), *BASIC, "-o", "mixed", cwd=place)
    for block in BLOCKS:
        check(place, f"mixed/{block}", block, "topk")
