from mutants import mutant

KEYS = {
    "llama-mask-not-applied": "att_leak",
    "llama-mask-ignores-cache": "mask_cache",
    "llama-padding-seen": "model_padding_seen",
    "llama-window-off-by-one": "mask_window_wide",
    "llama-window-ignores-cache": "mask_window_cache",
    "llama-window-missing": "mask_window_missing",
    "llama-scale-by-all-heads": "att_all_heads",
    "llama-heads-shared-in-turn": "repeat_in_turn",
    "llama-heads-cut-without-transpose": "heads_cut",
    "llama-rope-pairs-neighbours": "rope_neighbours_read",
    "llama-rope-no-rotation": "rope_sign",
    "llama-rope-turns-values": "heads_turn_values",
    "llama-rope-keys-stay": "heads_keys_stay",
    "llama-rope-theta-fixed": "freq_fixed",
    "llama-rope-half-exponents": "freq_half",
    "llama-rope-scaled-the-wrong-way": "freq_faster",
    "llama-rope-slows-the-fast": "freq_slows_the_fast",
    "llama-yarn-not-sharpened": "model_not_sharpened",
    "llama-cache-position-restarts": "model_position_restarts",
    "llama-cache-swaps-keys-and-values": "heads_cache_swapped",
    "llama-norm-centred": "rms_centred",
    "llama-norm-eps-outside": "rms_eps_outside",
    "llama-norm-sum": "rms_sum",
    "llama-norm-shared": "block_norm_shared",
    "llama-mlp-beside-attention": "block_parallel",
    "llama-init-not-scaled": "start_not_scaled",
    "llama-silu-on-the-wrong-branch": "mlp_other_branch",
    "llama-silu-is-sigmoid": "silu_sigmoid",
    "llama-gate-added": "mlp_added",
    "llama-final-norm-missing": "model_no_last_norm",
    "llama-head-always-tied": "model_always_tied",
    "llama-head-detached": "model_head_detached",
    "llama-loss-mean-over-all": "loss_mean_over_all",
}

