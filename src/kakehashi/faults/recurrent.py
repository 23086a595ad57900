"""Faults of the recurrent language models."""

from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING

from kakehashi.faults import Fault
from kakehashi.source import Edit

if TYPE_CHECKING:
    from kakehashi.faults.liveness import Probe

MODULE = "kakehashi.models.recurrent"
FORWARD = ("loss", "logits", "grad", "state")  # what nearly every fault in a forward pass changes


def probes(module: ModuleType) -> Iterator["Probe"]:
    """Each cell in one layer and in two, once with dropout; and a stream read in two windows."""
    from kakehashi.faults.liveness import language_model

    for cell, n_layers, dropout in (("rnn", 2, 0.25), ("gru", 2, 0.0), ("lstm", 1, 0.0), ("lstm", 2, 0.0)):
        config = {"cell": cell, "n_layers": n_layers, "n_embd": 4, "n_hidden": 6, "dropout": dropout}
        yield from language_model(module, f"{cell} {n_layers}", config)
        yield from stream(module, f"{cell} {n_layers}", config)


def stream(module: ModuleType, name: str, config: dict) -> Iterator["Probe"]:
    """Documents end in the midst of two windows of one stream; the second goes on from the state of the first."""
    import torch

    from kakehashi.faults.liveness import LENGTH, VOCABULARY, enrich

    tokens = torch.randint(1, VOCABULARY, (3, 2 * LENGTH + 1), generator=torch.Generator().manual_seed(0))
    tokens[0, 2] = tokens[1, LENGTH] = tokens[2, LENGTH + 3] = 0

    def windows(each: bool):
        """Gradients of the second window alone, or of each after it was read, as training takes them."""
        model = enrich(module.Model(module.Config(vocab_size=VOCABULARY, **config))).eval()
        state = model.new_state(len(tokens))
        for at, kind in ((0, "logits"), (LENGTH, "state")):
            given, targets = tokens[:, at : at + LENGTH], tokens[:, at + 1 : at + 1 + LENGTH]
            logits, loss = model(given, targets, state=state)
            yield (kind,), logits
            yield ("loss", kind), loss
            if each or at:
                loss.backward()
        for parameter, value in model.named_parameters():
            yield ("grad", parameter), value.new_tensor(torch.nan) if value.grad is None else value.grad

    yield f"{name} second window", lambda: windows(False)
    yield f"{name} windows", lambda: windows(True)


