"""A runner's self-check: a short ragged batch through the slots against the plain model.

Architectures are many and some take positions, masks or sizes from places of their own. Rather than trust a list, the
slots are tried once at load: a wrong position or mask changes logits by far more than rounding does (on a trained model
by 1 to 3 times their spread, against 0.2 for the worst rounding seen, nf4 with bfloat16).
"""

from __future__ import annotations

import torch
from torch import Tensor

from .limits import model_length
from .packed import QuantizedLinear
from .slotted import SlotRunner

STEPS = 2
FAR = 1024  # positions read in the self-check: far more than the rows hold, and than what old models call local


def check_slots(runner: SlotRunner) -> str | None:
    """Why the slots of ``runner`` are not to be trusted; None where they agree with the plain model.

    Two rows of different lengths are prefilled (one in chunks) and decoded together; the plain model runs their whole
    sequences. Where they seem too far apart, the plain model with its own cache says how far rounding alone goes. A
    model whose layers choose between sdpa and eager by name, not through the interface, is tried with additive masks
    too. Attention reads far behind both rows, so that a window or a position that is taken from how much is read, not
    from the row, cannot go unseen. Also measures the bytes of a position, and notes whether the runner passed as made.
    """
    wanted, runner.max_length = runner.max_length, max(runner.max_length, FAR)
    runner.read_at_least = min(FAR, model_length(runner.model) or FAR)
    reason = _compare(runner)
    runner.as_made = reason is None
    if reason is not None and runner.captured is not None:
        runner.captured = None
        runner.reset()
        reason = _compare(runner)
    if reason is not None and runner.lean is not None and runner.lean.native is not None:
        runner.reset()
        runner.lean.native = None
        reason = _compare(runner)
    if reason is not None and runner.lean is not None:
        runner.reset()
        runner.lean = None
        reason = _compare(runner)
    if reason is not None and not runner.attention.eager:
        runner.reset()
        runner.attention.eager = True
        reason = _compare(runner)
    runner.max_length, runner.read_at_least = wanted, 0
    return reason


def _compare(runner: SlotRunner) -> str | None:
    name = type(runner.model).__name__
    spread = min(runner.vocab_size, 1000)
    sequences = [[(7 + 13 * i) % spread for i in range(5 + STEPS)], [(11 + 29 * i) % spread for i in range(11 + STEPS)]]
    plain = _plain(runner, sequences)
    try:
        found = _slots(runner, sequences)
    except Exception as error:  # any architecture of any version: whatever it is, its rows can still be run alone
        message = next(iter(str(error).splitlines()), "")
        return f"{name} did not run over slots ({type(error).__name__}: {message})"
    if runner.cache.consulted:
        return f"the layers of {name} ask for one length that all rows would share"
    runner.vocab_size = found[0].shape[-1]
    runner.bytes_by_device = runner.cache.bytes_by_device()
    runner.bytes_per_position = sum(runner.bytes_by_device.values())
    errors = [_distance(a, b[-len(a) :]) for a, b in zip(found, plain, strict=False)]
    dtype = runner.model.dtype if runner.model.dtype.is_floating_point else torch.float32
    exact = dtype == torch.float32 and not any(isinstance(each, QuantizedLinear) for each in runner.model.modules())
    # In half precision an expert or an int8 outlier may flip at one step; a mistake of ours shows at each of a row's.
    worst = max(float(row.max() if exact else row[1:].min()) for row in errors)
    allowed = 1e-4 if exact else 0.3
    if not worst <= allowed:  # a model that rounds more than most: how much does it by itself?
        allowed += 4 * max(float(_distance(_cached(runner, s), b).max()) for s, b in zip(sequences, plain, strict=True))
    if not worst <= allowed and not bool(torch.cat(plain).isnan().any()):
        return f"{name} gives other logits over slots than alone (off by {worst:.1e}, rounding is {allowed:.1e})"
    return None


def check_invariance(runner: SlotRunner) -> None:
    """Make ``runner`` decode row by row where a row's bits turn out to depend on its slot or its neighbours.

    So too where the model attends without our interface: how many keys it reads is then up to the longest row.
    """
    wanted, runner.max_length = runner.max_length, max(runner.max_length, FAR)
    tokens = [(5 + 17 * i) % min(runner.vocab_size, 1000) for i in range(9)]
    last = runner.rows - 1
    seen = []
    for slot in (0, last):
        runner.reset()
        for row in range(runner.rows):
            if row == slot or slot:  # alone in the first slot, then last of a full house of longer rows
                runner.prefill(row, tokens if row == slot else tokens[::-1] * (1 + row % 8))
        rows = slot + 1
        for step in range(STEPS):
            ids = torch.tensor([[tokens[step] if row == slot else row] for row in range(rows)], device=runner.device)
            seen.append(runner.decode(ids, rows)[slot])
    runner.max_length = wanted
    if not runner.cache.step.attended or not all(
        torch.equal(a, b) for a, b in zip(seen[:STEPS], seen[STEPS:], strict=True)
    ):
        runner.alone = True


def _plain(runner: SlotRunner, sequences: list[list[int]]) -> list[Tensor]:
    """Logits ``[T, V]`` of each sequence from the plain model, in one call: what follows a token does not matter."""
    longest = max(map(len, sequences))
    ids = torch.cat([_ids(runner, tokens + [0] * (longest - len(tokens))) for tokens in sequences])
    with torch.no_grad():
        logits: Tensor = runner.model(input_ids=ids, use_cache=False, return_dict=True).logits
    return [rows[: len(tokens)].to(runner.device).float() for rows, tokens in zip(logits, sequences, strict=True)]


def _cached(runner: SlotRunner, tokens: list[int]) -> Tensor:
    """The plain model with its own cache, two rows alike, step by step: our shapes and kernels, none of our code."""
    pair = _ids(runner, tokens).expand(2, -1)
    parts, cache = [], None
    with torch.no_grad():
        for ids in pair.tensor_split(list(range(len(tokens) - STEPS, len(tokens))), dim=1):
            out = runner.model(input_ids=ids, past_key_values=cache, use_cache=True, return_dict=True)
            cache = out.past_key_values
            parts.append(out.logits[0])
    return torch.cat(parts).to(runner.device).float()


def _slots(runner: SlotRunner, sequences: list[list[int]]) -> list[Tensor]:
    rows = min(runner.rows, len(sequences))
    found: list[list[Tensor]] = []
    for row, tokens in enumerate(sequences[:rows]):
        found.append([runner.prefill(row, tokens[:-STEPS], chunk=512 if row == 0 else 6)])
    for step in range(STEPS):
        ids = torch.tensor([[s[len(s) - STEPS + step]] for s in sequences[:rows]], device=runner.device)
        logits = runner.decode(ids, rows)
        for row in range(rows):
            found[row].append(logits[row : row + 1])
    return [torch.cat(parts) for parts in found]


def _distance(found: Tensor, expected: Tensor) -> Tensor:
    """Mean absolute difference over mean absolute deviation, for each position."""
    scale = (expected - expected.mean(-1, keepdim=True)).abs().mean(-1).clamp_min(1e-30)
    return (found - expected).abs().mean(-1) / scale


def _ids(runner: SlotRunner, tokens: list[int]) -> Tensor:
    return torch.tensor([tokens], dtype=torch.int64, device=runner.device)
