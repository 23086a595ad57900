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

FURTHER = {}
