"""Names: definitions and their parameters, packs, files, labels, revisions, and what a value becomes in its field."""

from __future__ import annotations

from pathlib import Path

import pytest

from logitmill.core.dsl.read import from_file, from_text
from logitmill.core.errors import StrategyError
from logitmill.core.expression import Pattern
from logitmill.core.loader import registry
from logitmill.core.patch import patched
from logitmill.core.registry import Registry
from logitmill.core.strategy import Strategy


def same(text: str, meaning: str) -> None:
    assert Strategy.parse(text) == Strategy.parse(meaning)


def with_presets(**packs: str) -> Registry:
    own = registry()
    return Registry(dict(own.entries), dict(own.schedules), {name: (text, "tests") for name, text in packs.items()})


def test_positional_arguments_fill_fields_in_their_order() -> None:
    same("top_p(0.9, 2) | sample", "top_p(min_keep=2, p=0.9) | sample")
    same('sample until stop("a", "b")', 'sample until stop(["a", "b"])')
    same("greedy", "greedy()")


def test_a_raw_string_is_a_pattern_where_the_field_admits_one() -> None:
    made = Strategy.parse(r'ban("a.", r"a.") | sample').pipeline[0].stage
    assert made.tokens == ("a.", Pattern("a."))  # type: ignore[attr-defined]  # ban's own field
    same(r'sample until stop_regex("a\\d")', r'sample until stop_regex(r"a\d")')
    same(r'sample until stop(r"\n")', r'sample until stop("\\n")')


def test_what_reads_no_signal_is_worked_out() -> None:
    same("temperature(0.5 + 0.25*2) | top_k(2*20) | sample", "temperature(1.0) | top_k(40) | sample")
    same("temperature(min(2, exp(0))) | sample", "temperature(1) | sample")


def test_parameters_stand_for_any_value() -> None:
    head = "dsl 1\nlet a(t=0.5, test=entropy < 1, words=[1, 2]) = when test { temperature(t) } | ban(words)\n"
    same(head + "let main = a | sample", "when entropy < 1 { temperature(0.5) } | ban(1, 2) | sample")
    same(
        head + "let main = a(1 -> 2 over 8, words=3, test=step > 4 and entropy < 2) | sample",
        "when step > 4 and entropy < 2 { temperature(1 -> 2 over 8) } | ban(3) | sample",
    )
    same(head + "let b(t=2) = a(t=t*2)\nlet main = b(t=3) | sample",
         "when entropy < 1 { temperature(6) } | ban(1, 2) | sample")  # fmt: skip


def test_a_parameter_is_read_where_it_was_written() -> None:
    same(
        "dsl 1\nlet a(x=1) = temperature(x)\nlet b(x=5) = a(x=x)\nlet main = b(x=7) | sample", "temperature(7) | sample"
    )


def test_definitions_may_be_used_before_they_stand_and_shadow_stages() -> None:
    same("dsl 1\nlet main = calm | sample\nlet calm = temperature(0.3)", "temperature(0.3) | sample")
    same(
        "dsl 1\nlet cool = temperature(0.3)\nlet main = { } | sample".replace("{ } | ", "cool | "),
        "temperature(0.3) | sample",
    )


def test_the_until_of_a_definition_goes_with_it() -> None:
    same("dsl 1\nlet a = sample until eos\nlet main = top_k(3) | a", "top_k(3) | sample until eos")


def test_the_patches_of_a_definition_are_its_own() -> None:
    same("dsl 1\nlet a = temperature(1) with temperature.value=2\nlet main = a | temperature(3) | sample",
         "temperature(2) | temperature(3) | sample")  # fmt: skip


def test_a_label_on_a_definition_of_one_stage() -> None:
    same("dsl 1\nlet a = temperature(1)\nlet main = a as heat | a | sample with heat.value=2",
         "temperature(1) as heat | temperature(1) | sample with heat.value=2")  # fmt: skip
    text = "dsl 1\nlet a = temperature(1)\nlet main = a as heat | a | sample with heat.value=2"
    assert patched(Strategy.parse(text)).to_text() == "temperature(2.0) as heat | temperature(1.0) | sample"


