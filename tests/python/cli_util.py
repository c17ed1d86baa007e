"""What the black-box tests of the commands share: the program, the demo model, running one with the other."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "models" / "demo"
PROMPTS = DEMO / "prompts" / "heldout.txt"


@functools.cache
def facet() -> str:
    for name in (os.environ.get("FACET"), ROOT / "build" / "facet"):
        if name and Path(name).exists():
            return str(Path(name).resolve())
    pytest.skip("no facet program: build it, or name it in FACET")


def run(
    *args: str | Path,
    cwd: Path | None = None,
    stdin: bytes | None = None,
    env: dict[str, str] | None = None,
    limit: float = 600,
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [facet(), *map(str, args)],
        check=False,
        cwd=cwd,
        input=stdin if stdin is not None else b"",
        capture_output=True,
        timeout=limit,
        env={
            "OMP_WAIT_POLICY": "passive",
            **os.environ,
            **(env or {}),
        },  # other tests run beside it
    )


def good(*args: str | Path, **more: Any) -> subprocess.CompletedProcess[bytes]:
    """A run that must do what it is asked."""
    done = run(*args, **more)
    assert done.returncode == 0, f"facet {' '.join(map(str, args))}\n{done.stderr.decode()[-3000:]}"
    return done


def result(*args: str | Path, **more: Any) -> dict[str, Any]:
    """The object that --json prints: the only thing on standard output."""
    return json.loads(good(*args, "--json", **more).stdout)


def bad(*args: str | Path, code: int = 1, says: str | list[str] = "", **more: Any) -> str:
    """A run that must be refused with this exit code, in one sentence that holds these words."""
    done = run(*args, **more)
    text = done.stderr.decode()
    told = f"facet {' '.join(map(str, args))}\nexit {done.returncode}\n{text[-3000:]}"
    assert done.returncode == code, told
    assert done.stdout == b"", told
    sentences = [line for line in text.splitlines() if line.startswith("facet: ")]
    assert len(sentences) == 1, told
    for words in [says] if isinstance(says, str) else says:
        assert words in sentences[0], f"want {words!r} in:\n{told}"
    assert "ERROR: " not in text and "runtime error" not in text, told
    return sentences[0]


def need_demo() -> None:
    if not (DEMO / "unet" / "diffusion_pytorch_model.safetensors").exists():
        pytest.skip(f"no weights in {DEMO}")


@functools.cache
def tables() -> list[dict[str, Any]]:
    """The option tables of all commands, as the program has them."""
    return json.loads(good("help", "--json").stdout)["commands"]
