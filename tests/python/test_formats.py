"""What facet writes, read by the libraries that own the formats: safetensors, Pillow, torch. And SAEs of other programs,
made with numpy: facet's codes and reconstructions against their formulas, and from layout to layout.

Run:  FACET_BUILD=build python -m pytest tests/python/test_formats.py
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import zlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_util import bad, good, result

np = pytest.importorskip("numpy", reason="numpy compares tensors")
pytest.importorskip("safetensors", reason="safetensors reads what facet writes")
import foreign

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("FACET_BUILD") or ROOT / "build")


def made_by(program: str, path: Path) -> Path:
    """The sample file that a C test writes when it is given a name."""
    subprocess.run([BUILD / "tests" / program, path], check=True)
    return path


def test_safetensors(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors", reason="reads safetensors")
    from safetensors.numpy import load_file

    path = made_by("test_tensor_safetensors", tmp_path / "x.safetensors")
    got = load_file(path)
    assert set(got) == {"z.bytes", "a.mätrix", "empty", "scalar"}
    assert got["a.mätrix"].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert got["z.bytes"].tolist() == [7, 8, 9]
    assert got["empty"].shape == (0, 4) and got["empty"].dtype == np.float16
    assert got["scalar"].shape == () and got["scalar"].dtype == np.float64
    with safetensors.safe_open(path, "np") as file:
        assert file.metadata() == {"format": "pt", "made_by": "facet"}


def test_png(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow reads pictures")
    with image.open(made_by("test_tensor_image", tmp_path / "x.png")) as picture:
        texts = dict(picture.text)
        pixels = np.asarray(picture)
    want = (np.arange(9 * 7 * 3) * 3 % 256).astype(np.uint8).reshape(7, 9, 3)
    assert (pixels == want).all()
    assert texts == {"parameters": "a café\nSteps: 1", "facet": '{"prompt": "猫"}'}


def test_png_text_that_is_not_utf8(tmp_path: Path) -> None:
    """An iTXt chunk in Latin-1, as some programs write it: --json must still be JSON."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    path = tmp_path / "latin.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
        + chunk(b"iTXt", b"parameters\0\0\0\0\0a caf\xe9")
        + chunk(b"IDAT", zlib.compress(b"\0\0"))
        + chunk(b"IEND", b"")
    )
    assert result("info", path)["parameters"] == "a café"


