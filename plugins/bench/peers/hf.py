"""transformers' own generate, on a model of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

#: what has to be installed
NEEDS = "transformers"


class Peer:
    """A model that transformers loads, and nobody else has touched; quantized by bitsandbytes where that can be."""

    def __init__(
        self, model: str, dtype: str, quantize: str | None, threads: int, rows: int, length: int, device: str
    ) -> None:
        import torch
        import transformers

        if device == "cpu":
            torch.set_num_threads(threads)
        computes = getattr(torch, dtype)
        config = _bitsandbytes(quantize, computes)
        with _quiet():
            loaded = transformers.AutoModelForCausalLM.from_pretrained(
                model, dtype=computes, device_map={"": device}, local_files_only=True,
                **({} if config is None else {"quantization_config": config}),
            )  # fmt: skip
            self._take(loaded, transformers.AutoTokenizer.from_pretrained(model, local_files_only=True))
        self.facts["weights"] = dtype if config is None else f"{quantize} in {dtype}"

    @classmethod
    def of(cls, model: Any, tokenizer: Any) -> Self:
        """A peer around a model that is loaded already."""
        peer = cls.__new__(cls)
        peer._take(model, tokenizer)
        return peer

    def _take(self, model: Any, tokenizer: Any) -> None:
        import transformers

        self.model, self.tokenizer = model.eval().requires_grad_(False), tokenizer
        own = model.generation_config
        # no end of sequence: every row is as long as was asked for; no sampling settings but those that are given
        model.generation_config = transformers.GenerationConfig(bos_token_id=own.bos_token_id, pad_token_id=0)
        self.facts = {"name": f"transformers {transformers.__version__}", "weights": str(model.dtype)[6:]}

    def generate(
        self, prompts: list[list[int]], tokens: int, sampling: dict[str, Any], seed: int
    ) -> tuple[list[list[int]], list[str]]:
        """The new tokens of each prompt, all of one length, and their text. ``sampling`` is generate's own."""
        import torch

        torch.manual_seed(seed)
        ids = torch.tensor(prompts, device=self.model.device)
        out = self.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, **sampling)
        new = out[:, ids.shape[1] :].tolist()
        return new, self.tokenizer.batch_decode(new)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without progress bars; afterwards as before, since this may be somebody else's process."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _bitsandbytes(quantize: str | None, computes: Any) -> Any:
    """What transformers is told about a quantization that it has; None where it has none of this name."""
    import transformers

    if quantize in ("nf4", "fp4"):
        return transformers.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type=quantize, bnb_4bit_compute_dtype=computes
        )
    return transformers.BitsAndBytesConfig(load_in_8bit=True) if quantize == "int8" else None
