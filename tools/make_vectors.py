"""Makes tests/vectors/: what torch's generator, torch.save, NumPy and Pillow give, for the C tests of base and tensor.

    python tools/make_vectors.py

Needs torch, numpy, safetensors and Pillow. The library versions are recorded in each file's metadata (or versions.json).
Expected values come from these libraries only, never from facet.
"""

import argparse
import collections
import io
import json
import pathlib
import pickle
import zipfile

import numpy as np
import PIL
import safetensors
import torch
from PIL import Image, PngImagePlugin
from safetensors.torch import save_file

VERSIONS = {
    "torch": torch.__version__,
    "numpy": np.__version__,
    "safetensors": safetensors.__version__,
    "pillow": PIL.__version__,
}


def normals(out: pathlib.Path) -> None:
    """randn of many lengths and seeds, each followed by five more values that show the state left behind."""
    tensors = {}
    for seed in (0, 1, 7, 42, 2**32 + 5, 2**63 + 11):
        for n in (1, 2, 3, 4, 5, 15, 16, 17, 31, 32, 33, 64, 100, 1000, 4096):
            g = torch.Generator("cpu").manual_seed(seed if seed < 2**63 else seed - 2**64)
            tensors[f"{seed}.{n}.first"] = torch.randn(n, generator=g)
            tensors[f"{seed}.{n}.then"] = torch.randn(5, generator=g)
            tensors[f"{seed}.{n}.last"] = torch.randn(48, generator=g)
    g = torch.Generator("cpu").manual_seed(123)
    tensors["bits"] = torch.randint(0, 2**32, (2000,), generator=g, dtype=torch.int64)
    save_file(tensors, out / "normals.safetensors", metadata=VERSIONS)


def halves(out: pathlib.Path) -> None:
    """All 65,536 values of f16 and bf16 as f32 bits, and f32 values around every rounding border, rounded by torch."""
    bits = torch.arange(65536, dtype=torch.int32).to(torch.uint16)
    tensors = {
        "f16.f32": bits.view(torch.float16).float(),
        "bf16.f32": bits.view(torch.bfloat16).float(),
    }
    g = torch.Generator("cpu").manual_seed(5)
    base = torch.cat([tensors["f16.f32"][::37], tensors["bf16.f32"][::37]])
    ints = base.view(torch.int32).long()
    offsets = torch.tensor([0, 1, -1, 0xFFF, 0x1000, 0x1001, 0x7FFF, 0x8000, 0x8001])
    near = (ints[:, None] + offsets[None, :]).flatten()
    rand = torch.randint(0, 2**32, (8192,), generator=g)
    words = torch.cat([near, rand]) & 0xFFFFFFFF
    words = torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)
    values = words.view(torch.float32)
    values = values[~values.isnan()]
    tensors["values"] = values
    tensors["values.f16"] = values.half().view(torch.int16)
    tensors["values.bf16"] = values.bfloat16().view(torch.int16)
    save_file(tensors, out / "halves.safetensors", metadata=VERSIONS)


def torch_files(out: pathlib.Path) -> None:
    """What torch.save writes: both layouts, strides, nesting, every type; the truth beside it in safetensors."""
    g = torch.Generator("cpu").manual_seed(9)
    base = torch.randn(4, 6, generator=g)
    linear = torch.nn.Linear(3, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.randn(2, 3, generator=g))
        linear.bias.zero_()
    objects = {
        "bare": torch.arange(7, dtype=torch.float32),
        "strides": collections.OrderedDict(
            transposed=base.t(),
            sliced=base[1:3, 2:5],
            stepped=base[::2, ::3],
            scalar=torch.tensor(3.5),
            empty=torch.zeros(0, 3),
            expanded=torch.tensor([2.0]).expand(3),
        ),
        "types": {
            str(t).split(".")[1]: torch.tensor([0, 1, 2, 3]).to(t)
            for t in (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int32,
                      torch.int16, torch.int8, torch.uint8, torch.bool)
        },
        "nested": {
            "state_dict": linear.state_dict(),
            "step": 12, "lr": 1e-3, "name": "ü", "none": None, "flag": True, "big": 2**70, "negative": -5,
            "list": [torch.ones(2), {"deep": torch.zeros(1)}],
            3: torch.full((2,), 3.0),
        },
        "parameter": {"p": torch.nn.Parameter(torch.tensor([1.0, 2.0]))},
        "unsigned": {"u16": torch.tensor([1, 65535]).to(torch.uint16)},
    }
    for name, obj in objects.items():
        torch.save(obj, out / f"{name}.pth")
        torch.save(obj, out / f"{name}.legacy.pth", _use_new_zipfile_serialization=False)
        flat: dict[str, torch.Tensor] = {}
        flatten(obj, "", flat)
        save_file({k or "tensor": v.detach().contiguous().clone() for k, v in flat.items()},
                  out / f"{name}.safetensors", metadata=VERSIONS)


