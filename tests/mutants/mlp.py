from mutants import mutant

KEYS = {
    "mlp-wrong-fan": "linear_fan",
    "mlp-gain-missing": "start_gain",
    "mlp-confident-start": "start_output_gain",
    "mlp-norm-eps-outside": "norm_eps_outside",
    "mlp-norm-batch-statistics-in-eval": "norm_batch_in_evaluation",
    "mlp-norm-running-statistics-in-training": "norm_running_in_training_after",
    "mlp-norm-momentum-swapped": "norm_momentum",
    "mlp-norm-running-variance-biased": "norm_biased",
    "mlp-norm-counts-padding": "model_norm_padding",
    "mlp-window-off-by-one": "window_self",
    "mlp-state-ignored": "model_state",
    "mlp-beginning-is-token-0": "model_beginning",
    "mlp-padding-is-context": "model_padding",
    "mlp-tanh-missing": "model_no_tanh",
    "mlp-loss-mean-over-all": "loss_mean_over_all",
    "mlp-loss-nothing-counted": "loss_nothing",
}

MUTANTS = {
    "mlp-config-not-kept": mutant(
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
        "start_shape",
        ("Linear.__init__", "torch.randn(n_out, n_in)", "(torch.rand(n_out, n_in) - 0.5) * 12**0.5"),
    ),
    "linear-variance": mutant("linear_variance", ("Linear.__init__", "gain / math.sqrt(n_in)", "gain / n_in")),
    "linear-gain-ignored": mutant("linear_gain", ("Linear.__init__", "gain / math.sqrt(n_in)", "1 / math.sqrt(n_in)")),
    "linear-bias-forgotten": mutant(
        "linear_bias", ("Linear.forward", "y if self.bias is None else y + self.bias", "y")
    ),
    "linear-bias-starts-at-1": mutant("value", ("Linear.__init__", "torch.zeros(n_out)", "torch.ones(n_out)")),
    "linear-always-biased": mutant(
        "extra_parameter",
        ("Linear.__init__", "nn.Parameter(torch.zeros(n_out)) if bias else None", "nn.Parameter(torch.zeros(n_out))"),
    ),
    "linear-in-float32": mutant("dtype", ("Linear.forward", "x @ self.weight.T", "x.float() @ self.weight.float().T")),
    "linear-detached": mutant("no_gradient", ("Linear.forward", "x @ self.weight.T", "x.detach() @ self.weight.T")),
    "norm-buffer-plain": mutant(
        "plain_buffer",
        (
            "BatchNorm.__init__",
            'self.register_buffer("running_mean", torch.zeros(width))',
            "self.running_mean = torch.zeros(width)",
        ),
    ),
    "norm-buffers-learned": mutant(
        "norm_learned",
        (
            "BatchNorm.__init__",
            'self.register_buffer("running_mean", torch.zeros(width))',
            "self.running_mean = nn.Parameter(torch.zeros(width), requires_grad=False)",
        ),
    ),
    "norm-fixed-momentum": mutant(
        "norm_momentum_fixed",
        ("BatchNorm.__init__", "self.momentum = momentum", "self.momentum = 0.1"),
    ),
    "norm-fixed-eps": mutant("norm_eps_fixed", ("BatchNorm.__init__", "self.eps = eps", "self.eps = 1e-5")),
    "norm-sample-variance": mutant(
        "norm_sample_variance", ("BatchNorm.forward", "(rows - mean).square().mean(0)", "rows.var(0)")
    ),
    "norm-one-row": mutant("raised", ("BatchNorm.remember", "max(n - 1, 1)", "(n - 1)")),
    "norm-no-row": mutant(
        "norm_small_batch", ("BatchNorm.forward", "self.training and len(rows) > 0", "self.training")
    ),
    "norm-statistics-detached": mutant(
        "value", ("BatchNorm.forward", "mean = rows.mean(0)", "mean = rows.mean(0).detach()")
    ),
    "norm-keeps-the-graph": mutant(
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
        "norm_deviation",
        ("BatchNorm.remember", "self.running_var.lerp_(unbiased, $m)", "self.running_var.lerp_(unbiased.sqrt(), $m)"),
    ),
    "norm-counts-padding-later": mutant(
        "norm_counts_padding",
        (
            "BatchNorm.forward",
            "self.remember(mean, variance, len(rows))",
            "self.remember(x.flatten(0, -2).mean(0), x.flatten(0, -2).var(0, correction=0), x[..., 0].numel())",
        ),
    ),
    "norm-over-rows": mutant(
        "norm_first_axis",
        ("BatchNorm.forward", "rows = x.flatten(0, -2) if counted is None else x[counted]", "rows = x"),
        ("BatchNorm.remember", "self.running_mean.lerp_(mean, self.momentum)", "self.running_mean = mean"),
        ("BatchNorm.remember", "self.running_var.lerp_(unbiased, self.momentum)", "self.running_var = unbiased"),
    ),
    "norm-in-float32": mutant("dtype", ("BatchNorm.forward", "(x - mean)", "(x.float() - mean)")),
    "mlp-context-reversed": mutant(
        "model_reversed", ("MLP.forward", "seen.unfold(1, $n, 1)", "seen.unfold(1, $n, 1).flip(-1)")
    ),
    "mlp-norm-after-tanh": mutant(
        "model_norm_after",
        ("MLP.forward", "h = self.hidden(x)", "h = torch.tanh(self.hidden(x))"),
        ("MLP.forward", "self.output(torch.tanh(h))", "self.output(h)"),
    ),
    "mlp-relu": mutant("model_relu", ("MLP.forward", "torch.tanh(h)", "torch.relu(h)")),
    "mlp-features-interleaved": mutant(
        "model_interleaved",
        ("MLP.forward", "self.embedding(contexts).flatten(2)", "self.embedding(contexts).transpose(2, 3).flatten(2)"),
    ),
    "mlp-padding-from-the-left": mutant(
        "model_padding_columns",
        ("MLP.forward", "tokens.masked_fill(~pad[:, -T:], -1)", "tokens.masked_fill(~pad[:, :T], -1)"),
    ),
    "mlp-one-state-for-all": mutant(
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
        "extra_parameter",
        ("MLP.__init__", "Linear(n_in, config.n_hidden, gain=$g, bias=$b)", "Linear(n_in, config.n_hidden, gain=$g)"),
    ),
    "mlp-norm-forgotten": mutant("model_no_norm", ("MLP.forward", "self.norm is not None", "self.norm is None")),
    "mlp-only-the-last-prediction": mutant(
        "shape", ("MLP.forward", "Output(logits, $loss)", "Output(logits[:, -1], $loss)")
    ),
    "mlp-mixes-the-batch": mutant(
        "model_batch", ("MLP.forward", "h = self.hidden(x)", "h = self.hidden(x) + self.hidden(x).mean(0)")
    ),
    "mlp-small-embedding": mutant(
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
        "no_gradient",
        (
            "MLP.forward",
            "self.embedding(contexts)",
            "(self.embedding(contexts) if state is None else self.embedding(contexts).detach())",
        ),
    ),
    "mlp-embedding-detached": mutant(
        "no_gradient", ("MLP.forward", "self.embedding(contexts)", "self.embedding(contexts).detach()")
    ),
    "mlp-loss-of-numbers": mutant(
        "backward", ("MLP.forward", "cross_entropy(logits, targets)", "cross_entropy(logits.detach(), targets)")
    ),
    "mlp-in-float32": mutant("dtype", ("MLP.forward", "Output(logits, $loss)", "Output(logits.float(), $loss)")),
    "mlp-loss-shifted-again": mutant(
        "number",
        ("MLP.forward", "cross_entropy(logits, targets)", "cross_entropy(logits[:, :-1], targets[:, 1:])"),
    ),
    "mlp-loss-of-rows": mutant(
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
        "loss_overflow",
        (
            "cross_entropy",
            'total = F.cross_entropy($logits, targets.flatten(), ignore_index=IGNORE, reduction="sum")',
            "total = F.nll_loss((logits.exp() / logits.exp().sum(-1, keepdim=True)).log().flatten(0, 1), "
            'targets.flatten(), ignore_index=IGNORE, reduction="sum")',
        ),
    ),
    "mlp-loss-views": mutant("raised", ("cross_entropy", "targets.flatten()", "targets.view(-1)")),
    "mlp-loss-sum": mutant("loss_sum", ("cross_entropy", "total / $n", "total")),
    "mlp-loss-no-gradient": mutant(
        "no_gradient", ("cross_entropy", "logits.flatten(0, 1)", "logits.detach().flatten(0, 1)")
    ),
    "mlp-loss-gradient-doubled": mutant(
        "value", ("cross_entropy", "logits.flatten(0, 1)", "(2 * logits - logits.detach()).flatten(0, 1)")
    ),
    "mlp-overwrites-tokens": mutant(
        "overwrites",
        ("MLP.forward", "tokens = tokens.masked_fill(~pad[:, -T:], -1)", "tokens[~pad[:, -T:]] = -1"),
    ),
    "mlp-norm-batch-where-counted": mutant(
        "norm_batch_in_evaluation",
        (
            "BatchNorm.forward",
            "self.training and len(rows) > 0",
            "(self.training or counted is not None) and len(rows) > 0",
        ),
    ),
    "mlp-norm-learns-where-counted": mutant(
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
        "norm_batch_in_evaluation",
        (
            "MLP.forward",
            "h = self.norm($h, $counted)",
            "self.norm.train(targets is not None)\nh = self.norm($h, $counted)",
        ),
    ),
    "batch-norm-cancels": mutant(
        "norm_cancels",
        ("BatchNorm.forward", "(rows - mean).square().mean(0)", "(rows.square().mean(0) - mean.square()).clamp(min=0)"),
    ),
}
