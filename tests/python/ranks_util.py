"""What the tests of several ranks share: mpirun as it must be called here, and whether it is there."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from cli_util import facet

# mpirun refuses root and more ranks than cores unless told; one thread a rank, so that sums are the same everywhere
ENV = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
}
MPIRUN = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n"]


@functools.cache
def why_not() -> str:
    """Why nothing can be started here as several ranks; empty: it can."""
    if not shutil.which("mpirun"):
        return "no mpirun"
    library = json.loads(subprocess.run([facet(), "doctor", "--json"], capture_output=True, check=False).stdout or "{}")
    return "" if library.get("libraries", {}).get("MPI") else "facet was built without MPI"


def need_ranks() -> None:
    if why_not():
        pytest.skip(why_not())


def need_killing() -> None:
    """Ranks, and the time that jobs which are killed at some moment take."""
    need_ranks()
    if not os.environ.get("FACET_FULL"):
        pytest.skip("kills jobs of several ranks: with --full")


def start(n: int, *args: str | Path, program: str | None = None, cwd: Path | None = None, **env: str) -> subprocess.Popen:
    """facet (or another program) as n ranks; 0: one plain process."""
    words = [program or facet(), *map(str, args)]
    return subprocess.Popen([*MPIRUN, str(n), *words] if n else words, cwd=cwd, stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **ENV, **env})  # fmt: skip


def is_alive(pid: str) -> bool:
    """Not one that ended and waits for its parent to ask."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def has_children(pid: int) -> bool:
    try:
        tasks = [Path(task, "children").read_text().split() for task in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:  # a thread ended meanwhile
        return True
    return any(is_alive(child) for children in tasks for child in children)


def end_of(process: subprocess.Popen, limit: float = 600) -> tuple[bytes, bytes]:
    """What a job said. Open MPI 4's mpirun now and then hangs (in PMIx_server_finalize) or crashes when a job has failed
    and all its ranks have ended: then it is killed here, and what the ranks said counts.
    """
    until, idle = time.monotonic() + limit, 0
    while True:
        try:
            out, err = process.communicate(timeout=1)
            break
        except subprocess.TimeoutExpired:
            idle = 0 if has_children(process.pid) else idle + 1
            late = time.monotonic() > until
            if idle > 4 or late:
                process.kill()
            if late:
                raise AssertionError(f"still running after {limit} s") from None
    return out, err


def run_ranks(n: int, *args: str | Path, limit: float = 600, **more: Any) -> subprocess.CompletedProcess[bytes]:
    process = start(n, *args, **more)
    out, err = end_of(process, limit) if n else process.communicate(timeout=limit)
    return subprocess.CompletedProcess(args, process.returncode, out, err)


def good_ranks(n: int, *args: str | Path, **more: Any) -> subprocess.CompletedProcess[bytes]:
    done = run_ranks(n, *args, **more)
    assert done.returncode == 0, f"{n} ranks: {' '.join(map(str, args))}\n{done.stderr.decode()[-4000:]}"
    return done


def bad_ranks(n: int, *args: str | Path, says: str, **more: Any) -> str:
    """Ends with one sentence of facet's, said once."""
    done = run_ranks(n, *args, **more)
    text = done.stderr.decode()
    assert done.returncode != 0, text
    said = [line for line in text.splitlines() if line.startswith(("facet: ", "ranks: "))]
    assert len(said) == 1 and says in said[0], text
    return said[0]