def test_torch_file(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch reads its own files")
    path = made_by("test_tensor_pth", tmp_path / "x.pth")
    for options in ({}, {"mmap": True}):
        got = torch.load(path, weights_only=True, **options)["state_dict"]
        assert list(got) == ["decoder.weight", "stats_last_nonzero", "half", "empty", "scalar"]
        assert got["decoder.weight"].tolist() == [[0.5, 2.5, 4.5], [1.5, 3.5, 5.5]]
        assert got["decoder.weight"].stride() == (1, 2)
        assert got["stats_last_nonzero"].tolist() == [-3]
        assert got["half"].dtype == torch.float16 and got["half"].shape == (4, 1)
        assert got["empty"].shape == (0, 5) and got["scalar"].item() == 0.5


# ---- SAEs of other programs ----

LAYOUTS = ["saelens", "sdxl-unbox", "dictionary-learning", "sparsify", "openai"]
Case = tuple[str, str, bool, Callable[[Path, foreign.Weights], None], dict[str, Any], str]


def case(name: str, layout: str, grid: bool, write: Callable[..., None], *words: Any, into: str, more: Any = None,
         **formula: Any) -> Any:  # fmt: skip
    """into: y or n for each of LAYOUTS: whether it can hold this SAE; f: yes, with decoder norms folded in."""
    return pytest.param(layout, grid, lambda d, w: write(d, w, *words, **(more or {})), formula, into, id=name)


def lens(name: str, grid: bool, architecture: str, into: str, more: Any = None, **formula: Any) -> Any:
    return case(f"saelens-{name}", "saelens", grid, foreign.saelens, architecture, into=into, more=more, **formula)


def learn(dict_class: str, grid: bool, into: str, **formula: Any) -> Any:
    name = f"dictionary-learning-{dict_class}{'' if grid else '-free'}"
    return case(name, "dictionary-learning", grid, foreign.dictionary_learning, dict_class, into=into, **formula)


RAW = {"apply_b_dec_to_input": False}
CASES = [
    lens("standard", True, "standard", "ynyny", kind="relu"),  # directions of length 1: dictionary-learning can
    lens("standard-free", False, "standard", "ynnny", kind="relu"),
    lens("standard-raw", True, "standard", "ynynn", RAW, kind="relu", subtract=False),
    lens("topk", True, "topk", "yyyyn", kind="topk"),
    lens("topk-raw", True, "topk", "ynnnn", RAW, kind="topk", subtract=False),
    lens("topk-layer-norm", False, "topk", "ynnny", {"normalize_activations": "layer_norm"}, kind="topk",
         normalize="layer_norm"),
    lens("topk-length", False, "topk", "ynnnn", {"normalize_activations": "constant_norm_rescale"}, kind="topk",
         normalize="constant_norm_rescale"),
    lens("topk-rescaled", False, "topk", "yfffn", {"rescale_acts_by_decoder_norm": True}, kind="topk", norms="yes"),
    lens("jumprelu", True, "jumprelu", "ynnnn", kind="jumprelu"),
    lens("jumprelu-raw", True, "jumprelu", "ynynn", RAW, kind="jumprelu", subtract=False),
    lens("gated", True, "gated", "ynynn", kind="gated"),
    lens("gated-free", False, "gated", "ynynn", kind="gated"),
    lens("batchtopk", True, "batchtopk", "ynynn", kind="jumprelu", threshold=0),
    lens("matryoshka", True, "matryoshka_batchtopk", "ynynn", kind="jumprelu", threshold=0),
    case("sdxl-unbox", "sdxl-unbox", True, foreign.sdxl_unbox, into="yyyyn", kind="topk"),
    learn("AutoEncoderTopK", True, "yyyyn", kind="topk"),
    learn("BatchTopKSAE", True, "ynynn", kind="jumprelu", threshold=0),
    learn("MatryoshkaBatchTopKSAE", True, "ynynn", kind="jumprelu", threshold=0),
    learn("AutoEncoder", True, "ynyny", kind="relu"),
    learn("AutoEncoder", False, "fnynf", kind="relu", norms="yes"),
    learn("AutoEncoderNew", True, "ynynn", kind="relu", subtract=False),
    learn("GatedAutoEncoder", True, "ynynn", kind="gated"),
    learn("JumpReluAutoEncoder", True, "ynynn", kind="jumprelu", subtract=False),
    case("sparsify", "sparsify", True, foreign.sparsify, into="yyyyn", kind="topk"),
    case("openai-topk", "openai", False, foreign.openai, "TopK", into="ynnny", kind="topk", normalize="layer_norm"),
    case("openai-relu", "openai", True, foreign.openai, "ReLU", into="ynyny", kind="relu"),
]  # fmt: skip


def encoded(folder: Path, sae: str | Path) -> tuple[Any, Any]:
    good("encode", "--sae", sae, "--in", "rows.npy", "--rebuild", "--out", "codes.safetensors", cwd=folder)
    return foreign.codes_of(folder / "codes.safetensors", foreign.K, foreign.F)


def near(got: Any, want: Any, what: str) -> None:
    off = np.linalg.norm(got - want) / np.linalg.norm(want)
    assert off < 1e-6, f"{what}: {off:.2g}"  # observed at most 2e-7: f32 products of 16 numbers


@pytest.mark.parametrize(("layout", "grid", "write", "formula", "into"), CASES)
def test_foreign_saes(tmp_path: Path, layout: str, grid: bool, write: Any, formula: dict[str, Any], into: str) -> None:
    w, rows = foreign.draw(7, grid)
    if "threshold" in formula:  # one for all features
        formula = {**formula, "threshold": w.threshold[0]}
    np.save(tmp_path / "rows.npy", rows)
    write(tmp_path / "sae", w)
    codes, rebuilt = encoded(tmp_path, "sae")
    want, want_rows = foreign.forward(w, rows, **formula)
    assert ((want > 0) == (codes > 0)).all() and 2 < (want > 0).sum(1).mean() < 30
    if grid:
        assert (codes == want).all() and (rebuilt == want_rows).all()
    near(codes, want, "codes")
    near(rebuilt, want_rows, "reconstruction")
    for to, says in zip(LAYOUTS, into, strict=True):
        words = ["convert", "sae", "--to", to, "-o", to]
        if says == "n":
            can = [name for name, yes in zip(LAYOUTS, into, strict=True) if yes != "n"]
            bad(*words, cwd=tmp_path, says=f"; layouts that can hold it: {', '.join(can)}")
            assert not (tmp_path / to).exists()
            continue
        good(*words, cwd=tmp_path)
        again, again_rows = encoded(tmp_path, to)
        if says == "y":
            assert (again == codes).all() and (again_rows == rebuilt).all()
        near(again, codes, to)
        near(again_rows, rebuilt, to)
        if to == "sdxl-unbox":  # their forward takes the auxk largest of F, dead or not
            assert json.loads((tmp_path / to / "config.json").read_text())["auxk"] == foreign.F
        if to != layout:
            continue
        theirs, ours = foreign.tensors_of(tmp_path / "sae"), foreign.tensors_of(tmp_path / to)
        if "topk_threshold" in theirs:  # saved as jumprelu, as SAELens does
            theirs["threshold"] = np.full(foreign.F, theirs.pop("topk_threshold"), np.float32)
        theirs.pop("stats_last_nonzero", None)  # of training
        ours.pop("stats_last_nonzero", None)
        assert set(theirs) == set(ours)
        for name, t in theirs.items():
            assert t.dtype == ours[name].dtype and t.shape == ours[name].shape and (t == ours[name]).all(), name


def test_old_and_scaled_saelens(tmp_path: Path) -> None:
    """Folders of older versions, the logarithm of a threshold, rows that were scaled by one number in training."""
    w, rows = foreign.draw(8, True)
    np.save(tmp_path / "rows.npy", rows)
    foreign.saelens(tmp_path / "old", w, "standard", activation_fn_str="topk", activation_fn_kwargs={"k": foreign.K},
                    metadata=None, hook_name="unet.mid_block.attentions.0", normalize_activations=False)  # fmt: skip
    codes, rebuilt = encoded(tmp_path, "old")
    want, want_rows = foreign.forward(w, rows, "topk")
    assert (codes == want).all() and (rebuilt == want_rows).all()
    assert result("info", tmp_path / "old")["saes"][0]["block"] == "mid.0"
    logs = np.log(w.threshold.astype(np.float64)).astype(np.float32)
    foreign.saelens(tmp_path / "log", w, "standard", tensors={"log_threshold": logs})
    cfg = json.loads((tmp_path / "log/cfg.json").read_text())
    foreign.put_json(tmp_path / "log", "cfg.json", {**cfg, "architecture": "jumprelu"})
    codes, rebuilt = encoded(tmp_path, "log")
    want, want_rows = foreign.forward(w, rows, "jumprelu", threshold=np.exp(logs.astype(np.float64)))
    assert (codes == want).all() and (rebuilt == want_rows).all()
    foreign.saelens(tmp_path / "scaled", w, "topk", normalize_activations="expected_average_only_in")
    bad("encode", "--sae", tmp_path / "scaled", "--in", tmp_path / "rows.npy", "--out", tmp_path / "no",
        says="activation_scaler.json, is not there")  # fmt: skip
    foreign.put_json(tmp_path / "scaled", "activation_scaler.json", {"scaling_factor": 0.5})
    codes, rebuilt = encoded(tmp_path, "scaled")
    want, want_rows = foreign.forward(w, rows * 0.5, "topk")
    assert (codes == want).all() and (rebuilt == want_rows / 0.5).all()


def test_statistics_that_have_no_place_are_named(tmp_path: Path) -> None:
    w, rows = foreign.draw(7, True)
    np.save(tmp_path / "rows.npy", rows)
    foreign.sparsify(tmp_path / "sae", w)
    stats = ["features", "stats", "--store", "rows.npy", "--sae"]
    assert b"warning" not in good(*stats, "sae", cwd=tmp_path).stderr
    for to in ("saelens", "dictionary-learning", "sparsify"):
        assert result("convert", "sae", "--to", to, "-o", to, cwd=tmp_path)["dropped"] == []
        assert set(foreign.load_file(tmp_path / to / "stats.safetensors")) == {"density", "mean", "std", "max"}
    said = good("convert", "sae", "--to", "sdxl-unbox", "-o", "theirs", "--quiet", cwd=tmp_path).stderr.decode()
    assert said == ("warning: theirs: the sdxl-unbox layout has no place for each feature's density and max: dropped\n")
    said = result("convert", "sae", "--to", "sdxl-unbox", "-o", "theirs", cwd=tmp_path)
    assert said["dropped"] == ["density", "max"]
    assert b"keeps mean and std alone" in good(*stats, "theirs", cwd=tmp_path).stderr
    good("convert", "theirs", "--to", "saelens", "-o", "back", cwd=tmp_path)
    assert set(foreign.load_file(tmp_path / "back/stats.safetensors")) == {"mean", "std"}


def test_trained_further_from_any_layout(tmp_path: Path) -> None:
    """--init-from: the same end from every layout; what cannot be trained further is refused."""
    w, _ = foreign.draw(7, True)
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).standard_normal((3000, foreign.D)).astype(np.float32))
    train = ["train", "--store", "rows.npy", "--preset", "demo", "--batch-size", "100", "--steps", "3", "--init-from"]
    foreign.sparsify(tmp_path / "sae", w)
    ends = set()
    for to in LAYOUTS[:4]:
        good("convert", "sae", "--to", to, "-o", to, cwd=tmp_path)
        good(*train, to, "-o", "end", cwd=tmp_path)
        ends.add((tmp_path / "end/sae_weights.safetensors").read_bytes())
        cfg = json.loads((tmp_path / "end/cfg.json").read_text())
        assert (cfg["k"], cfg["d_sae"]) == (foreign.K, foreign.F)
    assert len(ends) == 1
    good(*train, "sae", "--arch", "batchtopk", "-o", "batch", cwd=tmp_path)
    bad(*train, "sae", "--arch", "jumprelu", "-o", "no", cwd=tmp_path, says="is a topk, from which jumprelu cannot be")
    bad(*train, "sae", "--n-features", "50", "-o", "no", cwd=tmp_path, says="has 48 features, the options say 50")
    foreign.openai(tmp_path / "normal", w, "TopK")
    bad(*train, "normal", "-o", "no", cwd=tmp_path, says="only an SAE that subtracts its decoder's bias")
    assert not (tmp_path / "no").exists()


