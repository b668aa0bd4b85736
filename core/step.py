"""One step of a batch on the device: logits to tokens, committed, and what the host has to know packed into a tensor.

A stage that raises ends only the rows it raises for: stages are pure, so a stacked call is run again row by row from
the state before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .batch import Batch
from .context import Context
from .dist import Dist
from .errors import NumericalError
from .halt import Halt, Verdict
from .session import Fault, Proposal, Session, Visit
from .stage import Search
from .transfer import Arriving, index_on

_FEW = 4096  # columns that are compared with a token one by one rather than searched

SHOWN = "'logitmill explain' shows what each stage made of its logits"

#: columns of ``Drawn.packed`` ahead of the stop flags: the token as ``pick`` gave it, the best logit of the model and
#: of the law, the token's own logit in the law, and its logprob in the model's distribution
PICKED, RAW_TOP, LAW_TOP, CHOSEN, LOGPROB, FLAGS = range(6)


@dataclass
class Drawn:
    """A step between the draw and the host's read of it."""

    tokens: Tensor  # int64 [n, 1]
    raw: Dist
    sessions: list[tuple[Session, Proposal]]
    packed: Arriving = field(default_factory=lambda: Arriving(torch.empty(0)))  # [n, 5 + L]
    measures: list[tuple[list[int], Arriving]] = field(default_factory=list)  # slots, float64 [R, m]


def draw(batch: Batch, halt: Halt) -> Drawn:
    """Run every session's pipeline on ``batch.logits``, draw, commit and pack. No host sync of its own."""
    assert batch.logits is not None
    count = len(batch)
    raw = Dist(batch.logits)
    ctx = batch.context(raw, range(count))
    proposals = [pair for session in batch.sessions for pair in _propose(batch, session, raw, ctx)]
    tokens = _by_slot([(session, proposal.tokens) for session, proposal in proposals], count, raw.device)
    tokens = tokens.clamp(0, raw.columns - 1)
    logprobs = raw.logprob_of(tokens).double() if "scores" in batch.needs else batch.zeros
    batch.history.append(tokens)
    if "entropies" in batch.needs:
        batch.history.record(raw.entropy)
    after = ctx.scored(ctx.scores + logprobs) if "scores" in batch.needs else ctx
    moved = [pair for session, proposal in proposals for pair in _commit(batch, session, proposal, tokens, after)]
    tested = [part for session, proposal in moved for part in _test(batch, halt, session, proposal, after)]
    batch.sessions = [part.session for part in tested]
    drawn = Drawn(tokens, raw, [(part.session, part.proposal) for part in tested])
    drawn.measures = [(part.session.index, Arriving(part.measures)) for part in tested if part.measures is not None]
    drawn.packed = _pack(raw, logprobs, tested)  # on its way before the next decode is queued behind it
    if batch.asked:
        for part in tested:
            _log(batch, part.session, part.proposal, drawn)
    return drawn


def _by_slot(parts: Sequence[tuple[Session, Tensor]], count: int, device: torch.device) -> Tensor:
    """One tensor [n, w] by slot from those of sessions, [R, w_s]; 0 where there is none."""
    if len(parts) == 1 and _whole(parts[0][0], count):
        return parts[0][1]
    dtype = parts[0][1].dtype if parts else torch.int64
    made = torch.zeros(count, max([1, *(part.shape[1] for _, part in parts)]), dtype=dtype, device=device)
    for session, part in parts:
        made[index_on(device, session.index), : part.shape[1]] = part
    return made


def _whole(session: Session, count: int) -> bool:
    """Whether the session is the batch, slot by slot."""
    return session.rows == count and session.index == list(range(count))


