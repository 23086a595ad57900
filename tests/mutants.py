"""Wrong implementations that are no faults of the catalogue: what else a person may write. id -> module, edits, and the
key of the text that must be among those the station says."""

from kakehashi.source import Edit


def mutant(module: str, key: str, *edits: tuple[str, str, str]) -> tuple[str, str, list[Edit]]:
    return module, key, [Edit(*each) for each in edits]


MUTANTS = {
    # bigram
    "count-all-pairs-once": mutant(
        "bigram", "value", ("count", "smoothed = counts + smoothing", "smoothed = counts.clamp(max=1) + smoothing")
    ),
    "count-no-log": mutant(
        "bigram",
        "count_log",
        ("count", "torch.log(smoothed / smoothed.sum(1, keepdim=True))", "smoothed / smoothed.sum(1, keepdim=True)"),
    ),
    "count-not-normalised": mutant(
        "bigram", "count_log", ("count", "torch.log(smoothed / $sums)", "torch.log(smoothed)")
    ),
    "count-softmax": mutant(
        "bigram", "value", ("count", "torch.log(smoothed / $sums)", "torch.log_softmax(smoothed, 1)")
    ),
    "count-fixed-smoothing": mutant("bigram", "count_smoothing_fixed", ("count", "counts + smoothing", "counts + 1.0")),
    "count-padding-as-last": mutant(
        "bigram",
        "count_padding_last",
        ("count", "seen = targets != IGNORE", ""),
        (
            "count",
            "pairs = tokens[seen] * vocab_size + targets[seen]",
            "pairs = (tokens * vocab_size + targets.masked_fill(targets < 0, vocab_size - 1)).flatten()",
        ),
    ),
    "bigram-random-start": mutant(
        "bigram",
        "value",
        ("Bigram.__init__", "torch.zeros(config.vocab_size, $v)", "torch.randn(config.vocab_size, $v)"),
    ),
    "bigram-column": mutant(
        "bigram", "bigram_column", ("Bigram.forward", "self.table[tokens]", "self.table.T[tokens]")
    ),
    "bigram-log-probabilities": mutant(
        "bigram", "value", ("Bigram.forward", "self.table[tokens]", "self.table[tokens].log_softmax(-1)")
    ),
    "bigram-detached": mutant(
        "bigram", "backward", ("Bigram.forward", "self.table[tokens]", "self.table.detach()[tokens]")
    ),
    "bigram-loss-of-all": mutant(
        "bigram", "loss_padding_added", ("cross_entropy", "(log_p * seen).sum()", "log_p.sum()")
    ),
    "bigram-loss-unnormalised": mutant(
        "bigram",
        "loss_unnormalised",
        (
            "cross_entropy",
            "logits.gather(-1, wanted).squeeze(-1) - logits.logsumexp(-1)",
            "logits.gather(-1, wanted).squeeze(-1)",
        ),
    ),
    "bigram-loss-overflows": mutant(
        "bigram", "loss_overflow", ("cross_entropy", "logits.logsumexp(-1)", "logits.exp().sum(-1).log()")
    ),
    "bigram-loss-skips-token-0": mutant(
        "bigram", "number", ("cross_entropy", "seen = targets != IGNORE", "seen = targets > 0")
    ),
    "bigram-loss-views": mutant(
        "bigram",
        "raised",
        ("cross_entropy", "seen = targets != IGNORE", "targets = targets.view(-1)\nseen = targets != IGNORE"),
        (
            "cross_entropy",
            "logits.gather(-1, wanted).squeeze(-1)",
            "logits.flatten(0, 1).gather(-1, wanted).squeeze(-1)",
        ),
        ("cross_entropy", "logits.logsumexp(-1)", "logits.flatten(0, 1).logsumexp(-1)"),
    ),
    "bigram-loss-nothing-counted": mutant(
        "bigram", "loss_nothing", ("cross_entropy", "seen.sum().clamp(min=1)", "seen.sum()")
    ),
    "bigram-loss-no-gradient": mutant(
        "bigram", "value", ("cross_entropy", "logits.gather(-1, wanted)", "logits.detach().gather(-1, wanted)")
    ),
    "count-not-returned": mutant(
        "bigram", "none", ("count", "return torch.log(smoothed / $sums)", "torch.log(smoothed / $sums)")
    ),
    "bigram-config-not-kept": mutant("bigram", "no_config", ("Bigram.__init__", "self.config = config", "")),
    "bigram-state-raises": mutant(
        "bigram", "raised", ("Bigram.new_state", "TokenWindow(batch_size, 0)", "TokenWindow(0)")
    ),
    "bigram-state-remembers": mutant(
        "bigram", "shape", ("Bigram.new_state", "TokenWindow(batch_size, 0)", "TokenWindow(batch_size, 1)")
    ),
    "bigram-state-not-returned": mutant(
        "bigram", "none", ("Bigram.new_state", "return TokenWindow(batch_size, 0)", "TokenWindow(batch_size, 0)")
    ),
    # mlp
    "mlp-config-not-kept": mutant(
        "mlp",
        "no_config",
        ("MLP.__init__", "self.config = config", "self.block_size = config.block_size"),
        (
            "MLP.forward",
            "contexts.masked_fill(contexts < 0, self.config.vocab_size)",
            "contexts % len(self.embedding.weight)",
        ),
        ("MLP.forward", "seen.unfold(1, self.config.block_size, 1)", "seen.unfold(1, self.block_size, 1)"),
        ("MLP.new_state", "self.config.block_size - 1", "self.block_size - 1"),
    ),
    "linear-uniform": mutant(
        "mlp",
        "start_shape",
        ("Linear.__init__", "torch.randn(n_out, n_in)", "(torch.rand(n_out, n_in) - 0.5) * 12**0.5"),
    ),
    "linear-variance": mutant("mlp", "linear_variance", ("Linear.__init__", "gain / math.sqrt(n_in)", "gain / n_in")),
    "linear-gain-ignored": mutant(
        "mlp", "linear_gain", ("Linear.__init__", "gain / math.sqrt(n_in)", "1 / math.sqrt(n_in)")
    ),
    "linear-bias-forgotten": mutant(
        "mlp", "linear_bias", ("Linear.forward", "y if self.bias is None else y + self.bias", "y")
    ),
    "linear-bias-starts-at-1": mutant("mlp", "value", ("Linear.__init__", "torch.zeros(n_out)", "torch.ones(n_out)")),
    "linear-always-biased": mutant(
        "mlp",
        "extra_parameter",
        ("Linear.__init__", "nn.Parameter(torch.zeros(n_out)) if bias else None", "nn.Parameter(torch.zeros(n_out))"),
    ),
    "linear-in-float32": mutant(
        "mlp", "dtype", ("Linear.forward", "x @ self.weight.T", "x.float() @ self.weight.float().T")
    ),
    "linear-detached": mutant(
        "mlp", "no_gradient", ("Linear.forward", "x @ self.weight.T", "x.detach() @ self.weight.T")
    ),
    "norm-buffer-plain": mutant(
        "mlp",
        "plain_buffer",
        (
            "BatchNorm.__init__",
            'self.register_buffer("running_mean", torch.zeros(width))',
            "self.running_mean = torch.zeros(width)",
        ),
    ),
    "norm-buffers-learned": mutant(
        "mlp",
        "norm_learned",
        (
            "BatchNorm.__init__",
            'self.register_buffer("running_mean", torch.zeros(width))',
            "self.running_mean = nn.Parameter(torch.zeros(width), requires_grad=False)",
        ),
    ),
    "norm-fixed-momentum": mutant(
        "mlp",
        "norm_momentum_fixed",
        ("BatchNorm.__init__", "self.momentum = momentum", "self.momentum = 0.1"),
    ),
    "norm-fixed-eps": mutant("mlp", "norm_eps_fixed", ("BatchNorm.__init__", "self.eps = eps", "self.eps = 1e-5")),
    "norm-sample-variance": mutant(
        "mlp", "norm_sample_variance", ("BatchNorm.forward", "(rows - mean).square().mean(0)", "rows.var(0)")
    ),
    "norm-one-row": mutant("mlp", "raised", ("BatchNorm.remember", "max(n - 1, 1)", "(n - 1)")),
    "norm-no-row": mutant(
        "mlp", "norm_small_batch", ("BatchNorm.forward", "self.training and len(rows) > 0", "self.training")
    ),
    "norm-statistics-detached": mutant(
        "mlp", "value", ("BatchNorm.forward", "mean = rows.mean(0)", "mean = rows.mean(0).detach()")
    ),
    "norm-keeps-the-graph": mutant(
        "mlp",
        "norm_graph",
        (
            "BatchNorm.forward",
            "self.remember(mean, variance, len(rows))",
            """
            self.running_mean = (1 - self.momentum) * self.running_mean + self.momentum * mean
            unbiased = variance * (len(rows) / max(len(rows) - 1, 1))
            self.running_var = (1 - self.momentum) * self.running_var + self.momentum * unbiased
            """,
        ),
        ("BatchNorm.forward", "x.flatten(0, -2)", "(x + 0 * self.weight).flatten(0, -2)"),
    ),
    "norm-remembers-deviation": mutant(
        "mlp",
        "norm_deviation",
        ("BatchNorm.remember", "self.running_var.lerp_(unbiased, $m)", "self.running_var.lerp_(unbiased.sqrt(), $m)"),
    ),
    "norm-counts-padding-later": mutant(
        "mlp",
        "norm_counts_padding",
        (
            "BatchNorm.forward",
            "self.remember(mean, variance, len(rows))",
            "self.remember(x.flatten(0, -2).mean(0), x.flatten(0, -2).var(0, correction=0), x[..., 0].numel())",
        ),
    ),
    "norm-over-rows": mutant(
        "mlp",
        "norm_first_axis",
        ("BatchNorm.forward", "rows = x.flatten(0, -2) if counted is None else x[counted]", "rows = x"),
        ("BatchNorm.remember", "self.running_mean.lerp_(mean, self.momentum)", "self.running_mean = mean"),
        ("BatchNorm.remember", "self.running_var.lerp_(unbiased, self.momentum)", "self.running_var = unbiased"),
    ),
    "norm-in-float32": mutant("mlp", "dtype", ("BatchNorm.forward", "(x - mean)", "(x.float() - mean)")),
    "mlp-context-reversed": mutant(
        "mlp", "model_reversed", ("MLP.forward", "seen.unfold(1, $n, 1)", "seen.unfold(1, $n, 1).flip(-1)")
    ),
    "mlp-norm-after-tanh": mutant(
        "mlp",
        "model_norm_after",
        ("MLP.forward", "h = self.hidden(x)", "h = torch.tanh(self.hidden(x))"),
        ("MLP.forward", "self.output(torch.tanh(h))", "self.output(h)"),
    ),
    "mlp-relu": mutant("mlp", "model_relu", ("MLP.forward", "torch.tanh(h)", "torch.relu(h)")),
    "mlp-features-interleaved": mutant(
        "mlp",
        "model_interleaved",
        ("MLP.forward", "self.embedding(contexts).flatten(2)", "self.embedding(contexts).transpose(2, 3).flatten(2)"),
    ),
    "mlp-padding-from-the-left": mutant(
        "mlp",
        "model_padding_columns",
        ("MLP.forward", "tokens.masked_fill(~pad[:, -T:], -1)", "tokens.masked_fill(~pad[:, :T], -1)"),
    ),
    "mlp-one-state-for-all": mutant(
        "mlp",
        "value",
        (
            "MLP.new_state",
            "return TokenWindow(batch_size, self.config.block_size - 1)",
            """
            if getattr(self, "kept", (0,))[0] != batch_size:
                self.kept = batch_size, TokenWindow(batch_size, self.config.block_size - 1)
            return self.kept[1]
            """,
        ),
    ),
    "mlp-hidden-always-biased": mutant(
        "mlp",
        "extra_parameter",
        ("MLP.__init__", "Linear(n_in, config.n_hidden, gain=$g, bias=$b)", "Linear(n_in, config.n_hidden, gain=$g)"),
    ),
    "mlp-norm-forgotten": mutant("mlp", "model_no_norm", ("MLP.forward", "self.norm is not None", "self.norm is None")),
    "mlp-only-the-last-prediction": mutant(
        "mlp", "shape", ("MLP.forward", "Output(logits, $loss)", "Output(logits[:, -1], $loss)")
    ),
    "mlp-mixes-the-batch": mutant(
        "mlp", "model_batch", ("MLP.forward", "h = self.hidden(x)", "h = self.hidden(x) + self.hidden(x).mean(0)")
    ),
    "mlp-small-embedding": mutant(
        "mlp",
        "start_small",
        (
            "MLP.__init__",
            "self.embedding = nn.Embedding(config.vocab_size + 1, config.n_embd)",
            """
            self.embedding = nn.Embedding(config.vocab_size + 1, config.n_embd)
            nn.init.normal_(self.embedding.weight, std=0.02)
            """,
        ),
    ),
    "mlp-beginning-starts-at-0": mutant(
        "mlp",
        "start_std",
        (
            "MLP.__init__",
            "self.embedding = nn.Embedding(config.vocab_size + 1, config.n_embd)",
            """
            self.embedding = nn.Embedding(config.vocab_size + 1, config.n_embd)
            nn.init.zeros_(self.embedding.weight.data[-1])
            """,
        ),
    ),
    "mlp-output-bias-drawn": mutant(
        "mlp",
        "value",
        (
            "MLP.__init__",
            "self.output = Linear($k, config.vocab_size, gain=0.1)",
            """
            self.output = nn.Linear($k, config.vocab_size)
            nn.init.normal_(self.output.weight, std=0.1 / math.sqrt($k))
            """,
        ),
    ),
    "mlp-embedding-detached-with-a-state": mutant(
        "mlp",
        "no_gradient",
        (
            "MLP.forward",
            "self.embedding(contexts)",
            "(self.embedding(contexts) if state is None else self.embedding(contexts).detach())",
        ),
    ),
    "mlp-embedding-detached": mutant(
        "mlp", "no_gradient", ("MLP.forward", "self.embedding(contexts)", "self.embedding(contexts).detach()")
    ),
    "mlp-loss-of-numbers": mutant(
        "mlp", "backward", ("MLP.forward", "cross_entropy(logits, targets)", "cross_entropy(logits.detach(), targets)")
    ),
    "mlp-in-float32": mutant("mlp", "dtype", ("MLP.forward", "Output(logits, $loss)", "Output(logits.float(), $loss)")),
    "mlp-loss-shifted-again": mutant(
        "mlp",
        "number",
        ("MLP.forward", "cross_entropy(logits, targets)", "cross_entropy(logits[:, :-1], targets[:, 1:])"),
    ),
    "mlp-loss-of-rows": mutant(
        "mlp",
        "loss_mean_of_rows",
        (
            "cross_entropy",
            """
            total = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="sum")
            return total / (targets != IGNORE).sum().clamp(min=1)
            """,
            """
            total = F.cross_entropy(logits.mT, targets, ignore_index=IGNORE, reduction="none").sum(1)
            return (total / (targets != IGNORE).sum(1).clamp(min=1)).mean()
            """,
        ),
    ),
    "mlp-loss-overflows": mutant(
        "mlp",
        "loss_overflow",
        (
            "cross_entropy",
            'total = F.cross_entropy($logits, targets.flatten(), ignore_index=IGNORE, reduction="sum")',
            "total = F.nll_loss((logits.exp() / logits.exp().sum(-1, keepdim=True)).log().flatten(0, 1), "
            'targets.flatten(), ignore_index=IGNORE, reduction="sum")',
        ),
    ),
    "mlp-loss-views": mutant("mlp", "raised", ("cross_entropy", "targets.flatten()", "targets.view(-1)")),
    "mlp-loss-sum": mutant("mlp", "loss_sum", ("cross_entropy", "total / $n", "total")),
    "mlp-loss-no-gradient": mutant(
        "mlp", "no_gradient", ("cross_entropy", "logits.flatten(0, 1)", "logits.detach().flatten(0, 1)")
    ),
    "mlp-loss-gradient-doubled": mutant(
        "mlp", "value", ("cross_entropy", "logits.flatten(0, 1)", "(2 * logits - logits.detach()).flatten(0, 1)")
    ),
    # wavenet
    "conv-filled-on-the-left": mutant(
        "wavenet",
        "conv_filled",
        (
            "CausalConv.forward",
            "earlier, now = x[:, : -self.dilation], x[:, self.dilation :]",
            "earlier, now = F.pad(x, (0, 0, self.dilation, 0))[:, : -self.dilation], x",
        ),
    ),
    "conv-channels-interleaved": mutant(
        "wavenet",
        "conv_interleaved",
        ("CausalConv.forward", "torch.cat((earlier, now), -1)", "torch.stack((earlier, now), -1).flatten(-2)"),
    ),
    "conv-joined-with-itself": mutant(
        "wavenet",
        "conv_one_token",
        ("CausalConv.forward", "torch.cat((earlier, now), -1)", "torch.cat((now, now), -1)"),
    ),
    "conv-cuts-the-end": mutant(
        "wavenet",
        "conv_neighbours_early",
        (
            "CausalConv.forward",
            "earlier, now = x[:, : -self.dilation], x[:, self.dilation :]",
            "earlier, now = x[:, : -self.dilation], x[:, 1 : x.shape[1] - self.dilation + 1]",
        ),
    ),
    "conv-one-too-short": mutant(
        "wavenet",
        "shape",
        (
            "CausalConv.forward",
            "earlier, now = x[:, : -self.dilation], x[:, self.dilation :]",
            "earlier, now = x[:, : -self.dilation - 1], x[:, self.dilation + 1 :]",
        ),
    ),
    "conv-scaled-by-one-tap": mutant(
        "wavenet", "conv_fan", ("CausalConv.__init__", "Linear($n, n_out)", "Linear($n, n_out, gain=2**0.5)")
    ),
    "conv-of-torchs-linear": mutant(
        "wavenet", "start_uniform", ("CausalConv.__init__", "Linear($n, n_out)", "nn.Linear($n, n_out)")
    ),
    "conv-no-bias": mutant(
        "wavenet",
        "missing_parameter",
        ("CausalConv.__init__", "Linear($n, n_out)", "nn.Linear($n, n_out, bias=False)"),
    ),
    "conv-earlier-detached": mutant(
        "wavenet",
        "value",
        ("CausalConv.forward", "torch.cat((earlier, now), -1)", "torch.cat((earlier.detach(), now), -1)"),
    ),
    "conv-in-float32": mutant("wavenet", "dtype", ("CausalConv.forward", "return $y", "return ($y).float()")),
    "block-returns-one": mutant(
        "wavenet",
        "result",
        ("Block.forward", "return x[:, self.conv.dilation :] + said, said", "return x[:, self.conv.dilation :] + said"),
    ),
    "block-results-swapped": mutant(
        "wavenet",
        "block_skip",
        (
            "Block.forward",
            "return x[:, self.conv.dilation :] + said, said",
            "return said, x[:, self.conv.dilation :] + said",
        ),
    ),
    "block-skip-before-out": mutant(
        "wavenet",
        "shape",
        (
            "Block.forward",
            "return x[:, self.conv.dilation :] + said, said",
            "return x[:, self.conv.dilation :] + said, h",
        ),
    ),
    "block-stream-lost": mutant(
        "wavenet",
        "block_said_lost",
        ("Block.forward", "x[:, self.conv.dilation :] + said", "x[:, self.conv.dilation :]"),
    ),
    "block-no-sigmoid": mutant("wavenet", "block_no_sigmoid", ("Block.forward", "torch.sigmoid(gate)", "gate")),
    "block-tanh-twice": mutant(
        "wavenet", "block_tanh_twice", ("Block.forward", "torch.sigmoid(gate)", "torch.tanh(gate)")
    ),
    "block-sigmoid-twice": mutant(
        "wavenet", "block_sigmoid_twice", ("Block.forward", "torch.tanh(signal)", "torch.sigmoid(signal)")
    ),
    "block-gate-added": mutant(
        "wavenet",
        "block_gate_added",
        ("Block.forward", "torch.tanh(signal) * torch.sigmoid(gate)", "torch.tanh(signal) + torch.sigmoid(gate)"),
    ),
    "block-interleaved": mutant(
        "wavenet",
        "block_interleaved",
        ("Block.forward", "self.conv(x).chunk(2, -1)", "self.conv(x).unflatten(-1, (-1, 2)).unbind(-1)"),
    ),
    "block-gate-detached": mutant(
        "wavenet", "value", ("Block.forward", "torch.sigmoid(gate)", "torch.sigmoid(gate.detach())")
    ),
    "block-overwrites": mutant(
        "wavenet",
        "overwrites",
        (
            "Block.forward",
            "return x[:, self.conv.dilation :] + said, said",
            "x[:, self.conv.dilation :] += said\nreturn x[:, self.conv.dilation :], said",
        ),
    ),
    "block-of-torchs-linear": mutant(
        "wavenet", "start_uniform", ("Block.__init__", "Linear(config.n_hidden, $c)", "nn.Linear(config.n_hidden, $c)")
    ),
    "block-in-float32": mutant(
        "wavenet", "dtype", ("Block.forward", "said = self.out(h)", "said = self.out(h).float()")
    ),
    "block-one-gate": mutant(
        "wavenet",
        "shape",
        (
            "Block.__init__",
            "CausalConv($c, 2 * config.n_hidden, dilation)",
            "CausalConv($c, config.n_hidden, dilation)",
        ),
    ),
    "block-of-dilation-2": mutant(
        "wavenet",
        "block_dilation",
        ("Block.__init__", "CausalConv($c, 2 * config.n_hidden, dilation)", "CausalConv($c, 2 * config.n_hidden, 2)"),
    ),
    "block-large-start": mutant(
        "wavenet",
        "start_std",
        (
            "Block.__init__",
            "self.conv = CausalConv($c, $k, dilation)",
            "self.conv = CausalConv($c, $k, dilation)\nself.conv.taps.weight.data.mul_(10)",
        ),
    ),
    "block-gate-closed-at-the-start": mutant(
        "wavenet",
        "value",
        (
            "Block.__init__",
            "self.conv = CausalConv($c, $k, dilation)",
            "self.conv = CausalConv($c, $k, dilation)\nnn.init.constant_(self.conv.taps.bias, -4)",
        ),
    ),
    "block-tanh-of-exp": mutant(
        "wavenet",
        "block_overflow",
        (
            "Block.forward",
            "torch.tanh(signal)",
            "((signal.exp() - (-signal).exp()) / (signal.exp() + (-signal).exp()))",
        ),
    ),
    "block-sigmoid-of-exp": mutant(
        "wavenet", "block_overflow", ("Block.forward", "torch.sigmoid(gate)", "(1 / (1 + (-gate).exp()))")
    ),
    "wavenet-dilations-capped": mutant(
        "wavenet", "model_dilations", ("WaveNet.__init__", "Block(config, 2**layer)", "Block(config, min(8, 2**layer))")
    ),
    "wavenet-dilations-begin-again": mutant(
        "wavenet", "model_dilations", ("WaveNet.__init__", "Block(config, 2**layer)", "Block(config, 2 ** (layer % 4))")
    ),
    "wavenet-window-of-four-layers": mutant(
        "wavenet", "raised", ("WaveNet.new_state", "self.config.block_size - 1", "15")
    ),
    "wavenet-no-memory-in-evaluation": mutant(
        "wavenet",
        "model_state",
        (
            "WaveNet.forward",
            "window.extend(tokens)",
            "(window if self.training else self.new_state(B)).extend(tokens)",
        ),
    ),
    "wavenet-head-of-the-stream-in-evaluation": mutant(
        "wavenet",
        "model_stream",
        ("WaveNet.forward", "torch.stack(skips).sum(0)", "(torch.stack(skips).sum(0) if self.training else x)"),
    ),
    "wavenet-no-second-relu-in-evaluation": mutant(
        "wavenet",
        "model_no_relu_2",
        ("WaveNet.forward", "F.relu(self.hidden(h))", "(F.relu(self.hidden(h)) if self.training else self.hidden(h))"),
    ),
    "wavenet-embedding-detached-with-a-state": mutant(
        "wavenet",
        "no_gradient",
        (
            "WaveNet.forward",
            "x = self.embedding($t)",
            "x = self.embedding($t)\nx = x if state is None else x.detach()",
        ),
    ),
    "wavenet-no-loss-in-evaluation": mutant(
        "wavenet", "none", ("WaveNet.forward", "targets is None", "targets is None or not self.training")
    ),
    "wavenet-blocks-start-at-0": mutant(
        "wavenet",
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
        "wavenet",
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
        "wavenet",
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
        "wavenet", "model_dilations", ("WaveNet.__init__", "Block(config, 2**layer)", "Block(config, 1)")
    ),
    "wavenet-dilations-from-2": mutant(
        "wavenet", "model_dilations", ("WaveNet.__init__", "Block(config, 2**layer)", "Block(config, 2 ** (layer + 1))")
    ),
    "wavenet-dilations-reversed": mutant(
        "wavenet",
        "model_dilations",
        ("WaveNet.__init__", "Block(config, 2**layer)", "Block(config, 2 ** (config.n_layers - 1 - layer))"),
    ),
    "wavenet-config-not-kept": mutant(
        "wavenet",
        "no_config",
        ("WaveNet.__init__", "self.config = config", "self.size = config.block_size - 1"),
        ("WaveNet.forward", "seen.masked_fill(seen < 0, $v)", "seen % len(self.embedding.weight)"),
        ("WaveNet.new_state", "self.config.block_size - 1", "self.size"),
    ),
    "wavenet-no-row-for-the-beginning": mutant(
        "wavenet",
        "shape",
        ("WaveNet.__init__", "nn.Embedding(config.vocab_size + 1, $c)", "nn.Embedding(config.vocab_size, $c)"),
    ),
    "wavenet-window-short": mutant(
        "wavenet", "raised", ("WaveNet.new_state", "self.config.block_size - 1", "self.config.block_size - 2")
    ),
    "wavenet-last-block-left-out": mutant(
        "wavenet",
        "window_short",
        (
            "WaveNet.forward",
            "for block in self.blocks:\n    x, skip = block(x)\n    skips.append(skip[:, -T:])",
            "for block in self.blocks[:-1]:\n    x, skip = block(x)\n    skips.append(skip[:, -T:])",
        ),
    ),
    "wavenet-reads-new-tokens-alone": mutant(
        "wavenet",
        "model_state",
        ("WaveNet.forward", "seen = window.extend(tokens)", "seen = window.extend(tokens)\nseen[:, :-T] = -1"),
    ),
    "wavenet-sees-the-next": mutant(
        "wavenet",
        "window_future",
        (
            "WaveNet.forward",
            "seen = window.extend(tokens)",
            "seen = window.extend(tokens)\nseen = torch.cat((seen[:, 1:], seen[:, -1:]), 1)",
        ),
    ),
    "wavenet-only-the-last-prediction": mutant(
        "wavenet", "shape", ("WaveNet.forward", "Output(logits, $loss)", "Output(logits[:, -1], $loss)")
    ),
    "wavenet-mixes-the-batch": mutant(
        "wavenet",
        "model_batch",
        ("WaveNet.forward", "self.hidden(h)", "self.hidden(h) + self.hidden(h).mean(0)"),
    ),
    "wavenet-head-of-the-stream": mutant(
        "wavenet", "model_stream", ("WaveNet.forward", "torch.stack(skips).sum(0)", "x")
    ),
    "wavenet-head-hears-the-stream-too": mutant(
        "wavenet",
        "model_stream_too",
        ("WaveNet.forward", "torch.stack(skips).sum(0)", "(torch.stack(skips).sum(0) + x)"),
    ),
    "wavenet-mean-of-the-layers": mutant(
        "wavenet", "model_mean", ("WaveNet.forward", "torch.stack(skips).sum(0)", "torch.stack(skips).mean(0)")
    ),
    "wavenet-no-first-relu": mutant(
        "wavenet",
        "model_no_relu_1",
        ("WaveNet.forward", "F.relu(torch.stack(skips).sum(0))", "torch.stack(skips).sum(0)"),
    ),
    "wavenet-no-relus": mutant(
        "wavenet",
        "model_no_relus",
        ("WaveNet.forward", "F.relu(torch.stack(skips).sum(0))", "torch.stack(skips).sum(0)"),
        ("WaveNet.forward", "F.relu(self.hidden(h))", "self.hidden(h)"),
    ),
    "wavenet-padding-from-the-left": mutant(
        "wavenet",
        "model_padding_columns",
        ("WaveNet.forward", "tokens.masked_fill(~pad[:, -T:], -1)", "tokens.masked_fill(~pad[:, :T], -1)"),
    ),
    "wavenet-small-embedding": mutant(
        "wavenet",
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
        "wavenet",
        "start_uniform",
        ("WaveNet.__init__", "Linear($c, config.n_hidden)", "nn.Linear($c, config.n_hidden)"),
    ),
    "wavenet-embedding-detached": mutant(
        "wavenet", "no_gradient", ("WaveNet.forward", "x = self.embedding($t)", "x = self.embedding($t).detach()")
    ),
    "wavenet-loss-of-numbers": mutant(
        "wavenet",
        "backward",
        ("WaveNet.forward", "cross_entropy(logits, targets)", "cross_entropy(logits.detach(), targets)"),
    ),
    "wavenet-in-float32": mutant(
        "wavenet", "dtype", ("WaveNet.forward", "Output(logits, $loss)", "Output(logits.float(), $loss)")
    ),
    # recurrent
    "rnn-not-a-tuple": mutant("recurrent", "tuple", ("rnn", "return (torch.tanh($y),)", "return torch.tanh($y)")),
    "rnn-weight-detached": mutant(
        "recurrent", "no_gradient", ("rnn", "F.linear(h, weight, bias)", "F.linear(h, weight.detach(), bias)")
    ),
    "rnn-in-float32": mutant("recurrent", "dtype", ("rnn", "torch.tanh($y)", "torch.tanh(($y).float())")),
    "rnn-no-bias": mutant("recurrent", "step_no_bias", ("rnn", "F.linear(h, weight, bias)", "F.linear(h, weight)")),
    "rnn-relu": mutant("recurrent", "rnn_relu", ("rnn", "torch.tanh($y)", "torch.relu($y)")),
    "rnn-added": mutant("recurrent", "rnn_added", ("rnn", "torch.tanh($y)", "h + torch.tanh($y)")),
    "rnn-no-memory": mutant(
        "recurrent", "step_no_memory", ("rnn", "F.linear(h, weight, bias)", "F.linear(0 * h, weight, bias)")
    ),
    "rnn-from-torch": mutant(
        "recurrent",
        "forbidden",
        (
            "rnn",
            "torch.tanh(x + F.linear(h, weight, bias))",
            "torch.rnn_tanh_cell(x, h, torch.eye(len(weight)).to(weight), weight, torch.zeros_like(bias), bias)",
        ),
    ),
    "gru-reset-missing": mutant("recurrent", "gru_reset_missing", ("gru", "x_new + reset * h_new", "x_new + h_new")),
    "gru-reset-on-both": mutant(
        "recurrent", "gru_reset_on_both", ("gru", "x_new + reset * h_new", "reset * (x_new + h_new)")
    ),
    "gru-reset-not-on-the-bias": mutant(
        "recurrent",
        "gru_reset_not_on_bias",
        ("gru", "x_new + reset * h_new", "x_new + reset * (h_new - bias.chunk(3)[2]) + bias.chunk(3)[2]"),
    ),
    "gru-no-tanh": mutant("recurrent", "gru_no_tanh", ("gru", "torch.tanh($y)", "$y")),
    "gru-gate-detached": mutant("recurrent", "value", ("gru", "update * h", "update.detach() * h")),
    "gru-new-alone": mutant("recurrent", "gru_new_only", ("gru", "(1 - update) * new + update * h", "new")),
    "gru-in-place": mutant(
        "recurrent",
        "overwrites",
        ("gru", "return ((1 - update) * new + update * h,)", "return (h.lerp_(new, 1 - update),)"),
    ),
    "lstm-content-last": mutant(
        "recurrent",
        "lstm_content_and_output",
        ("lstm", "write, keep, content, show = $y", "write, keep, show, content = $y"),
    ),
    "lstm-content-sigmoid": mutant(
        "recurrent", "lstm_content_sigmoid", ("lstm", "torch.tanh(content)", "torch.sigmoid(content)")
    ),
    "lstm-shows-the-old-cell": mutant(
        "recurrent",
        "lstm_old_shown",
        ("lstm", "h = torch.sigmoid(show) * torch.tanh(c)", "h = torch.sigmoid(show) * torch.tanh(state[1])"),
    ),
    "lstm-never-forgets": mutant("recurrent", "lstm_never_forgets", ("lstm", "torch.sigmoid(keep) * c", "c")),
    "lstm-cell-detached": mutant(
        "recurrent", "value", ("lstm", "torch.sigmoid(keep) * c", "torch.sigmoid(keep) * c.detach()")
    ),
    "lstm-not-returned": mutant("recurrent", "none", ("lstm", "return h, c", "pass")),
    "layer-one-bias": mutant(
        "recurrent",
        "missing_parameter",
        ("Layer.__init__", "self.bias_hh = nn.Parameter(torch.zeros(n_gates * n_hidden))", ""),
        ("Layer.forward", "self.bias_hh", "torch.zeros_like(self.bias_ih)"),
    ),
    "layer-uniform": mutant(
        "recurrent",
        "start_default",
        (
            "Layer.__init__",
            "torch.randn(n_gates * n_hidden, n_hidden) / math.sqrt(n_hidden)",
            "(2 * torch.rand(n_gates * n_hidden, n_hidden) - 1) / math.sqrt(n_hidden)",
        ),
    ),
    "layer-scaled-by-the-hidden": mutant(
        "recurrent",
        "start_fan",
        ("Layer.__init__", "torch.randn($n, n_in) / math.sqrt(n_in)", "torch.randn($n, n_in) / math.sqrt(n_hidden)"),
    ),
    "layer-forget-bias-twice": mutant(
        "recurrent",
        "forget_twice",
        (
            "Layer.__init__",
            "nn.init.ones_(self.bias_ih[n_hidden : 2 * n_hidden])",
            """
            nn.init.ones_(self.bias_ih[n_hidden : 2 * n_hidden])
            nn.init.ones_(self.bias_hh[n_hidden : 2 * n_hidden])
            """,
        ),
    ),
    "layer-no-input-bias": mutant(
        "recurrent",
        "layer_bias_ih",
        ("Layer.forward", "F.linear(x, self.weight_ih, self.bias_ih)", "F.linear(x, self.weight_ih)"),
    ),
    "layer-no-state-bias": mutant(
        "recurrent",
        "layer_bias_hh",
        ("Layer.forward", "self.step($i, $s, $w, self.bias_hh)", "self.step($i, $s, $w, 0 * self.bias_hh)"),
    ),
    "layer-backwards": mutant(
        "recurrent",
        "layer_backwards",
        ("Layer.forward", "range(x.shape[1])", "reversed(range(x.shape[1]))"),
        ("Layer.forward", "torch.stack(outputs, 1)", "torch.stack(outputs[::-1], 1)"),
    ),
    "layer-late": mutant(
        "recurrent", "layer_late", ("Layer.forward", "outputs.append(state[0])", "outputs.append(before[0])")
    ),
    "layer-shows-its-cell": mutant(
        "recurrent", "layer_shows_its_cell", ("Layer.forward", "outputs.append(state[0])", "outputs.append(state[-1])")
    ),
    "layer-starts-from-zeros": mutant(
        "recurrent",
        "layer_state_ignored",
        (
            "Layer.forward",
            "outputs = []",
            "outputs = []\nstate = tuple(torch.zeros_like(each) for each in state)",
        ),
    ),
    "layer-outputs-alone": mutant(
        "recurrent",
        "layer_result",
        ("Layer.forward", "return torch.stack(outputs, 1), state", "return torch.stack(outputs, 1)"),
    ),
    "layer-empties-after": mutant(
        "recurrent",
        "begins_after",
        ("Layer.forward", "if anywhere[t]:\n    before = $y", ""),
        (
            "Layer.forward",
            "state = after\noutputs.append(state[0])",
            """
            state = after
            outputs.append(state[0])
            if t + 1 < x.shape[1]:
                state = tuple(each.masked_fill(begins[:, t, None], 0) for each in state)
            """,
        ),
    ),
    "layer-padding-begins": mutant(
        "recurrent",
        "padding_begins",
        ("Layer.forward", "zip(after, state, strict=True)", "zip(after, before, strict=True)"),
    ),
    "layer-padding-empties": mutant(
        "recurrent",
        "padding_empties",
        (
            "Layer.forward",
            "torch.where(real[:, t, None], new, old)",
            "torch.where(real[:, t, None], new, torch.zeros_like(old))",
        ),
    ),
    "layer-padding-inverted": mutant(
        "recurrent",
        "padding_inverted",
        ("Layer.forward", "torch.where(real[:, t, None], new, old)", "torch.where(real[:, t, None], old, new)"),
    ),
    "layer-mask-in-float32": mutant(
        "recurrent",
        "raised_borrowed",
        (
            "Layer.forward",
            "torch.where(real[:, t, None], new, old)",
            "real[:, t, None].float() * new + (1 - real[:, t, None].float()) * old",
        ),
    ),
    "recurrent-output-without-bias": mutant(
        "recurrent",
        "missing_parameter",
        (
            "Recurrent.__init__",
            "nn.Linear(config.n_hidden, config.vocab_size)",
            "nn.Linear(config.n_hidden, config.vocab_size, bias=False)",
        ),
        ("Recurrent.__init__", "nn.init.zeros_(self.output.bias)", ""),
    ),
    "recurrent-config-not-kept": mutant(
        "recurrent",
        "no_config",
        ("Recurrent.__init__", "self.config = config", "self.sizes = config"),
        (
            "Recurrent.forward",
            "F.dropout(self.embedding(tokens), self.config.dropout, $t)",
            "F.dropout(self.embedding(tokens), self.sizes.dropout, $t)",
        ),
        ("Recurrent.forward", "F.dropout(x, self.config.dropout, $t)", "F.dropout(x, self.sizes.dropout, $t)"),
        ("Recurrent.new_state", "self.config.n_hidden", "self.sizes.n_hidden"),
        ("Recurrent.new_state", "CELLS[self.config.cell]", "CELLS[self.sizes.cell]"),
        ("Recurrent.new_state", "self.config.n_layers", "self.sizes.n_layers"),
    ),
    "recurrent-last-prediction-alone": mutant(
        "recurrent", "shape", ("Recurrent.forward", "Output(logits, $loss)", "Output(logits[:, -1], $loss)")
    ),
    "recurrent-mixes-the-batch": mutant(
        "recurrent", "model_batch", ("Recurrent.forward", "self.output(x)", "self.output(x + x.mean(0))")
    ),
    "recurrent-layers-shared": mutant(
        "recurrent",
        "model_layers_shared",
        (
            "Recurrent.__init__",
            "nn.ModuleList(Layer(config.cell, width, config.n_hidden) for width in widths)",
            "nn.ModuleList([Layer(config.cell, config.n_embd, config.n_hidden)] + "
            "[Layer(config.cell, config.n_hidden, config.n_hidden)] * (config.n_layers - 1))",
        ),
    ),
    "recurrent-end-ignored": mutant(
        "recurrent", "model_ends_ignored", ("Recurrent.forward", "tokens == END", "tokens < END")
    ),
    "recurrent-end-late": mutant(
        "recurrent", "model_ends_late", ("Recurrent.forward", "tokens == END", "F.pad(tokens, (1, -1), value=1) == END")
    ),
    "recurrent-one-layer-of-state": mutant(
        "recurrent",
        "state_layers",
        ("Recurrent.new_state", "[(zeros,) * n_tensors] * self.config.n_layers", "[(zeros,) * n_tensors]"),
    ),
    "recurrent-state-random": mutant(
        "recurrent", "value", ("Recurrent.new_state", "zeros = $y", "zeros = torch.randn_like($y)")
    ),
    "recurrent-state-of-float32": mutant(
        "recurrent",
        "dtype",
        (
            "Recurrent.new_state",
            "self.output.weight.new_zeros(batch_size, self.config.n_hidden)",
            "torch.zeros(batch_size, self.config.n_hidden)",
        ),
    ),
    "recurrent-one-state-for-all": mutant(
        "recurrent",
        "value",
        (
            "Recurrent.new_state",
            "return RecurrentState([(zeros,) * n_tensors] * self.config.n_layers)",
            """
            if getattr(self, "kept", (0,))[0] != batch_size:
                self.kept = batch_size, RecurrentState([(zeros,) * n_tensors] * self.config.n_layers)
            return self.kept[1]
            """,
        ),
    ),
    "recurrent-embedding-detached": mutant(
        "recurrent", "no_gradient", ("Recurrent.forward", "self.embedding(tokens)", "self.embedding(tokens).detach()")
    ),
    "recurrent-padding-read": mutant(
        "recurrent",
        "model_padding",
        ("Recurrent.forward", "layer(x, state.layers[i], begins, real)", "layer(x, state.layers[i], begins)"),
    ),
    "recurrent-one-layer-used": mutant(
        "recurrent",
        "model_layers_left_out",
        ("Recurrent.forward", "enumerate(self.layers)", "enumerate(self.layers[:1])"),
    ),
    "recurrent-no-dropout": mutant(
        "recurrent",
        "model_dropout_missing",
        ("Recurrent.forward", "F.dropout(self.embedding(tokens), $p, $t)", "self.embedding(tokens)"),
        ("Recurrent.forward", "x = F.dropout(x, $p, $t)", ""),
    ),
    "recurrent-no-dropout-between": mutant(
        "recurrent",
        "model_dropout_between",
        (
            "Recurrent.forward",
            "x = F.dropout(x, $p, $t)",
            "if i + 1 == len(self.layers):\n    x = F.dropout(x, $p, $t)",
        ),
    ),
    "recurrent-no-embedding-dropout": mutant(
        "recurrent",
        "model_dropout_of_embeddings",
        ("Recurrent.forward", "F.dropout(self.embedding(tokens), $p, $t)", "self.embedding(tokens)"),
    ),
    "recurrent-no-dropout-of-layers": mutant(
        "recurrent", "model_dropout_of_the_layers", ("Recurrent.forward", "x = F.dropout(x, $p, $t)", "")
    ),
    "recurrent-no-last-dropout": mutant(
        "recurrent",
        "model_dropout_of_the_last",
        ("Recurrent.forward", "x = F.dropout(x, $p, $t)", "if i + 1 < len(self.layers):\n    x = F.dropout(x, $p, $t)"),
    ),
    "rnn-overflows": mutant(
        "recurrent",
        "nan",
        ("rnn", "torch.tanh($y)", "(($y).exp() - (-$y).exp()) / (($y).exp() + (-$y).exp())"),
    ),
    "lstm-overflows": mutant(
        "recurrent",
        "nan",
        ("lstm", "torch.sigmoid(show) * torch.tanh(c)", "show.exp() / (1 + show.exp()) * torch.tanh(c)"),
    ),
    "lstm-cell-clamped": mutant(
        "recurrent",
        "value",
        ("lstm", "return h, c", "return h, c.clamp(-6, 6)"),
    ),
    "layer-history-cut-now-and-then": mutant(
        "recurrent",
        "layer_history",
        (
            "Layer.forward",
            "before = state",
            "before = tuple(each.detach() for each in state) if t % 16 == 15 else state",
        ),
    ),
    "layer-squeezed": mutant(
        "recurrent",
        "shape",
        ("Layer.forward", "torch.stack(outputs, 1)", "torch.stack(outputs, 1).squeeze()"),
    ),
    "layer-forget-bias-of-the-first": mutant(
        "recurrent",
        "forget_missing",
        (
            "Layer.__init__",
            """
if cell == "lstm":
    $open
""",
            """
if cell == "lstm" and n_in != n_hidden:
    $open
""",
        ),
    ),
    "layer-gates-start-alike": mutant(
        "recurrent",
        "start_repeated",
        (
            "Layer.__init__",
            "torch.randn(n_gates * n_hidden, n_in) / $root",
            "torch.randn(n_hidden, n_in).repeat(n_gates, 1) / $root",
        ),
    ),
    "recurrent-biases-emptied": mutant(
        "recurrent",
        "forget_missing",
        (
            "Recurrent.__init__",
            "nn.init.zeros_(self.output.bias)",
            """
for name, value in self.named_parameters():
    if 'bias' in name:
        nn.init.zeros_(value)
""",
        ),
    ),
    "recurrent-layers-small": mutant(
        "recurrent",
        "start_std",
        (
            "Recurrent.__init__",
            "nn.init.zeros_(self.output.bias)",
            """
nn.init.zeros_(self.output.bias)
for layer in self.layers:
    nn.init.normal_(layer.weight_hh, std=0.02)
""",
        ),
    ),
    "recurrent-layers-by-default": mutant(
        "recurrent",
        "start_default",
        (
            "Recurrent.__init__",
            "nn.init.zeros_(self.output.bias)",
            """
nn.init.zeros_(self.output.bias)
for value in self.layers.parameters():
    nn.init.uniform_(value, -(config.n_hidden**-0.5), config.n_hidden**-0.5)
""",
        ),
    ),
    "recurrent-layers-keep": mutant(
        "recurrent",
        "start_mean",
        (
            "Recurrent.__init__",
            "nn.init.zeros_(self.output.bias)",
            """
nn.init.zeros_(self.output.bias)
for layer in self.layers:
    nn.init.eye_(layer.weight_hh[: config.n_hidden])
""",
        ),
    ),
    "recurrent-layers-copied": mutant(
        "recurrent",
        "start_repeated",
        (
            "Recurrent.__init__",
            "nn.init.zeros_(self.output.bias)",
            """
nn.init.zeros_(self.output.bias)
for layer in self.layers[2:]:
    layer.load_state_dict(self.layers[1].state_dict())
""",
        ),
    ),
    "recurrent-state-kept-in-evaluation-only": mutant(
        "recurrent",
        "model_state",
        (
            "Recurrent.forward",
            "state.layers[i] = tuple(each.detach() for each in last)",
            """
if not self.training:
    state.layers[i] = tuple(each.detach() for each in last)
""",
        ),
    ),
    "recurrent-history-in-training": mutant(
        "recurrent",
        "model_history",
        (
            "Recurrent.forward",
            "state.layers[i] = tuple(each.detach() for each in last)",
            "state.layers[i] = last if self.training else tuple(each.detach() for each in last)",
        ),
    ),
    "recurrent-no-loss-with-a-state": mutant(
        "recurrent",
        "none",
        (
            "Recurrent.forward",
            "state = self.new_state(B) if state is None else state",
            """
given = state is not None
state = self.new_state(B) if state is None else state
""",
        ),
        ("Recurrent.forward", "None if targets is None else $y", "None if targets is None or given else $y"),
    ),
    "recurrent-no-gradient-with-a-state": mutant(
        "recurrent",
        "value",
        (
            "Recurrent.forward",
            "layer(x, state.layers[i], begins, real)",
            "layer(x.detach() if state.layers[i][0].any() else x, state.layers[i], begins, real)",
        ),
    ),
    "recurrent-no-dropout-with-a-state": mutant(
        "recurrent",
        "model_dropout_of_embeddings",
        (
            "Recurrent.forward",
            "state = self.new_state(B) if state is None else state",
            """
given = state is not None
state = self.new_state(B) if state is None else state
""",
        ),
        (
            "Recurrent.forward",
            "F.dropout(self.embedding(tokens), $p, $t)",
            "F.dropout(self.embedding(tokens), $p, $t and not given)",
        ),
    ),
    "recurrent-padding-read-in-training": mutant(
        "recurrent",
        "model_padding",
        ("Recurrent.forward", "None if pad is None else $y", "None if pad is None or self.training else pad[:, -T:]"),
    ),
    "recurrent-padding-read-one-by-one": mutant(
        "recurrent",
        "value",
        ("Recurrent.forward", "None if pad is None else pad[:, -T:]", "None if pad is None or T == 1 else pad[:, -T:]"),
    ),
    "recurrent-end-ignored-with-padding": mutant(
        "recurrent",
        "value",
        ("Recurrent.forward", "tokens == END", "(tokens == END) & (pad is None)"),
    ),
    "recurrent-end-ignored-alone": mutant(
        "recurrent",
        "model_ends_ignored",
        ("Recurrent.forward", "tokens == END", "(tokens == END) & (B > 1)"),
    ),
    "recurrent-end-ignored-in-training": mutant(
        "recurrent",
        "value",
        ("Recurrent.forward", "tokens == END", "(tokens == END) & (not self.training)"),
    ),
    "recurrent-state-squeezed": mutant(
        "recurrent",
        "shape",
        ("Recurrent.forward", "each.detach()", "each.detach().squeeze(0)"),
    ),
    "recurrent-dropout-of-rnn-alone": mutant(
        "recurrent",
        "model_dropout_of_embeddings",
        (
            "Recurrent.forward",
            "F.dropout(self.embedding(tokens), $p, $t)",
            "F.dropout(self.embedding(tokens), $p, $t and self.config.cell == 'rnn')",
        ),
    ),
    "recurrent-no-last-dropout-of-one-layer": mutant(
        "recurrent",
        "model_dropout_of_the_last",
        ("Recurrent.forward", "x = F.dropout(x, $p, $t)", "x = F.dropout(x, $p, $t and len(self.layers) > 1)"),
    ),
    "recurrent-state-dropped": mutant(
        "recurrent",
        "model_dropout_of_the_state",
        (
            "Recurrent.forward",
            "state.layers[i] = tuple(each.detach() for each in last)",
            "state.layers[i] = tuple(F.dropout(each.detach(), self.config.dropout) for each in last)",
        ),
    ),
    "recurrent-dropout-of-whole-tokens": mutant(
        "recurrent",
        "model_dropout_shared",
        (
            "Recurrent.forward",
            "F.dropout(self.embedding(tokens), $p, $t)",
            "self.embedding(tokens) * F.dropout(torch.ones(B, T, 1), $p, $t)",
        ),
    ),
    "recurrent-dropout-alike-at-all-times": mutant(
        "recurrent",
        "model_dropout_shared",
        (
            "Recurrent.forward",
            "F.dropout(self.embedding(tokens), $p, $t)",
            "self.embedding(tokens) * F.dropout(torch.ones(B, 1, self.config.n_embd), $p, $t)",
        ),
    ),
    "recurrent-dropout-of-the-table": mutant(
        "recurrent",
        "model_dropout_shared",
        (
            "Recurrent.forward",
            "F.dropout(self.embedding(tokens), $p, $t)",
            "F.embedding(tokens, F.dropout(self.embedding.weight, $p, $t))",
        ),
    ),
    "recurrent-default-output": mutant(
        "recurrent", "start_default", ("Recurrent.__init__", "nn.init.normal_(self.output.weight, $...a)", "")
    ),
    # gpt2
    "att-mask-inverted": mutant(
        "gpt2", "att_nan", ("attention", "scores.masked_fill(~visible, $inf)", "scores.masked_fill(visible, $inf)")
    ),
    "norm-not-returned": mutant(
        "gpt2",
        "none",
        ("LayerNorm.forward", "return (x - mean) / torch.sqrt(variance + self.eps) * self.weight + self.bias", "pass"),
    ),
    "norm-weight-plain": mutant(
        "gpt2", "plain_tensor", ("LayerNorm.__init__", "nn.Parameter(torch.ones(width))", "torch.ones(width)")
    ),
    "gpt2-returns-a-tuple": mutant("gpt2", "result", ("GPT.forward", "Output(logits, $loss)", "(logits, $loss)")),
    "gpt2-config-not-kept": mutant(
        "gpt2",
        "no_config",
        ("GPT.__init__", "self.config = config", "self.sizes = config"),
        ("GPT.initialise", "self.config.n_layers", "self.sizes.n_layers"),
    ),
    "layernorm-clamps": mutant(
        "gpt2", "value", ("LayerNorm.forward", "variance + self.eps", "variance.clamp(min=self.eps)")
    ),
    "layernorm-over-time": mutant(
        "gpt2",
        "norm_mixes",
        ("LayerNorm.forward", "x.mean(-1, keepdim=True)", "x.mean((-2, -1), keepdim=True)"),
        ("LayerNorm.forward", "$square.mean(-1, keepdim=True)", "$square.mean((-2, -1), keepdim=True)"),
    ),
    "layernorm-detached": mutant(
        "gpt2",
        "value",
        ("LayerNorm.forward", "torch.sqrt(variance + self.eps)", "torch.sqrt(variance + self.eps).detach()"),
    ),
    "layernorm-gain-last": mutant(
        "gpt2", "value", ("LayerNorm.forward", "$y * self.weight + self.bias", "($y + self.bias) * self.weight")
    ),
    "layernorm-fixed-eps": mutant(
        "gpt2", "norm_eps_fixed", ("LayerNorm.__init__", "self.eps = eps", "self.eps = 1e-5")
    ),
    "layernorm-no-eps": mutant("gpt2", "norm_constant", ("LayerNorm.forward", "variance + self.eps", "variance")),
    "layernorm-root-of-a-root": mutant(
        "gpt2",
        "nan",
        ("LayerNorm.forward", "torch.sqrt(variance + self.eps)", "torch.sqrt(variance.sqrt().square() + self.eps)"),
    ),
    "layernorm-starts-at-0": mutant("gpt2", "value", ("LayerNorm.__init__", "torch.ones(width)", "torch.zeros(width)")),
    "layernorm-in-float32": mutant("gpt2", "dtype", ("LayerNorm.forward", "return $y", "return ($y).float()")),
    "gelu-even": mutant("gpt2", "value", ("gelu", "x.pow(3)", "x.abs().pow(3)")),
    "gelu-square": mutant("gpt2", "gelu_square", ("gelu", "x.pow(3)", "x.pow(2)")),
    "gelu-detached-gate": mutant("gpt2", "value", ("gelu", "torch.tanh(inner)", "torch.tanh(inner.detach())")),
    "gelu-in-float32": mutant("gpt2", "dtype", ("gelu", "return $y", "return ($y).float()")),
    "mask-padding-empties-rows": mutant(
        "gpt2",
        "mask_empty_row",
        ("causal_mask", "pad[:, None, None, :] | itself_or_later", "pad[:, None, None, :]"),
    ),
    "mask-itself-ignores-cache": mutant(
        "gpt2", "value", ("causal_mask", "everywhere.triu(S - T)", "everywhere.triu()")
    ),
    "mask-padding-inverted": mutant(
        "gpt2",
        "mask_padding_inverted",
        ("causal_mask", "pad[:, None, None, :] | itself_or_later", "~pad[:, None, None, :] | itself_or_later"),
    ),
    "mask-inverted": mutant(
        "gpt2", "mask_inverted", ("causal_mask", "everywhere.tril(S - T)", "everywhere.triu(S - T + 1)")
    ),
    "mask-of-numbers": mutant("gpt2", "dtype", ("causal_mask", "return visible", "return visible.float()")),
    "mask-square": mutant("gpt2", "shape", ("causal_mask", "torch.ones(T, S, $...more)", "torch.ones(S, S, $...more)")),
    "attention-scaled-by-length": mutant("gpt2", "value", ("attention", "q.shape[-1]", "q.shape[-2]")),
    "attention-scaled-by-D": mutant("gpt2", "att_width", ("attention", "math.sqrt(q.shape[-1])", "q.shape[-1]")),
    "attention-soft-mask": mutant("gpt2", "att_leak", ("attention", 'float("-inf")', "-10.0")),
    "attention-weak-mask": mutant("gpt2", "value", ("attention", 'float("-inf")', "-1e4")),
    "attention-masked-by-0": mutant("gpt2", "att_leak", ("attention", 'float("-inf")', "0.0")),
    "attention-overflows": mutant(
        "gpt2",
        "att_overflow",
        ("attention", "F.softmax(scores, dim=-1)", "scores.exp() / scores.exp().sum(-1, keepdim=True)"),
    ),
    "attention-no-dropout": mutant(
        "gpt2", "att_dropout_missing", ("attention", "weights = F.dropout(weights, dropout)", "")
    ),
    "attention-dropout-of-output": mutant(
        "gpt2",
        "att_dropout_output",
        ("attention", "weights = F.dropout(weights, dropout)", ""),
        ("attention", "weights @ v", "F.dropout(weights @ v, dropout)"),
    ),
    "attention-dropout-unscaled": mutant(
        "gpt2",
        "att_dropout_scale",
        ("attention", "F.dropout(weights, dropout)", "weights * (torch.rand_like(weights) >= dropout)"),
    ),
    "attention-detached": mutant(
        "gpt2", "no_gradient", ("attention", "F.softmax(scores, dim=-1)", "F.softmax(scores.detach(), dim=-1)")
    ),
    "attention-in-float32": mutant("gpt2", "dtype", ("attention", "weights @ v", "weights.float() @ v.float()")),
    "attention-views": mutant(
        "gpt2",
        "raised",
        ("attention", "k.transpose(-2, -1)", "k.view(-1, *k.shape[-2:]).view(k.shape).transpose(-2, -1)"),
    ),
    "heads-order": mutant("gpt2", "heads_order", ("CausalSelfAttention.forward", "q, k, v = $y", "k, q, v = $y")),
    "heads-interleaved": mutant(
        "gpt2",
        "heads_interleaved",
        (
            "CausalSelfAttention.forward",
            """
            q, k, v = self.c_attn(x).split(C, dim=2)
            q = q.view(B, T, self.n_heads, -1).transpose(1, 2)
            k = k.view(B, T, self.n_heads, -1).transpose(1, 2)
            v = v.view(B, T, self.n_heads, -1).transpose(1, 2)
            """,
            "q, k, v = self.c_attn(x).view(B, T, self.n_heads, -1).transpose(1, 2).chunk(3, -1)",
        ),
    ),
    "heads-one-layer": mutant(
        "gpt2",
        "heads_cache_layer",
        ("CausalSelfAttention.forward", "state.append(self.layer, k, v)", "state.append(0, k, v)"),
    ),
    "heads-cache-not-written": mutant(
        "gpt2",
        "heads_cache_not_written",
        ("CausalSelfAttention.forward", "if state is not None:\n    k, v = state.append(self.layer, k, v)", ""),
    ),
    "heads-dropout-in-eval": mutant(
        "gpt2",
        "heads_dropout_in_evaluation",
        ("CausalSelfAttention.forward", "self.dropout if self.training else 0.0", "self.dropout"),
    ),
    "heads-no-weight-dropout": mutant(
        "gpt2",
        "heads_dropout_weights",
        ("CausalSelfAttention.forward", "self.dropout if self.training else 0.0", "0.0"),
    ),
    "heads-no-output-dropout": mutant(
        "gpt2",
        "heads_dropout_output",
        ("CausalSelfAttention.forward", "F.dropout(self.c_proj(y), $...p)", "self.c_proj(y)"),
    ),
    "heads-see-everything": mutant(
        "gpt2",
        "heads_future",
        ("CausalSelfAttention.forward", "causal_mask($...a)", "torch.ones(T, k.shape[2]).bool()"),
    ),
    "heads-values-detached": mutant(
        "gpt2",
        "value",
        (
            "CausalSelfAttention.forward",
            "self.attend(q, k, v, visible, $p)",
            "self.attend(q, k, v.detach(), visible, $p)",
        ),
    ),
    "heads-in-float32": mutant("gpt2", "dtype", ("CausalSelfAttention.forward", "return $y", "return ($y).float()")),
    "heads-no-bias": mutant(
        "gpt2",
        "missing_parameter",
        ("CausalSelfAttention.__init__", "nn.Linear($c, 3 * $c)", "nn.Linear($c, 3 * $c, bias=False)"),
    ),
    "mlp-exact-gelu": mutant(
        "gpt2",
        "mlp_exact",
        ("MLP.forward", "self.gelu(self.c_fc(x))", "0.5 * self.c_fc(x) * (1 + torch.erf(self.c_fc(x) / 2**0.5))"),
    ),
    "mlp-dropout-inside": mutant(
        "gpt2",
        "mlp_dropout_missing",
        (
            "MLP.forward",
            "h = self.gelu(self.c_fc(x))",
            "h = F.dropout(self.gelu(self.c_fc(x)), self.dropout, self.training)",
        ),
        ("MLP.forward", "F.dropout(self.c_proj(h), $...p)", "self.c_proj(h)"),
    ),
    "mlp-detached": mutant("gpt2", "no_gradient", ("MLP.forward", "self.c_fc(x)", "self.c_fc(x.detach())")),
    "mlp-gpt2-in-float32": mutant("gpt2", "dtype", ("MLP.forward", "return $y", "return ($y).float()")),
    "block-in-place": mutant(
        "gpt2", "overwrites", ("Block.forward", "x = x + self.attn($...a)", "x += self.attn($...a)")
    ),
    "block-parallel": mutant(
        "gpt2",
        "block_parallel",
        (
            "Block.forward",
            "x = x + self.attn(self.ln_1(x), state, pad)\nx = x + self.mlp(self.ln_2(x))",
            "x = x + self.attn(self.ln_1(x), state, pad) + self.mlp(self.ln_2(x))",
        ),
    ),
    "block-no-padding": mutant(
        "gpt2", "block_pad", ("Block.forward", "self.attn(self.ln_1(x), state, pad)", "self.attn(self.ln_1(x), state)")
    ),
    "block-no-state": mutant(
        "gpt2",
        "block_state",
        ("Block.forward", "self.attn(self.ln_1(x), state, pad)", "self.attn(self.ln_1(x), None, pad)"),
    ),
    "block-first-layer": mutant(
        "gpt2",
        "block_layer",
        ("Block.__init__", "CausalSelfAttention(config, layer)", "CausalSelfAttention(config, 0)"),
    ),
    "block-default-eps": mutant(
        "gpt2",
        "block_eps",
        ("Block.__init__", "self.ln_1 = norm(config.n_embd, config.eps)", "self.ln_1 = norm(config.n_embd)"),
        ("Block.__init__", "self.ln_2 = norm(config.n_embd, config.eps)", "self.ln_2 = norm(config.n_embd)"),
    ),
    "block-detached": mutant(
        "gpt2", "value", ("Block.forward", "x = x + self.mlp(self.ln_2(x))", "x = x + self.mlp(self.ln_2(x.detach()))")
    ),
    "gpt-shared-blocks": mutant(
        "gpt2",
        "value",
        (
            "GPT.__init__",
            "nn.ModuleList(Block(config, layer) for layer in range(config.n_layers))",
            "nn.ModuleList([Block(config, 0)] * config.n_layers)",
        ),
    ),
    "gpt-every-block-first": mutant("gpt2", "raised", ("GPT.__init__", "Block(config, layer)", "Block(config, 0)")),
    "gpt-second-head": mutant(
        "gpt2",
        "model_second_head",
        (
            "GPT.__init__",
            "self.apply(self.initialise)",
            "self.head = nn.Embedding(config.vocab_size, config.n_embd)\nself.apply(self.initialise)",
        ),
        ("GPT.forward", "self.wte.weight.T", "self.head.weight.T"),
    ),
    "gpt-positions-from-1": mutant(
        "gpt2",
        "model_positions_from_1",
        (
            "GPT.positions",
            "torch.arange(T, device=tokens.device)",
            "torch.arange(1, T + 1, device=tokens.device) % self.config.block_size",
        ),
    ),
    "gpt-padding-forgotten-with-cache": mutant(
        "gpt2",
        "value",
        ("GPT.positions", "(pad.cumsum(1) - pad.long())[:, -T:]", "(pad.cumsum(1) - pad.long())[:, :T]"),
    ),
    "gpt-padding-from-1": mutant(
        "gpt2",
        "model_positions_from_1",
        ("GPT.positions", "(pad.cumsum(1) - pad.long())[:, -T:]", "pad.cumsum(1)[:, -T:]"),
    ),
    "gpt-no-embedding-dropout": mutant(
        "gpt2", "model_dropout_missing", ("GPT.forward", "x = F.dropout(x, self.config.dropout, self.training)", "")
    ),
    "gpt-loss-shifted-again": mutant(
        "gpt2",
        "model_shifted",
        ("GPT.forward", "cross_entropy(logits, targets)", "cross_entropy(logits[:, :-1], targets[:, 1:])"),
    ),
    "gpt-no-limit": mutant(
        "gpt2", "model_block", ("GPT.positions", "S = T if state is None else state.length + T", "S = T")
    ),
    "gpt-uniform-start": mutant(
        "gpt2",
        "start_shape",
        (
            "GPT.initialise",
            "nn.init.normal_(module.weight, std=0.02)",
            "nn.init.uniform_(module.weight, -0.02 * 3**0.5, 0.02 * 3**0.5)",
        ),
    ),
    "gpt-scaled-by-layers": mutant(
        "gpt2", "start_one_branch", ("GPT.initialise", "2 * self.config.n_layers", "self.config.n_layers")
    ),
    "gpt-biases-drawn": mutant(
        "gpt2", "value", ("GPT.initialise", "if isinstance(module, nn.Linear):\n    nn.init.zeros_(module.bias)", "")
    ),
    "gpt-unit-embedding": mutant(
        "gpt2",
        "start_embedding",
        ("GPT.initialise", "isinstance(module, nn.Linear | nn.Embedding)", "isinstance(module, nn.Linear)"),
    ),
    "gpt-future-in-the-norm": mutant(
        "gpt2",
        "heads_future",
        ("GPT.forward", "x = block(x, state, pad)", "x = block(x, state, pad) - x.mean(1, keepdim=True)"),
    ),
    "gpt-blocks-without-padding": mutant(
        "gpt2", "model_padding_seen", ("GPT.forward", "block(x, state, pad)", "block(x, state)")
    ),
    "gpt-blocks-without-state": mutant(
        "gpt2", "model_state", ("GPT.forward", "block(x, state, pad)", "block(x, None, pad)")
    ),
    "gpt-one-state-for-all": mutant(
        "gpt2",
        "raised",
        (
            "GPT.new_state",
            "return KVCache(batch_size)",
            "self.kept = getattr(self, 'kept', KVCache(batch_size))\nreturn self.kept",
        ),
    ),
    "gpt-in-float32": mutant(
        "gpt2", "dtype", ("GPT.forward", "Output(logits, $loss)", "Output(logits.float(), $loss)")
    ),
    "gpt-default-eps": mutant(
        "gpt2",
        "model_eps",
        (
            "GPT.__init__",
            "(FusedLayerNorm if config.fused else LayerNorm)(config.n_embd, config.eps)",
            "LayerNorm(config.n_embd)",
        ),
    ),
    "gpt-loss-always": mutant(
        "gpt2",
        "loss_without_targets",
        ("GPT.forward", "None if targets is None else $loss", "logits.sum() if targets is None else $loss"),
    ),
    "gpt-loss-of-rows": mutant(
        "gpt2",
        "loss_mean_of_rows",
        (
            "cross_entropy",
            """
            total = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="sum")
            return total / (targets != IGNORE).sum().clamp(min=1)
            """,
            """
            total = F.cross_entropy(logits.mT, targets, ignore_index=IGNORE, reduction="none").sum(1)
            return (total / (targets != IGNORE).sum(1).clamp(min=1)).mean()
            """,
        ),
    ),
    "gpt-loss-of-probabilities": mutant(
        "gpt2", "loss_twice", ("cross_entropy", "logits.flatten(0, 1)", "logits.softmax(-1).flatten(0, 1)")
    ),
    "gpt-loss-overflows": mutant(
        "gpt2",
        "loss_overflow",
        (
            "cross_entropy",
            'total = F.cross_entropy($logits, targets.flatten(), ignore_index=IGNORE, reduction="sum")',
            "total = F.nll_loss((logits.exp() / logits.exp().sum(-1, keepdim=True)).log().flatten(0, 1), "
            'targets.flatten(), ignore_index=IGNORE, reduction="sum")',
        ),
    ),
    "gpt-loss-views": mutant("gpt2", "raised", ("cross_entropy", "targets.flatten()", "targets.view(-1)")),
    "gpt-loss-no-gradient": mutant(
        "gpt2", "no_gradient", ("cross_entropy", "logits.flatten(0, 1)", "logits.detach().flatten(0, 1)")
    ),
    "gpt-loss-gradient-doubled": mutant(
        "gpt2", "value", ("cross_entropy", "logits.flatten(0, 1)", "(2 * logits - logits.detach()).flatten(0, 1)")
    ),
    # sizes that are easily taken for one another
    "attention-scaled-by-heads": mutant("gpt2", "att_heads", ("attention", "q.shape[-1]", "q.shape[1]")),
    "gpt-start-by-layers": mutant(
        "gpt2",
        "start_std",
        ("GPT.initialise", "math.sqrt(2 * self.config.n_layers)", "self.config.n_layers"),
    ),
    "gpt-positions-by-width": mutant(
        "gpt2",
        "shape",
        (
            "GPT.__init__",
            "nn.Embedding(config.block_size, config.n_embd)",
            "nn.Embedding(config.n_embd, config.n_embd)",
        ),
    ),
    "gpt-limit-by-width": mutant(
        "gpt2", "model_block", ("GPT.positions", "S > self.config.block_size", "S > self.config.n_embd")
    ),
    "gpt-blocks-by-heads": mutant(
        "gpt2",
        "missing_parameter",
        ("GPT.__init__", "range(config.n_layers)", "range(config.n_heads)"),
    ),
    "gpt-last-block-left-out": mutant("gpt2", "model_last_block_left_out", ("GPT.forward", "self.h", "self.h[:-1]")),
    "gpt-limit-without-padding": mutant(
        "gpt2",
        "model_block",
        ("GPT.positions", "S > self.config.block_size", "pad is None and S > self.config.block_size"),
    ),
    # what happens only together
    "block-padding-lost-with-state": mutant(
        "gpt2",
        "block_pad_with_state",
        ("Block.forward", "self.attn($x, state, pad)", "self.attn($x, state, pad if state is None else None)"),
    ),
    "gpt-no-logits-beside-a-loss": mutant(
        "gpt2",
        "none",
        ("GPT.forward", "Output(logits, $loss)", "Output(None if targets is not None else logits, $loss)"),
    ),
    "gpt-last-logits-beside-a-loss": mutant(
        "gpt2",
        "shape",
        ("GPT.forward", "Output(logits, $loss)", "Output(logits if targets is None else logits[:, -1:], $loss)"),
    ),
    "gpt-overwrites-padding": mutant(
        "gpt2",
        "overwrites",
        (
            "GPT.forward",
            "x = F.dropout(x, self.config.dropout, self.training)",
            "if pad is not None:\n    tokens[~pad[:, -tokens.shape[1] :]] = 0\n"
            "x = F.dropout(x, self.config.dropout, self.training)",
        ),
    ),
    "mlp-overwrites-tokens": mutant(
        "mlp",
        "overwrites",
        ("MLP.forward", "tokens = tokens.masked_fill(~pad[:, -T:], -1)", "tokens[~pad[:, -T:]] = -1"),
    ),
    "mlp-norm-batch-where-counted": mutant(
        "mlp",
        "norm_batch_in_evaluation",
        (
            "BatchNorm.forward",
            "self.training and len(rows) > 0",
            "(self.training or counted is not None) and len(rows) > 0",
        ),
    ),
    "mlp-norm-learns-where-counted": mutant(
        "mlp",
        "norm_learns_in_evaluation",
        (
            "BatchNorm.forward",
            "mean, variance = self.running_mean, self.running_var",
            "mean, variance = self.running_mean.clone(), self.running_var.clone()\n"
            "if counted is not None and len(rows) > 0:\n"
            "    self.remember(rows.mean(0), rows.var(0, correction=0), len(rows))",
        ),
    ),
    "mlp-trains-where-targets": mutant(
        "mlp",
        "norm_batch_in_evaluation",
        (
            "MLP.forward",
            "h = self.norm($h, $counted)",
            "self.norm.train(targets is not None)\nh = self.norm($h, $counted)",
        ),
    ),
    # dropout that is too much, or kept and dropped exchanged
    "attention-dropout-exchanged": mutant(
        "gpt2",
        "dropout_share",
        (
            "attention",
            "F.dropout(weights, dropout)",
            "weights * (torch.rand_like(weights) < dropout) / (1 - dropout) if dropout else weights",
        ),
    ),
    "heads-dropout-twice": mutant(
        "gpt2",
        "dropout_scale",
        (
            "CausalSelfAttention.forward",
            "y = y.transpose(1, 2).reshape(B, T, C)",
            "y = F.dropout(y.transpose(1, 2).reshape(B, T, C), self.dropout, self.training)",
        ),
    ),
    "mlp-dropout-twice": mutant(
        "gpt2",
        "dropout_scale",
        (
            "MLP.forward",
            "h = self.gelu(self.c_fc(x))",
            "h = F.dropout(self.gelu(self.c_fc(x)), self.dropout, self.training)",
        ),
    ),
    "block-dropout-again": mutant(
        "gpt2",
        "dropout_scale",
        ("Block.forward", "x = x + self.mlp($h)", "x = x + F.dropout(self.mlp($h), self.mlp.dropout, self.training)"),
    ),
    "gpt-dropout-after-the-norm": mutant(
        "gpt2",
        "dropout_scale",
        ("GPT.forward", "self.ln_f(x)", "F.dropout(self.ln_f(x), self.config.dropout, self.training)"),
    ),
    "gpt-dropout-exchanged": mutant(
        "gpt2",
        "dropout_share",
        (
            "GPT.forward",
            "x = F.dropout(x, self.config.dropout, self.training)",
            "p = self.config.dropout * self.training\nx = x * (torch.rand_like(x) < p) / (1 - p) if p else x",
        ),
    ),
    # a variance that cancels
    "layer-norm-cancels": mutant(
        "gpt2",
        "norm_cancels",
        (
            "LayerNorm.forward",
            "(x - mean).square().mean(-1, keepdim=True)",
            "(x.square().mean(-1, keepdim=True) - mean.square()).clamp(min=0)",
        ),
    ),
    "batch-norm-cancels": mutant(
        "mlp",
        "norm_cancels",
        ("BatchNorm.forward", "(rows - mean).square().mean(0)", "(rows.square().mean(0) - mean.square()).clamp(min=0)"),
    ),
}