# ---- pickles that hold more than tensors ----


class Call:
    """What a hostile or a careless file does: it asks Python to call something."""

    def __init__(self, module: str, name: str, *args: Any) -> None:
        self.what = (foreign.Named(module, name), args)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.what


@pytest.mark.parametrize(
    ("value", "asks"),
    [
        (Call("os", "system", "touch ran"), "os.system"),
        (Call("builtins", "exec", "open('ran', 'w')"), "builtins.exec"),
        (Call("overcomplete.sae.topk_sae", "TopKSAE"), "overcomplete.sae.topk_sae.TopKSAE"),  # a module, pickled whole
        (Call("numpy.core.multiarray", "_reconstruct", None), "numpy.core.multiarray._reconstruct"),
        (Call("builtins", "set", [1]), "builtins.set"),
    ],
)
@pytest.mark.parametrize(
    ("layout", "file"),
    [("sdxl-unbox", "state_dict.pth"), ("sdxl-unbox", "mean.pt"), ("dictionary-learning", "ae.pt"), ("openai", "autoencoder.pt")],
)
def test_pickles_with_more_than_tensors(tmp_path: Path, layout: str, file: str, value: Call, asks: str) -> None:
    w, _ = foreign.draw(7, True)
    {"sdxl-unbox": foreign.sdxl_unbox, "dictionary-learning": lambda d, w: foreign.dictionary_learning(d, w, "AutoEncoderTopK"),
     "openai": lambda d, w: foreign.openai(d, w, "TopK")}[layout](tmp_path / "sae", w)  # fmt: skip
    state = foreign.load_torch(tmp_path / "sae" / file)
    inner = state.get("state_dict", state) if isinstance(state, dict) else None
    if inner is not None:
        inner["more"] = value  # among tensors that are all there
    foreign.save_torch(tmp_path / "sae" / file, state if inner is not None else OrderedDict(more=value))
    says = [file, f"refused: the file asks for {asks}, facet reads tensors only and runs nothing"]
    bad("convert", "sae", "--to", "saelens", "-o", "no", cwd=tmp_path, says=says)
    bad("info", "sae", cwd=tmp_path, says=says)
    assert {p.name for p in tmp_path.iterdir()} == {"sae"}