MUTANTS = {
    # the first to fall through each check
    "norm-has-a-bias": mutant(
        "extra_parameter",
        ("RMSNorm.__init__", "self.eps = eps", "self.eps = eps\nself.bias = nn.Parameter(torch.zeros(width))"),
    ),
    "norm-root-of-a-root": mutant(
        "nan",
        ("RMSNorm.forward", "torch.sqrt(mean_square + self.eps)", "torch.sqrt(mean_square.sqrt().square() + self.eps)"),
    ),
    "norm-detached": mutant(
        "value",
        ("RMSNorm.forward", "torch.sqrt(mean_square + self.eps)", "torch.sqrt(mean_square.detach() + self.eps)"),
    ),
    "norm-stays-in-float32": mutant("dtype", ("RMSNorm.forward", "x.square()", "x.float().square()")),
    "rotate-by-the-angle": mutant(
        "rope_length",
        (
            "rotate",
            "torch.cat($all, -1)",
            "torch.view_as_real(torch.complex(a, b) * torch.polar(torch.ones_like(cos), torch.atan2(sin, cos)))"
            ".transpose(-2, -1).flatten(-2)",
        ),
    ),
    "rotate-detached": mutant("value", ("rotate", "b * cos + a * sin", "b.detach() * cos + a * sin")),
    "rotate-in-float32": mutant("dtype", ("rotate", "turned.to(x.dtype)", "turned")),
    "mask-inverted": mutant("mask_inverted", ("causal_mask", "return visible", "return ~visible")),
    "mask-padding-empties-rows": mutant(
        "mask_empty_row", ("causal_mask", "pad[:, None, None, :] | itself_or_later", "pad[:, None, None, :]")
    ),
    "repeat-detached": mutant("backward", ("repeat_heads", "copies.flatten(1, 2)", "copies.detach().flatten(1, 2)")),
    "attention-masked-after": mutant(
        "att_after",
        ("attention", "scores = scores.masked_fill($...inf)", ""),
        ("attention", "weights @ v", "(weights * visible) @ v"),
    ),
    "attention-values-in-turn": mutant(
        "att_values_in_turn", ("attention", "repeat_heads(v, n)", "v.repeat(1, n, 1, 1)")
    ),
    "attention-overflows": mutant(
        "att_overflow",
        ("attention", "F.softmax(scores, dim=-1)", "scores.exp() / scores.exp().sum(-1, keepdim=True)"),
    ),
    "attention-gradient-of-one-query": mutant(
        "value", ("attention", "repeat_heads(v, n)", "repeat_heads(v, n).lerp(repeat_heads(v.detach(), n), 0.5)")
    ),
    "attention-in-float32": mutant("dtype", ("attention", "weights @ v", "weights.float() @ v.float()")),
    "heads-never-biased": mutant(
        "missing_parameter",
        ("SelfAttention.__init__", "nn.Linear($c, all_heads, bias=config.qkv_bias)", "nn.Linear($c, all_heads, False)"),
    ),
    "heads-values-detached": mutant(
        "value", ("SelfAttention.forward", "self.attend(q, k, v, visible)", "self.attend(q, k, v.detach(), visible)")
    ),
    "heads-in-float32": mutant("dtype", ("SelfAttention.forward", "self.o_proj($y)", "self.o_proj($y).float()")),
    "silu-overflows": mutant("silu_overflow", ("silu", "x * torch.sigmoid(x)", "x / (1 + torch.exp(-x))")),
    "silu-gate-detached": mutant("value", ("silu", "torch.sigmoid(x)", "torch.sigmoid(x.detach())")),
    "silu-in-float32": mutant("dtype", ("silu", "torch.sigmoid(x)", "torch.sigmoid(x.float())")),
    "mlp-gate-detached": mutant(
        "value", ("MLP.forward", "self.silu(self.gate_proj(x))", "self.silu(self.gate_proj(x)).detach()")
    ),
    "mlp-in-float32": mutant("dtype", ("MLP.forward", "self.down_proj(h)", "self.down_proj(h).float()")),
    "block-norm-after": mutant(
        "block_norm_after",
        (
            "Block.forward",
            """
            x = x + self.self_attn(self.input_layernorm(x), rotation, visible, state)
            x = x + self.mlp(self.post_attention_layernorm(x))
            """,
            """
            x = self.input_layernorm(x + self.self_attn(x, rotation, visible, state))
            x = self.post_attention_layernorm(x + self.mlp(x))
            """,
        ),
    ),
    "block-no-state": mutant(
        "block_state",
        ("Block.forward", "self.self_attn($x, rotation, visible, state)", "self.self_attn($x, rotation, visible)"),
    ),
    "block-detached": mutant(
        "value", ("Block.forward", "self.post_attention_layernorm(x)", "self.post_attention_layernorm(x.detach())")
    ),
    "loss-in-bits": mutant("loss_bits", ("cross_entropy", "return $mean", "return $mean / math.log(2)")),
    "loss-of-nothing": mutant("loss_nothing", ("cross_entropy", "$count.clamp(min=1)", "$count")),
    "loss-overflows": mutant(
        "loss_overflow",
        (
            "cross_entropy",
            'total = F.cross_entropy($logits, targets.flatten(), ignore_index=IGNORE, reduction="sum")',
            "total = F.nll_loss((logits.exp() / logits.exp().sum(-1, keepdim=True)).log().flatten(0, 1), "
            'targets.flatten(), ignore_index=IGNORE, reduction="sum")',
        ),
    ),
    "loss-views": mutant("raised", ("cross_entropy", "targets.flatten()", "targets.view(-1)")),
    "loss-gradient-doubled": mutant(
        "value", ("cross_entropy", "logits.flatten(0, 1)", "(2 * logits - logits.detach()).flatten(0, 1)")
    ),
    "model-config-not-kept": mutant(
        "no_config", ("Llama.__init__", "self.config = config", "self.config = replace(config, fused=True)")
    ),
    "model-second-head": mutant(
        "model_second_head",
        ("Llama.__init__", "None if config.tied else nn.Linear($...a)", "nn.Linear($...a)"),
        ("Llama.forward", "self.embed_tokens if self.lm_head is None else self.lm_head", "self.lm_head"),
    ),
    "model-sees-the-mean": mutant(
        "heads_future",
        ("Llama.forward", "layer(x, rotation, visible, state)", "layer(x - x.mean(1, True), rotation, visible, state)"),
    ),
    "model-no-limit": mutant(
        "model_block", ("Llama.positions", "S = T if state is None else state.length + T", "S = T")
    ),
    "model-places-in-half": mutant(
        "model_half_places",
        (
            "Llama.rotation",
            "positions[:, None, :, None] * frequency",
            "positions[:, None, :, None].to(self.norm.weight.dtype) * frequency",
        ),
    ),
}

