"""Names, numbers and strings by chance: the leaves of every made document, plain ones mostly and odd ones at times."""

from __future__ import annotations

from random import Random

PLAIN = ["0", "1", "2", "5", "40", "64", "256", "0.1", "0.5", "0.9", "0.95", "1.0", "1.5", "1e-3", "0.05", "3"]
ODD = [
    "0.0", "1e308", "1e309", "5e-324", "1e-400", "18446744073709551615", "18446744073709551616", "9" * 40,
    "9" * 400, "007", "0.1000000000000000055511151231257827", "1E5", "2e+3", "123456789.125", "0.30000000000000004",
    "1e22", "1e16",
    "9007199254740993", "9007199254740993.0", "100000000000000000000.5", "0e999", "4e-1",
]  # fmt: skip
PIECES = [
    "a", "b", " ", "the", " however", "é", "ß", "日本", "😀", "\u200d", "\u0301", "\u2028", "\u00a0", "\x7f", "\ufeff",
    "#", "|", "'", "{", "}", "(", "]", "/", "$", "%s", "until", "\U0010ffff", "\ue000", "0", "12", "<think>",
    "</think>", "\\n", "\\t", '\\"', "\\\\", "\\u0000", "\\u00e9", "\\u2028", "\\ud83d\\ude00", "\\/", "\\b", "\\r",
    "\\f",
    "\\u0085", "\\ufeff", "\\uFFFF",
]  # fmt: skip
BAD_PIECES = ["\\x", "\\ud83d", "\\ude00", "\\u12", "\\", "\n", "\r"]
PATTERNS = [
    'r"\\d+$"', 'r"[A-Z]"', '"a|b"', 'r"\\\\"', 'r"(?i)the"', 'r"."', 'r""', '"\\\\w"', 'r"é+"', 'r"\\bx\\b"', 'r"#"',
    'r"[^}]"',
]  # fmt: skip
BAD_PATTERNS = ['r"("', 'r"[a"', 'r"*"', 'r"(?P<n>a)(?P<n"', 'r"\\"', 'r"a{9999999999}"']
LABELS = ["heat", "cut", "a", "b", "x1", "_", "main", "raw", "none", "null", "True", "r", "dsl1", "e5"]


class Words:
    """Leaves. ``odd`` is how often one is unlikely to be accepted."""

    def __init__(self, chance: Random, odd: float = 0.03) -> None:
        self.chance, self.odd = chance, odd

    def rarely(self) -> bool:
        return self.chance.random() < self.odd

    def of(self, *choices: str) -> str:
        return self.chance.choice(choices)

    def number(self) -> str:
        if self.rarely():
            return self.chance.choice(ODD)
        if self.chance.random() < 0.15:
            return repr(
                self.chance.choice([self.chance.random(), self.chance.random() * 10 ** self.chance.randint(-9, 9)])
            )
        return self.chance.choice(PLAIN)

    def whole(self) -> str:
        return (
            self.chance.choice(["0", "1", "2", "3", "5", "8", "40", "64", "1000"])
            if not self.rarely()
            else self.number()
        )

    def string(self) -> str:
        pieces = self.chance.choices(PIECES, k=self.chance.choice([0, 1, 1, 1, 2, 3, 6]))
        if self.rarely():
            pieces.append(self.chance.choice(BAD_PIECES))
        return '"' + "".join(pieces) + '"'

    def pattern(self) -> str:
        return self.chance.choice(BAD_PATTERNS if self.rarely() else PATTERNS)

    def label(self) -> str:
        return self.chance.choice(LABELS)

    def space(self) -> str:
        """What may stand between two tokens."""
        return self.chance.choice([" "] * 12 + ["", "\n", "  ", "\t", "\r\n", "\r", "\n\n", " # note\n", "\n# é | {\n"])
