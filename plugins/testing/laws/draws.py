"""The law of draws: what a sampler picks lies in its law, and is the row's own."""

from __future__ import annotations

from torch import Tensor

from ....core.dist import Dist
from ....core.stage import Sampler, Stage
from .. import bench
from ..cases import Case
from ..law import Breach, law


@law(frozenset({"sampler"}))
def draws(stage: Stage, case: Case) -> Breach | None:
    """A draw has mass in the law, and depends on neither company nor columns."""
    tokens, law = drawn(stage, case, case.dist())
    outside = law.logprob_of(tokens) == -bench.INF
    if bool(outside.any()):
        row = int(outside[:, 0].nonzero()[0])
        return Breach(f"it picks token {int(tokens[row])}, which has no mass in its law", row)
    if bool((law.dense().alive & ~case.dist().alive).any()):
        return Breach("its law has tokens that were removed before")
    for row in range(case.rows):
        alone = case.select([row])
        own = int(drawn(stage, alone, alone.dist())[0])
        if own != int(tokens[row]):
            return Breach(f"alone it picks token {own}, in the batch {int(tokens[row])}", row)
    few = max(1, min(6, case.vocab - 1))
    cut, dense = drawn(stage, case, case.dist().narrow(few))[0], drawn(stage, case, case.dist().narrow(few).dense())[0]
    wrong = (cut != dense)[:, 0]
    if not bool(wrong.any()):
        return None
    row = int(wrong.nonzero()[0])
    return Breach(f"of the {few} best it picks {int(cut[row])} on {few} columns, {int(dense[row])} on all", row)


def drawn(stage: Stage, case: Case, dist: Dist) -> tuple[Tensor, Dist]:
    """The tokens picked, int64 [R, 1], and the law."""
    assert isinstance(stage, Sampler)
    made, view = bench.bound(stage, dist, case.context(dist))
    law = made.law(dist, made.init(view), view)
    tokens: Tensor = made.pick(law, view)
    return tokens, law


__all__ = ["drawn", "draws"]
