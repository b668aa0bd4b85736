"""Programs as hypothesis makes them, and the programs that the language is documented by."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

DOCUMENTED = {
    "classic": "temperature(0.8) | top_k(50) | top_p(0.95) | sample(seed=1)",
    "greedy": r'greedy until eos or max_tokens(64) or stop("\n\n")',
    "schedule": "temperature(1.2 -> 0.6 over 64 by cosine) | min_p(0.05) | sample",
    "entropy": "when entropy < 0.4 { greedy } "
    "else { temperature(clamp(0.3 + 0.2*entropy, 0.3, 1.2)) | top_p(0.95) | sample }",
    "within": 'when within("<think>", "</think>") { temperature(1.0) | top_p(0.98) } '
    "else { temperature(0.4) | min_p(0.1) } | sample",
    "rules": r'repetition(1.1, window=256) | when tail ~ r"\d$" { ban(r"[A-Za-z]") } '
    '| bias([" however": -2.0, 128009: -5]) | temperature(0.7) as heat | sample',
    "mix": "mix(0.7: { temperature(0.7) | top_p(0.9) }, 0.3: { temperature(1.4) | min_p(0.1) }) | sample(seed=7)",
    "speculative": 'speculative(draft="tiny", k=5) { temperature(0.8) | top_p(0.95) | sample } '
    r'until eos or (stop("\n\n") and not within("```", "```")) or timeout(30)',
    "phases": 'phases({ temperature(1.0) | sample until text("</think>") or max_tokens(2048) },\n'
    '       { best_of(4, by=mean_logprob) { contrast(amateur="tiny", alpha=0.1) | temperature(0.6) | sample } '
    "until eos })",
    "beam": 'beam(4, length_penalty=0.8) { json_schema("./invoice.json") } until eos or max_tokens(512)',
    "file": """dsl 1
use "acme_samplers" as acme
use "./house.decode"
let creative(t=0.9, p=0.95) = acme.quadratic(0.2) | temperature(t) | top_p(p) | sample
let main = creative(t=1.1) until eos or max_tokens(512) with sample.seed=3
""",
}


@pytest.fixture(scope="session")
def documented() -> dict[str, str]:
    """Every program of the language's description."""
    return DOCUMENTED


