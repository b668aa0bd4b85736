"""What figures were measured on: without it they say nothing."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ...core.kernels import native

PACKAGES = ("logitmill", "torch", "transformers", "bitsandbytes")
ROOT = Path(__file__).resolve().parents[2]


def machine() -> dict[str, str]:
    """Date, processor, threads, system, versions, kernels, load and, in a checkout, the commit."""
    import torch

    facts = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processor": f"{processor()}, {os.cpu_count()} logical cores, {torch.get_num_threads()} threads used",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": ", ".join(_versions()),
    }
    made = native.found()
    facts["kernels"] = "compiled here" if made.library is not None else f"none: {made.note}"
    if torch.cuda.is_available():
        facts["gpu"] = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
    if hasattr(os, "getloadavg"):
        facts["load"] = f"{os.getloadavg()[0]:.1f} in the minute before"
    if (commit := _commit()) is not None:
        facts["commit"] = commit
    return facts


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _versions() -> list[str]:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:  # run from a tree that is not installed
            continue
    return found


def _commit() -> str | None:
    """The commit of the checkout that this file lies in; None in an installed package."""
    if not (ROOT / ".git").exists():
        return None

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None