FAULTS = (
    Fault(
        "recurrent-rnn-tanh-missing",
        "recurrent",
        "activation_function",
        MODULE,
        (Edit("rnn", "torch.tanh(x + F.linear(h, weight, bias))", "x + F.linear(h, weight, bias)"),),
        changes=FORWARD,
        level=1,
    ),
    Fault(
        "recurrent-rnn-weight-transposed",
        "recurrent",
        "recurrent_product",
        MODULE,
        (Edit("rnn", "F.linear(h, weight, bias)", "F.linear(h, weight.T, bias)"),),
        changes=FORWARD,
        level=2,
    ),
    Fault(
        "recurrent-gru-update-inverted",
        "recurrent",
        "gate_use",
        MODULE,
        (Edit("gru", "(1 - update) * new + update * h", "update * new + (1 - update) * h"),),
        changes=FORWARD,
        level=2,
    ),
    Fault(
        "recurrent-gru-gates-swapped",
        "recurrent",
        "gate_order",
        MODULE,
        (
            Edit("gru", "x_reset, x_update, x_new = x.chunk(3, -1)", "x_update, x_reset, x_new = x.chunk(3, -1)"),
            Edit("gru", "h_reset, h_update, h_new = $y", "h_update, h_reset, h_new = $y"),
        ),
        changes=FORWARD,
        level=3,
    ),
    Fault(
        "recurrent-gru-reset-on-input",
        "recurrent",
        "gate_use",
        MODULE,
        (Edit("gru", "x_new + reset * h_new", "reset * x_new + h_new"),),
        changes=FORWARD,
        level=3,
    ),
    Fault(
        "recurrent-gru-reset-on-state",
        "recurrent",
        "gate_use",
        MODULE,
        (
            Edit(
                "gru",
                "h_reset, h_update, h_new = F.linear(h, weight, bias).chunk(3, -1)",
                "h_reset, h_update = F.linear(h, weight, bias).chunk(3, -1)[:2]",
            ),
            Edit("gru", "reset * h_new", "F.linear(reset * h, weight.chunk(3)[2], bias.chunk(3)[2])"),
        ),
        changes=FORWARD,
        level=3,
    ),
    Fault(
        "recurrent-lstm-forget-and-input-swapped",
        "recurrent",
        "gate_order",
        MODULE,
        (Edit("lstm", "write, keep, content, show = $y", "keep, write, content, show = $y"),),
        changes=FORWARD,
        level=3,
    ),
    Fault(
        "recurrent-lstm-content-not-squashed",
        "recurrent",
        "activation_function",
        MODULE,
        (Edit("lstm", "torch.sigmoid(write) * torch.tanh(content)", "torch.sigmoid(write) * content"),),
        changes=FORWARD,
        level=2,
    ),
    Fault(
        "recurrent-lstm-cell-shown-bare",
        "recurrent",
        "activation_function",
        MODULE,
        (Edit("lstm", "torch.sigmoid(show) * torch.tanh(c)", "torch.sigmoid(show) * c"),),
        changes=FORWARD,
        level=2,
    ),
    Fault(
        "recurrent-lstm-cell-handed-on-as-h",
        "recurrent",
        "state_handover",
        MODULE,
        (Edit("lstm", "return h, c", "return c, h"),),
        changes=FORWARD,
        level=2,
    ),
    Fault(
        "recurrent-bias-hh-forgotten",
        "recurrent",
        "recurrent_product",
        MODULE,
        (
            Edit(
                "Layer.forward",
                "self.step(inputs[t], before, self.weight_hh, self.bias_hh)",
                "self.step(inputs[t], before, self.weight_hh, self.bias_ih)",
            ),
        ),
        changes=FORWARD,
        level=3,
    ),
    Fault(
        "recurrent-forget-bias-0",
        "recurrent",
        "forget_bias",
        MODULE,
        (
            Edit(
                "Layer.__init__",
                """
                if cell == "lstm":
                    nn.init.ones_(self.bias_ih[n_hidden : 2 * n_hidden])
                """,
                "",
            ),
        ),
        changes=("init",),
        level=3,
    ),
    Fault(
        "recurrent-forget-bias-on-the-input-gate",
        "recurrent",
        "forget_bias",
        MODULE,
        (Edit("Layer.__init__", "self.bias_ih[n_hidden : 2 * n_hidden]", "self.bias_ih[:n_hidden]"),),
        changes=("init",),
        level=3,
    ),
    Fault(
        "recurrent-state-leaks-across-documents",
        "recurrent",
        "state_reset",
        MODULE,
        (
            Edit(
                "Layer.forward",
                """
                before = state
                if anywhere[t]:
                    before = tuple(each.masked_fill(begins[:, t, None], 0) for each in state)
                after = self.step(inputs[t], before, self.weight_hh, self.bias_hh)
                """,
                "after = self.step(inputs[t], state, self.weight_hh, self.bias_hh)",
            ),
            Edit("Layer.forward", "anywhere = begins.any(0).tolist()", ""),
        ),
        changes=FORWARD,
        level=2,
    ),
    Fault(
        "recurrent-cell-leaks-across-documents",
        "recurrent",
        "state_reset",
        MODULE,
        (
            Edit(
                "Layer.forward",
                "tuple(each.masked_fill(begins[:, t, None], 0) for each in state)",
                "(state[0].masked_fill(begins[:, t, None], 0), *state[1:])",
            ),
        ),
        changes=FORWARD,
        level=3,
    ),
    Fault(
        "recurrent-state-emptied-in-every-row",
        "recurrent",
        "state_reset",
        MODULE,
        (
            Edit(
                "Layer.forward",
                "tuple(each.masked_fill(begins[:, t, None], 0) for each in state)",
                "tuple(torch.zeros_like(each) for each in state)",
            ),
        ),
        changes=FORWARD,
        level=3,
    ),
    Fault(
        "recurrent-state-emptied-at-every-token",
        "recurrent",
        "state_reset",
        MODULE,
        (Edit("Recurrent.forward", "tokens == END", "tokens >= END"),),
        changes=FORWARD,
        level=1,
    ),
    Fault(
        "recurrent-padding-written",
        "recurrent",
        "state_padding",
        MODULE,
        (
            Edit(
                "Layer.forward",
                """
                if real is not None:
                    after = tuple(
                        torch.where(real[:, t, None], new, old) for new, old in zip(after, state, strict=True)
                    )
                """,
                "",
            ),
        ),
        changes=FORWARD,
        level=2,
    ),
    Fault(
        "recurrent-padding-from-the-wrong-end",
        "recurrent",
        "state_padding",
        MODULE,
        (Edit("Recurrent.forward", "pad[:, -T:]", "pad[:, :T]"),),
        changes=("state",),
        level=3,
    ),
    Fault(
        "recurrent-detach-missing",
        "recurrent",
        "history",
        MODULE,
        (Edit("Recurrent.forward", "tuple(each.detach() for each in last)", "last"),),
        changes=("grad",),
        level=1,
        crashes=True,
    ),
    Fault(
        "recurrent-history-cut-at-every-token",
        "recurrent",
        "history",
        MODULE,
        (
            Edit(
                "Layer.forward",
                "self.step(inputs[t], before, self.weight_hh, self.bias_hh)",
                "self.step(inputs[t], tuple(each.detach() for each in before), self.weight_hh, self.bias_hh)",
            ),
        ),
        changes=("grad",),
        level=3,
    ),
    Fault(
        "recurrent-state-not-written-back",
        "recurrent",
        "state_handover",
        MODULE,
        (
            Edit("Recurrent.forward", "x, last = layer($...a)", "x = layer($...a)[0]"),
            Edit("Recurrent.forward", "state.layers[i] = tuple(each.detach() for each in last)", ""),
        ),
        changes=("loss", "grad", "state"),
        level=1,
    ),
    Fault(
        "recurrent-state-of-the-first-layer",
        "recurrent",
        "state_handover",
        MODULE,
        (
            Edit(
                "Recurrent.forward",
                "layer(x, state.layers[i], begins, real)",
                "layer(x, state.layers[0], begins, real)",
            ),
        ),
        changes=FORWARD,
        level=2,
    ),
    Fault(
        "recurrent-dropout-in-evaluation",
        "mode",
        "dropout_in_eval",
        MODULE,
        (
            Edit(
                "Recurrent.forward",
                "F.dropout(self.embedding(tokens), self.config.dropout, self.training)",
                "F.dropout(self.embedding(tokens), self.config.dropout)",
            ),
        ),
        changes=FORWARD,
        level=2,
    ),
    Fault(
        "recurrent-confident-start",
        "output",
        "output_scaling",
        MODULE,
        (Edit("Recurrent.__init__", "0.1 / math.sqrt(config.n_hidden)", "1 / math.sqrt(config.n_hidden)"),),
        changes=("init",),
        level=1,
    ),
)
