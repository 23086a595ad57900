"""Faults of WaveNet."""

from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING

from kakehashi.faults import Fault
from kakehashi.source import Edit

if TYPE_CHECKING:
    from kakehashi.faults.liveness import Probe

MODULE = "kakehashi.models.wavenet"
FORWARD = ("loss", "logits", "grad", "state")  # what every fault in the forward pass changes


def probes(module: ModuleType) -> Iterator["Probe"]:
    """Three layers: of two, dilations that double and dilations that grow by one are the same."""
    from kakehashi.faults.liveness import language_model

    yield from language_model(module, "tree", {"n_layers": 3, "n_embd": 4, "n_hidden": 5})


FAULTS = (
    Fault(
        "wavenet-dilation-grows-by-one",
        "convolution",
        "dilation",
        MODULE,
        (Edit("WaveNet.__init__", "Block(config, 2**layer)", "Block(config, layer + 1)"),),
        changes=FORWARD,
        level=3,
    ),
    Fault(
        "wavenet-dilation-ignored",
        "convolution",
        "dilation",
        MODULE,
        (Edit("CausalConv.forward", "x[:, : -self.dilation]", "x[:, self.dilation - 1 : -1]"),),
        changes=FORWARD,
        level=2,
    ),
    Fault(
        "wavenet-taps-swapped",
        "convolution",
        "tap_order",
        MODULE,
        (Edit("CausalConv.forward", "torch.cat((earlier, now), -1)", "torch.cat((now, earlier), -1)"),),
        changes=FORWARD,
        level=3,
    ),
    Fault(
        "wavenet-window-centred",
        "convolution",
        "alignment",
        MODULE,
        (
            Edit(
                "CausalConv.forward",
                "earlier, now = x[:, : -self.dilation], x[:, self.dilation :]",
                """
                before = self.dilation // 2
                x = F.pad(x, (0, 0, before, self.dilation - before))
                earlier, now = x[:, : -self.dilation], x[:, self.dilation :]
                """,
            ),
            Edit("Block.forward", "x[:, self.conv.dilation :] + said", "x + said"),
        ),
        changes=FORWARD,
        level=1,
    ),
    Fault(
        "wavenet-gate-swapped",
        "convolution",
        "gate",
        MODULE,
        (Edit("Block.forward", "signal, gate = $halves", "gate, signal = $halves"),),
        changes=FORWARD,
        level=3,
    ),
    Fault(
        "wavenet-gate-missing",
        "convolution",
        "gate",
        MODULE,
        (
            Edit("Block.forward", "signal, gate = self.conv(x).chunk(2, -1)", "signal = self.conv(x).chunk(2, -1)[0]"),
            Edit("Block.forward", "torch.tanh(signal) * torch.sigmoid(gate)", "torch.tanh(signal)"),
        ),
        changes=FORWARD,
        level=2,
    ),
    Fault(
        "wavenet-tanh-missing",
        "convolution",
        "activation_function",
        MODULE,
        (Edit("Block.forward", "torch.tanh(signal)", "signal"),),
        changes=FORWARD,
        level=3,
    ),
    Fault(
        "wavenet-residual-missing",
        "residual",
        "skip_connection",
        MODULE,
        (Edit("Block.forward", "x[:, self.conv.dilation :] + said", "said"),),
        changes=FORWARD,
        level=2,
    ),
    Fault(
        "wavenet-residual-of-the-earlier",
        "residual",
        "residual_path",
        MODULE,
        (Edit("Block.forward", "x[:, self.conv.dilation :] + said", "x[:, : -self.conv.dilation] + said"),),
        changes=FORWARD,
        level=3,
    ),
    Fault(
        "wavenet-skip-holds-the-stream",
        "residual",
        "residual_path",
        MODULE,
        (
            Edit(
                "Block.forward",
                "return x[:, self.conv.dilation :] + said, said",
                "x = x[:, self.conv.dilation :] + said\nreturn x, x",
            ),
        ),
        changes=FORWARD,
        level=3,
    ),
    Fault(
        "wavenet-skips-of-the-first-tokens",
        "convolution",
        "alignment",
        MODULE,
        (Edit("WaveNet.forward", "skip[:, -T:]", "skip[:, :T]"),),
        changes=FORWARD,
        level=2,
    ),
    Fault(
        "wavenet-last-layer-alone",
        "residual",
        "skip_connection",
        MODULE,
        (Edit("WaveNet.forward", "torch.stack(skips).sum(0)", "skips[-1]"),),
        changes=FORWARD,
        level=2,
    ),
    Fault(
        "wavenet-window-ends-early",
        "positional",
        "indexing",
        MODULE,
        (
            Edit("WaveNet.forward", "seen = window.extend(tokens)", "seen = window.extend(tokens)[:, :-1]"),
            Edit("WaveNet.new_state", "self.config.block_size - 1", "self.config.block_size"),
        ),
        changes=FORWARD,
        level=1,
    ),
    Fault(
        "wavenet-beginning-is-token-0",
        "embedding",
        "input_type",
        MODULE,
        (Edit("WaveNet.forward", "seen.masked_fill(seen < 0, self.config.vocab_size)", "seen.clamp(min=0)"),),
        changes=FORWARD,
        level=2,
    ),
    Fault(
        "wavenet-padding-is-context",
        "masking",
        "mask_application",
        MODULE,
        (Edit("WaveNet.forward", "if pad is not None:\n    tokens = tokens.masked_fill(~pad[:, -T:], -1)", ""),),
        changes=FORWARD,
        level=3,
    ),
    Fault(
        "wavenet-state-ignored",
        "kv_cache",
        "update_synchronization",
        MODULE,
        (Edit("WaveNet.forward", "window = $new if state is None else state", "window = $new"),),
        changes=("state",),
        level=1,
    ),
    Fault(
        "wavenet-head-is-linear",
        "ffn",
        "activation_function",
        MODULE,
        (Edit("WaveNet.forward", "F.relu(self.hidden(h))", "self.hidden(h)"),),
        changes=FORWARD,
        level=3,
    ),
    Fault(
        "wavenet-confident-start",
        "output",
        "output_scaling",
        MODULE,
        (
            Edit(
                "WaveNet.__init__",
                "Linear(config.n_hidden, config.vocab_size, gain=0.1)",
                "Linear(config.n_hidden, config.vocab_size)",
            ),
        ),
        changes=("init",),
        level=1,
    ),
)
