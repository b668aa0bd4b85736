"""Laws of tensors: float32 on any device, from logits of any precision, and no wait for the host."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ....core.dist import Dist
from ....core.expression import Expression
from ....core.stage import Combinator, LogitsProcessor, Sampler, Stage, StoppingCriterion
from ....core.state import HostState
from .. import bench
from ..cases import Case
from ..law import ROWS, Breach, first_line, law
from ..outcome import apart, on, outcome, shown
from ..walk import keeps_state

LOOSE = 1e-4  # relative: another device sums in another order
ON_THE_HOST = (
    "what waits: .item(), .tolist(), a tensor behind `if`, nonzero, tensor[mask], a tensor made elsewhere than on "
    "ctx.device; torch.where does not"
)


def accelerators() -> list[str]:
    """Devices besides the CPU that the laws can use here."""
    return ["cuda"] if torch.cuda.is_available() else []


@law(ROWS)
def float32(stage: Stage, case: Case) -> Breach | None:
    """It works in float32 from logits of any precision, on the CPU and on CUDA where there is one."""
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        coarse = case.dist(dtype=dtype)
        got = outcome(stage, case, coarse)
        if isinstance(got, Dist) and got.logits.dtype != torch.float32:
            return Breach(f"from {_name(dtype)} logits it gives {_name(got.logits.dtype)}")
        row = apart(got, outcome(stage, case, Dist(coarse.logits.float())))
        if row is not None:
            return Breach(f"from {_name(dtype)} logits it gives {shown(got, row)}", row)
    for device in accelerators():
        breach = _elsewhere(stage, case, device)
        if breach is not None:
            return breach
    return None


def _elsewhere(stage: Stage, case: Case, device: str) -> Breach | None:
    here, there = outcome(stage, case), outcome(stage, case, case.dist(device))
    value = there.logits if isinstance(there, Dist) else there
    if isinstance(value, Tensor) and value.device.type != device:
        return Breach(f"on {device} it gives a result on the {value.device.type}")
    there = Dist(there.dense().logits.cpu()) if isinstance(there, Dist) else getattr(there, "cpu", lambda: there)()
    row = next((i for i in range(case.rows) if not _close(here, there, i)), None)
    if row is None:
        return None
    return Breach(f"on {device} it gives {shown(there, row)}, on the CPU {shown(here, row)}", row)


def _close(here: Any, there: Any, row: int) -> bool:
    if isinstance(here, Dist):
        x, y = here.dense().logits[row], there.logits[row]
        return torch.equal(x > -bench.INF, y > -bench.INF) and torch.allclose(x, y, rtol=LOOSE, atol=LOOSE)
    if isinstance(here, Tensor) and here.is_floating_point():
        return torch.allclose(here[row], there[row], rtol=LOOSE, atol=LOOSE)
    return bool(here[row] == there[row])


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@law(ROWS)
def no_host(stage: Stage, case: Case) -> Breach | None:
    """It never waits for the device, unless it says so (reads_host).

    On the meta device a tensor has no value: whatever reads one on the host raises.
    """
    if _says_so(stage):
        return None
    dist = case.dist("meta")
    try:
        found = _runs(stage, case, dist)
    except (RuntimeError, NotImplementedError, ValueError, TypeError) as error:
        where = "on tensors without values (the meta device)"
        return Breach(f"{where} it raised {type(error).__name__}: {first_line(error)}\n  {ON_THE_HOST}")
    if isinstance(found, Tensor) and found.device.type != "meta":
        return Breach(f"its result is on the {found.device.type}, the logits on another device")
    return None


def _says_so(stage: Stage) -> bool:
    if isinstance(stage, StoppingCriterion):
        return False  # text is for check_text; check is asked on the device
    if stage.reads_host:
        return True
    held = [getattr(stage, name) for name in type(stage).model_fields]
    reads = [read.signal for value in held if isinstance(value, Expression) for read in value.reads()]
    return any(signal.reads_host for signal in reads)


def _runs(stage: Stage, case: Case, dist: Dist) -> Any:
    """Whatever a stage does in a step, without values."""
    if isinstance(stage, Combinator):  # its children are the core's to run, and stages of their own
        return None if stage.sequential else stage.weights(dist, case.context(dist))
    found: Any = None
    for given in (stage, [stage] * case.rows):
        found = on(given, dist, case.context(dist))
    if not isinstance(stage, LogitsProcessor | Sampler):
        return found
    if isinstance(stage, LogitsProcessor) and not keeps_state(stage):
        return found.logits
    made, view = bench.bound(stage, dist, case.context(dist))
    state = made.init(view)
    law = made.law(dist, state, view) if isinstance(stage, Sampler) else made.apply(dist, state, view)
    tokens = made.pick(law, view) if isinstance(stage, Sampler) else torch.zeros_like(view.lengths)
    if not isinstance(state, HostState):
        made.accept(state, tokens, law, view.after(dist))
    return law.logits


__all__ = ["accelerators", "float32", "no_host"]
