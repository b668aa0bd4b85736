"""A workshop: an environment of its own over the packages present, in which things are installed and run.

``pip install`` there changes nothing here. logitmill itself is this tree, as an installed package; its programs and
those of the tools are found by their names. Nothing is downloaded.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = {"logitmill": "logitmill", "pytest": "pytest", "mypy": "mypy", "pip": "pip"}


class Workshop:
    """``run("pip install -e .", cwd)`` in ``home``'s environment."""

    def __init__(self, home: Path) -> None:
        self.home = home
        venv.create(home, with_pip=False, symlinks=os.name != "nt")
        self.bin = home / ("Scripts" if os.name == "nt" else "bin")
        self.python = self.bin / "python"
        tree = home / "tree"
        tree.mkdir()
        (tree / "logitmill").symlink_to(ROOT, target_is_directory=True)
        query = [self.python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
        site = Path(subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip())
        # Path files in *those* folders (an editable install's) are not read, so logitmill is what the tree has.
        present = [entry for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))]
        (site / "present.pth").write_text("\n".join([str(tree), *dict.fromkeys(present)]) + "\n", encoding="utf-8")
        for name, module in PROGRAMS.items():
            script = self.bin / name
            script.write_text(f'#!/bin/sh\nexec "{self.python}" -m {module} "$@"\n', encoding="utf-8")
            script.chmod(0o755)

    def run(
        self, command: str, cwd: Path, *, fails: bool = False, **extra: str
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """A line of shell that must succeed, or with ``fails`` must not."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command], cwd=cwd, env=self.environment(extra), capture_output=True,
            text=True, encoding="utf-8", check=False,
        )  # fmt: skip
        assert (done.returncode != 0) is fails, f"$ {command}\n{done.stdout}\n{done.stderr}"
        return done

    def environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        """This process's environment with the workshop's programs first, and a pip that reaches for nothing."""
        here = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "LOGITMILL_", "PYTEST_", "PIP_"))}
        return {
            **here,
            "PATH": os.pathsep.join([str(self.bin), str(Path(sys.executable).parent), here["PATH"]]),
            "VIRTUAL_ENV": str(self.home),
            "OMP_NUM_THREADS": "1",
            "PIP_NO_INDEX": "1",
            "PIP_NO_BUILD_ISOLATION": "0",  # pip reads the value of this one as that of --build-isolation
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "MYPY_CACHE_DIR": str(ROOT / ".mypy_cache" / "workshop"),
            **extra,
        }
