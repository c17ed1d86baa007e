"""SAEs through the programs that own their layouts: sae-lens, dictionary-learning, eai-sparsify, and torch for openai's and
sdxl-unbox's files, whose programs are not on PyPI (their forward passes are in foreign.py).

Run:  FACET=build/facet python -m pytest -s tests/python/test_loaders.py        (-s prints what was observed)
      FACET_PYTHON=that/python ./start test --full                              (does it with the other tests)

For each layout and kind: an SAE is made by the program's own classes and saved by its own saver; facet's codes and
reconstruction are compared with the program's forward; facet writes it again, and in every layout that can hold it, and
the owners' loaders read that: the same tensors, bit for bit, and the same forward.

On the grid (foreign.py) every sum is exact in f32, so all codes and reconstructions must be equal, to the last bit. Free
weights round, in an order that torch and oneDNN do not share: there the relative L2 must stay below 1e-6, about 17 roundings
of f32. Observed: at most 2e-7.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_util import bad, good

os.environ["SPARSIFY_DISABLE_TRITON"] = "1"  # its decoder without a GPU
torch = pytest.importorskip("torch", reason="needs torch, sae-lens, dictionary-learning and eai-sparsify")
for module in ("sae_lens", "dictionary_learning", "sparsify"):
    pytest.importorskip(module, reason="needs torch, sae-lens, dictionary-learning and eai-sparsify")
import dictionary_learning as dl
import foreign
import sae_lens.saes as sl
from dictionary_learning import trainers
from dictionary_learning.trainers import matryoshka_batch_top_k as matryoshka
from dictionary_learning.trainers import top_k
from foreign import D, F, K, N
from sae_lens.saes.sae import SAEMetadata
from sparsify import SparseCoder, SparseCoderConfig

BLOCK = "unet.mid_block.attentions.0"
LAYOUTS = ["saelens", "sdxl-unbox", "dictionary-learning", "sparsify", "openai"]
BOUND = 1e-6
# into, below: y or n for each of LAYOUTS: whether it can hold the SAE; f: with decoder norms folded in, so other tensors


def fill(module: Any, values: dict[str, np.ndarray]) -> Any:
    """All of the module's tensors, each from here: nothing of its own start is left."""
    state = module.state_dict()
    tensors = {k: v for k, v in state.items() if isinstance(v, torch.Tensor)}
    assert set(tensors) == set(values), (set(tensors) ^ set(values))
    with torch.no_grad():
        for name, t in tensors.items():
            t.copy_(torch.from_numpy(np.array(values[name])))
    return module


# ---- made and saved by their own programs; what comes back is the forward to compare with ----


def lens(kind: str, training: bool = False, **config: Any) -> Callable[..., Any]:
    def make(folder: Path, w: foreign.Weights) -> Any:
        name = f"{kind}{'Training' if training else ''}SAE"
        values = {"W_enc": w.w_enc.T, "b_enc": w.b_enc, "W_dec": w.w_dec, "b_dec": w.b_dec}
        if kind == "JumpReLU":
            values["threshold"] = w.threshold
        if kind == "Gated":
            del values["b_enc"]
            values |= {"b_gate": w.b_enc, "b_mag": w.b_mag, "r_mag": w.r_mag}
        if "BatchTopK" in kind:
            values["topk_threshold"] = w.threshold[0]
        metadata = SAEMetadata(model_name="a-model", hook_name=BLOCK)
        made = getattr(sl, name + "Config")(d_in=D, d_sae=F, metadata=metadata, **config)
        sae = fill(getattr(sl, name)(made), values)
        sae.save_model(folder)
        if not training:
            return sae
        sae.save_inference_model(folder.with_name("inference"))  # a checkpoint encodes by the batch
        return sl.SAE.load_from_disk(folder.with_name("inference"))

    return make


def learn(dict_class: Any, trainer: Any, **options: Any) -> Callable[..., Any]:
    def make(folder: Path, w: foreign.Weights) -> Any:
        counted = {k: v for k, v in options.items() if k == "k"}
        made = trainer(steps=9000, activation_dim=D, dict_size=F, layer=0, lm_name="a-model", submodule_name=BLOCK,
                       device="cpu", warmup_steps=1, dict_class=dict_class, **options)  # fmt: skip
        config = {**made.config, "dict_class": dict_class.__name__}  # the April update writes AutoEncoder for any
        foreign.dictionary_learning(folder, w, dict_class.__name__)
        values = {k: np.asarray(v) for k, v in foreign.load_torch(folder / "ae.pt").items()}
        if "group_sizes" in values:
            values["group_sizes"] = made.ae.group_sizes.numpy()
        assert not counted or values["k"] == K
        torch.save(fill(made.ae, values).state_dict(), folder / "ae.pt")
        (folder / "config.json").write_text(json.dumps({"trainer": config}))
        return load_learn(folder)

    return make


def sparse(**config: Any) -> Callable[..., Any]:
    def make(folder: Path, w: foreign.Weights) -> Any:
        values = {"encoder.weight": w.w_enc, "encoder.bias": w.b_enc, "W_dec": w.w_dec, "b_dec": w.b_dec}
        sae = fill(SparseCoder(D, SparseCoderConfig(k=K, **config)), values)
        sae.save_to_disk(folder)
        return sae

    return make


