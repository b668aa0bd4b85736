"""History: counts kept up to date equal recounts, whatever happens to the rows."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from logitmill.core.history import History

V = 7
tokens_lists = st.lists(st.integers(0, V - 1), max_size=9)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("join"), tokens_lists, tokens_lists),
        st.tuples(st.just("append"), st.booleans(), st.randoms()),
        st.tuples(st.just("select"), st.randoms()),
        st.tuples(st.just("ask"), st.sampled_from(["counts", "prompt_counts", "sizes", "tokens", "host"])),
    ),
    max_size=25,
)


def check(history: History, rows: list[tuple[list[int], list[int]]]) -> None:
    def table(parts: list[list[int]]) -> list[list[int]]:
        return [[Counter(part)[token] for token in range(V)] for part in parts]

    longest = max([1, *(len(p) + len(o) for p, o in rows)])
    assert history.rows == len(rows)
    assert history.tokens.tolist() == [(p + o) + [-1] * (longest - len(p) - len(o)) for p, o in rows]
    prompts, lengths = history.sizes
    assert prompts.tolist() == [[len(p)] for p, _ in rows]
    assert lengths.tolist() == [[len(p) + len(o)] for p, o in rows]
    if rows:
        assert history.counts.tolist() == table([o for _, o in rows])
        assert history.prompt_counts.tolist() == table([p for p, _ in rows])
    assert history.host == [p + o for p, o in rows]


@given(st.lists(st.tuples(tokens_lists, tokens_lists), max_size=3), st.booleans(), operations)
def test_counts_and_tokens_after_anything(first: list[Any], alike: bool, script: list[Any]) -> None:
    history = History(V)
    rows: list[tuple[list[int], list[int]]] = [(list(p), list(o)) for p, o in (first[:1] * 3 if alike else first)]
    if rows:  # of tensors, of which the host knows nothing yet
        prompts, outputs = (
            [torch.tensor(part, dtype=torch.int64) for part in parts] for parts in zip(*rows, strict=True)
        )
        history.begin(torch.stack(prompts) if alike else prompts, torch.stack(outputs) if alike else outputs)
    for name, *args in script:
        if name == "join":
            history.join(args[0], args[1])
            rows.append((list(args[0]), list(args[1])))
        elif name == "append" and rows:
            known_at_once, random = args
            new = [random.randrange(V) for _ in rows]
            history.append(torch.tensor(new)[:, None], new if known_at_once else None)
            if not known_at_once:  # the device is ahead of the host, and may be asked then
                if random.random() < 0.5:
                    assert history.counts.sum(-1).tolist() == [len(o) + 1 for _, o in rows]
                history.note(new)
            for (_, output), token in zip(rows, new, strict=True):
                output.append(token)
        elif name == "select" and rows:
            parents = [args[0].randrange(len(rows)) for _ in range(args[0].randint(0, len(rows)))]
            history.select(parents)
            rows = [(list(rows[p][0]), list(rows[p][1])) for p in parents]
        elif name == "ask" and rows:
            getattr(history, args[0])
    check(history, rows)


@given(st.lists(st.lists(st.integers(0, V - 1), min_size=2, max_size=2), min_size=1, max_size=6), st.integers(0, 5))
def test_counts_first_asked_for_while_the_device_is_ahead(steps: list[list[int]], when: int) -> None:
    """As a stage's accept or a stop test does: the token just committed counts, then and ever after."""
    history = History(V)
    rows: list[tuple[list[int], list[int]]] = [([1, 2], []), ([3], [])]
    for prompt, _ in rows:
        history.join(prompt)
    for number, new in enumerate(steps):
        history.append(torch.tensor(new)[:, None])
        for (_, output), token in zip(rows, new, strict=True):
            output.append(token)
        if number >= when:
            assert history.counts.tolist() == [[Counter(o)[t] for t in range(V)] for _, o in rows]
        history.note(new)
    check(history, rows)


def test_rows_forgotten_while_the_device_is_ahead_leave_nothing_behind() -> None:
    history = History(V)
    history.join([1, 2, 3])
    history.append(torch.tensor([[4]]))
    history.select([])
    history.join([5])
    check(history, [([5], [])])
    history.append(torch.tensor([[6]]), [6])
    check(history, [([5], [6])])


def test_rows_that_came_as_tensors_are_forgotten_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    history = History(V)
    history.begin(torch.tensor([[1, 2]]), torch.tensor([[3]]))
    monkeypatch.setattr(History, "host", property(lambda self: pytest.fail("nobody needs the tokens")))
    history.select([])
    assert history.rows == 0


class Reader:
    """One letter a token; 0 is half of the next."""

    def __init__(self) -> None:
        self.half = False

    def push(self, token: int) -> str:
        if token == 0:
            self.half = True
            return ""
        text = ("*" if self.half else "") + chr(96 + token)
        self.half = False
        return text


@given(operations)
def test_text_equals_reading_from_the_start(script: list[Any]) -> None:
    history = History(V, reader=Reader)
    for name, *args in script:
        if name == "join":
            history.join(args[0], args[1])
        elif name == "append" and history.rows:
            new = [args[1].randrange(V) for _ in range(history.rows)]
            history.append(torch.tensor(new)[:, None], new if args[0] else None)
            if not args[0]:
                _ = history.text(0)  # text that is asked for waits for the device, and has its newest token
                assert history.host[0][-1] == new[0]
                history.note(new)
        elif name == "select" and history.rows:
            history.select([args[0].randrange(history.rows) for _ in range(history.rows)])
        elif history.rows:
            _ = history.text(history.rows - 1)
    for row in range(history.rows):
        reader = Reader()
        assert history.text(row) == "".join(reader.push(token) for token in history.host[row])
