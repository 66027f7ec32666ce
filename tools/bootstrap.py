"""Makes `.venv` hold exactly what `requirements.lock` and `data.lock` name, and nothing where it already does.

Only the standard library: it runs before anything is installed. What the packages are stands in
`pyproject.toml`, their versions and hashes in `requirements.lock` (`make lock` writes it). `data.lock` names packages
of which only the data files are wanted.
"""

import fcntl
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
LOCK = ROOT / "requirements.lock"
DATA_LOCK = ROOT / "data.lock"
STAMP = ENVIRONMENT / "installed.sha256"


def wanted() -> str:
    """What the environment must be: the locked packages, the project's own metadata, the interpreter."""
    digest = hashlib.sha256(sys.version.encode())
    for path in (LOCK, DATA_LOCK, ROOT / "pyproject.toml", Path(__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def run(*command: str | Path) -> None:
    environment = os.environ | {"VIRTUAL_ENV": str(ENVIRONMENT)}
    subprocess.run([str(part) for part in command], check=True, cwd=ROOT, env=environment)


def install() -> None:
    if sys.version_info < (3, 11):  # noqa: UP036 - this runs before anything could refuse an older one
        sys.exit(f"Hindcast needs Python 3.11 or later; this is {sys.version.split()[0]} ({sys.executable}).")
    print("Setting up .venv (once; a few minutes on a slow line)", flush=True)
    venv.create(ENVIRONMENT, with_pip=True, clear=True)
    python = ENVIRONMENT / "bin" / "python"
    # uv installs the rest in seconds; its own version and hashes are in the same lock.
    uv_pin = re.search(r"^uv==.*?(?=^\S)", LOCK.read_text() + "\nend", re.MULTILINE | re.DOTALL)
    if uv_pin is None:
        sys.exit(f"{LOCK.name} names no uv; write it again with `make lock`.")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as pin:
        pin.write(uv_pin.group())
        pin.flush()
        run(
            python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r", pin.name
        )
    uv = ENVIRONMENT / "bin" / "uv"
    run(uv, "pip", "sync", "--quiet", "--require-hashes", LOCK)
    run(uv, "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", ROOT)
    # Beside the environment's packages, not among them: such wheels bring top-level folders like `test` and `docs`.
    data = ("--no-deps", "--only-binary", ":all:", "--require-hashes", "--target", ENVIRONMENT / "data")
    run(uv, "pip", "install", "--quiet", *data, "-r", DATA_LOCK)


def main() -> None:
    # Two `make` at once in one clone: the second waits and then finds the work done.
    with (ROOT / ".venv.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if STAMP.exists() and STAMP.read_text() == wanted():
            return
        install()
        STAMP.write_text(wanted())


if __name__ == "__main__":
    main()