def test_every_definition_is_checked_used_or_not() -> None:
    with pytest.raises(StrategyError, match="unknown stage 'topp'"):
        Strategy.parse("dsl 1\nlet broken = topp(1)\nlet main = sample")


def test_a_pack_brings_its_definitions_under_an_alias_or_plain() -> None:
    names = with_presets(
        house="dsl 1\nlet calm(t=0.3) = hidden | temperature(t)\nlet hidden = top_k(9)\nlet main = sample"
    )
    for text in ('use "house" as h\nlet main = h.calm(0.2) | sample', 'use "house"\nlet main = calm(0.2) | sample'):
        assert from_text("dsl 1\n" + text, registry=names) == Strategy.parse("top_k(9) | temperature(0.2) | sample")


def test_a_pack_cannot_hide_a_definition() -> None:
    names = with_presets(house="dsl 1\nlet calm = top_k(9)")
    for text in ('let calm = top_k(1)\nuse "house"', 'use "house"\nlet calm = top_k(1)'):
        with pytest.raises(StrategyError, match="defined"):
            from_text(f"dsl 1\n{text}\nlet main = sample", registry=names)


def test_packs_in_a_circle() -> None:
    names = with_presets(a='dsl 1\nuse "b"\nlet x = top_k(1)', b='dsl 1\nuse "a"\nlet y = top_k(1)')
    with pytest.raises(StrategyError, match="circles"):
        from_text('dsl 1\nuse "a"\nlet main = sample', registry=names)


def test_files_only_under_the_root_and_only_from_a_trusted_source(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "in").mkdir(parents=True)
    (tmp_path / "secret.decode").write_text("dsl 1\nlet x = top_k(1)")
    (root / "house.decode").write_text('dsl 1\nuse "./in/more.decode" as more\nlet calm = more.cool')
    (root / "in" / "more.decode").write_text("dsl 1\nlet cool = top_k(9)")
    main = root / "main.decode"
    main.write_text('dsl 1\nuse "./house.decode"\nlet main = calm | sample')
    assert from_file(main) == Strategy.parse("top_k(9) | sample")
    assert Strategy.parse(main.read_text(), trusted=True, file=str(main)) == from_file(main)
    with pytest.raises(StrategyError) as caught:
        Strategy.parse(main.read_text())
    assert caught.value.code == "untrusted"
    (root / "link.decode").symlink_to(tmp_path / "secret.decode")
    for name in ("../secret.decode", str(tmp_path / "secret.decode"), "./link.decode"):
        main.write_text(f'dsl 1\nuse "{name}" as s\nlet main = s.x | sample')
        with pytest.raises(StrategyError) as caught:
            from_file(main)
        assert caught.value.code == "untrusted"
    main.write_text('dsl 1\nuse "./main.decode" as s\nlet main = sample')
    with pytest.raises(StrategyError, match="circles"):
        from_file(main)
    (root / "loop.decode").symlink_to(root / "loop.decode")
    for name in ("./gone.decode", "./a\\u0000b", "./loop.decode"):
        main.write_text(f'dsl 1\nuse "{name}" as s\nlet main = sample')
        with pytest.raises(StrategyError, match="cannot be read") as caught:
            from_file(main)
        assert caught.value.line == 2


def test_files_that_are_none(tmp_path: Path) -> None:
    strategy = Strategy.parse("sample")
    for path in (None, 3):
        for use in (Strategy.load, strategy.save):
            with pytest.raises(StrategyError, match=f"a file is named by its path, .*got {path}"):
                use(path)  # type: ignore[arg-type]
    for wrong in (tmp_path, tmp_path / "gone" / "x.yaml", "a\0b"):
        with pytest.raises(StrategyError, match="cannot be read: ") as caught:
            Strategy.load(wrong)
        assert caught.value.code == "file"
        with pytest.raises(StrategyError, match="cannot be written: ") as caught:
            strategy.save(wrong)
        assert caught.value.code == "file"
    (tmp_path / "long.decode").write_text("sample" + " " * 70_000)
    with pytest.raises(StrategyError, match="larger than 65,536 bytes"):
        Strategy.load(tmp_path / "long.decode")
    (tmp_path / "latin.decode").write_bytes(b"# caf\xe9\nsample")
    with pytest.raises(StrategyError, match="cannot be read: it is not UTF-8"):
        Strategy.load(tmp_path / "latin.decode")


