"""Several blocks in one training: a crosscoder, and one SAE for the rows of each; how both are used, measured and refused.

Run:  FACET=build/facet python -m pytest tests/python/test_blocks.py
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_util import PROMPTS, bad, good, need_demo, result

np = pytest.importorskip("numpy", reason="numpy compares tensors")
safetensors = pytest.importorskip("safetensors.numpy", reason="safetensors reads what facet writes")

OPTIONS = ["--preset", "demo", "--batch-size", "128", "--steps", "60", "--k", "4", "--hold-out", "320"]
BLOCKS = ["down.2.1", "up.0.1"]
SMALL = ["-W", "128", "-H", "128", "--dtype", "f32"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of three blocks of the demo model, two of one width and grid."""
    need_demo()
    folder = tmp_path_factory.mktemp("blocks")
    blocks = ",".join([*BLOCKS, "up.1.0"])
    good("capture", "--prompts", PROMPTS, "--limit", "80", "--blocks", blocks, *SMALL, "-o", "store", cwd=folder)
    train = ["train", "--store", "store", "--block", ",".join(BLOCKS), *OPTIONS]
    good(*train, "-o", "mixed", cwd=folder)
    good(*train, "--crosscoder", "-o", "cross", cwd=folder)
    return folder


def facet_json(folder: Path) -> dict:
    return json.loads((folder / "facet.json").read_text())


def test_mixed(place: Path) -> None:
    info = result("info", "mixed", cwd=place)["saes"]
    assert [s["block"] for s in info] == BLOCKS and all(s["has_stats"] for s in info)
    one, two = (safetensors.load_file(place / "mixed" / b / "sae_weights.safetensors") for b in BLOCKS)
    assert (one["W_dec"] == two["W_dec"]).all() and (one["W_enc"] == two["W_enc"]).all()
    assert (one["b_dec"] != two["b_dec"]).any()
    assert facet_json(place / "mixed/up.0.1")["same_features_in"] == ["down.2.1"]
    for block in BLOCKS:  # statistics are of the block's own rows
        said = safetensors.load_file(place / "mixed" / block / "stats.safetensors")
        good("features", "stats", "--sae", f"mixed/{block}", "--store", "store", "-o", f"again/{block}", cwd=place)
        again = safetensors.load_file(place / "again" / block / "stats.safetensors")
        assert np.abs(said["density"] - again["density"]).max() < 0.15  # those of training lack the held-out rows
        assert np.corrcoef(said["mean"], again["mean"])[0, 1] > 0.9


def test_crosscoder(place: Path) -> None:
    info = result("info", "cross", cwd=place)["saes"][0]
    assert info["blocks"] == BLOCKS and info["block"] is None
    weights = safetensors.load_file(place / "cross/sae_weights.safetensors")
    widths = [b["d"] for b in facet_json(place / "cross")["blocks"]]
    scale = [b["scale"] for b in facet_json(place / "cross")["blocks"]]
    assert weights["W_dec"].shape[1] == sum(widths)
    parts = np.split(weights["W_dec"].astype(np.float64), [widths[0]], axis=1)
    length = np.stack([np.linalg.norm(p, axis=1) * s for p, s in zip(parts, scale)], axis=1)
    share = safetensors.load_file(place / "cross/stats.safetensors")["block_share"]
    assert np.abs(share - length / length.sum(1, keepdims=True)).max() < 1e-6
    said = result("features", "stats", "--sae", "cross", "--store", "store", cwd=place)["blocks"]
    assert [s["block"] for s in said] == BLOCKS
    assert abs(said[0]["mean_share"] - share[:, 0].mean()) < 1e-5
    assert "explained variance" in (place / "cross/report.html").read_text()
    # codes of rows side by side are the sum of the blocks' products
    good("convert", "cross", "--block", "up.0.1", "--to", "saelens", "-o", "part", cwd=place)
    part = safetensors.load_file(place / "part/sae_weights.safetensors")
    assert (part["W_dec"] == weights["W_dec"][:, widths[0] :]).all()
    assert facet_json(place / "part")["part_of_crosscoder"] == BLOCKS
    assert "no word for a crosscoder" in bad("convert", "cross", "--to", "sparsify", "-o", "no", cwd=place)
    assert "a crosscoder of down.2.1, up.0.1, not of mid.0" in bad(
        "convert", "cross", "--block", "mid.0", "--to", "saelens", "-o", "no", cwd=place)  # fmt: skip
    assert "--output DIR" in bad(
        "features", "stats", "--sae", "cross", "--block", "up.0.1", "--store", "store", code=2, cwd=place)  # fmt: skip


