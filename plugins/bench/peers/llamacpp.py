"""llama.cpp by its low-level calls: the rows are sequences of one batch, one decode a step, each with its own chain."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from importlib import import_module
from typing import Any

#: what has to be installed
NEEDS = "llama_cpp"


class Peer:
    """A GGUF file in llama.cpp. Its weights are as the file has them: ``dtype`` and ``quantize`` are not used."""

    def __init__(
        self, model: str, dtype: str, quantize: str | None, threads: int, rows: int, length: int, device: str
    ) -> None:
        self.c = c = import_module("llama_cpp.llama_cpp")
        self._quiet = c.llama_log_callback(lambda level, text, data: None)
        c.llama_log_set(self._quiet, ctypes.c_void_p(0))
        c.llama_backend_init()
        wanted = c.llama_model_default_params()
        wanted.n_gpu_layers = 0 if device == "cpu" else 999
        self.model = c.llama_model_load_from_file(model.encode(), wanted)
        if not self.model:
            raise RuntimeError(f"llama.cpp cannot load {model}: it reads GGUF files")
        self.vocab = c.llama_model_get_vocab(self.model)
        room = c.llama_context_default_params()
        room.n_ctx = rows * (-(-length // 256) * 256)  # of all sequences together, each a multiple of 256
        room.n_batch = room.n_ubatch = max(512, rows * length)
        room.n_seq_max = rows
        room.n_threads = room.n_threads_batch = threads
        self.context = c.llama_init_from_model(self.model, room)
        if not self.context:
            raise RuntimeError(f"llama.cpp has no room for {rows} rows of {length} tokens")
        self.memory = c.llama_get_memory(self.context)
        self.batch = c.llama_batch_init(room.n_batch, 0, 1)
        said = ctypes.create_string_buffer(256)
        c.llama_model_desc(self.model, said, 256)
        version = import_module("llama_cpp").__version__
        self.facts = {"name": f"llama.cpp (llama-cpp-python {version})", "weights": said.value.decode().split()[-1]}

    def generate(
        self, prompts: list[list[int]], tokens: int, sampling: dict[str, Any], seed: int
    ) -> tuple[list[list[int]], list[str]]:
        """The new tokens of each prompt and their text. ``sampling``: {"samplers": [[name, value], ...]}, in order."""
        c, context = self.c, self.context
        chains = [self._chain(sampling["samplers"], seed + row) for row in range(len(prompts))]
        c.llama_memory_clear(self.memory, False)
        made: list[list[int]] = [[] for _ in prompts]
        self.batch.n_tokens = 0
        last = []  # where in the batch each row's logits are
        for row, ids in enumerate(prompts):
            for place, token in enumerate(ids):
                self._add(token, place, row, place == len(ids) - 1)
            last.append(self.batch.n_tokens - 1)
        for step in range(tokens):
            if c.llama_decode(context, self.batch) != 0:
                raise RuntimeError("llama.cpp: llama_decode failed")
            for row, chain in enumerate(chains):
                made[row].append(c.llama_sampler_sample(chain, context, last[row]))
            self.batch.n_tokens = 0
            for row, ids in enumerate(prompts):
                self._add(made[row][-1], len(ids) + step, row, True)
                last[row] = row
        for chain in chains:
            c.llama_sampler_free(chain)
        return made, [self._text(row) for row in made]

    def _add(self, token: int, place: int, row: int, wanted: bool) -> None:
        batch, at = self.batch, self.batch.n_tokens
        batch.token[at], batch.pos[at], batch.n_seq_id[at] = token, place, 1
        batch.seq_id[at][0], batch.logits[at] = row, wanted
        batch.n_tokens = at + 1

    def _chain(self, samplers: Sequence[Sequence[Any]], seed: int) -> Any:
        c = self.c
        chain = c.llama_sampler_chain_init(c.llama_sampler_chain_default_params())
        makers = {
            "temperature": c.llama_sampler_init_temp,
            "top_k": c.llama_sampler_init_top_k,
            "top_p": lambda p: c.llama_sampler_init_top_p(p, 1),
            "min_p": lambda p: c.llama_sampler_init_min_p(p, 1),
            "typ_p": lambda p: c.llama_sampler_init_typical(p, 1),
            "top_n_sigma": c.llama_sampler_init_top_n_sigma,
            "greedy": c.llama_sampler_init_greedy,
            "xtc": lambda p, threshold: c.llama_sampler_init_xtc(p, threshold, 1, seed),
            "dist": lambda: c.llama_sampler_init_dist(seed),
        }
        for name, *values in samplers:
            c.llama_sampler_chain_add(chain, makers[name](*values))
        return chain

    def _text(self, tokens: list[int]) -> str:
        size = 16 * len(tokens) + 64
        room = ctypes.create_string_buffer(size)
        ids = (self.c.llama_token * len(tokens))(*tokens)
        used = self.c.llama_detokenize(self.vocab, ids, len(tokens), room, size, False, True)
        return room.raw[: max(used, 0)].decode("utf-8", "replace")