def torch_file(write: Callable[..., None], **formula: Any) -> Callable[..., Any]:
    """The same file by torch.save; no program: the formula."""

    def make(folder: Path, w: foreign.Weights) -> Any:
        write(folder, w)
        for path in (*folder.glob("*.pt"), *folder.glob("*.pth")):
            torch.save(torch.load(path, weights_only=True, map_location="cpu"), path)
        return w, formula

    return make


# ---- loaded by their own programs ----


def load_learn(folder: Path) -> Any:
    name = json.loads((folder / "config.json").read_text())["trainer"]["dict_class"]
    known = {c.__name__: c for c in (dl.AutoEncoder, dl.dictionary.AutoEncoderNew, dl.GatedAutoEncoder,
             dl.JumpReluAutoEncoder, top_k.AutoEncoderTopK, trainers.BatchTopKSAE, matryoshka.MatryoshkaBatchTopKSAE)}  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):  # "Normalizing decoder weights"
        return known[name].from_pretrained(str(folder / "ae.pt"))


def load_formula(folder: Path) -> Any:
    names = ("state_dict.pth", "autoencoder.pt")
    state = torch.load(next(folder / n for n in names if (folder / n).exists()), weights_only=True)
    state = state.get("state_dict", state)
    zero = np.zeros(F, np.float32)
    parts = [state[k].numpy() for k in ("encoder.weight", "latent_bias", "decoder.weight", "pre_bias")]
    relu = state.get("activation") == "ReLU"
    formula = {"kind": "relu" if relu else "topk", "normalize": "layer_norm" if state.get("activation") == "TopK" else "none"}
    return foreign.Weights(parts[0], parts[1], parts[2].T, parts[3], zero, zero, zero), formula


LOAD = {"saelens": sl.SAE.load_from_disk, "sdxl-unbox": load_formula, "dictionary-learning": load_learn,
        "sparsify": SparseCoder.load_from_disk, "openai": load_formula}  # fmt: skip


