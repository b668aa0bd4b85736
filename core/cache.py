"""The folder of what is made once on a machine and used at every later start."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """Where it lies: LOGITMILL_CACHE, else ``logitmill`` in the platform's cache folder."""
    if given := os.environ.get("LOGITMILL_CACHE"):
        return Path(given).expanduser()
    if sys.platform == "darwin":
        return Path("~/Library/Caches/logitmill").expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", "~/AppData/Local")).expanduser() / "logitmill" / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "logitmill"


__all__ = ["cache_folder"]
