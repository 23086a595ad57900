"""GPT, all of it: a language model that learns to write, number by number, in Python's standard library alone.

The model is models/gpt2.py's, parameter for parameter, under the same names: weights copy both ways. The rest is speed.
    python algorithm.py [FILE] [STEPS]    learns FILE, a text a line (names, say), for a minute or two, then writes"""

import gc
import itertools
import math
import operator
import random
import signal
import sys
from pathlib import Path


class CharTokenizer:
    """One number a character. Number 0 ends a text, and stands before its first character."""

    def __init__(self, texts):
        self.tokens = ("<|end|>", *sorted(set().union(*texts)))

    def encode(self, text):
        return [self.tokens.index(character) for character in text]

    def decode(self, numbers):
        return "".join(self.tokens[number] for number in numbers if number != 0)


class Value:
    """A number that knows what it was made of (children), and how steeply it rises with each of them (slopes)."""

    __slots__ = ("born", "children", "data", "grad", "slopes")
    births = itertools.count()

    def __init__(self, data, children=(), slopes=()):
        self.data, self.children, self.slopes, self.born = data, children, slopes, next(Value.births)
        self.grad = 0.0  # how steeply the loss rises with this number: backward() adds it up

    def __add__(self, other):
        return Value(self.data + other.data, (self, other), (1.0, 1.0))

    def __sub__(self, other):
        return Value(self.data - other.data, (self, other), (1.0, -1.0))

    def __mul__(self, other):
        return Value(self.data * other.data, (self, other), (other.data, self.data))

    def __pow__(self, n):
        return Value(self.data**n, (self,), (n * self.data ** (n - 1),))

    def exp(self):
        return Value(math.exp(self.data), (self,), (math.exp(self.data),))

    def gelu(self):  # x times the probability that a standard normal is below x, in the tanh form
        x, c = self.data, math.sqrt(2 / math.pi)
        t = math.tanh(c * (x + 0.044715 * x**3))
        slope = 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x)
        return Value(0.5 * x * (1 + t), (self,), (slope,))

    def backward(self):
        """The chain rule: every number that this one was made of learns how steeply this one rises with it."""
        graph, fresh = set(), {self}
        while fresh:
            graph |= fresh
            fresh = set().union(*(value.children for value in fresh)) - graph
        self.grad = 1.0
        # children are older than what is made of them: from young to old, a grad is whole before it is passed on
        for value in sorted(graph, key=operator.attrgetter("born"), reverse=True):
            grad = value.grad
            for child, slope in zip(value.children, value.slopes):
                child.grad += grad * slope


def mean(xs):
    return Value(sum(x.data for x in xs) / len(xs), xs, [1 / len(xs)] * len(xs))


def dot(xs, ys):  # one Value, not one for each product and sum: nearly all the time is spent here
    x, y = [value.data for value in xs], [value.data for value in ys]
    return Value(sum(map(operator.mul, x, y)), (*xs, *ys), (*y, *x))


def log_sum_exp(xs):  # its slopes are the softmax
    top = max(x.data for x in xs)  # taken out before exp, which would overflow, and put back after log
    powers = [math.exp(x.data - top) for x in xs]
    return Value(top + math.log(sum(powers)), xs, [power / sum(powers) for power in powers])


def softmax(xs):
    total = log_sum_exp(xs)
    return [(x - total).exp() for x in xs]


