"""What training shows of itself: the JSONL log, TensorBoard's files, read back record by record."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cli_util import bad, good

TRAIN = ["train", "--store", "store", "--preset", "demo", "--batch-size", "100", "--steps", "40", "--k", "4"]


def make_store(folder: Path) -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((6000, 12)) * np.arange(1, 13)
    np.save(folder / "rows.npy", rows.astype(np.float32))
    good("capture", "--import", "rows.npy", "-o", "store", cwd=folder)


# ---- TFRecord and protobuf, by their documents ----


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> int:
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def records(path: Path) -> Iterator[bytes]:
    data, at = path.read_bytes(), 0
    assert crc32c(b"123456789") == 0xE3069283
    while at < len(data):
        (n,) = struct.unpack_from("<Q", data, at)
        assert struct.unpack_from("<I", data, at + 8)[0] == masked(data[at : at + 8])
        body = data[at + 12 : at + 12 + n]
        assert struct.unpack_from("<I", data, at + 12 + n)[0] == masked(body)
        at += 16 + n
        yield body


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            return value, at


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        kind = key & 7
        value: int | bytes
        if kind == 0:
            value, at = varint(data, at)
        else:
            n = {1: 8, 5: 4}.get(kind)
            if n is None:
                assert kind == 2
                n, at = varint(data, at)
            value, at = data[at : at + n], at + n
        yield key >> 3, value


def events(folder: Path) -> list[tuple[int, dict[str, float], dict[int, int | bytes]]]:
    """(step, scalars, all fields) of every event, file by file."""
    out = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for body in records(path):
            event = dict(fields(body))
            scalars = {}
            for number, value in fields(event.get(5, b"")):
                assert number == 1
                pair = dict(fields(value))
                scalars[pair[1].decode()] = struct.unpack("<f", pair[2])[0]
            out.append((event.get(2, 0), scalars, event))
    return out


def test_logs_agree(tmp_path: Path) -> None:
    make_store(tmp_path)
    watch = ["--log", "t.jsonl", "--log-every", "10", "--tensorboard", "board"]
    watch += ["--hold-out", "500", "--eval-every", "20"]
    good(*TRAIN, *watch, "-o", "sae", cwd=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 10, 20, 30, 40]
    first, *rest = events(tmp_path / "board")
    assert first[2][3] == b"brain.Event:2" and len(first[2][1]) == 8
    assert [step for step, _, _ in rest] == [1, 10, 20, 30, 40]
    for line, (_, scalars, _) in zip(lines, rest, strict=True):
        assert line.pop("step") and set(line) == set(scalars)
        for name, value in line.items():
            assert np.float32(value) == np.float32(scalars[name]), name
        for name in (
            "losses/overall_loss",
            "losses/mse_loss",
            "metrics/explained_variance",
            "metrics/l0",
            "sparsity/dead_features",
            "details/n_training_samples",
            "details/current_learning_rate",
        ):
            assert name in line
        assert abs(line["metrics/explained_variance"] + line["metrics/fvu"] - 1) < 1e-12
    held = ["held_out/explained_variance" in line for line in lines]
    assert held == [False, False, True, False, True]
    bad(*TRAIN, "--eval-every", "5", "-o", "no", cwd=tmp_path, code=2, says="--hold-out")


def test_tensorboard_reads_it(tmp_path: Path) -> None:
    why = "needs tensorboard; the records themselves are read in test_logs_agree"
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason=why)
    make_store(tmp_path)
    good(*TRAIN, "--log", "t.jsonl", "--log-every", "10", "--tensorboard", "board", "-o", "sae", cwd=tmp_path)
    board = reader.EventAccumulator(str(tmp_path / "board")).Reload()
    lines = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert set(board.Tags()["scalars"]) == set(lines[0]) - {"step"}
    for name in board.Tags()["scalars"]:
        got = [(e.step, np.float32(e.value)) for e in board.Scalars(name)]
        assert got == [(line["step"], np.float32(line[name])) for line in lines], name