def _propose(batch: Batch, session: Session, raw: Dist, ctx: Context) -> list[tuple[Session, Proposal]]:
    try:
        if _whole(session, len(batch)):
            return [(session, session.propose(raw, ctx))]
        index = index_on(raw.device, session.index)
        return [(session, session.propose(raw.select(index), ctx.select(session.index)))]
    except Exception as error:  # a stage that breaks its contract may break the core's own arithmetic on it
        if session.rows == 1:
            batch.rows[session.index[0]].fail(error if isinstance(error, Fault) else Fault("pipeline", error))
            return []
    return [pair for i in range(session.rows) for pair in _propose(batch, session.select([i]), raw, ctx)]


def _commit(
    batch: Batch, session: Session, proposal: Proposal, tokens: Tensor, ctx: Context
) -> list[tuple[Session, Proposal]]:
    try:
        own = tokens if _whole(session, len(batch)) else tokens[index_on(tokens.device, session.index)]
        session.commit(proposal, own, ctx.select(session.index))
        return [(session, proposal)]
    except Exception as error:  # a stage that breaks its contract may break the core's own arithmetic on it
        if session.rows == 1:
            batch.rows[session.index[0]].fail(error if isinstance(error, Fault) else Fault("pipeline", error))
            return []
    alone = [(session.select([i]), proposal.select(i)) for i in range(session.rows)]
    return [pair for one, part in alone for pair in _commit(batch, one, part, tokens, ctx)]


@dataclass
class _Tested:
    """A session behind its commit: bool [R, L] stop flags, and float64 [R, m] what its search ranks rows by."""

    session: Session
    proposal: Proposal
    flags: Tensor
    measures: Tensor | None


def _test(batch: Batch, halt: Halt, session: Session, proposal: Proposal, ctx: Context) -> list[_Tested]:
    """The stop tests of a session, row by row where one raises: a stranger's criterion or signal may raise anything."""
    view = ctx.select(session.index)
    try:
        measures = _measures(session, proposal, view)
        return [_Tested(session, proposal, halt.flags(session, proposal.law, view), measures)]
    except Exception as error:
        if session.rows == 1:
            batch.rows[session.index[0]].fail(error if isinstance(error, Fault) else Fault("until", error))
            return []
    alone = [(session.select([i]), proposal.select(i)) for i in range(session.rows)]
    return [part for one, own in alone for part in _test(batch, halt, one, own, ctx)]


def _measures(session: Session, proposal: Proposal, ctx: Context) -> Tensor | None:
    searches = [node.stage for node in session.plans[0].nodes if isinstance(node.stage, Search)][-1:]  # which finishes
    values = [m.evaluate(proposal.law(), ctx).double() for search in searches for m in search.measures()]
    return torch.cat(values, -1) if values else None


def _pack(raw: Dist, logprobs: Tensor, tested: Sequence[_Tested]) -> Arriving:
    """[n, 5 + L]: what the host has to know, and looks at with numbers of its own rather than with tensors."""
    count = raw.rows
    tops = raw.max_logit
    parts = []
    for part in tested:
        session, proposal = part.session, part.proposal
        index = slice(None) if _whole(session, count) else index_on(raw.device, session.index)
        laws = proposal.laws
        law = laws[0][1] if len(laws) == 1 else None
        if law is not None and not session.plans[0].picks:  # the core's own draw: never outside its law
            top = chosen = law.max_logit
        else:
            top, chosen = _held(law, proposal.tokens) if law is not None else _held_by(proposal)
        columns = [proposal.tokens, tops[index], top, chosen, logprobs[index], part.flags]
        if len(tested) == 1 and _whole(session, count):
            return Arriving(*columns)
        parts.append((session, torch.cat(columns, -1)))  # float64, as logprobs are
    return Arriving(_by_slot(parts, count, raw.device))