@pytest.mark.parametrize("sae", ["mixed", "cross"])
def test_edits_of_both_blocks(place: Path, sae: str) -> None:
    picture = ["generate", "-p", "a red circle", *SMALL, "--sae", sae]
    folders = [place / sae] if sae == "cross" else [place / sae / b for b in BLOCKS]
    density = [safetensors.load_file(f / "stats.safetensors")["density"] for f in folders]
    feature = int(np.minimum.reduce(density).argmax())  # active in both
    edits = [f"{b}:{feature} +2" for b in BLOCKS]
    good(*picture, "-o", f"{sae}-plain.png", cwd=place)
    pixels = {(place / f"{sae}-plain.png").read_bytes()}
    for i, edit in enumerate(edits):
        good(*picture, "--edit", edit, "-o", f"{sae}-{i}.png", cwd=place)
        pixels.add((place / f"{sae}-{i}.png").read_bytes())
    assert len(pixels) == 3
    good("generate", "--recipe", f"{sae}-1.png", "-o", f"{sae}-again.png", cwd=place)
    assert (place / f"{sae}-again.png").read_bytes() == (place / f"{sae}-1.png").read_bytes()
    named = [*picture[:-2], *(f"--sae={b}={sae}" for b in BLOCKS)]
    good(*named, "--edit", edits[0], "-o", f"{sae}-named.png", cwd=place)
    looked = result("features", "look", f"{sae}-plain.png", "--sae", sae, cwd=place)
    assert set(looked["blocks"]) == set(BLOCKS)


def test_other_grid(place: Path) -> None:
    """A block of another width on a grid twice as fine: every fine cell with its coarse one."""
    train = ["train", "--store", "store", "--block", "down.2.1,up.1.0", *OPTIONS]
    said = result(*train, "--crosscoder", "-o", "grids", cwd=place)
    blocks = facet_json(place / "grids")["blocks"]
    assert [b["name"] for b in blocks] == ["down.2.1", "up.1.0"] and blocks[0]["d"] != blocks[1]["d"]
    assert said["held_out"]["rows"] == 320
    wrong = bad(*train, "-o", "no", cwd=place)
    assert f"down.2.1 has rows of {blocks[0]['d']} numbers, up.1.0 of {blocks[1]['d']}" in wrong
    assert not (place / "no").exists()


def test_no_store(place: Path) -> None:
    """Rows that the model makes are those of the store."""
    made = ["train", "--prompts", PROMPTS, "--limit", "80", *SMALL, "--block", ",".join(BLOCKS), *OPTIONS[:-2]]
    kept = ["train", "--store", "store", "--block", ",".join(BLOCKS), *OPTIONS[:-2]]
    for more in ([], ["--crosscoder"]):
        sequential = ["--order", "sequential", *more]
        name = f"made{len(more)}"
        good(*made, *sequential, "-o", name, cwd=place)
        good(*kept, *sequential, "-o", f"{name}-kept", cwd=place)
        for path in (place / name).rglob("sae_weights.safetensors"):
            other = place / f"{name}-kept" / path.relative_to(place / name)
            assert path.read_bytes() == other.read_bytes()


