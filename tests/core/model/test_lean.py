"""The lean decoder step gives what transformers' own forward gives, family by family, and steps aside where it may
not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

import logitmill as lm
from logitmill.core.errors import ModelError
from logitmill.core.kernels import native
from logitmill.core.model import lean, pack
from logitmill.core.model.lean import MANY, LeanDecoder, misfit
from logitmill.core.model.lean_native import NativeLayers
from logitmill.core.model.runner import make_runner
from logitmill.core.model.slotted import SlotRunner

VOCAB, WINDOW = 320, 8
SMALL: dict[str, Any] = {
    "vocab_size": VOCAB, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 512, "initializer_range": 0.2,
    "tie_word_embeddings": False, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
FAMILY: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama, one key head": ("llama", {"num_key_value_heads": 1}),
    "llama, a key head for each": ("llama", {"num_key_value_heads": 4}),
    "llama, biases, tied": ("llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    "llama, wide heads": ("llama", {"head_dim": 64}),
    "llama, many heads of one key": (
        "llama", {"hidden_size": 112, "num_attention_heads": 7, "num_key_value_heads": 1}),
    "llama, a size that the kernels do not take": ("llama", {"intermediate_size": 120}),
    "llama 3's rotation": ("llama", {"rope_parameters": {
        "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64}}),
    "yarn": ("llama", {"rope_parameters": {
        "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 128}}),
    "mistral": ("mistral", {"sliding_window": None}),
    "mistral, a window": ("mistral", {"sliding_window": WINDOW, "head_dim": 16}),
    "mistral, a window of 24": ("mistral", {"sliding_window": 24}),
    "qwen2": ("qwen2", {}),
    "qwen2, windows in some layers": (
        "qwen2", {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 2}),
    "qwen3": ("qwen3", {}),
    "qwen3, heads too small for the kernels": ("qwen3", {"head_dim": 16}),
    "smollm3, layers that do not rotate": ("smollm3", {"no_rope_layers": [1, 0, 1, 0]}),
}  # fmt: skip


def build(kind: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    name, changes = FAMILY[kind]
    torch.manual_seed(0)
    config = AutoConfig.for_model(name, **SMALL | changes)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():  # norms and biases that do something
        if parameter.dim() == 1:
            parameter.data = 1 + 0.2 * torch.randn_like(parameter) if "norm" in name else torch.randn_like(parameter)
    return model


def greedy(model: PreTrainedModel, prompts: list[list[int]], steps: int, runner: SlotRunner) -> list[list[int]]:
    """Rows of different lengths, decoded together."""
    logits = torch.cat([runner.prefill(row, prompt, chunk=7) for row, prompt in enumerate(prompts)])
    made: list[list[int]] = [[] for _ in prompts]
    for _ in range(steps):
        tokens = logits.argmax(-1, keepdim=True)
        for row, token in zip(made, tokens[:, 0].tolist(), strict=True):
            row.append(token)
        logits = runner.decode(tokens, len(prompts))
    return made


def step_by_step(runner: SlotRunner, text: list[int]) -> torch.Tensor:
    """Logits behind each token, which come one at a time behind the first."""
    found = [runner.prefill(0, text[:1]), *(runner.decode(torch.tensor([[token]]), 1) for token in text[1:])]
    return torch.cat(found)


PROMPTS = [[5, 7, 11, 300, 2, 9], [8, 21, 34], [3 + 5 * i for i in range(19)]]


@pytest.fixture(params=["kernels", "no kernels"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether there are any; with and without."""
    if request.param == "no kernels":
        monkeypatch.setattr(native, "library", lambda: None)
    return native.library() is not None


@pytest.mark.parametrize("kind", FAMILY)
@pytest.mark.parametrize("layers", ["as loaded", "repacked", "fused"])
def test_greedy_tokens_are_those_of_generate(kind: str, layers: str, kernels: bool) -> None:
    model = build(kind)
    expected = []
    for prompt in PROMPTS:
        out = model.generate(
            torch.tensor([prompt]), do_sample=False, max_new_tokens=24, min_new_tokens=24, eos_token_id=None
        )
        expected.append(out[0, len(prompt) :].tolist())
    if layers == "repacked":
        pack.repack(model)
    elif layers == "fused":
        pack.fuse(model)
    runner = SlotRunner(model, rows=4, max_length=128)
    assert runner.lean is not None, misfit(model)
    assert (runner.lean.native is not None) == (
        kernels and model.config.head_dim > 16 and model.config.intermediate_size % 16 == 0
    )
    assert greedy(model, PROMPTS, 24, runner) == expected


