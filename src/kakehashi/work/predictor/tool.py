"""A classifier of texts that needs Python and NumPy, nothing else. README.md says what it answers, and how well.

    from tool import predict
    predict("My card is lost")      # {"label": "lost_card", "score": 0.97, "abstain": False}

    python tool.py < texts.jsonl    # a line {"text": "..."} or "..." each; a line of JSON answers each
    python tool.py "My card is lost" ...    # the same of texts as arguments

Beside this file lie tool.json (tokenizer, classes, threshold) and weights.npz. Nothing is fetched, sent or kept.

Axes: T tokens of a text, C width, H heads, D = C / H width of a head, U hidden units, V tokens known, K classes.
"""

import functools
import json
import math
import os
import re
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from unicodedata import normalize

import numpy as np

Weights = dict[str, np.ndarray]
END = 0  # the token that begins a text


class Tool:
    """The classifier whose tool.json and weights.npz lie in a folder."""

    def __init__(self, folder: str | Path):
        settings = json.loads((Path(folder) / "tool.json").read_text(encoding="utf-8"))
        with np.load(Path(folder) / "weights.npz", allow_pickle=False) as arrays:
            self.weights = dict(arrays)
        self.config = settings["model"]["config"]
        self.logits = MODELS[settings["model"]["name"]]
        self.pieces = TOKENIZERS[settings["tokenizer"]["kind"]](settings["tokenizer"]["tokens"])
        self.classes = settings["classes"]
        self.length = settings["length"]  # tokens that are read of a text
        self.temperature = settings["temperature"]  # makes scores mean what they say
        self.threshold = settings["threshold"]  # None: nothing is sure enough to be answered

    def predict(self, text: str) -> dict:
        """label: the likeliest class; score: its probability; abstain: True where the score is below the threshold.

        Raises ValueError for what is no text.
        """
        if not isinstance(text, str):
            raise ValueError(f"a text is needed, got {type(text).__name__}")
        tokens = [END, *islice(self.pieces(text), self.length - 1)]
        logits = self.logits(self.weights, self.config, np.array(tokens))[-len(self.classes) :]  # (K,)
        probabilities = softmax(logits.astype(np.float64) / self.temperature)
        best = int(probabilities.argmax())
        score = round(float(probabilities[best]), 6)
        abstain = self.threshold is None or score < self.threshold
        return {"label": self.classes[best], "score": score, "abstain": abstain}


# --- Tokenizers: from a text to the numbers of its tokens, one after another ---

# Japanese has no spaces: a change of script is where a word most likely ends
SCRIPTS = ("ぁ-ゟ", "゠-ヿ", "々〆㐀-鿿豈-\ufaff\U00020000-\U0003ffff")  # hiragana, katakana, kanji
WORDS = re.compile("|".join([*(f"[{each}]+" for each in SCRIPTS), rf"[^\W_{''.join(SCRIPTS)}]+", r"[^\w\s]|_"]))
UNKNOWN = 1
MORE = "##"  # before a piece that goes on with a word


def wordpiece(tokens: list[str]):
    """Words, each cut greedily into the longest pieces that are known; width and case of letters do not count."""
    numbers = {piece: i for i, piece in enumerate(tokens)}
    longest = max(map(len, tokens))

    def pieces(text: str) -> Iterator[int]:
        for match in WORDS.finditer(normalize("NFKC", normalize("NFKC", text).casefold())):
            word, at = match[0], 0
            while at < len(word):
                more = MORE if at else ""
                ends = range(min(len(word), at + longest), at, -1)
                to = next((to for to in ends if more + word[at:to] in numbers), at + 1)
                yield numbers.get(more + word[at:to], UNKNOWN)
                at = to

    return pieces


def char(tokens: list[str]):
    """A token a character. ValueError for one that is not known."""
    numbers = {token: i for i, token in enumerate(tokens) if i != END}

    def pieces(text: str) -> Iterator[int]:
        for character in text:
            if character not in numbers:
                raise ValueError(f"the character {character!r} was never seen in training")
            yield numbers[character]

    return pieces


TOKENIZERS = {"wordpiece": wordpiece, "char": char}


# --- Models: from the numbers of the tokens (T,) to logits, the last K of which are those of the classes ---


