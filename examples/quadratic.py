"""The same stage as a plugin of one file.

logitmill run "A list of colors: red" --plugin examples/quadratic.py -s "my.quadratic | sample until max_tokens(32)"
"""

from logitmill import LogitsProcessor, Scalar, hookimpl


class Quadratic(LogitsProcessor, name="my.quadratic"):
    """Lower every logit by its squared distance from the top one: l' = top - factor * (l - top)^2."""

    factor: Scalar = 0.2

    def apply(self, dist, state, ctx):
        top = dist.max_logit  # [rows, 1]
        return dist.with_logits(top - self.factor * (dist.logits - top) ** 2)


@hookimpl
def register_logits_processors(register):
    register(Quadratic)
