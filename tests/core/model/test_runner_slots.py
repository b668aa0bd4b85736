"""What a runner promises: copies, selections, rewinds, drafts, reuse and chunks leave a row as if alone."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, MambaConfig, MambaForCausalLM, PreTrainedModel

from logitmill.core.errors import ModelError, RequestError
from logitmill.core.model.runner import Runner, make_runner
from logitmill.core.model.slotted import SlotRunner

VOCAB = 320


def llama(dtype: torch.dtype = torch.float32) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=1024, initializer_range=0.2,
    )  # fmt: skip
    return LlamaForCausalLM(config).to(dtype).eval()


def mamba() -> MambaForCausalLM:
    torch.manual_seed(0)
    model = MambaForCausalLM(MambaConfig(vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, state_size=4)).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0, 0.2)
    return model


def tokens(seed: int, count: int) -> list[int]:
    return random.Random(seed).choices(range(VOCAB), k=count)


def alone(model: PreTrainedModel, sequence: list[int]) -> Tensor:
    """Logits ``[T, V]`` of the plain model."""
    with torch.no_grad():
        logits: Tensor = model(input_ids=torch.tensor([sequence]), use_cache=False).logits[0].float()
    return logits


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, atol=2e-3, rtol=1e-3)


@pytest.fixture(params=["llama", "mamba"])
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    return llama() if request.param == "llama" else mamba()


def step(runner: Runner, model: PreTrainedModel, rows: list[list[int]], seed: int) -> None:
    """Decode one token a row and hold every row against the plain model."""
    fresh = tokens(seed, len(rows))
    logits = runner.decode(torch.tensor(fresh)[:, None], len(rows))
    for row, token in enumerate(fresh):
        rows[row].append(token)
        close(logits[row], alone(model, rows[row])[-1])
    assert list(runner.lengths)[: len(rows)] == [len(row) for row in rows]


def test_any_history_leaves_rows_as_if_alone(model: PreTrainedModel) -> None:
    """Joins, leaves, moves, forks, rewinds, drafts and reuse at random; after each, every row's logits are its own."""
    chance = random.Random(3)
    runner = make_runner(model, rows=4, max_length=300)
    rows: list[list[int]] = []
    for turn in range(60 if runner.slotted else 25):
        act = chance.choice(["join", "leave", "step", "step", "fork", "rewind", "extend", "reuse", "select"])
        if act == "join" and len(rows) < 4:
            prompt = tokens(turn, chance.randrange(1, 40))
            close(runner.prefill(len(rows), prompt, chunk=chance.choice([7, 512]))[0], alone(model, prompt)[-1])
            rows.append(prompt)
        elif not rows or max(map(len, rows)) > 120:
            rows = []
        elif act == "leave":
            gone = chance.randrange(len(rows))
            if gone != len(rows) - 1:
                runner.copy(len(rows) - 1, gone)
                rows[gone] = rows[-1]
            rows = [list(row) for row in rows[:-1]]
        elif act == "fork" and len(rows) < 4:
            parent = chance.randrange(len(rows))
            runner.copy(parent, len(rows))
            rows.append(list(rows[parent]))
        elif act == "select":
            parents = [chance.randrange(len(rows)) for _ in rows]
            runner.select(parents)
            rows = [list(rows[parent]) for parent in parents]
        elif act == "rewind":
            row = chance.randrange(len(rows))
            length = chance.randrange(1, len(rows[row]) + 1)
            runner.rewind(row, length)
            rows[row] = rows[row][:length]
        elif act == "reuse":
            row = chance.randrange(len(rows))
            kept = chance.randrange(len(rows[row]) + 1)
            sequence = rows[row][:kept] + tokens(turn, chance.randrange(1, 30))
            close(runner.prefill(row, sequence, start=kept)[0], alone(model, sequence)[-1])
            rows[row] = sequence
        elif act == "extend":
            width = chance.randrange(1, 6)
            drafts = [tokens(100 * turn + row, width) for row in range(len(rows))]
            logits = runner.extend(torch.tensor(drafts))
            assert logits.shape == (len(rows), width, VOCAB)
            for row, draft in enumerate(drafts):
                rows[row] = rows[row] + draft
                close(logits[row], alone(model, rows[row])[-width:])
        if rows:
            step(runner, model, rows, turn)


def test_logits_of_a_text_touch_no_slot(model: PreTrainedModel) -> None:
    runner = make_runner(model, rows=2, max_length=200)
    rows = [tokens(1, 20)]
    runner.prefill(0, rows[0])
    text = tokens(2, 90)
    wanted = alone(model, text)
    close(runner.logits_of(text), wanted)
    pieces = list(runner.logits_in_chunks(text, 32))
    assert [len(piece) for piece in pieces] == [32, 32, 26]
    close(torch.cat(pieces), wanted)
    step(runner, model, rows, 5)


