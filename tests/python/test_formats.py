"""What facet writes, read by the libraries that own the formats: safetensors, Pillow, torch.

Run:  FACET_BUILD=build python -m pytest tests/python/test_formats.py
"""

from __future__ import annotations

import os
import struct
import subprocess
import zlib
from pathlib import Path

import pytest
from cli_util import result

np = pytest.importorskip("numpy", reason="numpy compares tensors")

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
