"""Who there is to convert from and to."""

from __future__ import annotations

from typing import NamedTuple


class Known(NamedTuple):
    """A peer: the module that knows its documents, what one is called, and in which forms it may come."""

    module: str
    title: str
    forms: str


PEERS = {
    "hf": Known(
        ".hf", "generation config", "transformers' GenerationConfig: an object, a dict, generation_config.json"
    ),
    "llamacpp": Known(".llamacpp", "llama.cpp configuration", "llama.cpp's command line, or a request to its server"),
    "vllm": Known(".vllm", "SamplingParams", "vLLM's SamplingParams: an object, a dict, JSON"),
    "openai": Known(".openai", "OpenAI request", "a chat or completion request in OpenAI's form: a dict, JSON"),
    "textgen": Known(".textgen", "text-generation-webui preset", "text-generation-webui's preset: YAML, a dict"),
    "logitmill": Known(".logitmill", "strategy", "a strategy: an object, text, YAML, JSON"),
}

__all__ = ["PEERS", "Known"]
