"""A stopping criterion on text."""

from __future__ import annotations

import re
from typing import ClassVar

from pydantic import Field

from logitmill import Context, StoppingCriterion

_END = re.compile(r"[.!?]+[\"')\]]*(?=\s)")


class Sentences(StoppingCriterion, name="acme.sentences"):
    """So many sentences are complete. The text ends with the last one's punctuation.

    A sentence is complete when white space follows its ., ! or ?, with closing quotes and brackets between them.
    "3.5" ends none, an abbreviation followed by a space does.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"text"})

    n: int = Field(1, ge=1, description="how many sentences")

    def check_text(self, text: str, ctx: Context) -> int | None:
        ends = [match.end() for match in _END.finditer(text)]
        return ends[self.n - 1] if len(ends) >= self.n else None
