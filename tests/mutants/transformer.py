from mutants import mutant

KEYS = {
    "transformer-decoder-sees-what-comes": "back_no_mask",
    "transformer-mask-shows-next": "back_next",
    "transformer-mask-hides-self": "back_self",
    "transformer-mask-ignores-cache": "back_corner",
    "transformer-source-padding-seen": "state_padding_seen",
    "transformer-encoder-sees-padding": "state_encoder_sees_padding",
    "transformer-cross-keys-from-decoder": "cross_own_keys",
    "transformer-cross-of-the-first-layer": "cross_first_layer",
    "transformer-values-are-keys": "kv_values_are_keys",
    "transformer-scale-of-the-whole-width": "att_all_heads",
    "transformer-embedding-not-scaled": "embed_not_scaled",
    "transformer-positions-scaled": "embed_positions_scaled",
    "transformer-positions-in-halves": "positions_halves",
    "transformer-positions-too-slow": "positions_slow",
    "transformer-embedding-starts-wide": "start_wide",
    "transformer-state-positions-restart": "model_position_restarts",
    "transformer-select-forgets-the-source": "select_source",
    "transformer-select-forgets-the-targets": "select_targets",
    "transformer-norm-inside-the-addition": "branch_norm_inside",
    "transformer-stream-normalised": "branch_stream_normalised",
    "transformer-encoder-norm-missing": "state_no_norm",
    "transformer-relu-missing": "ff_linear",
    "transformer-dropout-in-eval": "dropout_in_evaluation",
    "transformer-head-detached": "model_head_detached",
    "transformer-smoothing-over-the-others": "smooth_others",
    "transformer-smoothing-in-evaluation": "smooth_evaluation",
    "transformer-smoothing-of-padding": "smooth_padding",
    "transformer-loss-mean-over-all": "loss_mean_over_all",
}

WHERE = "return self.norm(x + F.dropout(branch(x, *given), self.dropout, self.training))"
FIRST = "return x + F.dropout(branch(self.norm(x), *given), self.dropout, self.training)"

MUTANTS = {
    "positions-start-ignored": mutant(
        "positions_start", ("positions", "torch.arange(start, start + T)", "torch.arange(T)")
    ),
    "heads-cut": mutant(
        "heads_cut", ("Attention.heads", "x.view($...sizes).transpose(1, 2)", "x.view(B, self.n_heads, N, -1)")
    ),
    "look-merged": mutant(
        "heads_merge", ("Attention.forward", "y.transpose(1, 2).reshape($...to)", "y.reshape($...to)")
    ),
    "look-without-dropout": mutant(
        "look_dropout_missing",
        ("Attention.forward", "dropout = self.dropout if self.training else 0.0", "dropout = 0.0"),
    ),
    "look-drops-features": mutant(
        "look_dropout_output",
        ("Attention.forward", "dropout = self.dropout if self.training else 0.0", "dropout = 0.0"),
        ("Attention.forward", "return self.out($y)", "return self.out(F.dropout($y, self.dropout, self.training))"),
    ),
    "feed-forward-drops-output": mutant(
        "ff_dropout_output",
        (
            "FeedForward.forward",
            "self.down(F.dropout(h, self.dropout, self.training))",
            "F.dropout(self.down(h), self.dropout, self.training)",
        ),
    ),
    "branch-called-twice": mutant(
        "branch_calls",
        (
            "Branch.forward",
            WHERE,
            "branch(x, *given)\nreturn self.norm(x + branch(x, *given))",
        ),
    ),
    "branch-drops-the-stream": mutant(
        "branch_dropout_stream",
        ("Branch.forward", WHERE, "return self.norm(F.dropout(x + branch(x, *given), self.dropout, self.training))"),
    ),
    "around-padding": mutant(
        "around_padding",
        (
            "EncoderLayer.look_around",
            "self.attention(x, $...kv, visible)",
            "self.attention(x, $...kv, torch.ones_like(visible))",
        ),
    ),
    "encoder-branch-shared": mutant(
        "layer_branch_shared",
        ("EncoderLayer.forward", "second(x, self.feed_forward)", "first(x, self.feed_forward)"),
    ),
    "read-for-the-other": mutant(
        "read_for_the_other",
        ("DecoderLayer.read", "self.cross.keys_and_values(x)", "self.attention.keys_and_values(x)"),
    ),
    "back-cache-not-read": mutant(
        "heads_cache_not_read",
        (
            "DecoderLayer.look_back",
            "keys, values = state.append(self.layer, *self.attention.keys_and_values(x))",
            "keys, values = self.attention.keys_and_values(x)\nstate.append(self.layer, keys, values)",
        ),
    ),
    "cross-cached": mutant(
        "cross_cached",
        (
            "DecoderLayer.look_at_source",
            "*state.source[self.layer]",
            "*state.append(len(state.layers), *state.source[self.layer])",
        ),
    ),
    "decoder-source-first": mutant(
        "layer_source_first",
        ("DecoderLayer.forward", "x = first(x, self.look_back, state)", "x = first(x, self.look_at_source, state)"),
        ("DecoderLayer.forward", "x = second(x, self.look_at_source, state)", "x = second(x, self.look_back, state)"),
    ),
    "select-lazily": mutant(
        "select_list",
        (
            "Memory.select",
            "self.layers = [(k[rows], v[rows]) for k, v in self.layers]",
            "self.layers = tuple((k[rows], v[rows]) for k, v in self.layers)",
        ),
    ),
    "loss-by-torch": mutant(
        "forbidden",
        ("cross_entropy", "F.log_softmax(logits, dim=-1)", "-F.cross_entropy(logits.mT, targets, reduction='none')"),
    ),
    "model-layer-shared": mutant(
        "init_shared",
        (
            "Transformer.__init__",
            "nn.ModuleList(EncoderLayer(config) for _ in range(config.n_layers))",
            "nn.ModuleList([EncoderLayer(config)] * config.n_layers)",
        ),
    ),
    "model-starts-normal": mutant(
        "start_normal",
        ("Transformer.__init__", "nn.init.xavier_uniform_(module.weight)", "nn.init.xavier_normal_(module.weight)"),
    ),
    "embed-without-dropout": mutant("embed_dropout_missing", ("Transformer.embed", "return $x", "return x")),
    "model-padding-not-handed-on": mutant(
        "forward_padding", ("Transformer.forward", "self.new_state(source, source_pad)", "self.new_state(source)")
    ),
    "model-reads-again": mutant(
        "model_state",
        (
            "Transformer.forward",
            "if state is None:\n    state = self.new_state(source, source_pad)",
            "state = self.new_state(source, source_pad)",
        ),
    ),
}

