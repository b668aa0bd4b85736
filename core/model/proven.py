"""Which kinds of model have passed the slots' self-check on this machine, so that the next start need not repeat it.

What the check looks at (how a model builds its masks and positions) follows from its config, from the versions of the
libraries and from which kernels of our own there are, not from its weights: those are the key. A file in the cache
folder says that it passed; a failure is never kept.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from ..cache import cache_folder
from ..kernels import native
from .spec import LoadedModel

_CHECKED = 3
"""Goes into the key: raised when what is checked changes."""
_LIBRARIES = ("logitmill", "torch", "transformers", "bitsandbytes")


def proven(loaded: LoadedModel) -> bool:
    """Whether a model of this kind has passed."""
    return _place(loaded).is_file()


def remember(loaded: LoadedModel) -> None:
    """It has passed. Where the cache folder cannot be written, the next start checks again."""
    place = _place(loaded)
    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()


def _place(loaded: LoadedModel) -> Path:
    facts = [
        str(_CHECKED),
        type(loaded.model).__qualname__,
        loaded.model.config.to_json_string(use_diff=False),
        str(loaded.quantize),
        str(loaded.dtype),
        loaded.device.type,
        native.found().note if loaded.device.type == "cpu" else "",
        *(f"{name} {version(name)}" for name in _LIBRARIES),
    ]
    return cache_folder() / "proven" / hashlib.sha256("\n".join(facts).encode()).hexdigest()
