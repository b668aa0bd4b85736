"""The extension kit: laws that a stage keeps, a bench to run one by hand, and a tiny model that needs no download.

    from logitmill.testing import assert_laws

    def test_laws() -> None:
        assert_laws(TopA, a=[0.0, 0.3, 1.0])

``laws()`` lists the laws. The fixtures ``engine``, ``byte_model``, ``register_plugin`` and ``strategy`` come with
logitmill itself: pytest finds them.
"""

from __future__ import annotations

from .plugins.testing.assertion import assert_laws, check_laws
from .plugins.testing.bench import apply, context, kept, law, logits_of, run, tokenizer
from .plugins.testing.law import Law, LawBroken, laws
from .plugins.testing.tiny import byte_model, byte_tokenizer, engine

__all__ = [
    "Law", "LawBroken", "apply", "assert_laws", "byte_model", "byte_tokenizer", "check_laws", "context", "engine",
    "kept", "law", "laws", "logits_of", "run", "tokenizer",
]  # fmt: skip