def test_an_error_in_a_file_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "main.decode"
    file.write_text("temperature(0.8)\n| topp(0.9)")
    with pytest.raises(StrategyError) as caught:
        Strategy.load(file)
    assert f"{file}:2:3" in str(caught.value)


@pytest.mark.parametrize("suffix", [".yaml", ".yml", ".json", ".decode"])
def test_saved_and_loaded(tmp_path: Path, suffix: str) -> None:
    strategy = Strategy.parse(
        r'mix(0.7: { top_p(0.9) }, 0.3: {}) | ban("yes", "1:30", r"\d") | sample until stop("\n") or eos'
    )
    strategy.save(tmp_path / f"s{suffix}")
    assert Strategy.load(tmp_path / f"s{suffix}") == strategy


def test_the_short_form_of_yaml(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(
        """
dsl: 1
let:
  calm: {params: {t: 0.3}, pipeline: [{temperature: {expr: t}}]}
main:
  pipeline:
    - calm: 1e-3
    - top_p: {p: 0.95}
    - top_k: {ramp: [50, 10], over: 64, by: cosine}
    - ban: ["yes", on, 1:30]
    - when: entropy < 0.4
      then: [greedy]
      else:
        - min_p: 0.05
        - sample
  until: eos or max_tokens(64)
"""
    )
    expected = (
        'temperature(1e-3) | top_p(0.95) | top_k(50 -> 10 over 64 by cosine) | ban("yes", "on", "1:30") '
        "| when entropy < 0.4 { greedy } else { min_p(0.05) | sample } until eos or max_tokens(64)"
    )
    assert Strategy.load(tmp_path / "s.yaml") == Strategy.parse(expected)


def test_definitions_that_grow_by_parameters_are_refused() -> None:
    text = "dsl 1\nlet a0(t=1) = temperature(t)\n"
    text += "".join(f"let a{i}(t=1) = a{i - 1}(t=t + t)\n" for i in range(1, 41))
    with pytest.raises(StrategyError) as caught:
        Strategy.parse(text + "let main = a40(t=entropy) | sample")
    assert caught.value.code in ("too-large", "too-deep")


def test_a_long_line_of_definitions_is_no_nesting_where_each_stands_on_the_last() -> None:
    text = "dsl 1\nlet a0 = top_k(3)\n" + "".join(f"let a{i} = a{i - 1}\n" for i in range(1, 900))
    assert Strategy.parse(text + "let main = a899 | sample").to_text() == "top_k(3) | sample"
    backwards = (
        "dsl 1\n"
        + "".join(f"let a{i} = a{i + 1}\n" for i in range(900))
        + "let a900 = top_k(3)\nlet main = a0 | sample"
    )
    with pytest.raises(StrategyError) as caught:
        Strategy.parse(backwards)
    assert caught.value.code == "too-deep"


def test_a_parameter_without_a_default_is_given_by_each_call() -> None:
    head = "dsl 1\nlet a(k, p=0.5) = top_k(k) | top_p(p)\n"
    for call in ("a(3)", "a(k=3)", "a(3, 0.5)"):
        assert Strategy.parse(f"{head}let main = {call} | sample").to_text() == "top_k(3) | top_p(0.5) | sample"
    document = {"dsl": 1, "let": {"a": {"params": {"k": None}, "pipeline": ["top_k(k)"]}}, "main": ["a(3)", "sample"]}
    assert Strategy.from_dict(document).to_text() == "top_k(3) | sample"
    with pytest.raises(StrategyError, match="'main' needs 'k'"):
        Strategy.parse("dsl 1\nlet main(k) = top_k(k) | sample")
