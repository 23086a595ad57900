from mutants import mutant

KEYS = {
    "gpt2-mask-not-applied": "att_leak",
    "gpt2-mask-after-softmax": "att_after",
    "gpt2-mask-shows-next": "mask_future",
    "gpt2-mask-hides-self": "mask_self",
    "gpt2-mask-ignores-cache": "mask_cache",
    "gpt2-padding-seen": "heads_padding",
    "gpt2-scale-missing": "att_no_scale",
    "gpt2-softmax-over-queries": "att_queries",
    "gpt2-heads-cut-without-transpose": "heads_cut",
    "gpt2-heads-merged-without-transpose": "heads_merge",
    "gpt2-cache-not-read": "heads_cache_not_read",
    "gpt2-cache-swaps-keys-and-values": "heads_cache_swapped",
    "gpt2-cache-position-restarts": "model_position_restarts",
    "gpt2-cache-position-off-by-one": "model_positions_from_1",
    "gpt2-padding-shifts-positions": "model_padding_positions",
    "gpt2-no-positions": "model_no_positions",
    "gpt2-residual-missing": "block_residual",
    "gpt2-norm-after": "block_norm_after",
    "gpt2-norm-shared": "block_norm_shared",
    "gpt2-init-not-scaled": "start_not_scaled",
    "gpt2-norm-eps-outside": "norm_eps_outside",
    "gpt2-norm-sample-variance": "norm_sample_variance",
    "gpt2-final-norm-missing": "model_no_last_norm",
    "gpt2-gelu-missing": "mlp_linear",
    "gpt2-gelu-constant": "gelu_constants",
    "gpt2-dropout-in-eval": "mlp_dropout_in_evaluation",
    "gpt2-head-detached": "model_head_detached",
    "gpt2-loss-counts-padding": "loss_padding_counted",
    "gpt2-loss-mean-over-all": "loss_mean_over_all",
    "gpt2-loss-nothing-counted": "loss_nothing",
}