def test_logits_are_float32_and_as_wide_as_the_head() -> None:
    runner = make_runner(llama(torch.bfloat16), rows=2)
    assert runner.slotted
    assert runner.vocab_size == VOCAB
    for logits in (runner.prefill(0, [1, 2, 3]), runner.decode(torch.tensor([[4]]), 1), runner.logits_of([5])):
        assert logits.dtype == torch.float32
        assert logits.shape == (1, VOCAB)


def test_what_does_not_fit_is_refused_before_anything_runs(model: PreTrainedModel) -> None:
    runner = make_runner(model, rows=2, max_length=16)
    runner.prefill(0, tokens(1, 16))
    with pytest.raises(RequestError, match="at most 16"):
        runner.prefill(1, tokens(1, 17))
    with pytest.raises(RequestError, match="at most 16"):
        runner.decode(torch.tensor([[1]]), 1)
    with pytest.raises(RequestError, match="no slot 2"):
        runner.prefill(2, [1])
    with pytest.raises(RequestError, match="no slot 2"):
        runner.copy(0, 2)
    with pytest.raises(RequestError, match="keep 17"):
        runner.prefill(0, tokens(1, 18), start=17)
    with pytest.raises(RequestError, match="rewind"):
        runner.rewind(0, 17)
    assert list(runner.lengths) == [16, 0]


def test_max_length_is_held_against_the_model() -> None:
    with pytest.raises(ModelError, match="1024 positions"):
        make_runner(llama(), max_length=2000)
    assert make_runner(llama()).max_length == 1024


def test_a_row_of_nan_harms_neither_neighbour_nor_successor() -> None:
    model = llama()
    poison = VOCAB - 1
    model.get_input_embeddings().weight.data[poison] = torch.nan
    runner = make_runner(model, rows=3, max_length=256)
    rows = [tokens(seed, 12 + seed) for seed in range(3)]
    rows = [[token % poison for token in row] for row in rows]
    runner.prefill(0, rows[0])
    assert runner.prefill(1, [*rows[1] * 6, poison]).isnan().all()
    assert runner.prefill(2, rows[2])[0].isfinite().all()
    logits = runner.decode(torch.tensor([[1], [1], [1]]), 3)
    assert logits[1].isnan().all()
    close(logits[0], alone(model, [*rows[0], 1])[-1])
    close(logits[2], alone(model, [*rows[2], 1])[-1])
    runner.copy(2, 1)  # the last row moves into the slot of the failed one
    close(runner.decode(torch.tensor([[2], [2]]), 2)[1], alone(model, [*rows[2], 1, 2])[-1])
    runner.prefill(1, [*rows[1] * 6, poison])
    runner.prefill(1, rows[1])  # another request joins there
    close(runner.decode(torch.tensor([[3], [3]]), 2)[1], alone(model, [*rows[1], 3])[-1])


@pytest.mark.parametrize("batch_invariant", [False, True])
def test_slots_that_are_not_decoded_keep_what_they_hold(batch_invariant: bool) -> None:
    model = llama()
    runner = make_runner(model, rows=4, max_length=64, batch_invariant=batch_invariant)
    kept = tokens(1, 64)  # a full slot: an idle row has nowhere to write but behind it
    runner.prefill(2, kept)
    runner.prefill(0, tokens(2, 5))
    for _ in range(8):
        runner.decode(torch.tensor([[7]]), 1)
    runner.copy(2, 1)
    sequence = [*kept[:63], 9]
    close(runner.prefill(1, sequence, start=63)[0], alone(model, sequence)[-1])


@pytest.mark.parametrize("max_length", [2, 10])
def test_short_slots_are_slots_too(max_length: int) -> None:
    runner = make_runner(llama(), rows=2, max_length=max_length, batch_invariant=True)
    assert runner.slotted
    assert runner.max_length == max_length


def test_memory_grows_with_use_and_never_past_the_slots() -> None:
    runner = make_runner(llama(), rows=8, max_length=1024)
    assert isinstance(runner, SlotRunner)
    assert runner.bytes_per_position == 2 * 2 * 2 * 16 * 4  # layers, keys and values, heads, dims, bytes
    assert runner.cache.rows == 0
    runner.prefill(0, tokens(1, 10))
    assert (runner.cache.rows, runner.cache.positions) == (1, 256)
    runner.prefill(4, tokens(1, 300))
    assert (runner.cache.rows, runner.cache.positions) == (8, 512)
    runner.prefill(4, tokens(1, 1024))
    assert runner.cache.positions <= 1024 + 128
