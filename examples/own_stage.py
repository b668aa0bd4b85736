"""A stage of one's own in one file: registered, named in a strategy, tried without a model and with one."""

import logitmill as lm


class Quadratic(lm.LogitsProcessor, name="my.quadratic"):
    """Lower every logit by its squared distance from the top one: l' = top - factor * (l - top)^2."""

    factor: lm.Scalar = 0.2

    def apply(self, dist, state, ctx):
        top = dist.max_logit  # [rows, 1]
        return dist.with_logits(top - self.factor * (dist.logits - top) ** 2)


lm.register(Quadratic)

# Without a model: what it makes of four logits.
strategy = lm.Strategy.parse("my.quadratic(0.5 -> 0.1 over 32) | sample until eos or max_tokens(32)")
print(strategy.distribution([2.0, 1.0, 0.0, -1.0]))

# With one.
if __name__ == "__main__":
    engine = lm.load()
    print(engine.generate("A list of colors: red, blue", strategy=strategy, seed=1).text)
