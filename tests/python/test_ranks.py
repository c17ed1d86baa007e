"""Several ranks: sums in a fixed order, failures that end every rank with one sentence."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from cli_util import ROOT, facet
from ranks_util import bad_ranks, good_ranks, need_ranks, run_ranks


def program() -> str:
    return str(Path(os.environ.get("FACET_BUILD") or ROOT / "build") / "tests" / "ranks")


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4])
def test_sums(n: int) -> None:
    """Every sum is the one of the ranks' order, to the byte; every rank has the same."""
    need_ranks()
    done = good_ranks(n, "sums", program=program())
    assert done.stdout.decode().strip() == f"{max(n, 1)} ranks: ok"


@pytest.mark.parametrize("who", [0, 2])
def test_agreed_failure(who: int) -> None:
    need_ranks()
    said = bad_ranks(3, "agree", who, program=program(), says="planted")
    assert ("rank 2: " in said) == (who == 2)


@pytest.mark.parametrize("who", [0, 1])
def test_failure_on_its_own(who: int) -> None:
    """One rank fails while the others wait for its data: they hear of it and say what it said."""
    need_ranks()
    began = time.monotonic()
    bad_ranks(3, "alone", who, program=program(), says="planted")
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("who", [0, 1])
def test_lost_rank(who: int) -> None:
    need_ranks()
    began = time.monotonic()
    bad_ranks(3, "die", who, program=program(), says=f"rank {who} (process ")
    assert time.monotonic() - began < 15


def test_late_rank() -> None:
    """A rank that takes its time is waited for."""
    need_ranks()
    good_ranks(2, "late", 1, program=program())


def test_without_mpi() -> None:
    """A facet that cannot join the others does not start the whole job again."""
    env = {**os.environ, "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4"}
    for name in ("PMIX_RANK", "PMI_RANK", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE"):
        env.pop(name, None)
    done = subprocess.run([facet(), "doctor"], env=env, capture_output=True, check=False)
    assert done.returncode == 1 and b"4 tasks" in done.stderr, done.stderr


def test_other_commands(tmp_path: Path) -> None:
    need_ranks()
    bad_ranks(2, "generate", "-p", "a circle", "-o", "x.png", cwd=tmp_path, says="generate runs in one process")
    assert not list(tmp_path.iterdir())
    text = run_ranks(2, "train", "--nope").stderr.decode()
    assert text.count("unknown option --nope") == 1