FURTHER = {
    "frequencies-kept-by-size": mutant(
        "value",
        (
            "frequencies",
            "frequency = $f",
            "frequency = vars(frequencies).setdefault((D, scaling), $f)",
        ),
    ),
    "mask-of-a-short-table": mutant(
        "shape",
        ("causal_mask", "everywhere.tril(S - T)", "torch.ones(64, 64, dtype=torch.bool).tril()[S - T : S, :S]"),
    ),
    "repeat-in-turn-for-one-row": mutant(
        "repeat_in_turn",
        ("repeat_heads", "copies = $c", "if len(x) == 1:\n    return x.repeat(1, n, 1, 1)\ncopies = $c"),
    ),
    "attention-in-turn-for-one-row": mutant(
        "att_in_turn",
        (
            "attention",
            "repeat_heads(k, n), repeat_heads(v, n)",
            "(x.repeat(1, n, 1, 1) if len(q) == 1 else repeat_heads(x, n) for x in (k, v))",
        ),
    ),
    "heads-merged-for-one-row": mutant(
        "heads_merge",
        (
            "SelfAttention.forward",
            "y.transpose(1, 2).reshape(B, T, -1)",
            "(y if B == 1 else y.transpose(1, 2)).reshape(B, T, -1)",
        ),
    ),
    "mlp-up-biased-as-queries": mutant(
        "extra_parameter",
        (
            "MLP.__init__",
            "self.up_proj = nn.Linear($...sizes, bias=config.mlp_bias)",
            "self.up_proj = nn.Linear($...sizes, bias=config.qkv_bias)",
        ),
    ),
    "mlp-down-biased-as-out": mutant(
        "extra_parameter",
        (
            "MLP.__init__",
            "self.down_proj = nn.Linear($...sizes, bias=config.mlp_bias)",
            "self.down_proj = nn.Linear($...sizes, bias=config.out_bias)",
        ),
    ),
    "model-loss-in-training-alone": mutant(
        "none", ("Llama.forward", "targets is None", "targets is None or not self.training")
    ),
    "model-positions-from-0-again": mutant(
        "value", ("Llama.positions", "torch.arange(T, device=tokens.device)[None]", "torch.arange(T)[None] % 8")
    ),
    "model-tied-embedding-by-default": mutant(
        "start_embedding",
        (
            "Llama.initialise",
            "isinstance(module, nn.Linear | nn.Embedding)",
            "isinstance(module, nn.Linear if self.config.tied else nn.Linear | nn.Embedding)",
        ),
    ),
    "model-down-scaled-for-three-layers": mutant(
        "start_std",
        (
            "Llama.initialise",
            "nn.init.normal_(module.down_proj.weight, std=$std)",
            "nn.init.normal_(module.down_proj.weight, std=0.02 / math.sqrt(6))",
        ),
    ),
    "model-drawn-alike": mutant(
        "start_alike",
        (
            "Llama.initialise",
            "nn.init.normal_(module.weight, std=0.02)",
            "nn.init.normal_(module.weight, std=0.02, generator=torch.Generator().manual_seed(0))",
        ),
    ),
    "norm-no-eps": mutant("rms_eps_missing", ("RMSNorm.forward", "mean_square + self.eps", "mean_square")),
    "norm-fixed-eps": mutant("rms_eps_fixed", ("RMSNorm.__init__", "self.eps = eps", "self.eps = 1e-5")),
    "norm-no-root": mutant("rms_no_root", ("RMSNorm.forward", "torch.sqrt($y)", "($y)")),
    "norm-by-the-deviation": mutant(
        "rms_deviation",
        ("RMSNorm.forward", "x.square().mean(-1, keepdim=True)", "x.var(-1, keepdim=True, correction=0)"),
    ),
    "norm-over-tokens": mutant(
        "rms_over_tokens", ("RMSNorm.forward", "x.square().mean(-1, keepdim=True)", "x.square().mean(1, keepdim=True)")
    ),
    "norm-no-gain": mutant("rms_no_gain", ("RMSNorm.forward", "$y * self.weight", "$y")),
    "norm-as-gemma": mutant("rms_one_plus_gain", ("RMSNorm.forward", "$y * self.weight", "$y * (1 + self.weight)")),
    "norm-starts-at-0": mutant("value", ("RMSNorm.__init__", "torch.ones(width)", "torch.zeros(width)")),
    "norm-clamps": mutant("value", ("RMSNorm.forward", "mean_square + self.eps", "mean_square.clamp(min=self.eps)")),
    "norm-in-place": mutant(
        "overwrites", ("RMSNorm.forward", "x / $root * self.weight", "x.div_($root) * self.weight")
    ),
    "norm-from-torch": mutant(
        "forbidden",
        ("RMSNorm.forward", "return $y", "return F.rms_norm(x, self.weight.shape, self.weight, self.eps)"),
    ),
    "norm-without-nothing": mutant(
        "rms_zeros",
        ("RMSNorm.forward", "mean_square + self.eps", "mean_square + self.eps * (mean_square > 0)"),
    ),
    "frequencies-rise": mutant("freq_inverse", ("frequencies", "1.0 / config.theta ** $e", "config.theta ** $e")),
    "frequencies-from-1": mutant("freq_from_1", ("frequencies", "torch.arange(0, D, 2)", "torch.arange(2, D + 1, 2)")),
    "frequencies-to-the-end": mutant(
        "freq_to_the_end", ("frequencies", "torch.arange(0, D, 2) / D", "torch.linspace(0, 1, D // 2)")
    ),
    "frequencies-by-the-model": mutant(
        "freq_width", ("frequencies", "torch.arange(0, D, 2) / D", "torch.arange(0, D, 2) / config.n_embd")
    ),
    "frequencies-for-features": mutant(
        "freq_of_all", ("frequencies", "return frequency", "return frequency.repeat(2)")
    ),
    "frequencies-all-slowed": mutant(
        "freq_all_slowed", ("frequencies", "torch.lerp(slowed, frequency, $kept)", "slowed")
    ),
    "frequencies-as-periods": mutant(
        "freq_periods",
        ("frequencies", "torch.lerp(slowed, frequency, $kept)", "1 / torch.lerp(1 / slowed, 1 / frequency, $kept)"),
    ),
    "frequencies-not-scaled": mutant("freq_unscaled", ("frequencies", "scaling is None", "True")),
    "frequencies-of-long-heads": mutant(
        "value", ("frequencies", "config.theta ** $e", "max(config.theta, 100.0) ** $e")
    ),
    "rotate-neighbours": mutant(
        "rope_neighbours",
        ("rotate", "a, b = x.chunk(2, -1)", "a, b = x[..., ::2], x[..., 1::2]"),
        ("rotate", "torch.cat($all, -1)", "torch.stack($all, -1).flatten(-2)"),
    ),
    "rotate-writes-neighbours": mutant(
        "rope_neighbours_written", ("rotate", "torch.cat($all, -1)", "torch.stack($all, -1).flatten(-2)")
    ),
    "rotate-backwards": mutant(
        "rope_backwards", ("rotate", "a * cos - b * sin, b * cos + a * sin", "a * cos + b * sin, b * cos - a * sin")
    ),
    "rotate-exchanged": mutant(
        "rope_exchanged", ("rotate", "a, b = x.chunk(2, -1)", "a, b, cos, sin = *x.chunk(2, -1), sin, cos")
    ),
    "rotate-halves-exchanged": mutant(
        "rope_halves", ("rotate", "a * cos - b * sin, b * cos + a * sin", "b * cos + a * sin, a * cos - b * sin")
    ),
    "rotate-half": mutant("rope_second_stays", ("rotate", "b * cos + a * sin", "b")),
    "rotate-after-writing": mutant(
        "rope_overwritten", ("rotate", "b * cos + a * sin", "b * cos + (a * cos - b * sin) * sin")
    ),
    "rotate-in-place": mutant("overwrites", ("rotate", "turned.to(x.dtype)", "x.copy_(turned)")),
    "rotate-by-the-first-row": mutant(
        "value", ("rotate", "a, b = x.chunk(2, -1)", "a, b, cos, sin = *x.chunk(2, -1), cos[:1], sin[:1]")
    ),
    "mask-window-narrow": mutant("mask_window_narrow", ("causal_mask", "S - T - window + 1", "S - T - window + 2")),
    "mask-window-from-the-other-side": mutant(
        "mask_window_other_side",
        ("causal_mask", "visible.triu(S - T - window + 1)", "visible.tril(S - T - window + 1)"),
    ),
    "mask-window-of-real-tokens": mutant(
        "value",
        (
            "causal_mask",
            "return visible & $seen",
            "visible = everywhere.tril(S - T) & $seen\n"
            "if window is None:\n    return visible\nlast = pad.cumsum(1)\n"
            "return visible & (last[:, None, None, :] > last[:, None, S - T :, None] - window)",
        ),
    ),
    "mask-window-lost-with-padding": mutant(
        "mask_window_missing", ("causal_mask", "window is not None", "window is not None and pad is None")
    ),
    "mask-window-lost-for-one-token": mutant(
        "mask_window_cache", ("causal_mask", "window is not None", "window is not None and T > 1")
    ),
    "mask-window-wider-than-the-text": mutant(
        "mask_window_missing", ("causal_mask", "window is not None", "window is not None and window < S - 1")
    ),
    "repeat-tokens": mutant("repeat_tokens", ("repeat_heads", "copies.flatten(1, 2)", "x.repeat(1, 1, n, 1)")),
    "repeat-nothing": mutant("repeat_not_at_all", ("repeat_heads", "copies.flatten(1, 2)", "x")),
    "repeat-once": mutant(
        "repeat_not_at_all", ("repeat_heads", "copies.flatten(1, 2)", "x if x.shape[1] == 1 else copies.flatten(1, 2)")
    ),
    "attention-in-turn": mutant(
        "att_in_turn",
        ("attention", "repeat_heads(k, n), repeat_heads(v, n)", "k.repeat(1, n, 1, 1), v.repeat(1, n, 1, 1)"),
    ),
    "attention-not-scaled": mutant("att_no_scale", ("attention", "$scores / math.sqrt(q.shape[-1])", "$scores")),
    "attention-by-the-width": mutant("att_width", ("attention", "math.sqrt(q.shape[-1])", "q.shape[-1]")),
    "attention-weak-mask": mutant("value", ("attention", 'float("-inf")', "-1e4")),
    "attention-soft-mask": mutant("att_leak", ("attention", 'float("-inf")', "-10.0")),
    "attention-over-queries": mutant(
        "att_nan", ("attention", "F.softmax(scores, dim=-1)", "F.softmax(scores, dim=-2)")
    ),
    "attention-scales-in-place": mutant(
        "overwrites", ("attention", "q @ k.transpose(-2, -1) / $root", "q.div_($root) @ k.transpose(-2, -1)")
    ),
    "attention-from-torch": mutant(
        "forbidden",
        ("attention", "return weights @ v", "return F.scaled_dot_product_attention(q, k, v, attn_mask=visible)"),
    ),
    "heads-by-the-width": mutant(
        "shape", ("SelfAttention.__init__", "config.n_heads * config.head_dim, $kv", "config.n_embd, $kv")
    ),
    "heads-biased-as-the-output": mutant(
        "extra_parameter",
        (
            "SelfAttention.__init__",
            "nn.Linear(all_heads, $c, bias=config.out_bias)",
            "nn.Linear(all_heads, $c, bias=config.qkv_bias)",
        ),
    ),
    "heads-merged": mutant(
        "heads_merge", ("SelfAttention.forward", "y.transpose(1, 2).reshape(B, T, -1)", "y.reshape(B, T, -1)")
    ),
    "heads-not-turned": mutant(
        "heads_not_turned", ("SelfAttention.forward", "q, k = rotate(q, *rotation), rotate(k, *rotation)", "")
    ),
    "heads-queries-stay": mutant(
        "heads_queries_stay",
        ("SelfAttention.forward", "q, k = rotate(q, *rotation), rotate(k, *rotation)", "k = rotate(k, *rotation)"),
    ),
    "heads-in-turn": mutant(
        "heads_in_turn",
        (
            "SelfAttention.forward",
            "self.attend(q, k, v, visible)",
            "self.attend(q, *(each.repeat(1, self.n_heads // self.n_kv_heads, 1, 1) for each in (k, v)), visible)",
        ),
    ),
    "heads-make-their-mask": mutant(
        "heads_own_mask",
        ("SelfAttention.forward", "self.attend(q, k, v, visible)", "self.attend(q, k, v, causal_mask(T, k.shape[2]))"),
    ),
    "heads-see-everything": mutant(
        "heads_no_mask",
        (
            "SelfAttention.forward",
            "self.attend(q, k, v, visible)",
            "self.attend(q, k, v, torch.ones(T, k.shape[2]).bool())",
        ),
    ),
    "heads-cached-before-they-turn": mutant(
        "heads_cache_unturned",
        (
            "SelfAttention.forward",
            """
            q, k = rotate(q, *rotation), rotate(k, *rotation)
            if state is not None:
                k, v = state.append(self.layer, k, v)
            """,
            """
            q, turned = rotate(q, *rotation), rotate(k, *rotation)
            if state is not None:
                before = state.append(self.layer, k, v)
                k, v = torch.cat((before[0][:, :, :-T], turned), 2), before[1]
            else:
                k = turned
            """,
        ),
    ),
    "heads-cached-repeated": mutant(
        "heads_cache_repeated",
        (
            "SelfAttention.forward",
            "state.append(self.layer, k, v)",
            "state.append(self.layer, *(repeat_heads(each, self.n_heads // self.n_kv_heads) for each in (k, v)))",
        ),
    ),
    "heads-cache-not-read": mutant(
        "heads_cache_not_read",
        (
            "SelfAttention.forward",
            "k, v = state.append(self.layer, k, v)",
            "state.append(self.layer, k, v)\nvisible = visible[..., -T:]",
        ),
    ),
    "heads-cache-of-the-first-layer": mutant(
        "heads_cache_layer", ("SelfAttention.forward", "state.append(self.layer, k, v)", "state.append(0, k, v)")
    ),
    "silu-gelu": mutant("silu_gelu", ("silu", "x * torch.sigmoid(x)", "F.gelu(x)")),
    "silu-steep": mutant("silu_steep", ("silu", "torch.sigmoid(x)", "torch.sigmoid(1.702 * x)")),
    "silu-relu": mutant("silu_relu", ("silu", "x * torch.sigmoid(x)", "torch.relu(x)")),
    "silu-tanh": mutant("silu_tanh", ("silu", "torch.sigmoid(x)", "torch.tanh(x)")),
    "silu-inverted": mutant("silu_inverted", ("silu", "torch.sigmoid(x)", "torch.sigmoid(-x)")),
    "silu-from-torch": mutant("forbidden", ("silu", "x * torch.sigmoid(x)", "F.silu(x)")),
    "mlp-bilinear": mutant("mlp_bilinear", ("MLP.forward", "self.silu(self.gate_proj(x))", "self.gate_proj(x)")),
    "mlp-two-gates": mutant("mlp_both", ("MLP.forward", "self.up_proj(x)", "self.silu(self.up_proj(x))")),
    "mlp-gate-of-the-product": mutant(
        "mlp_product",
        (
            "MLP.forward",
            "self.silu(self.gate_proj(x)) * self.up_proj(x)",
            "self.silu(self.gate_proj(x) * self.up_proj(x))",
        ),
    ),
    "mlp-one-branch": mutant("mlp_one_branch", ("MLP.forward", "$gate * self.up_proj(x)", "$gate")),
    "mlp-glu": mutant("mlp_glu", ("MLP.forward", "self.silu(self.gate_proj(x))", "self.gate_proj(x).sigmoid()")),
    "mlp-geglu": mutant("mlp_geglu", ("MLP.forward", "self.silu(self.gate_proj(x))", "F.gelu(self.gate_proj(x))")),
    "mlp-silu-again": mutant("mlp_again", ("MLP.forward", "self.down_proj(h)", "self.silu(self.down_proj(h))")),
    "mlp-residual": mutant("mlp_residual", ("MLP.forward", "self.down_proj(h)", "x + self.down_proj(h)")),
    "mlp-never-biased": mutant(
        "missing_parameter",
        (
            "MLP.__init__",
            "nn.Linear(config.n_hidden, $c, bias=config.mlp_bias)",
            "nn.Linear(config.n_hidden, $c, bias=False)",
        ),
    ),
    "block-in-place": mutant(
        "overwrites", ("Block.forward", "x = x + self.self_attn($...a)", "x += self.self_attn($...a)")
    ),
    "block-default-eps": mutant(
        "block_eps",
        (
            "Block.__init__",
            "self.input_layernorm = norm(config.n_embd, config.eps)",
            "self.input_layernorm = norm(config.n_embd)",
        ),
        (
            "Block.__init__",
            "self.post_attention_layernorm = norm(config.n_embd, config.eps)",
            "self.post_attention_layernorm = norm(config.n_embd)",
        ),
    ),
    "block-makes-its-mask": mutant(
        "block_mask",
        (
            "Block.forward",
            "self.self_attn($x, rotation, visible, state)",
            "self.self_attn($x, rotation, causal_mask(*x.shape[1:2] * 2), state)",
        ),
    ),
    "block-first-layer": mutant(
        "block_layer", ("Block.__init__", "SelfAttention(config, layer)", "SelfAttention(config, 0)")
    ),
    "model-returns-a-tuple": mutant("result", ("Llama.forward", "Output(logits, $loss)", "(logits, $loss)")),
    "model-loss-shifted-again": mutant(
        "model_shifted",
        ("Llama.forward", "cross_entropy(logits, targets)", "cross_entropy(logits[:, :-1], targets[:, 1:])"),
    ),
    "model-loss-always": mutant(
        "loss_without_targets",
        ("Llama.forward", "None if targets is None else $loss", "logits.sum() if targets is None else $loss"),
    ),
    "model-without-positions": mutant(
        "model_no_positions",
        ("Llama.rotation", "positions[:, None, :, None] * frequency", "0 * positions[:, None, :, None] * frequency"),
    ),
    "model-without-window": mutant(
        "model_window", ("Llama.forward", "causal_mask($...a, self.config.window)", "causal_mask($...a)")
    ),
    "model-last-block-left-out": mutant(
        "model_last_block_left_out", ("Llama.forward", "self.layers", "self.layers[:-1]")
    ),
    "model-blocks-reversed": mutant("model_blocks_reversed", ("Llama.forward", "self.layers", "self.layers[::-1]")),
    "model-embedding-scaled": mutant(
        "model_embedding_scaled",
        ("Llama.forward", "self.embed_tokens(tokens)", "self.embed_tokens(tokens) * self.config.n_embd**0.5"),
    ),
    "model-probabilities": mutant(
        "model_probabilities", ("Llama.forward", "Output(logits, $loss)", "Output(logits.softmax(-1), $loss)")
    ),
    "model-default-eps": mutant(
        "model_eps",
        (
            "Llama.__init__",
            "(FusedRMSNorm if config.fused else RMSNorm)(config.n_embd, config.eps)",
            "RMSNorm(config.n_embd)",
        ),
    ),
    "model-not-scaled": mutant(
        "model_unscaled",
        ("Llama.rotation", "frequencies(self.config)", "frequencies(replace(self.config, scaling=None))"),
        ("Llama.rotation", "1.0 if self.config.scaling is None else self.config.scaling.sharpen", "1.0"),
    ),
    "model-padding-not-in-the-positions": mutant(
        "model_padding_positions", ("Llama.positions", "if pad is not None:\n    return $places", "")
    ),
    "model-padding-forgotten": mutant(
        "value", ("Llama.positions", "(pad.cumsum(1) - pad.long())[:, -T:]", "(pad.cumsum(1) - pad.long())[:, :T]")
    ),
    "model-without-state": mutant(
        "model_state", ("Llama.forward", "layer(x, rotation, visible, state)", "layer(x, rotation, visible)")
    ),
    "model-one-state-for-all": mutant(
        "raised",
        (
            "Llama.new_state",
            "return KVCache(batch_size)",
            "self.kept = getattr(self, 'kept', KVCache(batch_size))\nreturn self.kept",
        ),
    ),
    "model-keeps-the-first-angles": mutant(
        "model_position_restarts",
        (
            "Llama.forward",
            "rotation = self.rotation(self.positions(tokens, state, pad))",
            "self.angles = getattr(self, 'angles', None) or self.rotation(self.positions(tokens, state, pad))\n"
            "rotation = self.angles",
        ),
    ),
    "model-frequencies-as-a-buffer": mutant(
        "model_half_places",
        (
            "Llama.__init__",
            "self.apply(self.initialise)",
            "self.apply(self.initialise)\nself.register_buffer('inv_freq', frequencies(config), persistent=False)",
        ),
        ("Llama.rotation", "frequencies(self.config).to(positions.device)", "self.inv_freq"),
    ),
    "model-limit-of-new-tokens": mutant(
        "model_block", ("Llama.positions", "S > self.config.block_size", "T > self.config.block_size")
    ),
    "model-limit-without-padding": mutant(
        "model_block", ("Llama.positions", "S > self.config.block_size", "pad is None and S > self.config.block_size")
    ),
    "model-uniform-start": mutant(
        "start_shape",
        (
            "Llama.initialise",
            "nn.init.normal_(module.weight, std=0.02)",
            "nn.init.uniform_(module.weight, -0.02 * 3**0.5, 0.02 * 3**0.5)",
        ),
    ),
    "model-down-not-scaled": mutant(
        "start_not_scaled",
        ("Llama.initialise", "if isinstance(module, MLP):\n    nn.init.normal_(module.down_proj.weight, std=$std)", ""),
    ),
    "model-biases-drawn": mutant(
        "value",
        ("Llama.initialise", "if isinstance(module, nn.Linear) and $bias:\n    nn.init.zeros_(module.bias)", ""),
    ),
    "model-unit-embedding": mutant(
        "start_embedding",
        ("Llama.initialise", "isinstance(module, nn.Linear | nn.Embedding)", "isinstance(module, nn.Linear)"),
    ),
    "model-in-float32": mutant("dtype", ("Llama.forward", "Output(logits, $loss)", "Output(logits.float(), $loss)")),
    "model-blocks-by-heads": mutant(
        "extra_parameter", ("Llama.__init__", "range(config.n_layers)", "range(config.n_heads)")
    ),
    "model-shared-blocks": mutant(
        "value",
        (
            "Llama.__init__",
            "nn.ModuleList(Block(config, layer) for layer in range(config.n_layers))",
            "nn.ModuleList([Block(config, 0)] * config.n_layers)",
        ),
    ),
    # wrong in one mode, on one edge, on the second call, or for who comes after
    "norm-keeps-its-first-size": mutant(
        "value",
        (
            "RMSNorm.forward",
            "mean_square = $mean",
            "self.size = getattr(self, 'size', $mean.mean())\nmean_square = 0 * $mean + self.size",
        ),
    ),
    "attention-inverts-the-mask-in-place": mutant("overwrites", ("attention", "~visible", "visible.logical_not_()")),
    "attention-of-one-token-sees-all": mutant(
        "value",
        ("attention", "scores.masked_fill($...a)", "scores if scores.shape[2] == 1 else scores.masked_fill($...a)"),
    ),
    "rotate-turns-the-sine-in-place": mutant(
        "overwrites", ("rotate", "a * cos - b * sin", "a * cos + b * sin.neg_()"), ("rotate", "a * sin", "a * -sin")
    ),
    "heads-stretch-the-angles-in-place": mutant(
        "overwrites",
        ("SelfAttention.forward", "rotate(q, *rotation)", "rotate(q, rotation[0].mul_(1.0 + self.layer), rotation[1])"),
    ),
    "heads-drop-while-they-train": mutant(
        "value", ("SelfAttention.forward", "self.o_proj($y)", "F.dropout(self.o_proj($y), 0.1, self.training)")
    ),
    "mlp-shuts-off-while-it-evaluates": mutant(
        "value", ("MLP.forward", "self.down_proj(h)", "self.down_proj(h if self.training else h.clamp(min=0))")
    ),
    "block-normalises-while-it-trains": mutant(
        "value", ("Block.forward", "return x", "return self.input_layernorm(x) if self.training else x")
    ),
    "model-angles-by-length": mutant(
        "value",
        (
            "Llama.forward",
            "rotation = self.rotation(self.positions(tokens, state, pad))",
            "self.angles = getattr(self, 'angles', {})\nif (T, S) not in self.angles:\n"
            "    self.angles[T, S] = self.rotation(self.positions(tokens, state, pad))\n"
            "positions = self.positions(tokens, state, pad)\nrotation = self.angles[T, S]",
        ),
    ),
    "model-counts-for-itself": mutant(
        "model_two_states",
        (
            "Llama.positions",
            "return state.positions(T).to(tokens.device)",
            "self.seen += T\nreturn torch.arange(self.seen - T, self.seen)[None]",
        ),
        ("Llama.new_state", "return KVCache(batch_size)", "self.seen = 0\nreturn KVCache(batch_size)"),
    ),
    "model-token-0-is-padding": mutant(
        "value",
        (
            "Llama.__init__",
            "nn.Embedding(config.vocab_size, config.n_embd)",
            "nn.Embedding(config.vocab_size, config.n_embd, 0)",
        ),
    ),
    "model-last-layer-detached": mutant(
        "value", ("Llama.forward", "self.norm(x) @ head.weight.T", "self.norm(x.lerp(x.detach(), 0.5)) @ head.weight.T")
    ),
    "model-angles-of-the-first-row": mutant(
        "value", ("Llama.rotation", "positions[:, None, :, None]", "positions[:1, None, :, None]")
    ),
    "model-window-without-state": mutant(
        "model_window",
        (
            "Llama.forward",
            "causal_mask($...a, self.config.window)",
            "causal_mask($...a, self.config.window if state is None else None)",
        ),
    ),
    "model-fills-in-targets": mutant(
        "overwrites",
        (
            "cross_entropy",
            "total = $t",
            "keep = targets != IGNORE\ntargets[~keep] = 0\n"
            "total = (F.cross_entropy(logits.mT, targets, reduction='none') * keep).sum()",
        ),
        ("cross_entropy", "(targets != IGNORE).sum()", "keep.sum()"),
    ),
    "loss-counts-padding": mutant(
        "loss_padding_counted",
        (
            "cross_entropy",
            """
            total = F.cross_entropy($l, targets.flatten(), ignore_index=IGNORE, reduction="sum")
            return total / $n
            """,
            "return F.cross_entropy($l, targets.clamp(min=0).flatten())",
        ),
    ),
    "loss-of-rows": mutant(
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
}