def flatten(obj: object, name: str, out: dict[str, torch.Tensor]) -> None:
    """Nested dictionaries and lists to names joined by dots."""
    if isinstance(obj, torch.Tensor):
        out[name] = obj
        return
    items = obj.items() if isinstance(obj, dict) else enumerate(obj) if isinstance(obj, list) else ()
    for k, v in items:
        flatten(v, f"{name}.{k}" if name else str(k), out)


class Evil:
    """Pickles as a call of whatever it was given."""

    def __init__(self, call: object, *args: object) -> None:
        self.call, self.args = call, args

    def __reduce__(self) -> tuple:
        return self.call, self.args


def hostile_files(out: pathlib.Path) -> None:
    """Pickles that ask for more than tensors, in a torch zip; the C test knows the name that each refusal must show."""
    import builtins
    import os
    import subprocess

    calls = {
        "system": Evil(os.system, "true"),
        "popen": Evil(subprocess.Popen, ["true"]),
        "eval": Evil(builtins.eval, "1+1"),
        "getattr": Evil(builtins.getattr, "x", "upper"),
        "load": Evil(torch.load, "x"),
        "object": Evil(collections.Counter),
    }
    for name, obj in calls.items():
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as z:
            for entry, data in (("archive/data.pkl", pickle.dumps({"w": obj}, protocol=2)), ("archive/version", b"3\n")):
                z.writestr(zipfile.ZipInfo(entry, (1980, 1, 1, 0, 0, 0)), data)
        (out / f"hostile.{name}.pth").write_bytes(stream.getvalue())


def arrays(out: pathlib.Path) -> None:
    """.npy files of several types and shapes, and two that facet refuses."""
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.save(out / "f4.npy", a)
    np.save(out / "f2.npy", a.astype(np.float16))
    np.save(out / "i8.npy", np.arange(4, dtype=np.int64))
    np.save(out / "scalar.npy", np.float32(2.5))
    np.save(out / "fortran.npy", np.asfortranarray(a))
    np.save(out / "big.npy", a.astype(">f4"))


def pictures(out: pathlib.Path) -> None:
    """PNGs of each colour type, with texts, and their pixels as Pillow sees them."""
    y, x = np.mgrid[0:7, 0:9]
    rgb = np.stack([x * 28, y * 36, (x + y) * 16], -1).astype(np.uint8)
    alpha = np.full((7, 9, 1), 255, np.uint8)
    alpha[2:4] = 128
    truth = {"rgb": rgb, "grey": rgb[..., 0], "rgba": np.concatenate([rgb, alpha], -1)}
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a cat\nSteps: 1, Sampler: Euler a, CFG scale: 1")
    info.add_itxt("facet", "Käse ☕ 日本")
    info.add_text("packed", "z" * 300, zip=True)
    info.add_itxt("packed8", "ü" * 300, zip=True)
    info.add_text("latin", "é")
    Image.fromarray(rgb).save(out / "rgb.png", pnginfo=info)
    Image.fromarray(truth["grey"]).save(out / "grey.png")
    Image.fromarray(truth["rgba"]).save(out / "rgba.png")
    Image.fromarray(rgb).quantize(16).save(out / "palette.png")
    truth["palette"] = np.asarray(Image.open(out / "palette.png").convert("RGB"))
    truth["rgb.grey"] = np.asarray(Image.fromarray(rgb).convert("L"))
    Image.fromarray((rgb[..., 0].astype(np.uint16) * 257)).save(out / "grey16.png")
    truth["grey16"] = rgb[..., 0]
    Image.fromarray(rgb).resize((64, 48)).save(out / "photo.jpg", quality=90)
    truth["photo"] = np.asarray(Image.open(out / "photo.jpg"))
    save_file({k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in truth.items()}, out / "pixels.safetensors",
              metadata=VERSIONS)


def main() -> None:
    """Makes everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent.parent / "tests" / "vectors")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for make in (normals, halves, torch_files, hostile_files, arrays, pictures):
        make(out)
    (out / "versions.json").write_text(json.dumps(VERSIONS, indent=2) + "\n")


if __name__ == "__main__":
    main()