def test_sweep(place: Path) -> None:
    sweep = {"blocks": ["up.0.1", ",".join(BLOCKS)], "grid": {"k": [2, 4]}, "options": {"preset": "demo"}}
    (place / "sweep.json").write_text(json.dumps(sweep))
    for more, mixed in ([], True), (["--crosscoder"], False):
        out = f"saes{len(more)}"
        options = ["--store", "store", "--batch-size", "128", "--steps", "30", "--hold-out", "320", *more]
        said = result("train", "sweep.json", *options, "-o", out, cwd=place)
        names = {"up.0.1_k2", "up.0.1_k4", "down.2.1+up.0.1_k2", "down.2.1+up.0.1_k4"}
        assert {s["name"] for s in said["saes"]} == names
        assert (place / out / "down.2.1+up.0.1_k2/up.0.1/cfg.json").exists() == mixed
        assert (place / out / "down.2.1+up.0.1_k2/cfg.json").exists() == (not mixed)
        parts = next(s for s in said["saes"] if s["name"] == "down.2.1+up.0.1_k4")["parts"]
        assert [p["block"] for p in parts] == BLOCKS and all(0 < p["ev"] < 1 for p in parts)
        alone = ["train", "--store", "store", "--block", ",".join(BLOCKS), "--preset", "demo", "--k", "4"]
        good(*alone, *options[2:], "-o", f"alone{len(more)}", cwd=place)
        inner = "up.0.1" if mixed else "."
        for file in ("sae_weights.safetensors", "stats.safetensors", "facet.json"):
            one = (place / f"alone{len(more)}" / inner / file).read_bytes()
            assert one == (place / out / "down.2.1+up.0.1_k4" / inner / file).read_bytes(), file
        again = result("train", "sweep.json", *options, "--resume", "-o", out, cwd=place)
        assert again["finished"]


def layers(sae: Path) -> dict[str, np.ndarray]:
    import foreign

    return {key: np.asarray(value) for key, value in foreign.load_torch(sae / "ae.pt").items() if not isinstance(value, (int, str))}


def their_codes(t: dict[str, np.ndarray], rows: np.ndarray, batch: bool) -> np.ndarray:
    """dictionary_learning's CrossCoder and BatchTopKCrossCoder, from rows [n, layers, D]."""
    pre = np.einsum("nld,ldf->nf", rows.astype(np.float64), t["encoder.weight"].astype(np.float64)) + t["encoder.bias"]
    codes = np.maximum(pre, 0)
    if not batch:
        return codes
    norms = np.linalg.norm(t["decoder.weight"].astype(np.float64), axis=2)  # [layers, F]
    norm = {1: norms.sum(0), 2: np.sqrt((norms**2).sum(0)), 4: 1.0}[int(t["code_normalization_id"])]
    return codes * (codes * norm > float(t["threshold"]))