MUTANTS = {
    "att-mask-inverted": mutant(
        "att_nan", ("attention", "scores.masked_fill(~visible, $inf)", "scores.masked_fill(visible, $inf)")
    ),
    "norm-not-returned": mutant(
        "none",
        ("LayerNorm.forward", "return (x - mean) / torch.sqrt(variance + self.eps) * self.weight + self.bias", "pass"),
    ),
    "norm-weight-plain": mutant(
        "plain_tensor", ("LayerNorm.__init__", "nn.Parameter(torch.ones(width))", "torch.ones(width)")
    ),
    "gpt2-returns-a-tuple": mutant("result", ("GPT.forward", "Output(logits, $loss)", "(logits, $loss)")),
    "gpt2-config-not-kept": mutant(
        "no_config",
        ("GPT.__init__", "self.config = config", "self.sizes = config"),
        ("GPT.initialise", "self.config.n_layers", "self.sizes.n_layers"),
    ),
    "layernorm-clamps": mutant("value", ("LayerNorm.forward", "variance + self.eps", "variance.clamp(min=self.eps)")),
    "layernorm-over-time": mutant(
        "norm_mixes",
        ("LayerNorm.forward", "x.mean(-1, keepdim=True)", "x.mean((-2, -1), keepdim=True)"),
        ("LayerNorm.forward", "$square.mean(-1, keepdim=True)", "$square.mean((-2, -1), keepdim=True)"),
    ),
    "layernorm-detached": mutant(
        "value",
        ("LayerNorm.forward", "torch.sqrt(variance + self.eps)", "torch.sqrt(variance + self.eps).detach()"),
    ),
    "layernorm-gain-last": mutant(
        "value", ("LayerNorm.forward", "$y * self.weight + self.bias", "($y + self.bias) * self.weight")
    ),
    "layernorm-fixed-eps": mutant("norm_eps_fixed", ("LayerNorm.__init__", "self.eps = eps", "self.eps = 1e-5")),
    "layernorm-no-eps": mutant("norm_constant", ("LayerNorm.forward", "variance + self.eps", "variance")),
    "layernorm-root-of-a-root": mutant(
        "nan",
        ("LayerNorm.forward", "torch.sqrt(variance + self.eps)", "torch.sqrt(variance.sqrt().square() + self.eps)"),
    ),
    "layernorm-starts-at-0": mutant("value", ("LayerNorm.__init__", "torch.ones(width)", "torch.zeros(width)")),
    "layernorm-in-float32": mutant("dtype", ("LayerNorm.forward", "return $y", "return ($y).float()")),
    "gelu-even": mutant("value", ("gelu", "x.pow(3)", "x.abs().pow(3)")),
    "gelu-square": mutant("gelu_square", ("gelu", "x.pow(3)", "x.pow(2)")),
    "gelu-detached-gate": mutant("value", ("gelu", "torch.tanh(inner)", "torch.tanh(inner.detach())")),
    "gelu-in-float32": mutant("dtype", ("gelu", "return $y", "return ($y).float()")),
    "mask-padding-empties-rows": mutant(
        "mask_empty_row",
        ("causal_mask", "pad[:, None, None, :] | itself_or_later", "pad[:, None, None, :]"),
    ),
    "mask-itself-ignores-cache": mutant("value", ("causal_mask", "everywhere.triu(S - T)", "everywhere.triu()")),
    "mask-padding-inverted": mutant(
        "mask_padding_inverted",
        ("causal_mask", "pad[:, None, None, :] | itself_or_later", "~pad[:, None, None, :] | itself_or_later"),
    ),
    "mask-inverted": mutant("mask_inverted", ("causal_mask", "everywhere.tril(S - T)", "everywhere.triu(S - T + 1)")),
    "mask-of-numbers": mutant("dtype", ("causal_mask", "return visible", "return visible.float()")),
    "mask-square": mutant("shape", ("causal_mask", "torch.ones(T, S, $...more)", "torch.ones(S, S, $...more)")),
    "attention-scaled-by-length": mutant("value", ("attention", "q.shape[-1]", "q.shape[-2]")),
    "attention-scaled-by-D": mutant("att_width", ("attention", "math.sqrt(q.shape[-1])", "q.shape[-1]")),
    "attention-soft-mask": mutant("att_leak", ("attention", 'float("-inf")', "-10.0")),
    "attention-weak-mask": mutant("value", ("attention", 'float("-inf")', "-1e4")),
    "attention-masked-by-0": mutant("att_leak", ("attention", 'float("-inf")', "0.0")),
    "attention-overflows": mutant(
        "att_overflow",
        ("attention", "F.softmax(scores, dim=-1)", "scores.exp() / scores.exp().sum(-1, keepdim=True)"),
    ),
    "attention-no-dropout": mutant("att_dropout_missing", ("attention", "weights = F.dropout(weights, dropout)", "")),
    "attention-dropout-of-output": mutant(
        "att_dropout_output",
        ("attention", "weights = F.dropout(weights, dropout)", ""),
        ("attention", "weights @ v", "F.dropout(weights @ v, dropout)"),
    ),
    "attention-dropout-unscaled": mutant(
        "att_dropout_scale",
        ("attention", "F.dropout(weights, dropout)", "weights * (torch.rand_like(weights) >= dropout)"),
    ),
    "attention-detached": mutant(
        "no_gradient", ("attention", "F.softmax(scores, dim=-1)", "F.softmax(scores.detach(), dim=-1)")
    ),
    "attention-in-float32": mutant("dtype", ("attention", "weights @ v", "weights.float() @ v.float()")),
    "attention-views": mutant(
        "raised",
        ("attention", "k.transpose(-2, -1)", "k.view(-1, *k.shape[-2:]).view(k.shape).transpose(-2, -1)"),
    ),
    "heads-order": mutant("heads_order", ("CausalSelfAttention.forward", "q, k, v = $y", "k, q, v = $y")),
    "heads-interleaved": mutant(
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
        "heads_cache_layer",
        ("CausalSelfAttention.forward", "state.append(self.layer, k, v)", "state.append(0, k, v)"),
    ),
    "heads-cache-not-written": mutant(
        "heads_cache_not_written",
        ("CausalSelfAttention.forward", "if state is not None:\n    k, v = state.append(self.layer, k, v)", ""),
    ),
    "heads-dropout-in-eval": mutant(
        "heads_dropout_in_evaluation",
        ("CausalSelfAttention.forward", "self.dropout if self.training else 0.0", "self.dropout"),
    ),
    "heads-no-weight-dropout": mutant(
        "heads_dropout_weights",
        ("CausalSelfAttention.forward", "self.dropout if self.training else 0.0", "0.0"),
    ),
    "heads-no-output-dropout": mutant(
        "heads_dropout_output",
        ("CausalSelfAttention.forward", "F.dropout(self.c_proj(y), $...p)", "self.c_proj(y)"),
    ),
    "heads-see-everything": mutant(
        "heads_future",
        ("CausalSelfAttention.forward", "causal_mask($...a)", "torch.ones(T, k.shape[2]).bool()"),
    ),
    "heads-values-detached": mutant(
        "value",
        (
            "CausalSelfAttention.forward",
            "self.attend(q, k, v, visible, $p)",
            "self.attend(q, k, v.detach(), visible, $p)",
        ),
    ),
    "heads-in-float32": mutant("dtype", ("CausalSelfAttention.forward", "return $y", "return ($y).float()")),
    "heads-no-bias": mutant(
        "missing_parameter",
        ("CausalSelfAttention.__init__", "nn.Linear($c, 3 * $c)", "nn.Linear($c, 3 * $c, bias=False)"),
    ),
    "mlp-exact-gelu": mutant(
        "mlp_exact",
        ("MLP.forward", "self.gelu(self.c_fc(x))", "0.5 * self.c_fc(x) * (1 + torch.erf(self.c_fc(x) / 2**0.5))"),
    ),
    "mlp-dropout-inside": mutant(
        "mlp_dropout_missing",
        (
            "MLP.forward",
            "h = self.gelu(self.c_fc(x))",
            "h = F.dropout(self.gelu(self.c_fc(x)), self.dropout, self.training)",
        ),
        ("MLP.forward", "F.dropout(self.c_proj(h), $...p)", "self.c_proj(h)"),
    ),
    "mlp-detached": mutant("no_gradient", ("MLP.forward", "self.c_fc(x)", "self.c_fc(x.detach())")),
    "mlp-gpt2-in-float32": mutant("dtype", ("MLP.forward", "return $y", "return ($y).float()")),
    "block-in-place": mutant("overwrites", ("Block.forward", "x = x + self.attn($...a)", "x += self.attn($...a)")),
    "block-parallel": mutant(
        "block_parallel",
        (
            "Block.forward",
            "x = x + self.attn(self.ln_1(x), state, pad)\nx = x + self.mlp(self.ln_2(x))",
            "x = x + self.attn(self.ln_1(x), state, pad) + self.mlp(self.ln_2(x))",
        ),
    ),
    "block-no-padding": mutant(
        "block_pad", ("Block.forward", "self.attn(self.ln_1(x), state, pad)", "self.attn(self.ln_1(x), state)")
    ),
    "block-no-state": mutant(
        "block_state",
        ("Block.forward", "self.attn(self.ln_1(x), state, pad)", "self.attn(self.ln_1(x), None, pad)"),
    ),
    "block-first-layer": mutant(
        "block_layer",
        ("Block.__init__", "CausalSelfAttention(config, layer)", "CausalSelfAttention(config, 0)"),
    ),
    "block-default-eps": mutant(
        "block_eps",
        ("Block.__init__", "self.ln_1 = norm(config.n_embd, config.eps)", "self.ln_1 = norm(config.n_embd)"),
        ("Block.__init__", "self.ln_2 = norm(config.n_embd, config.eps)", "self.ln_2 = norm(config.n_embd)"),
    ),
    "block-detached": mutant(
        "value", ("Block.forward", "x = x + self.mlp(self.ln_2(x))", "x = x + self.mlp(self.ln_2(x.detach()))")
    ),
    "gpt-shared-blocks": mutant(
        "value",
        (
            "GPT.__init__",
            "nn.ModuleList(Block(config, layer) for layer in range(config.n_layers))",
            "nn.ModuleList([Block(config, 0)] * config.n_layers)",
        ),
    ),
    "gpt-every-block-first": mutant("raised", ("GPT.__init__", "Block(config, layer)", "Block(config, 0)")),
    "gpt-second-head": mutant(
        "model_second_head",
        (
            "GPT.__init__",
            "self.apply(self.initialise)",
            "self.head = nn.Embedding(config.vocab_size, config.n_embd)\nself.apply(self.initialise)",
        ),
        ("GPT.forward", "self.wte.weight.T", "self.head.weight.T"),
    ),
    "gpt-positions-from-1": mutant(
        "model_positions_from_1",
        (
            "GPT.positions",
            "torch.arange(T, device=tokens.device)",
            "torch.arange(1, T + 1, device=tokens.device) % self.config.block_size",
        ),
    ),
    "gpt-padding-forgotten-with-cache": mutant(
        "value",
        ("GPT.positions", "(pad.cumsum(1) - pad.long())[:, -T:]", "(pad.cumsum(1) - pad.long())[:, :T]"),
    ),
    "gpt-padding-from-1": mutant(
        "model_positions_from_1",
        ("GPT.positions", "(pad.cumsum(1) - pad.long())[:, -T:]", "pad.cumsum(1)[:, -T:]"),
    ),
    "gpt-no-embedding-dropout": mutant(
        "model_dropout_missing", ("GPT.forward", "x = F.dropout(x, self.config.dropout, self.training)", "")
    ),
    "gpt-loss-shifted-again": mutant(
        "model_shifted",
        ("GPT.forward", "cross_entropy(logits, targets)", "cross_entropy(logits[:, :-1], targets[:, 1:])"),
    ),
    "gpt-no-limit": mutant("model_block", ("GPT.positions", "S = T if state is None else state.length + T", "S = T")),
    "gpt-uniform-start": mutant(
        "start_shape",
        (
            "GPT.initialise",
            "nn.init.normal_(module.weight, std=0.02)",
            "nn.init.uniform_(module.weight, -0.02 * 3**0.5, 0.02 * 3**0.5)",
        ),
    ),
    "gpt-scaled-by-layers": mutant(
        "start_one_branch", ("GPT.initialise", "2 * self.config.n_layers", "self.config.n_layers")
    ),
    "gpt-biases-drawn": mutant(
        "value", ("GPT.initialise", "if isinstance(module, nn.Linear):\n    nn.init.zeros_(module.bias)", "")
    ),
    "gpt-unit-embedding": mutant(
        "start_embedding",
        ("GPT.initialise", "isinstance(module, nn.Linear | nn.Embedding)", "isinstance(module, nn.Linear)"),
    ),
    "gpt-future-in-the-norm": mutant(
        "heads_future",
        ("GPT.forward", "x = block(x, state, pad)", "x = block(x, state, pad) - x.mean(1, keepdim=True)"),
    ),
    "gpt-blocks-without-padding": mutant(
        "model_padding_seen", ("GPT.forward", "block(x, state, pad)", "block(x, state)")
    ),
    "gpt-blocks-without-state": mutant("model_state", ("GPT.forward", "block(x, state, pad)", "block(x, None, pad)")),
    "gpt-one-state-for-all": mutant(
        "raised",
        (
            "GPT.new_state",
            "return KVCache(batch_size)",
            "self.kept = getattr(self, 'kept', KVCache(batch_size))\nreturn self.kept",
        ),
    ),
    "gpt-in-float32": mutant("dtype", ("GPT.forward", "Output(logits, $loss)", "Output(logits.float(), $loss)")),
    "gpt-default-eps": mutant(
        "model_eps",
        (
            "GPT.__init__",
            "(FusedLayerNorm if config.fused else LayerNorm)(config.n_embd, config.eps)",
            "LayerNorm(config.n_embd)",
        ),
    ),
    "gpt-loss-always": mutant(
        "loss_without_targets",
        ("GPT.forward", "None if targets is None else $loss", "logits.sum() if targets is None else $loss"),
    ),
    "gpt-loss-of-rows": mutant(
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
        "loss_twice", ("cross_entropy", "logits.flatten(0, 1)", "logits.softmax(-1).flatten(0, 1)")
    ),
    "gpt-loss-overflows": mutant(
        "loss_overflow",
        (
            "cross_entropy",
            'total = F.cross_entropy($logits, targets.flatten(), ignore_index=IGNORE, reduction="sum")',
            "total = F.nll_loss((logits.exp() / logits.exp().sum(-1, keepdim=True)).log().flatten(0, 1), "
            'targets.flatten(), ignore_index=IGNORE, reduction="sum")',
        ),
    ),
    "gpt-loss-views": mutant("raised", ("cross_entropy", "targets.flatten()", "targets.view(-1)")),
    "gpt-loss-no-gradient": mutant(
        "no_gradient", ("cross_entropy", "logits.flatten(0, 1)", "logits.detach().flatten(0, 1)")
    ),
    "gpt-loss-gradient-doubled": mutant(
        "value", ("cross_entropy", "logits.flatten(0, 1)", "(2 * logits - logits.detach()).flatten(0, 1)")
    ),
    # sizes that are easily taken for one another
    "attention-scaled-by-heads": mutant("att_heads", ("attention", "q.shape[-1]", "q.shape[1]")),
    "gpt-start-by-layers": mutant(
        "start_std",
        ("GPT.initialise", "math.sqrt(2 * self.config.n_layers)", "self.config.n_layers"),
    ),
    "gpt-positions-by-width": mutant(
        "shape",
        (
            "GPT.__init__",
            "nn.Embedding(config.block_size, config.n_embd)",
            "nn.Embedding(config.n_embd, config.n_embd)",
        ),
    ),
    "gpt-limit-by-width": mutant(
        "model_block", ("GPT.positions", "S > self.config.block_size", "S > self.config.n_embd")
    ),
    "gpt-blocks-by-heads": mutant(
        "missing_parameter",
        ("GPT.__init__", "range(config.n_layers)", "range(config.n_heads)"),
    ),
    "gpt-last-block-left-out": mutant("model_last_block_left_out", ("GPT.forward", "self.h", "self.h[:-1]")),
    "gpt-limit-without-padding": mutant(
        "model_block",
        ("GPT.positions", "S > self.config.block_size", "pad is None and S > self.config.block_size"),
    ),
    # what happens only together
    "block-padding-lost-with-state": mutant(
        "block_pad_with_state",
        ("Block.forward", "self.attn($x, state, pad)", "self.attn($x, state, pad if state is None else None)"),
    ),
    "gpt-no-logits-beside-a-loss": mutant(
        "none",
        ("GPT.forward", "Output(logits, $loss)", "Output(None if targets is not None else logits, $loss)"),
    ),
    "gpt-last-logits-beside-a-loss": mutant(
        "shape",
        ("GPT.forward", "Output(logits, $loss)", "Output(logits if targets is None else logits[:, -1:], $loss)"),
    ),
    "gpt-overwrites-padding": mutant(
        "overwrites",
        (
            "GPT.forward",
            "x = F.dropout(x, self.config.dropout, self.training)",
            "if pad is not None:\n    tokens[~pad[:, -tokens.shape[1] :]] = 0\n"
            "x = F.dropout(x, self.config.dropout, self.training)",
        ),
    ),
    # dropout that is too much, or kept and dropped exchanged
    "attention-dropout-exchanged": mutant(
        "dropout_share",
        (
            "attention",
            "F.dropout(weights, dropout)",
            "weights * (torch.rand_like(weights) < dropout) / (1 - dropout) if dropout else weights",
        ),
    ),
    "heads-dropout-twice": mutant(
        "dropout_scale",
        (
            "CausalSelfAttention.forward",
            "y = y.transpose(1, 2).reshape(B, T, C)",
            "y = F.dropout(y.transpose(1, 2).reshape(B, T, C), self.dropout, self.training)",
        ),
    ),
    "mlp-dropout-twice": mutant(
        "dropout_scale",
        (
            "MLP.forward",
            "h = self.gelu(self.c_fc(x))",
            "h = F.dropout(self.gelu(self.c_fc(x)), self.dropout, self.training)",
        ),
    ),
    "block-dropout-again": mutant(
        "dropout_scale",
        ("Block.forward", "x = x + self.mlp($h)", "x = x + F.dropout(self.mlp($h), self.mlp.dropout, self.training)"),
    ),
    "gpt-dropout-after-the-norm": mutant(
        "dropout_scale",
        ("GPT.forward", "self.ln_f(x)", "F.dropout(self.ln_f(x), self.config.dropout, self.training)"),
    ),
    "gpt-dropout-exchanged": mutant(
        "dropout_share",
        (
            "GPT.forward",
            "x = F.dropout(x, self.config.dropout, self.training)",
            "p = self.config.dropout * self.training\nx = x * (torch.rand_like(x) < p) / (1 - p) if p else x",
        ),
    ),
    # a variance that cancels
    "layer-norm-cancels": mutant(
        "norm_cancels",
        (
            "LayerNorm.forward",
            "(x - mean).square().mean(-1, keepdim=True)",
            "(x.square().mean(-1, keepdim=True) - mean.square()).clamp(min=0)",
        ),
    ),
}