class Maker:
    """Makes legal strategies of registered stages by chance, whatever they mean."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance

    def of(self, *choices: str) -> str:
        return self.chance.choice(choices)

    def number(self) -> str:
        return self.of("0.5", "1", "0.25", "1e-3", "0.999", "1.5")

    def whole(self) -> str:
        return self.of("1", "2", "40", "7")

    def string(self) -> str:
        pieces = ["a", " ", "é", r"\n", r"\"", r"\\", r"\u0000", "😀", r"\ud83d\ude00", "#", "|", "x"]
        return '"' + "".join(self.chance.choices(pieces, k=self.chance.randint(1, 3))) + '"'

    def pattern(self) -> str:
        return self.of(r'r"\d+$"', 'r"[A-Z]"', '"a|b"', r'r"\\"')

    def expression(self, depth: int = 2) -> str:
        if depth == 0 or self.chance.random() < 0.3:
            return self.of(
                "entropy",
                "varentropy",
                "max_p",
                "margin",
                "step",
                "raw.entropy",
                "raw.max_p",
                "2",
                "0.25",
                "1e-3",
                "repetition_rate",
                "repetition_rate(2, window=9)",
            )
        a, b = self.expression(depth - 1), self.expression(depth - 1)
        op = self.of("+", "-", "*", "/")
        return self.of(
            f"{a} {op} {b}", f"({a} {op} {b})*2", f"-({a})", f"min({a}, {b})", f"clamp({a}, 0.1, 2)", f"2 - ({a} - {b})"
        )

    def comparison(self) -> str:
        a, b = self.expression(), self.expression()
        op = self.of("<", "<=", ">", ">=", "==", "!=")
        within = f"within({self.string()}, {self.string()})"
        return self.of(
            f"{a} {op} {b}", f"{a} in [1, 2.5]", f"tail ~ {self.pattern()}", f"{self.string()} in tail", within
        )

    def joined(self, leaf: Callable[[], str], depth: int = 2) -> str:
        if depth == 0 or self.chance.random() < 0.4:
            return leaf()
        a, b = self.joined(leaf, depth - 1), self.joined(leaf, depth - 1)
        op = self.of("and", "or")
        return self.of(f"{a} {op} {b}", f"({a}) {op} ({b})", f"not ({a})")

    def criterion(self) -> str:
        plain = self.of(
            "eos",
            "max_tokens(5)",
            "max_length(n=9)",
            "timeout(2.5)",
            "stop_ids(3, 5)",
            r'stop_regex(r"\d")',
            "loop",
            "loop(3, times=2)",
            "confidence(0.2)",
            "entropy_below(0.5, steps=2)",
            'budget(9, open="a")',
        )
        texts = self.of(f"stop({self.string()}, {self.string()})", f"text({self.string()})")
        return self.of(plain, texts, self.comparison())

    def until(self) -> str:
        return self.of("", f" until {self.joined(self.criterion)}")

    def ramp(self) -> str:
        curve = self.of("", " by cosine", " by linear", " by exp")
        return f"{self.number()} -> {self.number()} over {self.whole()}{curve}"

    def processor(self) -> str:
        heat = self.of(self.number(), self.ramp(), f"entropy + ({self.expression()})")
        return self.of(
            f"temperature({heat})",
            f"top_k({self.whole()})",
            "top_p(0.9)",
            "top_p(p=0.5, min_keep=2)",
            "min_p(0.05 -> 0.1 over 9)",
            f"ban({self.pattern()}, {self.string()}, {self.whole()}, [1, 2])",
            f"bias([{self.string()}: -{self.number()}, {self.whole()}: 2])",
            "repetition(1.1, window=256)",
            "presence(0.4)",
        )

    def fragment(self, depth: int = 2) -> str:
        return " | ".join(self.stage(depth) for _ in range(self.chance.randint(0, 2)))

    def stage(self, depth: int = 2) -> str:
        if depth == 0 or self.chance.random() < 0.5:
            return self.processor()
        a, b = self.fragment(depth - 1), self.fragment(depth - 1)
        test, other = self.joined(self.comparison, 1), self.joined(self.comparison, 1)
        return self.of(
            f"when {test} {{ {a} }}",
            f"when {test} {{ {a} }} else {{ {b} }}",
            f"when {test} {{ {a} }} else when {other} {{ {b} }}",
            f"mix(0.7: {{ {a} }}, 0.3: {{ {b} }})",
        )

    def whole_strategy(self) -> str:
        sampler = self.of("greedy", "sample", "sample(seed=3)", "when entropy < 1 { greedy } else { sample }")
        return " | ".join([*(self.stage() for _ in range(self.chance.randint(0, 3))), sampler])

    def program(self) -> str:
        patch = self.of("", " with heat.value=0.3", " with heat.value=1 -> 0.5 over 8")
        whole, until = self.whole_strategy(), self.until()
        phase = f"{{ {whole} until {self.joined(self.criterion)} }}"
        return self.of(
            whole + until,
            self.stage() + until,
            f"{self.stage()} | temperature(1.1) as heat | {whole}{until}{patch}",
            f"best_of(3, by=mean_logprob) {{ {whole} }}{until}",
            f"phases({phase}, {{ {self.whole_strategy()} }}){until}",
        )


@pytest.fixture(scope="session")
def make_program() -> Callable[[Random], str]:
    """A legal strategy as text, made by chance."""
    return lambda chance: Maker(chance).program()


@pytest.fixture(scope="session")
def maker() -> type[Maker]:
    """What makes programs, and their parts."""
    return Maker