def test_one_file_instead_of_a_folder(tmp_path: Path) -> None:
    """openai's file, dictionary_learning's with its config.json, sdxl-unbox's with its own: wherever an SAE is taken."""
    w, rows = foreign.draw(7, True)
    np.save(tmp_path / "rows.npy", rows)
    foreign.openai(tmp_path / "o", w, "ReLU")
    foreign.sdxl_unbox(tmp_path / "s", w)
    foreign.dictionary_learning(tmp_path / "d", w, "AutoEncoderTopK")
    for name, kind in (("o/autoencoder.pt", "standard"), ("s/state_dict.pth", "topk"), ("d/ae.pt", "topk")):
        said = result("info", name, cwd=tmp_path)["saes"][0]
        assert said["architecture"] == kind and said["n_features"] == foreign.F and said["layout"] is None
        want, want_rows = foreign.forward(w, rows, kind)
        codes, rebuilt = encoded(tmp_path, name)
        assert (codes == want).all() and (rebuilt == want_rows).all()
        good("convert", name, "--to", "saelens", "-o", "lens", cwd=tmp_path)
    told = [good("info", name, cwd=tmp_path).stdout for name in "so"]
    assert b"(sdxl-unbox layout), topk" in told[0] and b", k 5" in told[0] and b", k " not in told[1]
    foreign.save_torch(tmp_path / "other.pt", OrderedDict(weight=w.w_enc))
    bad("info", "other.pt", cwd=tmp_path, says="what SAE it is cannot be told")


def test_broken_foreign_folders(tmp_path: Path) -> None:
    w, _ = foreign.draw(7, True)
    foreign.sparsify(tmp_path / "sae", w)

    def refused(says: str | list[str], **change: Any) -> None:
        cfg = json.loads((tmp_path / "sae/cfg.json").read_text())
        foreign.put_json(tmp_path / "bad", "cfg.json", {**cfg, **change})
        (tmp_path / "bad/sae.safetensors").write_bytes((tmp_path / "sae/sae.safetensors").read_bytes())
        bad("convert", "bad", "--to", "saelens", "-o", "no", cwd=tmp_path, says=says)

    refused(["cfg.json: k is 1000, want 1 to 48"], k=1000)
    refused(["cfg.json", "k must be given and positive"], k=0)
    refused(["encoder.weight", "[48,16]"], d_in=8)
    refused("activation groupmax is not supported", activation="groupmax")
    (tmp_path / "sae/sae.safetensors").write_bytes((tmp_path / "sae/sae.safetensors").read_bytes()[:-100])
    bad("convert", "sae", "--to", "saelens", "-o", "no", cwd=tmp_path, says="sae.safetensors")
    assert not (tmp_path / "no").exists()
