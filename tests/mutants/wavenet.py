from mutants import mutant

KEYS = {
    "wavenet-dilation-grows-by-one": "model_dilations",
    "wavenet-dilation-ignored": "conv_neighbours",
    "wavenet-taps-swapped": "conv_swapped",
    "wavenet-window-centred": "conv_centred",
    "wavenet-gate-swapped": "block_swapped",
    "wavenet-gate-missing": "block_no_gate",
    "wavenet-tanh-missing": "block_no_tanh",
    "wavenet-residual-missing": "block_no_residual",
    "wavenet-residual-of-the-earlier": "block_earlier",
    "wavenet-skip-holds-the-stream": "block_skip",
    "wavenet-skips-of-the-first-tokens": "model_first_tokens",
    "wavenet-last-layer-alone": "model_last_layer",
    "wavenet-window-ends-early": "window_self",
    "wavenet-beginning-is-token-0": "model_beginning",
    "wavenet-padding-is-context": "model_padding",
    "wavenet-state-ignored": "model_state",
    "wavenet-head-is-linear": "model_no_relu_2",
    "wavenet-confident-start": "start_output_gain",
}

MUTANTS = {
    "conv-filled-on-the-left": mutant(
        "conv_filled",
        (
            "CausalConv.forward",
            "earlier, now = x[:, : -self.dilation], x[:, self.dilation :]",
            "earlier, now = F.pad(x, (0, 0, self.dilation, 0))[:, : -self.dilation], x",
        ),
    ),
    "conv-channels-interleaved": mutant(
        "conv_interleaved",
        ("CausalConv.forward", "torch.cat((earlier, now), -1)", "torch.stack((earlier, now), -1).flatten(-2)"),
    ),
    "conv-joined-with-itself": mutant(
        "conv_one_token",
        ("CausalConv.forward", "torch.cat((earlier, now), -1)", "torch.cat((now, now), -1)"),
    ),
    "conv-cuts-the-end": mutant(
        "conv_neighbours_early",
        (
            "CausalConv.forward",
            "earlier, now = x[:, : -self.dilation], x[:, self.dilation :]",
            "earlier, now = x[:, : -self.dilation], x[:, 1 : x.shape[1] - self.dilation + 1]",
        ),
    ),
    "conv-one-too-short": mutant(
        "shape",
        (
            "CausalConv.forward",
            "earlier, now = x[:, : -self.dilation], x[:, self.dilation :]",
            "earlier, now = x[:, : -self.dilation - 1], x[:, self.dilation + 1 :]",
        ),
    ),
    "conv-scaled-by-one-tap": mutant(
        "conv_fan", ("CausalConv.__init__", "Linear($n, n_out)", "Linear($n, n_out, gain=2**0.5)")
    ),
    "conv-of-torchs-linear": mutant(
        "start_uniform", ("CausalConv.__init__", "Linear($n, n_out)", "nn.Linear($n, n_out)")
    ),
    "conv-no-bias": mutant(
        "missing_parameter",
        ("CausalConv.__init__", "Linear($n, n_out)", "nn.Linear($n, n_out, bias=False)"),
    ),
    "conv-earlier-detached": mutant(
        "value",
        ("CausalConv.forward", "torch.cat((earlier, now), -1)", "torch.cat((earlier.detach(), now), -1)"),
    ),
    "conv-in-float32": mutant("dtype", ("CausalConv.forward", "return $y", "return ($y).float()")),
    "block-returns-one": mutant(
        "result",
        ("Block.forward", "return x[:, self.conv.dilation :] + said, said", "return x[:, self.conv.dilation :] + said"),
    ),
    "block-results-swapped": mutant(
        "block_skip",
        (
            "Block.forward",
            "return x[:, self.conv.dilation :] + said, said",
            "return said, x[:, self.conv.dilation :] + said",
        ),
    ),
    "block-skip-before-out": mutant(
        "shape",
        (
            "Block.forward",
            "return x[:, self.conv.dilation :] + said, said",
            "return x[:, self.conv.dilation :] + said, h",
        ),
    ),
    "block-stream-lost": mutant(
        "block_said_lost",
        ("Block.forward", "x[:, self.conv.dilation :] + said", "x[:, self.conv.dilation :]"),
    ),
    "block-no-sigmoid": mutant("block_no_sigmoid", ("Block.forward", "torch.sigmoid(gate)", "gate")),
    "block-tanh-twice": mutant("block_tanh_twice", ("Block.forward", "torch.sigmoid(gate)", "torch.tanh(gate)")),
    "block-sigmoid-twice": mutant(
        "block_sigmoid_twice", ("Block.forward", "torch.tanh(signal)", "torch.sigmoid(signal)")
    ),
    "block-gate-added": mutant(
        "block_gate_added",
        ("Block.forward", "torch.tanh(signal) * torch.sigmoid(gate)", "torch.tanh(signal) + torch.sigmoid(gate)"),
    ),
    "block-interleaved": mutant(
        "block_interleaved",
        ("Block.forward", "self.conv(x).chunk(2, -1)", "self.conv(x).unflatten(-1, (-1, 2)).unbind(-1)"),
    ),
    "block-gate-detached": mutant("value", ("Block.forward", "torch.sigmoid(gate)", "torch.sigmoid(gate.detach())")),
    "block-overwrites": mutant(
        "overwrites",
        (
            "Block.forward",
            "return x[:, self.conv.dilation :] + said, said",
            "x[:, self.conv.dilation :] += said\nreturn x[:, self.conv.dilation :], said",
        ),
    ),
    "block-of-torchs-linear": mutant(
        "start_uniform", ("Block.__init__", "Linear(config.n_hidden, $c)", "nn.Linear(config.n_hidden, $c)")
    ),
    "block-in-float32": mutant("dtype", ("Block.forward", "said = self.out(h)", "said = self.out(h).float()")),
    "block-one-gate": mutant(
        "shape",
        (
            "Block.__init__",
            "CausalConv($c, 2 * config.n_hidden, dilation)",
            "CausalConv($c, config.n_hidden, dilation)",
        ),
    ),
    "block-of-dilation-2": mutant(
        "block_dilation",
        ("Block.__init__", "CausalConv($c, 2 * config.n_hidden, dilation)", "CausalConv($c, 2 * config.n_hidden, 2)"),
    ),
    "block-large-start": mutant(
        "start_std",
        (
            "Block.__init__",
            "self.conv = CausalConv($c, $k, dilation)",
            "self.conv = CausalConv($c, $k, dilation)\nself.conv.taps.weight.data.mul_(10)",
        ),
    ),
    "block-gate-closed-at-the-start": mutant(
        "value",
        (
            "Block.__init__",
            "self.conv = CausalConv($c, $k, dilation)",
            "self.conv = CausalConv($c, $k, dilation)\nnn.init.constant_(self.conv.taps.bias, -4)",
        ),
    ),
    "block-tanh-of-exp": mutant(
        "block_overflow",
        (
            "Block.forward",
            "torch.tanh(signal)",
            "((signal.exp() - (-signal).exp()) / (signal.exp() + (-signal).exp()))",
        ),
    ),
    "block-sigmoid-of-exp": mutant(
        "block_overflow", ("Block.forward", "torch.sigmoid(gate)", "(1 / (1 + (-gate).exp()))")
    ),
    "wavenet-dilations-capped": mutant(
        "model_dilations", ("WaveNet.__init__", "Block(config, 2**layer)", "Block(config, min(8, 2**layer))")
    ),
    "wavenet-dilations-begin-again": mutant(
        "model_dilations", ("WaveNet.__init__", "Block(config, 2**layer)", "Block(config, 2 ** (layer % 4))")
    ),
    "wavenet-window-of-four-layers": mutant("raised", ("WaveNet.new_state", "self.config.block_size - 1", "15")),
    "wavenet-no-memory-in-evaluation": mutant(
        "model_state",
        (
            "WaveNet.forward",
            "window.extend(tokens)",
            "(window if self.training else self.new_state(B)).extend(tokens)",
        ),
    ),
    "wavenet-head-of-the-stream-in-evaluation": mutant(
        "model_stream",
        ("WaveNet.forward", "torch.stack(skips).sum(0)", "(torch.stack(skips).sum(0) if self.training else x)"),
    ),
    "wavenet-no-second-relu-in-evaluation": mutant(
        "model_no_relu_2",
        ("WaveNet.forward", "F.relu(self.hidden(h))", "(F.relu(self.hidden(h)) if self.training else self.hidden(h))"),
    ),
    "wavenet-embedding-detached-with-a-state": mutant(
        "no_gradient",
        (
            "WaveNet.forward",
            "x = self.embedding($t)",
            "x = self.embedding($t)\nx = x if state is None else x.detach()",
        ),
    ),
    "wavenet-no-loss-in-evaluation": mutant(
        "none", ("WaveNet.forward", "targets is None", "targets is None or not self.training")
    ),
    "wavenet-blocks-start-at-0": mutant(
        "start_std",
        (
            "WaveNet.__init__",
            "self.output = Linear($k, config.vocab_size, gain=0.1)",
            """
            self.output = Linear($k, config.vocab_size, gain=0.1)
            for parameter in self.blocks.parameters():
                nn.init.zeros_(parameter)
            """,
        ),
    ),
    "wavenet-head-biases-drawn": mutant(
        "value",
        (
            "WaveNet.__init__",
            "self.output = Linear($k, config.vocab_size, gain=0.1)",
            """
            self.output = nn.Linear($k, config.vocab_size)
            nn.init.normal_(self.output.weight, std=0.1 / math.sqrt($k))
            """,
        ),
    ),
    "wavenet-beginning-starts-at-0": mutant(
        "start_std",
        (
            "WaveNet.__init__",
            "self.embedding = nn.Embedding(config.vocab_size + 1, config.n_embd)",
            """
            self.embedding = nn.Embedding(config.vocab_size + 1, config.n_embd)
            nn.init.zeros_(self.embedding.weight.data[-1])
            """,
        ),
    ),
    "wavenet-no-dilation": mutant(
        "model_dilations", ("WaveNet.__init__", "Block(config, 2**layer)", "Block(config, 1)")
    ),
    "wavenet-dilations-from-2": mutant(
        "model_dilations", ("WaveNet.__init__", "Block(config, 2**layer)", "Block(config, 2 ** (layer + 1))")
    ),
    "wavenet-dilations-reversed": mutant(
        "model_dilations",
        ("WaveNet.__init__", "Block(config, 2**layer)", "Block(config, 2 ** (config.n_layers - 1 - layer))"),
    ),
    "wavenet-config-not-kept": mutant(
        "no_config",
        ("WaveNet.__init__", "self.config = config", "self.size = config.block_size - 1"),
        ("WaveNet.forward", "seen.masked_fill(seen < 0, $v)", "seen % len(self.embedding.weight)"),
        ("WaveNet.new_state", "self.config.block_size - 1", "self.size"),
    ),
    "wavenet-no-row-for-the-beginning": mutant(
        "shape",
        ("WaveNet.__init__", "nn.Embedding(config.vocab_size + 1, $c)", "nn.Embedding(config.vocab_size, $c)"),
    ),
    "wavenet-window-short": mutant(
        "raised", ("WaveNet.new_state", "self.config.block_size - 1", "self.config.block_size - 2")
    ),
    "wavenet-last-block-left-out": mutant(
        "window_short",
        (
            "WaveNet.forward",
            "for block in self.blocks:\n    x, skip = block(x)\n    skips.append(skip[:, -T:])",
            "for block in self.blocks[:-1]:\n    x, skip = block(x)\n    skips.append(skip[:, -T:])",
        ),
    ),
    "wavenet-reads-new-tokens-alone": mutant(
        "model_state",
        ("WaveNet.forward", "seen = window.extend(tokens)", "seen = window.extend(tokens)\nseen[:, :-T] = -1"),
    ),
    "wavenet-sees-the-next": mutant(
        "window_future",
        (
            "WaveNet.forward",
            "seen = window.extend(tokens)",
            "seen = window.extend(tokens)\nseen = torch.cat((seen[:, 1:], seen[:, -1:]), 1)",
        ),
    ),
    "wavenet-only-the-last-prediction": mutant(
        "shape", ("WaveNet.forward", "Output(logits, $loss)", "Output(logits[:, -1], $loss)")
    ),
    "wavenet-mixes-the-batch": mutant(
        "model_batch",
        ("WaveNet.forward", "self.hidden(h)", "self.hidden(h) + self.hidden(h).mean(0)"),
    ),
    "wavenet-head-of-the-stream": mutant("model_stream", ("WaveNet.forward", "torch.stack(skips).sum(0)", "x")),
    "wavenet-head-hears-the-stream-too": mutant(
        "model_stream_too",
        ("WaveNet.forward", "torch.stack(skips).sum(0)", "(torch.stack(skips).sum(0) + x)"),
    ),
    "wavenet-mean-of-the-layers": mutant(
        "model_mean", ("WaveNet.forward", "torch.stack(skips).sum(0)", "torch.stack(skips).mean(0)")
    ),
    "wavenet-no-first-relu": mutant(
        "model_no_relu_1",
        ("WaveNet.forward", "F.relu(torch.stack(skips).sum(0))", "torch.stack(skips).sum(0)"),
    ),
    "wavenet-no-relus": mutant(
        "model_no_relus",
        ("WaveNet.forward", "F.relu(torch.stack(skips).sum(0))", "torch.stack(skips).sum(0)"),
        ("WaveNet.forward", "F.relu(self.hidden(h))", "self.hidden(h)"),
    ),
    "wavenet-padding-from-the-left": mutant(
        "model_padding_columns",
        ("WaveNet.forward", "tokens.masked_fill(~pad[:, -T:], -1)", "tokens.masked_fill(~pad[:, :T], -1)"),
    ),
    "wavenet-small-embedding": mutant(
        "start_small",
        (
            "WaveNet.__init__",
            "self.embedding = nn.Embedding(config.vocab_size + 1, config.n_embd)",
            """
            self.embedding = nn.Embedding(config.vocab_size + 1, config.n_embd)
            nn.init.normal_(self.embedding.weight, std=0.02)
            """,
        ),
    ),
    "wavenet-head-of-torchs-linear": mutant(
        "start_uniform",
        ("WaveNet.__init__", "Linear($c, config.n_hidden)", "nn.Linear($c, config.n_hidden)"),
    ),
    "wavenet-embedding-detached": mutant(
        "no_gradient", ("WaveNet.forward", "x = self.embedding($t)", "x = self.embedding($t).detach()")
    ),
    "wavenet-loss-of-numbers": mutant(
        "backward",
        ("WaveNet.forward", "cross_entropy(logits, targets)", "cross_entropy(logits.detach(), targets)"),
    ),
    "wavenet-in-float32": mutant(
        "dtype", ("WaveNet.forward", "Output(logits, $loss)", "Output(logits.float(), $loss)")
    ),
}