def _held(law: Dist, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """float32 [R, 1] each: a law's best logit, and the logit it holds for tokens (int64 [R, 1]), -inf for none."""
    if law.columns <= _FEW and (law.is_ranked or law.ids is not None):
        logits, ids = law.candidates if law.is_ranked else (law.logits, law.token_ids())
        return law.max_logit, logits.masked_fill(ids != tokens, float("-inf")).amax(-1, keepdim=True)
    columns, present = law.columns_of(tokens)
    return law.max_logit, law.logits.gather(-1, columns).masked_fill(~present, float("-inf"))


def _held_by(proposal: Proposal) -> tuple[Tensor, Tensor]:
    """As ``_held``, of a proposal whose rows have several laws."""
    top = torch.zeros(len(proposal.tokens), 2, device=proposal.tokens.device)
    for rows, law in proposal.laws:
        top[rows] = torch.cat(_held(law, proposal.tokens[rows]), -1)
    return top[:, :1], top[:, 1:]


def _log(batch: Batch, session: Session, proposal: Proposal, drawn: Drawn) -> None:
    """Logprobs for the rows that asked, left on the device."""
    for at, i in enumerate(session.index):
        row = batch.rows[i]
        if row.request.ask.raw is not None:
            row.raw.append(_likeliest(drawn.raw.select([i]), drawn.tokens[i : i + 1], row.request.ask.raw))
        if row.request.ask.final is not None:
            row.final.append(_likeliest(proposal.law().select([at]), drawn.tokens[i : i + 1], row.request.ask.final))


def _likeliest(dist: Dist, token: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """(logprob of the token [], top logprobs [count], their ids [count]) of one row; -inf pads where fewer are left."""
    count = min(count, dist.vocab_size)
    best = dist.order[:, :count]
    values, ids = dist.logprobs.gather(-1, best)[0], dist.tokens_at(best)[0]
    room = count - len(values)
    padded = torch.nn.functional.pad(values, (0, room), value=float("-inf"))
    return dist.logprob_of(token)[0, 0], padded, torch.nn.functional.pad(ids, (0, room))


# -- faults ------------------------------------------------------------------------------------------------------------


def faulty(dist: Dist) -> Tensor:
    """bool [R, 1]: NaN, +inf, or nothing left."""
    return ~torch.isfinite(dist.max_logit)


def outside(law: Dist, tokens: Tensor) -> Tensor:
    """bool [R, 1]: tokens (int64 [R, 1]) that their law does not hold."""
    return ~(_held(law, tokens)[1] > float("-inf"))


def numerical_fault(batch: Batch, slot: int, at: int, proposal: Proposal, raw: Dist, *, from_model: bool) -> None:
    """A row ends because there is nothing to draw from; the error names the first stage whose logits are at fault."""
    row = batch.rows[slot]
    if from_model:
        stage, what = "model", trouble(raw.select([slot]))
        hint = 'the model itself gave it: load it with dtype="float32" or another quantize'
    else:
        own = proposal.select(at)
        stage, what = first_trouble(own.visits) or (own.visits[-1].node.name, "")
        hint = SHOWN
        if not what:
            fault = Fault(stage, ValueError(f"pick chose token {int(own.tokens)}, which the law does not hold"))
            row.fail(fault)
            return
    error = unsound(what, stage, hint, step=len(row.tokens), row=row.request.index)
    row.end(Verdict("error", None), error)


def unsound(what: str, stage: str, hint: str, *, step: int, row: int) -> NumericalError:
    """The error for logits there is nothing to draw from, with what to do about it."""
    return NumericalError(f"{what} among the logits", stage=stage, step=step, row=row, hint=hint)


def first_trouble(visits: Sequence[Visit]) -> tuple[str, str] | None:
    """(stage, what is wrong) of the first of one row's visits that left nothing to draw from."""
    bad = next((visit for visit in visits if bool(faulty(visit.after).any())), None)
    return None if bad is None else (bad.node.name, trouble(bad.after))


def trouble(dist: Dist) -> str:
    """What is wrong with logits that ``faulty`` found."""
    if bool(dist.logits.isnan().any()):
        return "NaN"
    return "+inf" if bool((dist.logits == float("inf")).any()) else "no finite logit"