def encoder(w: Weights, config: dict, tokens: np.ndarray) -> np.ndarray:
    """The logarithm of the mean probability of several readers: (T,) -> (K,)."""
    tokens = np.append(END, tokens[: config["block_size"]])
    each = [softmax(member(w, config, f"members.{i}.", tokens)) for i in range(config["n_members"])]  # M times (K,)
    return np.log(np.maximum(np.mean(each, axis=0), np.finfo(np.float32).tiny))


def member(w: Weights, config: dict, name: str, tokens: np.ndarray) -> np.ndarray:
    """Embeddings, n-grams and layers of attention both ways, what they find anywhere in the text: (T,) -> (K,)."""
    T, eps = len(tokens), config["eps"]
    x = w[name + "embedding.weight"][tokens]  # (T, C)
    features = []
    for n in range(1, config["n_gram"] + 1):
        around = np.pad(x, (((n - 1) // 2, n // 2), (0, 0)))  # (T + n - 1, C)
        grams = np.concatenate([around[i : i + T] for i in range(n)], axis=1)  # (T, n C)
        features.append(relu(linear(grams, w, f"{name}n_grams.{n - 1}.linear")).max(0))  # (F,)
    if config["n_layers"]:
        x = x + w[name + "positions.weight"][:T]
        for i in range(config["n_layers"]):
            layer = f"{name}layers.{i}."
            read = layer_norm(x, w, layer + "norms.0", eps)
            q, k, v = (linear(read, w, f"{layer}attention.{which}") for which in "qkv")  # 3 times (T, C)
            x = x + linear(attention(q, k, v, config["n_heads"]), w, layer + "attention.out")
            h = relu(linear(layer_norm(x, w, layer + "norms.1", eps), w, layer + "feed_forward.up"))
            x = x + linear(h, w, layer + "feed_forward.down")
        x = layer_norm(x, w, name + "norm", eps)
        features += [x.max(0), x.mean(0)]  # each (C,)
    return linear(np.concatenate(features), w, name + "head")


def recurrent(w: Weights, config: dict, tokens: np.ndarray) -> np.ndarray:
    """A state rewritten at every token by an LSTM, a GRU or a plain RNN: (T,) -> (V + K,) after the last."""
    step = {"lstm": lstm, "gru": gru, "rnn": rnn}[config["cell"]]
    x = w["embedding.weight"][tokens]  # (T, C)
    for i in range(config["n_layers"]):
        names = [f"layers.{i}.{name}" for name in ("weight_ih", "bias_ih", "weight_hh", "bias_hh")]
        w_in, b_in, w_state, b_state = (w[name] for name in names)
        n_hidden = w_state.shape[1]
        state = (np.zeros(n_hidden, x.dtype),) * 2  # h and, of the LSTM, c: each (U,)
        outputs = []
        for inputs in x @ w_in.T + b_in:  # (gates U,)
            state = step(inputs, w_state @ state[0] + b_state, state)
            outputs.append(state[0])
        x = np.stack(outputs)  # (T, U)
    return w["output.weight"] @ x[-1] + w["output.bias"]


def lstm(inputs: np.ndarray, recalled: np.ndarray, state: tuple) -> tuple:
    """A cell that is added to: what to write, to keep, the content, what to show."""
    write, keep, content, show = np.split(inputs + recalled, 4)
    c = sigmoid(keep) * state[1] + sigmoid(write) * np.tanh(content)
    return sigmoid(show) * np.tanh(c), c


def gru(inputs: np.ndarray, recalled: np.ndarray, state: tuple) -> tuple:
    """A weighted mean of the old state and a new one."""
    reset_in, update_in, new_in = np.split(inputs, 3)
    reset_h, update_h, new_h = np.split(recalled, 3)
    update = sigmoid(update_in + update_h)
    new = np.tanh(new_in + sigmoid(reset_in + reset_h) * new_h)
    return ((1 - update) * new + update * state[0],)


def rnn(inputs: np.ndarray, recalled: np.ndarray, state: tuple) -> tuple:
    """The whole state, written anew."""
    return (np.tanh(inputs + recalled),)


def gpt2(w: Weights, config: dict, tokens: np.ndarray) -> np.ndarray:
    """Blocks of causal attention and an MLP: (T,) -> (V + K,) after the last."""
    T, eps = len(tokens), config["eps"]
    x = w["wte.weight"][tokens] + w["wpe.weight"][:T]  # (T, C)
    visible = np.tril(np.ones((T, T), dtype=bool))
    for i in range(config["n_layers"]):
        block = f"h.{i}."
        qkv = linear(layer_norm(x, w, block + "ln_1", eps), w, block + "attn.c_attn")  # (T, 3 C)
        y = attention(*np.split(qkv, 3, axis=1), config["n_heads"], visible)
        x = x + linear(y, w, block + "attn.c_proj")
        h = gelu(linear(layer_norm(x, w, block + "ln_2", eps), w, block + "mlp.c_fc"))  # (T, 4 C)
        x = x + linear(h, w, block + "mlp.c_proj")
    return w["wte.weight"] @ layer_norm(x[-1], w, "ln_f", eps)


MODELS = {"encoder": encoder, "recurrent": recurrent, "gpt2": gpt2}


# --- What models are made of ---


def linear(x: np.ndarray, w: Weights, name: str) -> np.ndarray:
    """(..., C) -> (..., U)."""
    return x @ w[name + ".weight"].T + w[name + ".bias"]


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, n_heads: int, visible: np.ndarray | None = None):
    """Each token's weighted mean of the values, in H heads: q, k, v (T, C), visible (T, T) bool -> (T, C)."""
    T, C = q.shape
    q, k, v = (each.reshape(T, n_heads, -1).transpose(1, 0, 2) for each in (q, k, v))  # (H, T, D)
    scores = q @ k.transpose(0, 2, 1) / np.float32(math.sqrt(C // n_heads))  # (H, T, T)
    if visible is not None:
        scores = np.where(visible, scores, np.float32(-np.inf))
    return (softmax(scores) @ v).transpose(1, 0, 2).reshape(T, C)


def layer_norm(x: np.ndarray, w: Weights, name: str, eps: float) -> np.ndarray:
    """(..., C) -> (..., C): mean 0, variance 1, then a gain and a bias."""
    centred = x - x.mean(-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(-1, keepdims=True) + np.float32(eps))
    return centred / deviation * w[name + ".weight"] + w[name + ".bias"]


def softmax(x: np.ndarray) -> np.ndarray:
    """(..., N) -> (..., N): positive numbers that sum to 1."""
    exponentials = np.exp(x - x.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), in a form that no number overflows."""
    return 0.5 * (1 + np.tanh(0.5 * x))


def relu(x: np.ndarray) -> np.ndarray:
    """x, or 0 where that is more."""
    return np.maximum(x, 0)


def gelu(x: np.ndarray) -> np.ndarray:
    """x times the probability that a standard normal is below x, in the tanh form."""
    return 0.5 * x * (1 + np.tanh(np.float32(math.sqrt(2 / math.pi)) * (x + 0.044715 * x**3)))


# --- Use ---

USAGE = 'usage: python tool.py TEXT ..., or python tool.py < FILE, a line of JSON each: {"text": "..."} or "..."'


@functools.cache
def beside() -> Tool:
    """The classifier beside this file."""
    return Tool(Path(__file__).parent)


def predict(text: str) -> dict:
    """{"label": the likeliest class, "score": its probability, "abstain": whether that is too little to go by}."""
    return beside().predict(text)


def answer(line: bytes, number: int) -> dict:
    """What `predict` says of a line of JSON, or {"error": what is wrong with it, "line": its number, from 1}."""
    try:
        given = json.loads(line.decode("utf-8-sig"))
        if isinstance(given, dict) and "text" not in given:
            raise ValueError('an object needs a "text"')
        return predict(given["text"] if isinstance(given, dict) else given)
    except (ValueError, RecursionError) as error:
        return {"error": str(error), "line": number}


def main() -> None:
    """Answer each argument, or each line of standard input, by a line on standard output, at once; in UTF-8."""
    texts = sys.argv[1:]
    if {"-h", "--help"} & set(texts):
        print(USAGE, file=sys.stderr)
        return
    if unknown := [each for each in texts if each.startswith("-")]:
        print(f"tool.py: unknown argument {unknown[0]!a}; {USAGE}", file=sys.stderr)
        sys.exit(2)
    try:
        beside()
        for number, line in enumerate([json.dumps(text).encode() for text in texts] or sys.stdin.buffer, 1):
            sys.stdout.buffer.write(json.dumps(answer(line, number), ensure_ascii=False).encode("utf-8") + b"\n")
            sys.stdout.buffer.flush()
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to be written at the end
        if not isinstance(error, BrokenPipeError):  # else whoever reads has seen enough
            sys.exit(f"tool.py: {error}")


if __name__ == "__main__":
    main()