class GPT:
    """Width C, H heads of width D = C / H, L layers, V tokens. A weight is a list of rows, a vector is a column."""

    def __init__(self, vocab_size, block_size=32, n_layers=1, n_heads=4, n_embd=16, seed=0):
        self.block_size, self.n_layers, self.n_heads, self.weights = block_size, n_layers, n_heads, {}
        rng, C = random.Random(seed), n_embd
        small = 0.02 / math.sqrt(2 * n_layers)  # 2 L branches add to one stream: the more, the smaller they begin
        shapes = {"wte": (vocab_size, C), "wpe": (block_size, C), "ln_f": (C, 1)}
        for h in (f"h.{layer}" for layer in range(n_layers)):
            shapes |= {f"{h}.ln_1": (C, 1), f"{h}.attn.c_attn": (3 * C, C), f"{h}.attn.c_proj": (C, C)}
            shapes |= {f"{h}.ln_2": (C, 1), f"{h}.mlp.c_fc": (4 * C, C), f"{h}.mlp.c_proj": (C, 4 * C)}
        for name, (n_out, n_in) in shapes.items():
            first = (1.0, 0.0) if "ln_" in name else (0.0, small if name.endswith("c_proj") else 0.02)
            self.weights[f"{name}.weight"] = [[Value(rng.gauss(*first)) for _ in range(n_in)] for _ in range(n_out)]
            if name not in ("wte", "wpe"):
                self.weights[f"{name}.bias"] = [[Value(0.0)] for _ in range(n_out)]

    def linear(self, name, x):
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return [dot(row, x) + shift for row, [shift] in zip(weight, bias)]

    def norm(self, name, x):  # to mean 0 and variance 1, then a learned gain and bias
        middle = mean(x)
        x = [value - middle for value in x]
        scale = (mean([value * value for value in x]) + Value(1e-5)) ** -0.5
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return [value * scale * gain + shift for value, [gain], [shift] in zip(x, weight, bias)]

    def attention(self, name, x, seen):
        """A mean of the values seen, weighted by how well their keys match the query. What comes later is not there."""
        seen.append(self.linear(f"{name}.c_attn", x))  # query, key and value side by side, C each
        C, D, y = len(x), len(x) // self.n_heads, []
        for start in range(0, C, D):  # head by head
            q, k, v = (slice(part + start, part + start + D) for part in (0, C, 2 * C))
            weights = softmax([dot(seen[-1][q], each[k]) * Value(D**-0.5) for each in seen])
            y += [dot(weights, column) for column in zip(*(each[v] for each in seen))]
        return self.linear(f"{name}.c_proj", y)

    def forward(self, tokens):
        """After each token, the V logits of the next."""
        state = {f"h.{layer}": [] for layer in range(self.n_layers)}
        for position, token in enumerate(tokens):
            x = [a + b for a, b in zip(self.weights["wte.weight"][token], self.weights["wpe.weight"][position])]
            for h, seen in state.items():
                x = [a + b for a, b in zip(x, self.attention(f"{h}.attn", self.norm(f"{h}.ln_1", x), seen))]
                wide = [value.gelu() for value in self.linear(f"{h}.mlp.c_fc", self.norm(f"{h}.ln_2", x))]
                x = [a + b for a, b in zip(x, self.linear(f"{h}.mlp.c_proj", wide))]
            x = self.norm("ln_f", x)
            yield [dot(row, x) for row in self.weights["wte.weight"]]

    def losses(self, tokens):  # -log p of each token after the first, given those before it
        return [log_sum_exp(logits) - logits[target] for target, logits in zip(tokens[1:], self.forward(tokens))]

    def sample(self, rng):
        """The tokens of a text that the model writes, reading END and then what it has written."""
        tokens = [0]
        for logits in self.forward(tokens):  # goes on for as long as tokens grows
            tokens += rng.choices(range(len(logits)), [p.data for p in softmax(logits)])
            if tokens[-1] == 0 or len(tokens) > self.block_size:
                return tokens[1:]


def train(model, documents, steps, batch_size=4, lr=0.01, beta1=0.9, beta2=0.99, eps=1e-8, decay=0.01):
    """AdamW: steps of about equal size for every parameter, down to 0 along half a cosine. Yields each step's loss."""
    parameters = [p for rows in model.weights.values() for row in rows for p in row]
    stream, m, v = itertools.cycle(documents), [0.0] * len(parameters), [0.0] * len(parameters)
    for step in range(steps):
        loss = mean([each for tokens in itertools.islice(stream, batch_size) for each in model.losses(tokens)])
        loss.backward()
        rate = lr * 0.5 * (1 + math.cos(math.pi * step / steps))
        m_scale, v_scale = 1 - beta1 ** (step + 1), 1 - beta2 ** (step + 1)  # m and v begin at 0: too small at first
        for i, p in enumerate(parameters):
            m[i] += (1 - beta1) * (p.grad - m[i])  # where to go
            v[i] += (1 - beta2) * (p.grad**2 - v[i])  # how loud it usually is
            p.data -= rate * (m[i] / m_scale / (math.sqrt(v[i] / v_scale) + eps) + decay * p.data)
            p.grad = 0.0
        yield loss.data


def main(file=None, steps="1500", *rest):
    try:
        lines = Path(file).read_text(encoding="utf-8-sig").splitlines() if file else sys.stdlib_module_names
        texts, steps = sorted({line.strip() for line in lines} - {""}), int(steps)
        if rest or not texts or steps < 1:
            raise ValueError("it takes one file, with a text a line, and at least 1 step")
    except (OSError, ValueError) as error:
        print(f"python algorithm.py [FILE] [STEPS]: cannot learn {file}: {error}", file=sys.stderr)
        sys.exit(2)
    tokenizer, rng = CharTokenizer(texts), random.Random(0)
    rng.shuffle(texts)
    model = GPT(vocab_size=len(tokenizer.tokens))
    documents = [[0, *tokenizer.encode(text), 0][: model.block_size + 1] for text in texts]
    average = math.log(len(tokenizer.tokens))  # who knows nothing finds every token equally likely
    gc.disable()  # no Value holds what is made of it: there are no circles to look for
    for step, loss in enumerate(train(model, documents, steps)):
        average += 0.02 * (loss - average)
        if step % 100 == 0 or step == steps - 1:
            print(f"step {step:5}  loss {average:.2f}", flush=True)
    for _ in range(20):
        print(tokenizer.decode(model.sample(rng)))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))  # Ctrl-C
    signal.signal(getattr(signal, "SIGPIPE", signal.SIGTERM), signal.SIG_DFL)  # who reads may stop: algorithm.py | head
    sys.stdout.reconfigure(errors="replace")  # pyright: ignore (a terminal may lack a character)
    main(*sys.argv[1:])
