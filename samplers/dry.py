"""DRY, "don't repeat yourself": tokens that would go on repeating what is already there become less likely."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional

from ..core.context import Context
from ..core.dist import Dist
from ..core.kernels.repeats import repeats
from ..core.scalar import Scalar
from ..core.stage import LogitsProcessor
from ..core.vocab import Vocab
from .dry_breakers import DEFAULT_BREAKERS, Breakers, breakers
from .penalties import TEXTGEN_RANGE, places_of
from .token_keys import TokenKey

TEXTGEN_LONGEST = 50  # how far text-generation-webui follows a match
CHUNK = 32  # places compared at a time along a match
CELLS = 1 << 24  # of what is compared at a time
_FLOAT32 = torch.finfo(torch.float32)
_SMALLEST = 2.0**-149  # above zero in float32


class Dry(LogitsProcessor):
    """Lower what would extend a repetition: l' = l - multiplier * base^(L - allowed_length) where L >= allowed_length.

    L is the longest run of tokens at the end of prompt and output that stood there before with this token behind it.
    No run goes across a breaker (a token, or a sequence of them), and a token that breaks is never lowered. With
    ``window`` nothing before the last so many tokens counts. An amount beyond float32 removes the token. A multiplier
    of 0 is off; the default breakers are left out where there is no tokenizer.

    Source: p-e-w, text-generation-webui pull request 5677; llama.cpp's src/llama-sampler.cpp for its dialect.
    Dialects: textgen follows a run for at most 50 tokens, and of a breaker takes the last token it has at a text's
    end; llamacpp reads a text breaker as every token that holds it, and as every token whose end begins it before the
    tokens of the rest; of several breakers the one that begins last counts, not the one that ends last; the exponent
    stops where base^n would leave float32; with an allowed_length of 0 every token in the window is lowered.
    """

    pointwise: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"history"})
    identity_when: ClassVar[dict[str, Any]] = {"multiplier": 0.0, "window": 0}
    examples: ClassVar[tuple[str, ...]] = (
        "dry(0.8)",
        "dry(0.8, base=1.75, allowed_length=3, window=1024)",
        r'dry(0.8, breakers=["\n", r"[.!?]"])',
        'dry(0.8, dialect="llamacpp")',
    )

    multiplier: Scalar = Field(ge=0, description="what a repetition of just allowed_length tokens costs; 0 is off")
    base: Scalar = Field(1.75, ge=1, description="how many times dearer each further token of it is")
    allowed_length: Scalar[int] = Field(2, ge=0, description="how many tokens may be repeated before the next costs")
    window: int | None = Field(None, ge=0, description="only the last so many tokens; 0 is off")
    breakers: tuple[TokenKey, ...] = Field(
        DEFAULT_BREAKERS, description="where a repetition ends: ids, texts, sequences of ids or patterns"
    )
    dialect: Literal["logitmill", "llamacpp", "textgen"] = Field(
        "logitmill", description="llamacpp, textgen: other breakers and caps"
    )

    @model_validator(mode="after")
    def _window_as_said(self) -> Self:
        if self.dialect == "textgen" and self.window == 0:
            raise ValueError(TEXTGEN_RANGE)
        return self

    def prepare(self, vocab: Vocab) -> Breakers:
        return breakers(self.breakers, vocab, self.dialect)

    def apply(self, dist: Dist, state: Any, ctx: Context) -> Dist:
        tokens, lengths = ctx.tokens, ctx.lengths  # [R, T], [R, 1]
        if self.window == 0 or tokens.shape[1] < 2:
            return dist
        marks: Breakers = ctx.prepared(self)
        low = (lengths - (tokens.shape[1] if self.window is None else self.window)).clamp(min=0)
        farthest = self._farthest(tokens.shape[1], ctx)
        if (
            dist.looks
            and dist.ids is None
            and not (self.dialect == "llamacpp" and ctx.lower(self, "allowed_length") == 0)
        ):
            return self._where_repeated(dist, ctx, low, farthest, marks)
        runs = repeated(tokens, lengths, low, farthest)  # [R, T]
        runs = torch.minimum(runs, marks.room(tokens, lengths, low, by_head=self.dialect == "llamacpp"))
        places = torch.arange(tokens.shape[1], device=tokens.device)
        costs = torch.where((places >= low) & (places + 1 < lengths), self._costs(runs), 0.0)[:, :-1]
        following = tokens[:, 1:]
        columns, present = dist.columns_of(following)
        costs = torch.where(present & ~marks.at(marks.single, following), costs, 0.0)
        highest = torch.zeros_like(dist.logits).scatter_reduce_(-1, columns, costs, "amax")
        return dist.with_logits(dist.logits - highest)

    def _where_repeated(self, dist: Dist, ctx: Context, low: Tensor, farthest: int, marks: Breakers) -> Dist:
        """The same from the places of the last token alone, of which there are few: no other run is above 0."""
        tokens, lengths = ctx.tokens, ctx.lengths
        row, place, runs = _runs(tokens, lengths, low, farthest)
        if not len(row):
            return dist
        behind = place + 1
        following = tokens[row, behind]
        if marks.any:
            runs = torch.minimum(runs, marks.room(tokens, lengths, low, by_head=self.dialect == "llamacpp")[row, 0])
        costs = self._costs_in(runs, row, farthest)
        if marks.any:
            costs = torch.where(marks.at(marks.single, following), 0.0, costs)
        spots = row * dist.columns + following
        dearest = _dearest(spots, costs)
        held = dist.logits_at(places_of(dist, ctx))[row, behind]  # as the stages before, where they look at tokens too
        return dist.with_some(spots, held - dearest)

    def _costs_in(self, runs: Tensor, row: Tensor, farthest: int) -> Tensor:
        """``_costs`` of runs (int64 [n]) in these rows, none longer than ``farthest`` and a chunk."""
        values = {name: getattr(self, name) for name in self.scalars}
        if type(self) is not Dry or any(isinstance(value, Tensor) for value in values.values()):
            own = self.bound({name: v[row] if isinstance(v, Tensor) else v for name, v in values.items()})
            return own._costs(runs[:, None])[:, 0]
        return _table(self.dialect, tuple(values.items()), farthest + CHUNK)[runs]

    def _costs(self, runs: Tensor) -> Tensor:
        """Float32 [R, T]: what the token behind a run of this length costs, inf where float32 does not reach."""
        multiplier, base = _double(self.multiplier, runs), _double(self.base, runs)
        if self.dialect == "textgen":
            runs = runs.clamp(max=TEXTGEN_LONGEST)
        over = runs - self.allowed_length
        enough = over >= 0
        if self.dialect == "llamacpp":
            multiplier, base = multiplier.float().double(), base.float().double()
            over = torch.minimum(over, _most_llamacpp(base.float()))
        else:
            enough = enough & (runs > 0)
        amount = multiplier * base.pow(over.clamp(min=0).double())
        return torch.where(enough & (multiplier > 0), amount, 0.0).float()  # 0 * inf is not wanted

    def _farthest(self, width: int, ctx: Context) -> int:
        """How far a match has to be followed: further on its cost does not change, or is beyond float32 already."""
        if self.dialect == "textgen":
            return min(TEXTGEN_LONGEST, width)
        allowed, flattest = ctx.upper(self, "allowed_length"), ctx.lower(self, "base") or 1.0
        if allowed is None:
            return width
        if ctx.upper(self, "base") == 1.0:
            return int(min(max(allowed, 1), width))
        if flattest <= 1.0:
            return width
        least = ctx.lower(self, "multiplier") or _SMALLEST
        exponent = (math.log(_FLOAT32.max) - math.log(least)) / math.log(flattest)
        return int(min(allowed + max(exponent, 0.0) + 2, width))


def repeated(tokens: Tensor, lengths: Tensor, low: Tensor, farthest: int) -> Tensor:
    """For each place, how many tokens backwards from it equal those backwards from the row's end, one by one.

    tokens int64 [R, T], lengths int64 [R, 1]; nothing before the place ``low`` (int64 [R, 1]) is equal to anything.
    Counted as far as ``farthest`` tokens at least. Meaningless at the last place and past it. Returns int64 [R, T].
    """
    rows, width = tokens.shape
    chunk = max(1, min(CHUNK, farthest, CELLS // (rows * width)))
    reach = -(-farthest // chunk) * chunk
    places = torch.arange(width, device=tokens.device)
    before = functional.pad(torch.where(places >= low, tokens, -2), (reach, 0), value=-2)  # [R, reach + T]
    back = lengths - reach + torch.arange(reach, device=tokens.device)
    ending = torch.where(back >= low, tokens.gather(1, back.clamp(min=0)), -3)  # [R, reach], the newest last
    counts, whole = torch.zeros_like(tokens), (places < lengths - 1).expand(rows, -1)
    steps = torch.arange(chunk, dtype=torch.int16, device=tokens.device)
    for done in range(0, reach, chunk):
        start = reach - done - chunk
        windows = before[:, start + 1 : start + width + chunk].unfold(1, chunk, 1)  # [R, T, chunk], each ends done back
        same = windows == ending[:, None, start : start + chunk]
        differs = torch.where(same, -1, steps).amax(-1).long()  # [R, T]: the nearest step that is not the same
        counts += torch.where(whole, chunk - 1 - differs, 0)
        whole = whole & (differs < 0)
        if tokens.device.type == "cpu" and not bool(whole.any()):  # on a CPU looking is free
            break
    return counts


def _runs(tokens: Tensor, lengths: Tensor, low: Tensor, farthest: int) -> tuple[Tensor, Tensor, Tensor]:
    """(rows, places, ``repeated`` there), int64 [n] each: where a row's last token stood before. For a CPU: it looks.

    The last token itself, and what is before ``low``, are left out.
    """
    kernels = repeats()
    if kernels is not None:
        return kernels.runs(tokens, lengths, low, farthest)
    last = tokens.gather(1, (lengths - 1).clamp(min=0))
    row, place = ((tokens == last) & (lengths > 0)).nonzero(as_tuple=True)
    inside = (place >= low[row, 0]) & (place < lengths[row, 0] - 1)
    row, place = row[inside], place[inside]
    return row, place, followed(tokens, lengths, low, (row, place), farthest)


def _dearest(spots: Tensor, costs: Tensor) -> Tensor:
    """float32 [n]: the largest of the costs (float32 [n], 0 or more) that are at the same spot (int64 [n])."""
    kernels = repeats()
    if kernels is not None:
        return kernels.dearest(spots, costs)
    distinct, which = spots.unique(return_inverse=True)
    return torch.zeros(len(distinct)).scatter_reduce_(0, which, costs, "amax")[which]


def followed(tokens: Tensor, lengths: Tensor, low: Tensor, at: tuple[Tensor, Tensor], farthest: int) -> Tensor:
    """`repeated` for some places: (rows, places), int64 [n] each. Returns int64 [n]. For a CPU: it looks."""
    row, place = at
    counts, going = torch.zeros_like(row), torch.ones_like(row, dtype=torch.bool)
    first, newest = low[row], lengths[row] - 1  # [n, 1]
    for done in range(0, farthest, CHUNK):
        back = torch.arange(done, done + CHUNK)
        ours, ends = place[:, None] - back, newest - back  # [n, CHUNK]
        mine = torch.where(ours >= first, tokens[row[:, None], ours.clamp(min=0)], -2)
        same = mine == torch.where(ends >= first, tokens[row[:, None], ends.clamp(min=0)], -3)
        length = same.cumprod(-1).sum(-1)
        counts += torch.where(going, length, 0)
        going = going & (length == CHUNK)
        if not bool(going.any()):
            break
    return counts


@lru_cache(maxsize=64)
def _table(dialect: Any, values: tuple[tuple[str, Any], ...], longest: int) -> Tensor:
    """float32 [longest + 1]: what runs of each length cost, where no step changes that."""
    return Dry(dialect=dialect, **dict(values))._costs(torch.arange(longest + 1)[:, None])[:, 0]


def _double(value: Any, like: Tensor) -> Tensor:
    if isinstance(value, Tensor):
        return value.double()
    return torch.full((), value, dtype=torch.float64, device=like.device)


def _most_llamacpp(base: Tensor) -> Tensor:
    """The largest exponent there (int64): 88.7228391 / ln base, in float32; none for a base of 1."""
    most = (88.7228391 / base.log()).clamp(max=2.0**30).long()
    return torch.where((base > 1.000001) & (most > 0), most, 1 << 30)


__all__ = ["Dry"]