@pytest.mark.parametrize("kind", FAMILY)
def test_several_prompts_in_one_pass_are_each_alone(kind: str) -> None:
    model = build(kind)
    one, many = (SlotRunner(model, rows=4, max_length=128) for _ in range(2))
    alone = torch.cat([one.prefill(row, prompt) for row, prompt in enumerate(PROMPTS, 1)])
    together = many.prefill_many(1, PROMPTS)
    assert together is not None
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)
    assert many.lengths == one.lengths == [0, *map(len, PROMPTS)]
    tokens = torch.tensor([[4]] * 4)
    for runner in (one, many):
        runner.prefill(0, [1, 2, 3])
    torch.testing.assert_close(one.decode(tokens, 4), many.decode(tokens, 4), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", FAMILY)
def test_in_bfloat16_it_is_within_its_rounding(kind: str, kernels: bool) -> None:
    model = build(kind, torch.bfloat16)
    text = [(7 * i * i + 3) % VOCAB for i in range(48)]
    lean = step_by_step(SlotRunner(model, rows=2, max_length=64), text)
    plain = SlotRunner(model, rows=2, max_length=64, lean=False).logits_of(text)
    exact = SlotRunner(model.float(), rows=2, max_length=64, lean=False).logits_of(text)
    ours, theirs = (float((found - exact).abs().mean()) for found in (lean, plain))
    assert ours < 1.3 * theirs


@pytest.mark.parametrize("bits", [4, 8])
def test_a_stream_of_float32_around_quantized_layers(bits: int) -> None:
    """Their products take bfloat16 whatever comes: it is the model's own forward, but for where that rounds."""
    model = build("llama", torch.float32)
    pack.quantize(model, bits)
    text = [(7 * i * i + 3) % VOCAB for i in range(48)]
    lean = step_by_step(SlotRunner(model, rows=2, max_length=64), text)
    plain = SlotRunner(model, rows=2, max_length=64, lean=False).logits_of(text)
    torch.testing.assert_close(lean, plain, atol=0.02 * float(plain.std()), rtol=0)
    assert lean.dtype == torch.float32
    runner = make_runner(model, rows=2, max_length=64)
    assert isinstance(runner, SlotRunner)
    assert runner.lean is not None, "the self-check does not take bfloat16's rounding for a mistake"


def test_logits_may_be_written_to() -> None:
    """A stage of anybody's may, and tensors of inference mode refuse it."""
    runner = SlotRunner(build("llama"), rows=2, max_length=64)
    logits = runner.prefill(0, [1, 2, 3])
    logits[0, 0] = 1.0
    runner.decode(torch.tensor([[1]]), 1)[0, 0] = 1.0
    runner.copy(0, 1)
    runner.rewind(0, 1)
    assert not logits.is_inference()


@pytest.mark.parametrize("change", ["hook", "another layer", "an adapter", "a norm", "weights", "a forward"])
def test_a_changed_model_runs_its_own_forward(change: str) -> None:
    model = build("llama")
    pack.fuse(model)
    runner = SlotRunner(model, rows=2, max_length=64)
    before = runner.prefill(0, [1, 2, 3])
    mlp = model.model.layers[1].mlp
    if change == "hook":
        mlp.register_forward_hook(lambda module, inputs, output: output * 0)
    elif change == "another layer":
        mlp.down_proj = torch.nn.Linear(128, 64, bias=False)
    elif change == "an adapter":
        mlp.up_proj = torch.nn.Sequential(mlp.up_proj, torch.nn.Tanh())
    elif change == "a norm":
        model.model.layers[1].input_layernorm.weight.mul_(3)
    elif change == "weights":
        mlp.up_proj.weight.data = torch.randn_like(mlp.up_proj.weight)
    else:
        forward = mlp.forward
        mlp.forward = lambda x: 2 * forward(x)
    after = runner.prefill(0, [1, 2, 3])
    plain = model(input_ids=torch.tensor([[1, 2, 3]])).logits[:, -1]
    assert runner.lean is None
    torch.testing.assert_close(after, plain, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(before, after, atol=1e-3)


def test_what_it_is_not_for() -> None:
    gpt = AutoModelForCausalLM.from_config(AutoConfig.for_model("gpt2", n_embd=32, n_layer=1, n_head=2, vocab_size=64))
    assert "not of the Llama family" in str(misfit(gpt))
    config = AutoConfig.for_model("llama", **SMALL | {"hidden_act": "gelu"})
    assert misfit(AutoModelForCausalLM.from_config(config)) == "its activation is gelu"

    class Own(type(build("llama"))):  # type: ignore[misc]
        """A subclass may do anything in its forward."""

    assert "not of the Llama family" in str(misfit(Own(AutoConfig.for_model("llama", **SMALL))))
    mixed = build("llama")
    mixed.model.norm.weight.data = mixed.model.norm.weight.data.double()
    assert "another dtype" in str(misfit(mixed))
    with pytest.raises(ValueError, match="Llama family"):
        LeanDecoder(gpt)


def test_reference_and_other_models_run_their_own_forward() -> None:
    runner = make_runner(build("llama"), rows=2, max_length=64, lean=False)
    assert isinstance(runner, SlotRunner)
    assert runner.lean is None
    assert runner.prefill_many(0, [[1, 2], [3]]) is None
    assert runner.lengths == [0, 0]


def test_the_check_at_load_finds_a_lean_step_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    from logitmill.core.model import lean_parts

    monkeypatch.setattr(lean_parts.Rotation, "of", lambda self, heads: heads)
    runner = make_runner(build("llama"), rows=2, max_length=64)
    assert isinstance(runner, SlotRunner)
    assert runner.lean is None


@pytest.mark.skipif(native.library() is None, reason=f"no kernels here: {native.found().note}")
def test_the_check_at_load_does_without_kernels_that_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    real = NativeLayers.__call__
    wrong = lambda self, x, *rest: real(self, x, *rest).flip(-1)  # noqa: E731
    monkeypatch.setattr(NativeLayers, "__call__", wrong)
    runner = make_runner(build("llama"), rows=2, max_length=64)
    assert isinstance(runner, SlotRunner)
    assert runner.lean is not None
    assert runner.lean.native is None


def test_the_default_dtype_is_no_matter() -> None:
    model, text = build("llama"), [(5 * i + 1) % VOCAB for i in range(200)]
    expected = step_by_step(SlotRunner(model, rows=2, max_length=256), text)
    torch.set_default_dtype(torch.bfloat16)
    try:
        found = step_by_step(SlotRunner(model, rows=2, max_length=256), text)
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(found, expected)


def test_norms_of_heads_that_move_between_steps() -> None:
    model = build("qwen3")
    runner, still = (SlotRunner(model, rows=1, max_length=64) for _ in range(2))
    assert runner.lean is not None
    tokens = torch.tensor([[3]])
    for each in (runner, still):
        each.prefill(0, [1, 2, 3])
    expected = still.decode(tokens, 1)
    model.share_memory()
    torch.testing.assert_close(runner.decode(tokens, 1), expected)


@pytest.mark.parametrize("batch_invariant", [False, True])
def test_slots_behind_others_and_after_a_rewind(kernels: bool, batch_invariant: bool) -> None:
    model = build("mistral, a window of 24")
    ours, plain = (
        SlotRunner(model, rows=4, max_length=96, lean=lean, batch_invariant=batch_invariant) for lean in (True, False)
    )
    for runner in (ours, plain):
        for row, prompt in enumerate([*PROMPTS, PROMPTS[0]]):
            runner.prefill(row, prompt * 3)
    last = PROMPTS[0] * 3
    for step in range(30):
        tokens = torch.tensor([[(step * 7 + row) % VOCAB] for row in range(4)])
        last.append(int(tokens[3]))
        torch.testing.assert_close(ours.decode(tokens, 4), plain.decode(tokens, 4), atol=1e-4, rtol=1e-4)
        if step == 10:
            for runner in (ours, plain):
                runner.rewind(2, runner.lengths[2] - 9)
        last.append(5)
        parts = [runner.prefill(3, last, start=len(last) - 1) for runner in (ours, plain)]
        torch.testing.assert_close(*parts, atol=1e-4, rtol=1e-4)


def test_compiled_it_is_the_same_and_the_wait_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    model = build("llama")
    pack.fuse(model)
    plain = greedy(model, PROMPTS, 12, SlotRunner(model, rows=3, max_length=64))
    runner = SlotRunner(model, rows=3, max_length=64)
    assert runner.compile() is None
    assert runner.lengths == [0, 0, 0]
    assert greedy(model, PROMPTS, 12, runner) == plain
    said = capsys.readouterr().err
    assert "compiling the decoder step ..." in said
    assert "compiling the decoder step: done in" in said


def test_what_compiling_does_not_help_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    gpt = AutoModelForCausalLM.from_config(AutoConfig.for_model("gpt2", n_embd=32, n_layer=1, n_head=2, vocab_size=64))
    assert SlotRunner(gpt, rows=1, max_length=16).compile() == "GPT2LMHeadModel runs its own forward"
    repacked = build("llama")
    pack.repack(repacked)
    assert "oneDNN" in str(SlotRunner(repacked, rows=1, max_length=16).compile())
    runner = SlotRunner(build("llama"), rows=1, max_length=16)

    def fail(*a: object, **k: object) -> None:
        raise RuntimeError("no compiler found")

    monkeypatch.setattr(torch, "compile", lambda *a, **k: fail)
    with pytest.raises(ModelError, match=r"torch\.compile failed \(no compiler found\).*leave compile out"):
        runner.compile()


def test_a_step_that_was_turned_off_is_checked_again_at_the_next_start(
    tiny: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from logitmill.core.model import lean_parts

    monkeypatch.setattr(lean_parts.Rotation, "of", lambda self, heads: heads)
    for _ in range(2):
        with lm.load(tiny, quantize=None, max_length=64) as engine:
            assert engine.runner.lean is None


def test_layers_of_bitsandbytes_may_lay_their_weights_out_anew(tiny: Path, cache: Path) -> None:
    with lm.load(tiny, quantize="nf4", max_length=64) as engine:
        made = [engine.generate([[5, 6, 7]], "greedy until max_tokens(4)")[0].tokens for _ in range(3)]
        assert engine.runner.lean is not None
        assert made[1] == made[2]


def rows_of(runner: SlotRunner, count: int) -> torch.Tensor:
    """The logits of ``count`` rows that have read the same and take the same next token."""
    runner.reset()
    for row in range(count):
        runner.prefill(row, PROMPTS[0])
    return runner.decode(torch.full((count, 1), 17), count)


@pytest.mark.parametrize("bits", [4, 8])
def test_many_rows_take_a_quantized_head_as_the_embedding_it_is_of(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lean, "cpu_has_bfloat16", lambda: True)
    model = build("llama, biases, tied", torch.bfloat16)
    pack.quantize(model, bits)
    runner = SlotRunner(model, rows=8, max_length=64)
    assert runner.lean is not None
    taken: list[int] = []
    held = runner.lean._head_of_many
    assert held is not None
    runner.lean._head_of_many = lambda x: taken.append(len(x)) or held(x)
    few, many = rows_of(runner, MANY - 1), rows_of(runner, MANY)
    assert taken == [MANY], "neither few rows, nor a prompt"
    runner.lean._head_of_many = None
    own = rows_of(runner, MANY)
    torch.testing.assert_close(own[: MANY - 1], few)
    dense = torch.nn.functional.linear(torch.eye(64), model.get_input_embeddings().weight.float())
    quantized = torch.nn.functional.linear(torch.eye(64), model.lm_head.weight.float())
    rough = (dense - quantized).abs().amax() * 64
    assert float((many - own).abs().amax()) < float(rough)
    assert not torch.equal(many, own)


def test_a_head_is_held_twice_only_where_that_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lean, "cpu_has_bfloat16", lambda: True)

    def held(kind: str, dtype: torch.dtype = torch.bfloat16, quantized: bool = True) -> bool:
        model = build(kind, dtype)
        if quantized:
            pack.quantize(model, 4)
        return LeanDecoder(model)._head_of_many is not None

    assert held("llama, biases, tied")
    assert not held("llama"), "not tied"
    assert not held("llama, biases, tied", quantized=False), "not quantized"
    assert not held("llama, biases, tied", torch.float32), "an embedding of float32"
    monkeypatch.setattr(lean, "TWICE", 2 * VOCAB * 64 - 1)
    assert not held("llama, biases, tied"), "too large"
    monkeypatch.undo()
    monkeypatch.setattr(lean, "cpu_has_bfloat16", lambda: False)
    assert not held("llama, biases, tied"), "no arithmetic for it"


def next_logits(runner: SlotRunner, live: int) -> torch.Tensor:
    """Of the next token of ``live`` short rows."""
    for row in range(live):
        runner.prefill(row, PROMPTS[0])
    return runner.decode(torch.full((live, 1), 17), live)


@pytest.mark.parametrize("lean", [True, False])
def test_an_idle_slot_at_the_end_of_its_angles_disturbs_nobody(lean: bool) -> None:
    """Dynamic angles end where the model does, and an idle row of a batch-invariant engine is stepped too."""
    rope = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0, "original_max_position_embeddings": 64}
    config = AutoConfig.for_model("llama", **SMALL | {"rope_parameters": rope})
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    runner = SlotRunner(model, rows=2, max_length=64, batch_invariant=True, lean=lean)
    runner.prefill(1, [3 + i for i in range(64)])
    found = next_logits(runner, 1)
    with torch.no_grad():
        own = model(input_ids=torch.tensor([[*PROMPTS[0], 17]])).logits[:, -1]
    torch.testing.assert_close(found, own, atol=1e-4, rtol=1e-4)


def test_an_idle_slot_longer_than_the_rows_in_use_disturbs_nobody() -> None:
    """As on a GPU, where a power of two of rows is stepped."""
    model = build("llama")
    runner = SlotRunner(model, rows=4, max_length=511)
    runner._exact = False
    assert runner.lean is not None
    runner.lean._rotary._most = 64  # a table that ends before the idle slot does
    runner.lean._rotary.cover(64)
    with torch.no_grad():
        runner.lengths[3] = 400
        found = next_logits(runner, 3)
        own = model(input_ids=torch.tensor([[*PROMPTS[0], 17]])).logits[:, -1]
    torch.testing.assert_close(found, own.expand_as(found), atol=1e-4, rtol=1e-4)
