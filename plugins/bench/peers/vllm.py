"""vLLM's LLM class, one engine in this very process."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

#: what has to be installed
NEEDS = "vllm"


class Peer:
    """An LLM without a prefix cache: prompts come again, and a cache would leave their prefill out.

    ``quantize`` is not used: what vLLM quantizes is made by other tools beforehand.
    """

    def __init__(
        self, model: str, dtype: str, quantize: str | None, threads: int, rows: int, length: int, device: str
    ) -> None:
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # no second process to wait for
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        if device == "cpu":
            os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")  # GiB
            cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(threads))
            os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", ",".join(map(str, cores[:threads])))
        self.vllm: Any = import_module("vllm")
        self.llm = self.vllm.LLM(
            model=model,
            dtype=dtype,
            max_model_len=length,
            max_num_seqs=rows,
            enable_prefix_caching=False,
            seed=0,
        )
        self.facts = {"name": f"vLLM {self.vllm.__version__}", "weights": dtype}

    def generate(
        self, prompts: list[list[int]], tokens: int, sampling: dict[str, Any], seed: int
    ) -> tuple[list[list[int]], list[str]]:
        """The new tokens of each prompt and their text. ``sampling`` is SamplingParams' own.

        ``seed`` is not used: a seed for each request gives vLLM a generator for each, which is slower than it can be.
        """
        asked = self.vllm.SamplingParams(**(sampling | {"max_tokens": tokens, "ignore_eos": True}))
        out = self.llm.generate([{"prompt_token_ids": ids} for ids in prompts], asked, use_tqdm=False)
        return [list(row.outputs[0].token_ids) for row in out], [row.outputs[0].text for row in out]
