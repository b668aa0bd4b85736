"""What parity tests leave behind: which stage was held against which peer, in how many cases, and how far apart."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest


@dataclass
class Parity:
    """``parity.note("top_k", "transformers", difference)`` after each comparison with a peer."""

    rows: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def note(self, stage: str, peer: str, difference: float, cases: int = 1) -> None:
        """``difference``: the largest absolute one, of probabilities (0.0: bitwise equal logits or equal tokens)."""
        self.rows.setdefault((stage, peer), []).extend([difference] * cases)


@pytest.fixture(scope="session")
def parity() -> Parity:
    return Parity()