FURTHER = {
    "positions-of-a-short-table": mutant(
        "shape",
        ("positions", "torch.arange(start, start + T)[:, None]", "torch.arange(32)[start : start + T, None]"),
    ),
    "back-mask-of-a-short-table": mutant(
        "raised",
        (
            "DecoderLayer.look_back",
            "visible = $m",
            "visible = torch.ones(16, 16, dtype=torch.bool).tril()[N - T : N, :N]",
        ),
    ),
    "model-token-0-is-padding": mutant(
        "value",
        ("Transformer.__init__", "nn.Embedding(config.vocab_size, C)", "nn.Embedding(config.vocab_size, C, 0)"),
    ),
    "positions-from-1": mutant(
        "positions_from_1",
        ("positions", "torch.arange(start, start + T)", "torch.arange(start + 1, start + T + 1)"),
    ),
    "positions-cosine-first": mutant(
        "positions_cosine_first", ("positions", "(angle.sin(), angle.cos())", "(angle.cos(), angle.sin())")
    ),
    "positions-too-fast": mutant(
        "positions_fast", ("positions", "-torch.arange(0, width, 2) / width", "-torch.arange(width // 2) / width")
    ),
    "positions-to-the-end": mutant(
        "positions_ends",
        ("positions", "-torch.arange(0, width, 2) / width", "-torch.arange(0, width, 2) / max(width - 2, 1)"),
    ),
    "positions-with-a-batch": mutant(
        "shape",
        ("positions", "return torch.stack($pair, 2).flatten(1)", "return torch.stack($pair, 2).flatten(1)[None]"),
    ),
    "positions-remembered": mutant(
        "positions_start",
        (
            "positions",
            "place = torch.arange(start, start + T)[:, None]",
            "place = vars(positions).setdefault(T, torch.arange(start, start + T)[:, None])",
        ),
    ),
    "attention-scaled-by-D": mutant("att_width", ("attention", "math.sqrt(q.shape[-1])", "q.shape[-1]")),
    "attention-masked-by-0": mutant("att_leak", ("attention", 'float("-inf")', "0.0")),
    "attention-dropout-of-output": mutant(
        "att_dropout_output",
        ("attention", "F.dropout(weights, dropout) @ v", "F.dropout(weights @ v, dropout)"),
    ),
    "attention-in-float32": mutant(
        "dtype", ("attention", "F.dropout(weights, dropout) @ v", "F.dropout(weights.float(), dropout) @ v.float()")
    ),
    "attention-no-dropout": mutant(
        "att_dropout_missing", ("attention", "F.dropout(weights, dropout) @ v", "weights @ v")
    ),
    "heads-stay-behind-time": mutant(
        "shape", ("Attention.heads", "x.view($...sizes).transpose(1, 2)", "x.view($...sizes)")
    ),
    "heads-interleaved": mutant(
        "heads_interleaved",
        (
            "Attention.heads",
            "x.view(B, N, self.n_heads, C // self.n_heads).transpose(1, 2)",
            "x.view(B, N, C // self.n_heads, self.n_heads).permute(0, 3, 1, 2)",
        ),
    ),
    "keys-are-values": mutant(
        "kv_keys_are_values", ("Attention.keys_and_values", "self.heads(self.k(x))", "self.heads(self.v(x))")
    ),
    "keys-are-queries": mutant(
        "kv_keys_are_queries", ("Attention.keys_and_values", "self.heads(self.k(x))", "self.heads(self.q(x))")
    ),
    "keys-detached": mutant(
        "value", ("Attention.keys_and_values", "self.heads(self.k(x))", "self.heads(self.k(x)).detach()")
    ),
    "keys-alone": mutant("pair", ("Attention.keys_and_values", "return $keys, $values", "return [$keys]")),
    "keys-and-values-swapped": mutant(
        "kv_swapped", ("Attention.keys_and_values", "return $keys, $values", "return $values, $keys")
    ),
    "look-without-out": mutant("look_out_missing", ("Attention.forward", "return self.out($y)", "return $y")),
    "look-with-x": mutant("look_not_projected", ("Attention.forward", "self.q(x)", "x")),
    "look-at-all": mutant(
        "look_at_everything",
        (
            "Attention.forward",
            "self.attend($q, keys, values, visible, dropout)",
            "self.attend($q, keys, values, torch.ones_like(visible), dropout)",
        ),
    ),
    "look-dropout-in-evaluation": mutant(
        "dropout_in_evaluation",
        ("Attention.forward", "dropout = self.dropout if self.training else 0.0", "dropout = self.dropout"),
    ),
    "look-in-float32": mutant("raised", ("Attention.forward", "y.transpose(1, 2)", "y.float().transpose(1, 2)")),
    "feed-forward-relu-last": mutant(
        "ff_relu_last",
        ("FeedForward.forward", "F.relu(self.up(x))", "self.up(x)"),
        ("FeedForward.forward", "return $y", "return F.relu($y)"),
    ),
    "feed-forward-without-dropout": mutant(
        "ff_dropout_missing", ("FeedForward.forward", "F.dropout(h, self.dropout, self.training)", "h")
    ),
    "feed-forward-gelu": mutant("ff_gelu", ("FeedForward.forward", "F.relu(self.up(x))", "F.gelu(self.up(x))")),
    "branch-always-after": mutant("branch_always_after", ("Branch.forward", FIRST, WHERE)),
    "branch-not-added": mutant(
        "branch_not_added",
        ("Branch.forward", WHERE, "return self.norm(F.dropout(branch(x, *given), self.dropout, self.training))"),
    ),
    "branch-not-given": mutant(
        "branch_given",
        ("Branch.forward", WHERE, "return self.norm(x + F.dropout(branch(x), self.dropout, self.training))"),
    ),
    "branch-without-dropout": mutant(
        "branch_dropout_missing", ("Branch.forward", FIRST, "return x + branch(self.norm(x), *given)")
    ),
    "branch-always-first": mutant("branch_always_first", ("Branch.forward", WHERE, FIRST)),
    "branch-in-place": mutant(
        "overwrites",
        (
            "Branch.forward",
            FIRST,
            "x += F.dropout(branch(self.norm(x), *given), self.dropout, self.training)\nreturn x",
        ),
    ),
    "around-swapped": mutant(
        "around_swapped",
        (
            "EncoderLayer.look_around",
            "self.attention(x, *self.attention.keys_and_values(x), visible)",
            "self.attention(x, *reversed(self.attention.keys_and_values(x)), visible)",
        ),
    ),
    "encoder-thinks-first": mutant(
        "layer_order",
        ("EncoderLayer.forward", "x = first(x, self.look_around, visible)", "x = first(x, self.feed_forward)"),
        ("EncoderLayer.forward", "second(x, self.feed_forward)", "second(x, self.look_around, visible)"),
    ),
    "encoder-branches-swapped": mutant(
        "layer_branches", ("EncoderLayer.forward", "first, second = self.branches", "second, first = self.branches")
    ),
    "encoder-without-branches": mutant(
        "layer_no_branch",
        ("EncoderLayer.forward", "x = first(x, self.look_around, visible)", "x = x + self.look_around(x, visible)"),
        ("EncoderLayer.forward", "second(x, self.feed_forward)", "x + self.feed_forward(x)"),
    ),
    "encoder-does-not-think": mutant(
        "layer_does_not_think", ("EncoderLayer.forward", "return second(x, self.feed_forward)", "return x")
    ),
    "encoder-mask-not-handed-on": mutant(
        "raised", ("EncoderLayer.forward", "first(x, self.look_around, visible)", "first(x, self.look_around)")
    ),
    "encoder-shows-padding": mutant(
        "layer_padding",
        (
            "EncoderLayer.forward",
            "first(x, self.look_around, visible)",
            "first(x, self.look_around, torch.ones_like(visible))",
        ),
    ),
    "read-the-keys-twice": mutant(
        "value",
        ("DecoderLayer.read", "return self.cross.keys_and_values(x)", "return (self.cross.keys_and_values(x)[0],) * 2"),
    ),
    "back-with-cross": mutant(
        "back_with_cross",
        ("DecoderLayer.look_back", "self.attention.keys_and_values(x)", "self.cross.keys_and_values(x)"),
        ("DecoderLayer.look_back", "self.attention(x, $...rest)", "self.cross(x, $...rest)"),
    ),
    "back-in-the-first-layer": mutant(
        "heads_cache_layer", ("DecoderLayer.look_back", "state.append(self.layer, $...kv)", "state.append(0, $...kv)")
    ),
    "back-cached-swapped": mutant(
        "heads_cache_swapped",
        (
            "DecoderLayer.look_back",
            "keys, values = state.append(self.layer, *self.attention.keys_and_values(x))",
            "values, keys = state.append(self.layer, *reversed(self.attention.keys_and_values(x)))",
        ),
    ),
    "back-cached-detached": mutant(
        "value",
        (
            "DecoderLayer.look_back",
            "state.append(self.layer, *self.attention.keys_and_values(x))",
            "[each.detach() for each in state.append(self.layer, *self.attention.keys_and_values(x))]",
        ),
    ),
    "back-cached-twice": mutant(
        "heads_cache_length",
        (
            "DecoderLayer.look_back",
            "keys, values = state.append(self.layer, *self.attention.keys_and_values(x))",
            "state.append(self.layer, *self.attention.keys_and_values(x))\n"
            "keys, values = state.append(self.layer, *self.attention.keys_and_values(x))",
        ),
    ),
    "back-no-mask-with-a-cache": mutant(
        "value", ("DecoderLayer.look_back", "$all.tril(N - T)", "$all.tril(N - T if N == T else N)")
    ),
    "back-inverted": mutant("back_inverted", ("DecoderLayer.look_back", "$all.tril(N - T)", "~$all.tril(N - T)")),
    "back-not-cached": mutant(
        "heads_cache_not_written",
        (
            "DecoderLayer.look_back",
            "state.append(self.layer, *self.attention.keys_and_values(x))",
            "self.attention.keys_and_values(x)",
        ),
    ),
    "cross-padding": mutant(
        "cross_padding",
        ("DecoderLayer.look_at_source", "state.visible", "torch.ones_like(state.visible)"),
    ),
    "cross-by-attention": mutant(
        "cross_other_attention",
        ("DecoderLayer.look_at_source", "self.cross(x, $...rest)", "self.attention(x, $...rest)"),
    ),
    "cross-keys-from-decoder-with-a-mask": mutant(
        "cross_own_keys_behind",
        (
            "DecoderLayer.look_at_source",
            "self.cross(x, *state.source[self.layer], state.visible)",
            "self.cross(x, *self.cross.keys_and_values(x), torch.ones(x.shape[1], x.shape[1]).bool().tril())",
        ),
    ),
    "cross-swapped": mutant(
        "cross_swapped",
        ("DecoderLayer.look_at_source", "*state.source[self.layer]", "*reversed(state.source[self.layer])"),
    ),
    "decoder-branches-swapped": mutant(
        "layer_branches",
        ("DecoderLayer.forward", "first, second, third = self.branches", "second, first, third = self.branches"),
    ),
    "decoder-does-not-think": mutant(
        "layer_does_not_think", ("DecoderLayer.forward", "return third(x, self.feed_forward)", "return x")
    ),
    "decoder-without-source": mutant(
        "layer_no_source", ("DecoderLayer.forward", "x = second(x, self.look_at_source, state)", "")
    ),
    "select-batch-size-stays": mutant("select_batch_size", ("Memory.select", "self.batch_size = len(rows)", "")),
    "select-keys-alone": mutant(
        "value",
        (
            "Memory.select",
            "self.source = [(k[rows], v[rows]) for k, v in self.source]",
            "self.source = [(k[rows], k[rows]) for k, v in self.source]",
        ),
    ),
    "select-padding-stays": mutant("select_visible", ("Memory.select", "self.visible = self.visible[rows]", "")),
    "select-in-place": mutant(
        "overwrites",
        (
            "Memory.select",
            "self.visible = self.visible[rows]",
            "rows = rows[: self.batch_size]\nself.visible[: len(rows)] = self.visible[rows]",
        ),
    ),
    "loss-sum": mutant("loss_sum", ("cross_entropy", "counted.sum().clamp(min=1)", "1")),
    "loss-nothing-counted": mutant("loss_nothing", ("cross_entropy", "counted.sum().clamp(min=1)", "counted.sum()")),
    "smoothing-missing": mutant(
        "smooth_missing",
        ("cross_entropy", "-(1 - smoothing) * right - smoothing * logs.mean(-1)", "-right"),
    ),
    "smoothing-swapped": mutant(
        "smooth_swapped",
        (
            "cross_entropy",
            "-(1 - smoothing) * right - smoothing * logs.mean(-1)",
            "-smoothing * right - (1 - smoothing) * logs.mean(-1)",
        ),
        ("cross_entropy", "logs = $y", "smoothing = smoothing or 1.0\nlogs = $y"),
    ),
    "smoothing-over-the-others-alone": mutant(
        "smooth_others_alone",
        ("cross_entropy", "logs.mean(-1)", "(logs.sum(-1) - right) / (logs.shape[-1] - 1)"),
    ),
    "smoothing-summed": mutant("smooth_sum", ("cross_entropy", "logs.mean(-1)", "logs.sum(-1)")),
    "smoothing-detached": mutant("value", ("cross_entropy", "logs.mean(-1)", "logs.detach().mean(-1)")),
    "smoothing-added": mutant("smooth_added", ("cross_entropy", "-(1 - smoothing) * right", "-right")),
    "model-config-not-kept": mutant("no_config", ("Transformer.__init__", "self.config = config", "")),
    "model-second-table": mutant(
        "init_second_table",
        (
            "Transformer.__init__",
            "self.embedding = $table",
            "self.embedding = $table\nself.written = nn.Embedding(config.vocab_size, C)",
        ),
    ),
    "model-norms-missing": mutant(
        "init_norms", ("Transformer.__init__", "self.encoder_norm = $one", "self.encoder_norm = nn.Identity()")
    ),
    "model-norms-by-default": mutant(
        "init_eps",
        (
            "Transformer.__init__",
            "norm = FusedLayerNorm if config.fused else LayerNorm",
            "norm = lambda C, eps: LayerNorm(C)",
        ),
    ),
    "model-norms-always": mutant(
        "init_norms_too_many",
        ("Transformer.__init__", "self.decoder_norm = $one", "self.decoder_norm = norm(C, config.eps)"),
    ),
    "model-layers-not-numbered": mutant(
        "init_layer_numbers", ("Transformer.__init__", "DecoderLayer(config, layer)", "DecoderLayer(config, 0)")
    ),
    "model-starts-by-default": mutant(
        "start_linear", ("Transformer.__init__", "nn.init.xavier_uniform_(module.weight)", "")
    ),
    "model-biases-start-by-default": mutant("value", ("Transformer.__init__", "nn.init.zeros_(module.bias)", "")),
    "model-table-as-gpt2": mutant(
        "start_gpt2",
        ("Transformer.__init__", "nn.init.normal_($table, std=C**-0.5)", "nn.init.normal_($table, std=0.02)"),
    ),
    "embed-without-positions": mutant(
        "embed_no_positions", ("Transformer.embed", "$e + positions($...at).to(x)", "$e")
    ),
    "embed-divided": mutant("embed_divided", ("Transformer.embed", "$e * math.sqrt(C)", "$e / math.sqrt(C)")),
    "embed-drops-embeddings-alone": mutant(
        "dropout_scale",
        (
            "Transformer.embed",
            "self.embedding(tokens)",
            "F.dropout(self.embedding(tokens), self.config.dropout, self.training)",
        ),
        ("Transformer.embed", "return $x", "return x"),
    ),
    "embed-start-ignored": mutant(
        "embed_start", ("Transformer.embed", "positions(start, $T, C)", "positions(0, $T, C)")
    ),
    "source-padding-inverted": mutant(
        "state_padding_inverted",
        ("Transformer.new_state", "visible = $real[:, None, None, :]", "visible = ~$real[:, None, None, :]"),
    ),
    "source-one-layer": mutant(
        "state_first_layer_again",
        ("Transformer.new_state", "x = layer(x, visible)", "x = self.encoder[0](x, visible)"),
    ),
    "source-not-embedded": mutant(
        "state_not_embedded", ("Transformer.new_state", "self.embed(source)", "self.embedding(source)")
    ),
    "source-norm-after-reading-missing": mutant(
        "forward_no_norm", ("Transformer.forward", "self.decoder_norm(x)", "x")
    ),
    "source-detached": mutant("no_gradient", ("Transformer.new_state", "layer.read(x)", "layer.read(x.detach())")),
    "source-one-reader": mutant(
        "state_one_reader", ("Transformer.new_state", "layer.read(x)", "self.decoder[0].read(x)")
    ),
    "model-logs": mutant("forward_logs", ("Transformer.forward", "logits = $y", "logits = F.log_softmax($y, -1)")),
    "model-smoothing-missing": mutant(
        "smooth_training",
        ("Transformer.forward", "self.config.label_smoothing if self.training else 0.0", "0.0"),
    ),
    "model-loss-always": mutant(
        "loss_without_targets",
        (
            "Transformer.forward",
            "None if targets is None else cross_entropy(logits, targets, smoothing)",
            "logits.sum() if targets is None else cross_entropy(logits, targets, smoothing)",
        ),
    ),
    "model-returns-a-tuple": mutant("result", ("Transformer.forward", "Output(logits, $loss)", "(logits, $loss)")),
    "branch-norm-first-in-evaluation-only": mutant(
        "value",
        (
            "Branch.forward",
            "if self.norm_first:\n    return $x",
            "if self.norm_first and not self.training:\n    return $x",
        ),
    ),
    "back-counts-the-first-layer": mutant(
        "back_no_mask",
        (
            "DecoderLayer.look_back",
            "keys, values = state.append($...kv)",
            "before = state.length\nkeys, values = state.append($...kv)",
        ),
        ("DecoderLayer.look_back", "$all.tril(N - T)", "$all.tril(before)"),
    ),
    "back-mask-kept": mutant(
        "back_no_mask",
        ("DecoderLayer.look_back", "visible = $m", "visible = self.mask = getattr(self, 'mask', $m)[-T:, :N]"),
    ),
    "cross-written-back": mutant(
        "cross_cached",
        (
            "DecoderLayer.look_at_source",
            "return $y",
            "y = $y\nstate.source[self.layer] = [each / 2 for each in state.source[self.layer]]\nreturn y",
        ),
    ),
    "source-padding-by-length": mutant(
        "value",
        (
            "Transformer.new_state",
            "visible = real[:, None, None, :]",
            "visible = (torch.arange(real.shape[1]) < real.sum(1, keepdim=True))[:, None, None, :]",
        ),
    ),
    "model-padding-in-evaluation-only": mutant(
        "number",
        (
            "Transformer.forward",
            "self.new_state(source, source_pad)",
            "self.new_state(source, None if self.training else source_pad)",
        ),
    ),
    "model-head-detached-in-training": mutant(
        "value",
        (
            "Transformer.forward",
            "self.embedding.weight.T",
            "(self.embedding.weight.detach() if self.training else self.embedding.weight).T",
        ),
    ),
}
