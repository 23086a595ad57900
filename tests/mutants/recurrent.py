from mutants import mutant

KEYS = {
    "recurrent-rnn-tanh-missing": "rnn_no_tanh",
    "recurrent-rnn-weight-transposed": "rnn_transposed",
    "recurrent-gru-update-inverted": "gru_update_inverted",
    "recurrent-gru-gates-swapped": "gru_gates_swapped",
    "recurrent-gru-reset-on-input": "gru_reset_on_input",
    "recurrent-gru-reset-on-state": "gru_reset_on_state",
    "recurrent-lstm-forget-and-input-swapped": "lstm_forget_and_input",
    "recurrent-lstm-content-not-squashed": "lstm_content_bare",
    "recurrent-lstm-cell-shown-bare": "lstm_shown_bare",
    "recurrent-lstm-cell-handed-on-as-h": "lstm_handed_on_swapped",
    "recurrent-bias-hh-forgotten": "layer_bias_ih_twice",
    "recurrent-forget-bias-0": "forget_missing",
    "recurrent-forget-bias-on-the-input-gate": "forget_elsewhere",
    "recurrent-state-leaks-across-documents": "begins_ignored",
    "recurrent-cell-leaks-across-documents": "begins_leave_the_cell",
    "recurrent-state-emptied-in-every-row": "begins_everywhere",
    "recurrent-state-emptied-at-every-token": "model_forgets",
    "recurrent-padding-written": "padding_written",
    "recurrent-padding-from-the-wrong-end": "model_padding_columns",
    "recurrent-detach-missing": "model_history",
    "recurrent-history-cut-at-every-token": "layer_history",
    "recurrent-state-not-written-back": "model_state",
    "recurrent-state-of-the-first-layer": "window_future",
    "recurrent-dropout-in-evaluation": "model_dropout_in_evaluation",
    "recurrent-confident-start": "start_output_gain",
}