@pytest.mark.parametrize("arch", ["relu", "batchtopk"])
def test_dictionary_learning(place: Path, arch: str) -> None:
    """Its crosscoders: written as they are there, read with each of the norms that they compare by."""
    import foreign

    cwd = place
    train = ["train", "--store", "store", "--block", ",".join(BLOCKS), *OPTIONS[:6], "--arch", arch, "--crosscoder"]
    good(*train, "-o", f"cc-{arch}", cwd=cwd)
    good("convert", f"cc-{arch}", "--to", "dictionary-learning", "-o", f"dl-{arch}", cwd=cwd)
    trainer = json.loads((place / f"dl-{arch}/config.json").read_text())["trainer"]
    t = layers(place / f"dl-{arch}")
    n_layers, width, features = t["encoder.weight"].shape
    assert trainer["dict_class"] == ("CrossCoder" if arch == "relu" else "BatchTopKCrossCoder")
    assert (n_layers, trainer["num_layers"], trainer["activation_dim"], trainer["dict_size"]) == (2, 2, width, features)
    assert t["decoder.weight"].shape == (2, features, width) and t["decoder.bias"].shape == (2, width)
    assert np.isnan(t["activation_mean"]).all() and t["code_normalization_id"] == 4
    shards = [sorted((place / "store" / b).glob("*.safetensors"))[0] for b in BLOCKS]
    rows = np.stack([safetensors.load_file(s)["rows"][:300].astype(np.float32) for s in shards], axis=1)
    np.save(place / "beside.npy", rows.reshape(300, -1))

    def facet_codes(sae: str) -> tuple[np.ndarray, np.ndarray]:
        good("encode", "--sae", sae, "--in", "beside.npy", "--rebuild", "--out", "codes.safetensors", cwd=cwd)
        return foreign.codes_of(place / "codes.safetensors", 0, features)

    # the bias is folded into the encoder's, so equal within rounding
    ours, rebuilt = facet_codes(f"cc-{arch}")
    want = their_codes(t, rows, arch == "batchtopk")
    back = np.einsum("nf,lfd->nld", want, t["decoder.weight"].astype(np.float64)) + t["decoder.bias"]
    assert np.linalg.norm(ours - want) < 1e-5 * np.linalg.norm(want)  # observed 1e-6
    assert np.linalg.norm(rebuilt - back.reshape(300, -1)) < 1e-5 * np.linalg.norm(back)
    # read again: the same blocks, and to the byte the same file
    info = result("info", f"dl-{arch}", cwd=cwd)["saes"][0]
    assert info["blocks"] == BLOCKS
    good("convert", f"dl-{arch}", "--to", "dictionary-learning", "-o", f"dl2-{arch}", cwd=cwd)
    assert (place / f"dl-{arch}/ae.pt").read_bytes() == (place / f"dl2-{arch}/ae.pt").read_bytes()
    if arch == "relu":
        return
    # thresholds compared with normed codes, and names without facet.json
    for norm in (1, 2, 4):
        state = dict(t) | {"code_normalization_id": np.array(norm), "threshold": np.float32(float(t["threshold"]) * 0.7)}
        folder = place / f"norm-{norm}"
        foreign.put_json(folder, "config.json", {"trainer": trainer | {"submodule_name": "a,b"}, "buffer": {}})
        foreign.save_torch(folder / "ae.pt", {key: np.asarray(value) for key, value in state.items()})
        assert result("info", folder, cwd=cwd)["saes"][0]["blocks"] == ["a", "b"]
        want = their_codes(state, rows, True)
        ours, _ = facet_codes(f"norm-{norm}")
        assert ((ours > 0) == (want > 0)).mean() > 0.99999
        assert np.linalg.norm(ours - want) < 1e-5 * np.linalg.norm(want)
    state["code_normalization_id"] = np.array(5)
    foreign.save_torch(folder / "ae.pt", {key: np.asarray(value) for key, value in state.items()})
    assert "code_normalization_id 5 is not supported" in bad("info", folder, cwd=cwd)
    state |= {"code_normalization_id": np.array(4), "activation_mean": np.zeros((2, width), np.float32)}
    foreign.save_torch(folder / "ae.pt", {key: np.asarray(value) for key, value in state.items()})
    assert "activation_mean" in bad("info", folder, cwd=cwd)
    del state["decoder.bias"]
    foreign.save_torch(folder / "ae.pt", {key: np.asarray(value) for key, value in state.items()})
    assert "no tensor decoder.bias" in bad("info", folder, cwd=cwd)


def test_dictionary_learning_cannot(place: Path) -> None:
    no = ["--to", "dictionary-learning", "-o", "no"]
    assert "standard and batchtopk, this one is topk" in bad("convert", "cross", *no, cwd=place)
    store = ["train", "--store", "store", "--block", "down.2.1,up.1.0", *OPTIONS[:6], "--crosscoder", "--arch", "relu"]
    good(*store, "-o", "unlike", cwd=place)
    assert "layers of one width" in bad("convert", "unlike", *no, cwd=place)


def test_refused(place: Path) -> None:
    train = ["train", "--store", "store", *OPTIONS, "-o", "no"]
    assert "--crosscoder is of several blocks" in bad(*train, "--block", "up.0.1", "--crosscoder", code=2, cwd=place)
    assert "named twice" in bad(*train, "--block", "up.0.1,up.0.1", cwd=place)
    assert "no block mid.9" in bad(*train, "--block", "up.0.1,mid.9", cwd=place)
    several = [*train, "--block", ",".join(BLOCKS)]
    assert "--batch-size 98" in bad(*several, "--batch-size", "99", cwd=place)
    assert "starts from scratch" in bad(*several, "--crosscoder", "--init-from", "mixed/up.0.1", cwd=place)
    assert "is a crosscoder" in bad(*train, "--block", "up.0.1", "--init-from", "cross", cwd=place)
    assert not (place / "no").exists()