@torch.no_grad()
def forward(sae: Any, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes [N,F] and reconstruction [N,D] by the program itself."""
    if isinstance(sae, tuple):
        return foreign.forward(sae[0], rows, **sae[1])
    x = torch.from_numpy(rows)
    if isinstance(sae, SparseCoder):
        top = sae.encode(x)
        codes = torch.zeros(N, F).scatter_(1, top.top_indices, top.top_acts)
        return codes.numpy(), sae.decode(top.top_acts, top.top_indices).numpy()  # forward decodes 4k with multi_topk
    return sae.encode(x).numpy(), sae(x).numpy()


def tensors(sae: Any) -> dict[str, torch.Tensor]:
    return {k: v for k, v in sae.state_dict().items() if isinstance(v, torch.Tensor)}


def case(name: str, layout: str, into: str, make: Callable[..., Any], modes: str = "grid free") -> list[Any]:
    return [pytest.param(layout, into, make, mode == "grid", id=f"{layout}-{name}-{mode}") for mode in modes.split()]


RAW = {"apply_b_dec_to_input": False}
UNIT = "grid"  # there directions are of length 1
CASES = [
    *case("standard", "saelens", "ynyny", lens("Standard"), UNIT),
    *case("standard", "saelens", "ynnny", lens("Standard"), "free"),  # directions of other lengths than 1
    *case("standard-raw", "saelens", "ynynn", lens("Standard", **RAW)),
    *case("topk", "saelens", "yyyyn", lens("TopK", k=K)),
    *case("topk-raw", "saelens", "ynnnn", lens("TopK", k=K, **RAW)),
    *case("topk-rescaled", "saelens", "yfffn", lens("TopK", k=K, rescale_acts_by_decoder_norm=True)),
    *case("topk-layer-norm", "saelens", "ynnny", lens("TopK", k=K, normalize_activations="layer_norm"), "free"),
    *case("topk-length", "saelens", "ynnnn", lens("TopK", k=K, normalize_activations="constant_norm_rescale"), "free"),
    *case("jumprelu", "saelens", "ynnnn", lens("JumpReLU")),
    *case("jumprelu-raw", "saelens", "ynynn", lens("JumpReLU", **RAW)),
    *case("jumprelu-checkpoint", "saelens", "ynnnn", lens("JumpReLU", True)),
    *case("gated", "saelens", "ynynn", lens("Gated")),
    *case("gated-checkpoint", "saelens", "ynynn", lens("Gated", True)),
    *case("topk-checkpoint", "saelens", "ffffn", lens("TopK", True, k=K)),
    *case("batchtopk-checkpoint", "saelens", "fnynn", lens("BatchTopK", True, k=K + 0.5)),
    *case("matryoshka-checkpoint", "saelens", "fnynn",
          lens("MatryoshkaBatchTopK", True, k=K, matryoshka_widths=[8, 24, F])),
    *case("AutoEncoderTopK", "dictionary-learning", "yyyyn", learn(top_k.AutoEncoderTopK, trainers.TopKTrainer, k=K)),
    *case("BatchTopKSAE", "dictionary-learning", "ynynn", learn(trainers.BatchTopKSAE, trainers.BatchTopKTrainer, k=K)),
    *case("MatryoshkaBatchTopKSAE", "dictionary-learning", "ynynn",
          learn(matryoshka.MatryoshkaBatchTopKSAE, matryoshka.MatryoshkaBatchTopKTrainer, k=K,
                group_fractions=[0.25, 0.25, 0.5])),
    *case("AutoEncoder", "dictionary-learning", "ynyny", learn(dl.AutoEncoder, trainers.StandardTrainer), UNIT),
    *case("AutoEncoder", "dictionary-learning", "fnynf", learn(dl.AutoEncoder, trainers.StandardTrainer), "free"),
    *case("AutoEncoderNew", "dictionary-learning", "ynynn", learn(dl.dictionary.AutoEncoderNew, trainers.StandardTrainer)),
    *case("GatedAutoEncoder", "dictionary-learning", "ynynn", learn(dl.GatedAutoEncoder, trainers.GatedSAETrainer)),
    *case("JumpReluAutoEncoder", "dictionary-learning", "ynynn",
          learn(dl.JumpReluAutoEncoder, trainers.JumpReluTrainer)),
    *case("topk", "sparsify", "yyyyn", sparse(expansion_factor=F // D)),
    *case("topk-num-latents", "sparsify", "yyyyn", sparse(num_latents=F, multi_topk=True, normalize_decoder=False)),
    *case("topk", "sdxl-unbox", "yyyyn", torch_file(foreign.sdxl_unbox, kind="topk")),
    *case("TopK", "openai", "ynnny",
          torch_file(lambda d, w: foreign.openai(d, w, "TopK"), kind="topk", normalize="layer_norm"), "free"),
    *case("ReLU", "openai", "ynyny", torch_file(lambda d, w: foreign.openai(d, w, "ReLU"), kind="relu"), UNIT),
]  # fmt: skip


def compare(got: np.ndarray, want: np.ndarray, exact: bool, what: str) -> float:
    assert got.shape == want.shape
    if exact:
        assert (got == want).all(), what
    off = float(np.linalg.norm(got - want) / np.linalg.norm(want))
    assert off < BOUND, f"{what}: {off:.2g}"
    return off


@pytest.mark.parametrize(("layout", "into", "make", "grid"), CASES)
def test_loaders(tmp_path: Path, layout: str, into: str, make: Callable[..., Any], grid: bool) -> None:
    w, rows = foreign.draw(11, grid)
    np.save(tmp_path / "rows.npy", rows)
    theirs = make(tmp_path / "sae", w)
    codes, rebuilt = forward(theirs, rows)
    off = {}

    def facet_agrees(sae: str, exact: bool) -> float:
        good("encode", "--sae", sae, "--in", "rows.npy", "--rebuild", "--out", "codes.safetensors", cwd=tmp_path)
        ours, ours_rows = foreign.codes_of(tmp_path / "codes.safetensors", K, F)
        assert ((ours > 0) == (codes > 0)).all(), sae
        return max(compare(ours, codes, exact, sae), compare(ours_rows, rebuilt, exact, sae))

    off["read"] = facet_agrees("sae", grid)
    for to, says in zip(LAYOUTS, into, strict=True):
        words = ["convert", "sae", "--to", to, "-o", to]
        if says == "n":
            bad(*words, cwd=tmp_path, says="layouts that can hold it: ")
            continue
        good(*words, cwd=tmp_path)
        loaded = LOAD[to](tmp_path / to)
        got, got_rows = forward(loaded, rows)
        assert ((got > 0) == (codes > 0)).all(), to
        off[to] = max(compare(got, codes, grid, to), compare(got_rows, rebuilt, grid, to), facet_agrees(to, grid))
        if to == "saelens":
            block = BLOCK if layout in ("saelens", "dictionary-learning") else None
            assert loaded.cfg.metadata.hook_name == block and (block is None or loaded.cfg.metadata.model_name == "a-model")
        if to == layout and says == "y" and not isinstance(loaded, tuple):
            mine, other = tensors(loaded), tensors(theirs)
            assert set(mine) == set(other)
            for name, t in other.items():
                assert mine[name].dtype == t.dtype and torch.equal(mine[name], t), name
    print("equal to the bit" if grid else " ".join(f"{k} {v:.1g}" for k, v in off.items()))


def test_our_torch_files_are_torch_files(tmp_path: Path) -> None:
    """What the everyday tests write without torch is what torch reads."""
    w, _ = foreign.draw(3, False)
    foreign.sdxl_unbox(tmp_path, w)
    state = torch.load(tmp_path / "state_dict.pth", weights_only=True, map_location="cpu")["state_dict"]
    assert torch.equal(state["decoder.weight"], torch.from_numpy(w.w_dec.T.copy()))
    assert state["decoder.weight"].stride() == (1, D) and state["stats_last_nonzero"].dtype == torch.int64