MUTANTS = {
    "rnn-not-a-tuple": mutant("tuple", ("rnn", "return (torch.tanh($y),)", "return torch.tanh($y)")),
    "rnn-weight-detached": mutant(
        "no_gradient", ("rnn", "F.linear(h, weight, bias)", "F.linear(h, weight.detach(), bias)")
    ),
    "rnn-in-float32": mutant("dtype", ("rnn", "torch.tanh($y)", "torch.tanh(($y).float())")),
    "rnn-no-bias": mutant("step_no_bias", ("rnn", "F.linear(h, weight, bias)", "F.linear(h, weight)")),
    "rnn-relu": mutant("rnn_relu", ("rnn", "torch.tanh($y)", "torch.relu($y)")),
    "rnn-added": mutant("rnn_added", ("rnn", "torch.tanh($y)", "h + torch.tanh($y)")),
    "rnn-no-memory": mutant("step_no_memory", ("rnn", "F.linear(h, weight, bias)", "F.linear(0 * h, weight, bias)")),
    "rnn-from-torch": mutant(
        "forbidden",
        (
            "rnn",
            "torch.tanh(x + F.linear(h, weight, bias))",
            "torch.rnn_tanh_cell(x, h, torch.eye(len(weight)).to(weight), weight, torch.zeros_like(bias), bias)",
        ),
    ),
    "gru-reset-missing": mutant("gru_reset_missing", ("gru", "x_new + reset * h_new", "x_new + h_new")),
    "gru-reset-on-both": mutant("gru_reset_on_both", ("gru", "x_new + reset * h_new", "reset * (x_new + h_new)")),
    "gru-reset-not-on-the-bias": mutant(
        "gru_reset_not_on_bias",
        ("gru", "x_new + reset * h_new", "x_new + reset * (h_new - bias.chunk(3)[2]) + bias.chunk(3)[2]"),
    ),
    "gru-no-tanh": mutant("gru_no_tanh", ("gru", "torch.tanh($y)", "$y")),
    "gru-gate-detached": mutant("value", ("gru", "update * h", "update.detach() * h")),
    "gru-new-alone": mutant("gru_new_only", ("gru", "(1 - update) * new + update * h", "new")),
    "gru-in-place": mutant(
        "overwrites",
        ("gru", "return ((1 - update) * new + update * h,)", "return (h.lerp_(new, 1 - update),)"),
    ),
    "lstm-content-last": mutant(
        "lstm_content_and_output",
        ("lstm", "write, keep, content, show = $y", "write, keep, show, content = $y"),
    ),
    "lstm-content-sigmoid": mutant("lstm_content_sigmoid", ("lstm", "torch.tanh(content)", "torch.sigmoid(content)")),
    "lstm-shows-the-old-cell": mutant(
        "lstm_old_shown",
        ("lstm", "h = torch.sigmoid(show) * torch.tanh(c)", "h = torch.sigmoid(show) * torch.tanh(state[1])"),
    ),
    "lstm-never-forgets": mutant("lstm_never_forgets", ("lstm", "torch.sigmoid(keep) * c", "c")),
    "lstm-cell-detached": mutant("value", ("lstm", "torch.sigmoid(keep) * c", "torch.sigmoid(keep) * c.detach()")),
    "lstm-not-returned": mutant("none", ("lstm", "return h, c", "pass")),
    "layer-one-bias": mutant(
        "missing_parameter",
        ("Layer.__init__", "self.bias_hh = nn.Parameter(torch.zeros(n_gates * n_hidden))", ""),
        ("Layer.forward", "self.bias_hh", "torch.zeros_like(self.bias_ih)"),
    ),
    "layer-uniform": mutant(
        "start_default",
        (
            "Layer.__init__",
            "torch.randn(n_gates * n_hidden, n_hidden) / math.sqrt(n_hidden)",
            "(2 * torch.rand(n_gates * n_hidden, n_hidden) - 1) / math.sqrt(n_hidden)",
        ),
    ),
    "layer-scaled-by-the-hidden": mutant(
        "start_fan",
        ("Layer.__init__", "torch.randn($n, n_in) / math.sqrt(n_in)", "torch.randn($n, n_in) / math.sqrt(n_hidden)"),
    ),
    "layer-forget-bias-twice": mutant(
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
        "layer_bias_ih",
        ("Layer.forward", "F.linear(x, self.weight_ih, self.bias_ih)", "F.linear(x, self.weight_ih)"),
    ),
    "layer-no-state-bias": mutant(
        "layer_bias_hh",
        ("Layer.forward", "self.step($i, $s, $w, self.bias_hh)", "self.step($i, $s, $w, 0 * self.bias_hh)"),
    ),
    "layer-backwards": mutant(
        "layer_backwards",
        ("Layer.forward", "range(x.shape[1])", "reversed(range(x.shape[1]))"),
        ("Layer.forward", "torch.stack(outputs, 1)", "torch.stack(outputs[::-1], 1)"),
    ),
    "layer-late": mutant("layer_late", ("Layer.forward", "outputs.append(state[0])", "outputs.append(before[0])")),
    "layer-shows-its-cell": mutant(
        "layer_shows_its_cell", ("Layer.forward", "outputs.append(state[0])", "outputs.append(state[-1])")
    ),
    "layer-starts-from-zeros": mutant(
        "layer_state_ignored",
        (
            "Layer.forward",
            "outputs = []",
            "outputs = []\nstate = tuple(torch.zeros_like(each) for each in state)",
        ),
    ),
    "layer-outputs-alone": mutant(
        "layer_result",
        ("Layer.forward", "return torch.stack(outputs, 1), state", "return torch.stack(outputs, 1)"),
    ),
    "layer-empties-after": mutant(
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
        "padding_begins",
        ("Layer.forward", "zip(after, state, strict=True)", "zip(after, before, strict=True)"),
    ),
    "layer-padding-empties": mutant(
        "padding_empties",
        (
            "Layer.forward",
            "torch.where(real[:, t, None], new, old)",
            "torch.where(real[:, t, None], new, torch.zeros_like(old))",
        ),
    ),
    "layer-padding-inverted": mutant(
        "padding_inverted",
        ("Layer.forward", "torch.where(real[:, t, None], new, old)", "torch.where(real[:, t, None], old, new)"),
    ),
    "layer-mask-in-float32": mutant(
        "raised_borrowed",
        (
            "Layer.forward",
            "torch.where(real[:, t, None], new, old)",
            "real[:, t, None].float() * new + (1 - real[:, t, None].float()) * old",
        ),
    ),
    "recurrent-output-without-bias": mutant(
        "missing_parameter",
        (
            "Recurrent.__init__",
            "nn.Linear(config.n_hidden, config.vocab_size)",
            "nn.Linear(config.n_hidden, config.vocab_size, bias=False)",
        ),
        ("Recurrent.__init__", "nn.init.zeros_(self.output.bias)", ""),
    ),
    "recurrent-config-not-kept": mutant(
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
        "shape", ("Recurrent.forward", "Output(logits, $loss)", "Output(logits[:, -1], $loss)")
    ),
    "recurrent-mixes-the-batch": mutant(
        "model_batch", ("Recurrent.forward", "self.output(x)", "self.output(x + x.mean(0))")
    ),
    "recurrent-layers-shared": mutant(
        "model_layers_shared",
        (
            "Recurrent.__init__",
            "nn.ModuleList(Layer(config.cell, width, config.n_hidden) for width in widths)",
            "nn.ModuleList([Layer(config.cell, config.n_embd, config.n_hidden)] + "
            "[Layer(config.cell, config.n_hidden, config.n_hidden)] * (config.n_layers - 1))",
        ),
    ),
    "recurrent-end-ignored": mutant("model_ends_ignored", ("Recurrent.forward", "tokens == END", "tokens < END")),
    "recurrent-end-late": mutant(
        "model_ends_late", ("Recurrent.forward", "tokens == END", "F.pad(tokens, (1, -1), value=1) == END")
    ),
    "recurrent-one-layer-of-state": mutant(
        "state_layers",
        ("Recurrent.new_state", "[(zeros,) * n_tensors] * self.config.n_layers", "[(zeros,) * n_tensors]"),
    ),
    "recurrent-state-random": mutant("value", ("Recurrent.new_state", "zeros = $y", "zeros = torch.randn_like($y)")),
    "recurrent-state-of-float32": mutant(
        "dtype",
        (
            "Recurrent.new_state",
            "self.output.weight.new_zeros(batch_size, self.config.n_hidden)",
            "torch.zeros(batch_size, self.config.n_hidden)",
        ),
    ),
    "recurrent-one-state-for-all": mutant(
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
        "no_gradient", ("Recurrent.forward", "self.embedding(tokens)", "self.embedding(tokens).detach()")
    ),
    "recurrent-padding-read": mutant(
        "model_padding",
        ("Recurrent.forward", "layer(x, state.layers[i], begins, real)", "layer(x, state.layers[i], begins)"),
    ),
    "recurrent-one-layer-used": mutant(
        "model_layers_left_out",
        ("Recurrent.forward", "enumerate(self.layers)", "enumerate(self.layers[:1])"),
    ),
    "recurrent-no-dropout": mutant(
        "model_dropout_missing",
        ("Recurrent.forward", "F.dropout(self.embedding(tokens), $p, $t)", "self.embedding(tokens)"),
        ("Recurrent.forward", "x = F.dropout(x, $p, $t)", ""),
    ),
    "recurrent-no-dropout-between": mutant(
        "model_dropout_between",
        (
            "Recurrent.forward",
            "x = F.dropout(x, $p, $t)",
            "if i + 1 == len(self.layers):\n    x = F.dropout(x, $p, $t)",
        ),
    ),
    "recurrent-no-embedding-dropout": mutant(
        "model_dropout_of_embeddings",
        ("Recurrent.forward", "F.dropout(self.embedding(tokens), $p, $t)", "self.embedding(tokens)"),
    ),
    "recurrent-no-dropout-of-layers": mutant(
        "model_dropout_of_the_layers", ("Recurrent.forward", "x = F.dropout(x, $p, $t)", "")
    ),
    "recurrent-no-last-dropout": mutant(
        "model_dropout_of_the_last",
        ("Recurrent.forward", "x = F.dropout(x, $p, $t)", "if i + 1 < len(self.layers):\n    x = F.dropout(x, $p, $t)"),
    ),
    "rnn-overflows": mutant(
        "nan",
        ("rnn", "torch.tanh($y)", "(($y).exp() - (-$y).exp()) / (($y).exp() + (-$y).exp())"),
    ),
    "lstm-overflows": mutant(
        "nan",
        ("lstm", "torch.sigmoid(show) * torch.tanh(c)", "show.exp() / (1 + show.exp()) * torch.tanh(c)"),
    ),
    "lstm-cell-clamped": mutant(
        "value",
        ("lstm", "return h, c", "return h, c.clamp(-6, 6)"),
    ),
    "layer-history-cut-now-and-then": mutant(
        "layer_history",
        (
            "Layer.forward",
            "before = state",
            "before = tuple(each.detach() for each in state) if t % 16 == 15 else state",
        ),
    ),
    "layer-squeezed": mutant(
        "shape",
        ("Layer.forward", "torch.stack(outputs, 1)", "torch.stack(outputs, 1).squeeze()"),
    ),
    "layer-forget-bias-of-the-first": mutant(
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
        "start_repeated",
        (
            "Layer.__init__",
            "torch.randn(n_gates * n_hidden, n_in) / $root",
            "torch.randn(n_hidden, n_in).repeat(n_gates, 1) / $root",
        ),
    ),
    "recurrent-biases-emptied": mutant(
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
        "model_history",
        (
            "Recurrent.forward",
            "state.layers[i] = tuple(each.detach() for each in last)",
            "state.layers[i] = last if self.training else tuple(each.detach() for each in last)",
        ),
    ),
    "recurrent-no-loss-with-a-state": mutant(
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
        "value",
        (
            "Recurrent.forward",
            "layer(x, state.layers[i], begins, real)",
            "layer(x.detach() if state.layers[i][0].any() else x, state.layers[i], begins, real)",
        ),
    ),
    "recurrent-no-dropout-with-a-state": mutant(
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
        "model_padding",
        ("Recurrent.forward", "None if pad is None else $y", "None if pad is None or self.training else pad[:, -T:]"),
    ),
    "recurrent-padding-read-one-by-one": mutant(
        "value",
        ("Recurrent.forward", "None if pad is None else pad[:, -T:]", "None if pad is None or T == 1 else pad[:, -T:]"),
    ),
    "recurrent-end-ignored-with-padding": mutant(
        "value",
        ("Recurrent.forward", "tokens == END", "(tokens == END) & (pad is None)"),
    ),
    "recurrent-end-ignored-alone": mutant(
        "model_ends_ignored",
        ("Recurrent.forward", "tokens == END", "(tokens == END) & (B > 1)"),
    ),
    "recurrent-end-ignored-in-training": mutant(
        "value",
        ("Recurrent.forward", "tokens == END", "(tokens == END) & (not self.training)"),
    ),
    "recurrent-state-squeezed": mutant(
        "shape",
        ("Recurrent.forward", "each.detach()", "each.detach().squeeze(0)"),
    ),
    "recurrent-dropout-of-rnn-alone": mutant(
        "model_dropout_of_embeddings",
        (
            "Recurrent.forward",
            "F.dropout(self.embedding(tokens), $p, $t)",
            "F.dropout(self.embedding(tokens), $p, $t and self.config.cell == 'rnn')",
        ),
    ),
    "recurrent-no-last-dropout-of-one-layer": mutant(
        "model_dropout_of_the_last",
        ("Recurrent.forward", "x = F.dropout(x, $p, $t)", "x = F.dropout(x, $p, $t and len(self.layers) > 1)"),
    ),
    "recurrent-state-dropped": mutant(
        "model_dropout_of_the_state",
        (
            "Recurrent.forward",
            "state.layers[i] = tuple(each.detach() for each in last)",
            "state.layers[i] = tuple(F.dropout(each.detach(), self.config.dropout) for each in last)",
        ),
    ),
    "recurrent-dropout-of-whole-tokens": mutant(
        "model_dropout_shared",
        (
            "Recurrent.forward",
            "F.dropout(self.embedding(tokens), $p, $t)",
            "self.embedding(tokens) * F.dropout(torch.ones(B, T, 1), $p, $t)",
        ),
    ),
    "recurrent-dropout-alike-at-all-times": mutant(
        "model_dropout_shared",
        (
            "Recurrent.forward",
            "F.dropout(self.embedding(tokens), $p, $t)",
            "self.embedding(tokens) * F.dropout(torch.ones(B, 1, self.config.n_embd), $p, $t)",
        ),
    ),
    "recurrent-dropout-of-the-table": mutant(
        "model_dropout_shared",
        (
            "Recurrent.forward",
            "F.dropout(self.embedding(tokens), $p, $t)",
            "F.embedding(tokens, F.dropout(self.embedding.weight, $p, $t))",
        ),
    ),
    "recurrent-default-output": mutant(
        "start_default", ("Recurrent.__init__", "nn.init.normal_(self.output.weight, $...a)", "")
    ),
}
