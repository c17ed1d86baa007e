"""What the checks share: the files of the project and the way to report."""

import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]


def project_files(root: pathlib.Path) -> list[pathlib.Path]:
    """Files under version control that exist, or every file where there is no git."""
    git = subprocess.run(["git", "-C", str(root), "ls-files", "-z"], capture_output=True, check=False)
    if git.returncode == 0 and (root / ".git").exists():
        found = [root / name for name in git.stdout.decode().split("\0") if name]
    else:
        found = sorted(root.rglob("*"))
    return [path for path in found if path.is_file()]


def c_files(root: pathlib.Path) -> list[pathlib.Path]:
    """C sources and headers."""
    return [path for path in project_files(root) if path.suffix in (".c", ".h")]


def strip_c(text: str) -> str:
    """C text with comments and the insides of literals blanked; lines and columns stay."""
    pattern = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)

    def blank(match: re.Match[str]) -> str:
        found = match.group()
        keep = found[0] if found[0] in "\"'" else ""
        inner = re.sub(r"[^\n]", " ", found)
        return keep + inner[1:-1] + keep if keep and len(found) > 1 else inner

    return pattern.sub(blank, text)


def report(name: str, problems: list[str]) -> int:
    """Prints the problems; the exit status."""
    for problem in problems:
        print(f"{name}: {problem}")
    if not problems:
        print(f"{name}: ok")
    return 1 if problems else 0
