"""SAEs as other programs write them, made with numpy alone, and what each of them computes.

`Weights` are drawn in two ways. On the grid every number is a small multiple of a power of two, so that products and
sums are exact in f32 in any order, and no two pre-activations are equal: there codes and reconstructions have one right
answer to the last bit. Free ones are normal numbers, for what divides, takes roots or exponentials.
The formulas are those of the programs' own forward passes, in float64.
"""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

Array = np.ndarray
D, F, K, N = 16, 48, 5, 60
GRID = 2.0**-11


# ---- torch files ----


@dataclass(frozen=True)
class Named:
    """A name that the pickle asks for, without importing it."""

    module: str
    name: str

    def __call__(self) -> None:
        """So that pickle takes it for a function."""


@dataclass(eq=False)
class Storage:
    data: Array
    key: str


class Writer(pickle._Pickler):
    dispatch = pickle._Pickler.dispatch.copy()
    TYPES = {"float32": "Float", "float64": "Double", "float16": "Half", "int64": "Long", "int32": "Int", "bool": "Bool"}

    def __init__(self, file: io.BytesIO, stem: str) -> None:
        super().__init__(file, protocol=2)
        self.stem, self.storages = stem, []

    def persistent_id(self, obj: object) -> object:
        if not isinstance(obj, Storage):
            return None
        kind = Named("torch", self.TYPES[str(obj.data.dtype)] + "Storage")
        return ("storage", kind, obj.key, "cuda:0", obj.data.size)

    def save_named(self, obj: Named) -> None:
        self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
        self.memoize(obj)

    def save_array(self, obj: Array) -> None:
        storage = Storage(np.ravel(obj, order="K"), str(len(self.storages)))
        self.storages.append(storage)
        strides = tuple(s // obj.itemsize for s in obj.strides)
        what = (storage, 0, obj.shape, strides, False, OrderedDict())
        self.save_reduce(Named("torch._utils", "_rebuild_tensor_v2"), what, obj=obj)

    dispatch[Named] = save_named
    dispatch[np.ndarray] = save_array


def save_torch(path: Path, value: object) -> None:
    """As torch.save: arrays become tensors with their strides."""
    held = io.BytesIO()
    writer = Writer(held, path.stem)
    writer.dump(value)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        file.writestr(f"{path.stem}/data.pkl", held.getvalue())
        for storage in writer.storages:
            file.writestr(f"{path.stem}/data/{storage.key}", storage.data.tobytes())
        file.writestr(f"{path.stem}/version", "3\n")


def load_torch(path: Path) -> Any:
    """As torch.load: tensors become arrays."""
    file = zipfile.ZipFile(path)
    stem = next(n for n in file.namelist() if n.endswith("/data.pkl")).removesuffix("/data.pkl")
    types = {v + "Storage": k for k, v in Writer.TYPES.items()}

    class Reader(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if name in types:
                return types[name]
            if (module, name) == ("collections", "OrderedDict"):
                return OrderedDict
            assert (module, name) == ("torch._utils", "_rebuild_tensor_v2"), (module, name)
            return lambda data, at, shape, strides, *_: np.lib.stride_tricks.as_strided(
                data[at:], shape, [s * data.itemsize for s in strides]
            )

        def persistent_load(self, pid: Any) -> Array:
            return np.frombuffer(file.read(f"{stem}/data/{pid[2]}"), pid[1])

    return Reader(io.BytesIO(file.read(f"{stem}/data.pkl"))).load()


# ---- weights and formulas ----


@dataclass
class Weights:
    w_enc: Array  # [F,D]
    b_enc: Array  # [F]
    w_dec: Array  # [F,D]
    b_dec: Array  # [D]
    threshold: Array  # [F]
    b_mag: Array  # [F]
    r_mag: Array  # [F]


def draw(seed: int, grid: bool) -> tuple[Weights, Array]:
    """Weights and rows [N,D], all f32."""
    rng = np.random.default_rng(seed)
    if not grid:
        parts = [rng.standard_normal(s) for s in ((F, D), F, (F, D), D, F, F, F)]
        parts[4], parts[6] = np.abs(parts[4]), parts[6] * 0.3
        rows = rng.standard_normal((N, D)) * 1.5
    else:
        w_dec = np.zeros((F, D))
        for row in w_dec:  # of length 1, exactly
            row[rng.permutation(D)[:4]] = rng.choice([-0.5, 0.5], 4)
        b_enc = rng.integers(-8, 9, F) / 8 + (np.arange(F) + 1) * GRID  # no two alike: there are no ties
        parts = [rng.integers(-8, 9, (F, D)) / 8, b_enc, w_dec, rng.integers(-4, 5, D) / 4,
                 rng.integers(0, 9, F) / 8 + GRID / 2, rng.integers(-8, 9, F) / 8, np.zeros(F)]  # fmt: skip
        rows = rng.integers(-8, 9, (N, D)) / 4
    return Weights(*(p.astype(np.float32) for p in parts)), rows.astype(np.float32)


def forward(w: Weights, rows: Array, kind: str, *, subtract: bool = True, normalize: str = "none", norms: str = "no",
            k: int = K, threshold: float | None = None) -> tuple[Array, Array]:  # fmt: skip
    """Codes [N,F] and reconstruction [N,D]. norms: scales codes by decoder norms, "yes" as SAELens does."""
    x = rows.astype(np.float64)
    w_enc, b_enc, w_dec, b_dec = (p.astype(np.float64) for p in (w.w_enc, w.b_enc, w.w_dec, w.b_dec))
    shift, scale = np.zeros((len(x), 1)), np.ones((len(x), 1))
    if normalize == "layer_norm":
        shift, scale = x.mean(1, keepdims=True), x.std(1, ddof=1, keepdims=True)
        x = (x - shift) / (scale + 1e-5)
    elif normalize == "constant_norm_rescale":
        scale = np.linalg.norm(x, axis=1, keepdims=True) / np.sqrt(x.shape[1])
        x = x / scale
    a = (x - b_dec if subtract else x) @ w_enc.T
    h = a + b_enc
    length = np.linalg.norm(w_dec, axis=1) if norms == "yes" else np.ones(len(w_dec))
    h = h * length
    z = np.maximum(h, 0)
    if kind == "topk":
        z[h < -np.sort(-h, 1)[:, k - 1 : k]] = 0
    elif kind == "jumprelu":
        z[h <= (w.threshold if threshold is None else threshold)] = 0
    elif kind == "gated":
        z = (h > 0) * np.maximum(np.exp(w.r_mag.astype(np.float64)) * a + w.b_mag, 0)
    return z, ((z / length) @ w_dec + b_dec) * scale + shift


# ---- what each program writes ----


def put_json(folder: Path, name: str, value: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(value))


def saelens(folder: Path, w: Weights, architecture: str, **more: Any) -> None:
    cfg = {"d_in": D, "d_sae": F, "dtype": "float32", "device": "cpu", "apply_b_dec_to_input": True,
           "normalize_activations": "none", "reshape_activations": "none", "architecture": architecture,
           "metadata": {"sae_lens_version": "6.20.0", "model_name": "m", "hook_name": "unet.mid_block.attentions.0"}}  # fmt: skip
    tensors = {"W_enc": w.w_enc.T, "b_enc": w.b_enc, "W_dec": w.w_dec, "b_dec": w.b_dec}
    if architecture == "topk":
        cfg |= {"k": K, "rescale_acts_by_decoder_norm": False}
    elif architecture in ("batchtopk", "matryoshka_batchtopk"):
        cfg |= {"k": K + 0.5, "rescale_acts_by_decoder_norm": False}
        tensors["topk_threshold"] = np.array(w.threshold[0], np.float64)
    elif architecture == "jumprelu":
        tensors["threshold"] = w.threshold
    elif architecture == "gated":
        del tensors["b_enc"]
        tensors |= {"b_gate": w.b_enc, "b_mag": w.b_mag, "r_mag": w.r_mag}
    tensors |= more.pop("tensors", {})
    put_json(folder, "cfg.json", {**cfg, **more})
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, folder / "sae_weights.safetensors")


def sdxl_unbox(folder: Path, w: Weights) -> None:
    put_json(folder, "config.json", {"n_dirs_local": F, "d_model": D, "k": K, "auxk": 8, "dead_steps_threshold": 2441})
    state = OrderedDict(pre_bias=w.b_dec, latent_bias=w.b_enc, stats_last_nonzero=np.ones(F, np.int64))
    state |= {"encoder.weight": w.w_enc, "decoder.weight": w.w_dec.T}
    save_torch(folder / "state_dict.pth", {"state_dict": state})
    for name in ("mean", "std"):
        save_torch(folder / f"{name}.pt", np.arange(F, dtype=np.float32))


def dictionary_learning(folder: Path, w: Weights, dict_class: str) -> None:
    trainer = {"dict_class": dict_class, "activation_dim": D, "dict_size": F, "submodule_name": "unet.mid_block.attentions.0"}
    linear = {"encoder.weight": w.w_enc, "encoder.bias": w.b_enc, "decoder.weight": w.w_dec.T}
    matrices = {"W_enc": w.w_enc.T, "b_enc": w.b_enc, "W_dec": w.w_dec, "b_dec": w.b_dec}
    counted = {"k": np.array(K, np.int32), "threshold": w.threshold[0]}
    state = {
        "AutoEncoderTopK": {**counted, **linear, "b_dec": w.b_dec},
        "BatchTopKSAE": {**counted, **linear, "b_dec": w.b_dec},
        "MatryoshkaBatchTopKSAE": {**counted, **matrices, "group_sizes": np.array([8, 16, F - 24])},
        "AutoEncoder": {**linear, "bias": w.b_dec},
        "AutoEncoderNew": {**linear, "decoder.bias": w.b_dec},
        "GatedAutoEncoder": {"encoder.weight": w.w_enc, "decoder.weight": w.w_dec.T, "decoder_bias": w.b_dec,
                             "r_mag": w.r_mag, "gate_bias": w.b_enc, "mag_bias": w.b_mag},
        "JumpReluAutoEncoder": {**matrices, "threshold": w.threshold},
    }[dict_class]  # fmt: skip
    put_json(folder, "config.json", {"trainer": {**trainer, **({"k": K} if "k" in state else {})}, "buffer": {}})
    save_torch(folder / "ae.pt", OrderedDict((k, np.asarray(v)) for k, v in state.items()))


def sparsify(folder: Path, w: Weights) -> None:
    put_json(folder, "cfg.json", {"activation": "topk", "expansion_factor": F // D, "normalize_decoder": True,
                                  "num_latents": 0, "k": K, "multi_topk": False, "skip_connection": False,
                                  "transcode": False, "d_in": D})  # fmt: skip
    tensors = {"encoder.weight": w.w_enc, "encoder.bias": w.b_enc, "W_dec": w.w_dec, "b_dec": w.b_dec}
    save_file(tensors, folder / "sae.safetensors")


def openai(folder: Path, w: Weights, activation: str) -> None:
    state: dict[str, Any] = OrderedDict(pre_bias=w.b_dec, latent_bias=w.b_enc, stats_last_nonzero=np.ones(F, np.int64))
    state |= {"latents_activation_frequency": np.ones(F, np.float32), "latents_mean_square": np.zeros(F, np.float32),
              "encoder.weight": w.w_enc, "decoder.weight": w.w_dec.T, "activation": activation}  # fmt: skip
    if activation == "TopK":
        state["activation_state_dict"] = OrderedDict(k=K, postact_fn="ReLU")
    folder.mkdir(parents=True, exist_ok=True)
    save_torch(folder / "autoencoder.pt", state)


def tensors_of(folder: Path) -> dict[str, Array]:
    """All tensors of an SAE's own files, whatever the layout."""
    out: dict[str, Array] = {}
    for name in ("sae_weights.safetensors", "sae.safetensors"):
        if (folder / name).exists():
            out |= load_file(folder / name)
    for name in ("state_dict.pth", "ae.pt", "autoencoder.pt"):
        if (folder / name).exists():
            state = load_torch(folder / name)
            out |= {k: v for k, v in state.get("state_dict", state).items() if isinstance(v, np.ndarray)}
    return out


def codes_of(file: Path, k: int, n_features: int) -> tuple[Array, Array]:
    """What `facet encode --rebuild` wrote: codes as a matrix [N,F], and the reconstruction."""
    t = load_file(file)
    n = len(t["rebuilt"])
    z = np.zeros((n, n_features), np.float32)
    if "row_offsets" in t:
        z[np.repeat(np.arange(n), np.diff(t["row_offsets"])), t["indices"]] = t["values"]
    else:
        assert t["indices"].shape == (n, k)
        np.put_along_axis(z, t["indices"].astype(np.int64), t["values"], 1)
    return z, t["rebuilt"]
