from mutants import mutant

KEYS = {
    "resnet-wrong-fan": "conv_fan_in",
    "resnet-norm-eps-outside": "norm_eps_outside",
    "resnet-norm-variance-about-zero": "norm_about_zero",
    "resnet-norm-scale-without-gradient": "norm_variance_detached",
    "resnet-norm-batch-statistics-in-eval": "norm_batch_in_evaluation",
    "resnet-norm-running-statistics-in-training": "norm_running_in_training_after",
    "resnet-norm-counts-images-only": "norm_counts_images",
    "resnet-norm-momentum-swapped": "norm_momentum",
    "resnet-norm-running-variance-biased": "norm_biased",
    "resnet-relu-in-the-branch": "block_relu_in_branch",
    "resnet-relu-after-addition-missing": "block_no_last_relu",
    "resnet-shortcut-only-where-sizes-change": "block_no_identity",
    "resnet-pad-in-front": "pad_in_front",
    "resnet-stride-before-the-bottleneck": "block_stride_first",
    "resnet-every-block-halves": "net_every_block_halves",
    "resnet-head-takes-the-largest": "net_head_largest",
    "resnet-loss-mean-over-all": "loss_mean_over_all",
}

# statements of the reference that several mutants rewrite
BATCH = """
if self.training:
    mean = x.mean((0, 2, 3))
    variance = (x - mean[:, None, None]).square().mean((0, 2, 3))
    self.remember(mean, variance, x.numel() // x.shape[1])
else:
    mean, variance = self.running_mean, self.running_var
"""
STD = "math.sqrt(2 / (size * size * n_out))"

MUTANTS = {
    "conv-biased": mutant(
        "extra_parameter",
        (
            "Conv.__init__",
            "self.padding = size // 2",
            "self.padding = size // 2\nself.bias = nn.Parameter(torch.zeros(n_out))",
        ),
    ),
    "conv-no-padding": mutant("conv_no_padding", ("Conv.__init__", "size // 2", "0")),
    "conv-detached": mutant("no_gradient", ("Conv.forward", "F.conv2d(x, $...a)", "F.conv2d(x.detach(), $...a)")),
    "conv-views": mutant("raised", ("Conv.forward", "F.conv2d(x, $...a)", "F.conv2d(x.view(-1).view(x.shape), $...a)")),
    "norm-momentum-under-another-name": mutant(
        "norm_not_kept",
        ("BatchNorm.__init__", "self.momentum = momentum", "self.share = momentum"),
        (
            "BatchNorm.remember",
            "self.running_mean.lerp_(mean, self.momentum)",
            "self.running_mean.lerp_(mean, self.share)",
        ),
        (
            "BatchNorm.remember",
            "self.running_var.lerp_(unbiased, self.momentum)",
            "self.running_var.lerp_(unbiased, self.share)",
        ),
    ),
    "norm-trains-where-gradients-are": mutant(
        "norm_mode", ("BatchNorm.forward", "self.training", "torch.is_grad_enabled()")
    ),
    "norm-remembers-in-evaluation": mutant(
        "norm_learns_in_evaluation",
        (
            "BatchNorm.forward",
            "mean, variance = self.running_mean, self.running_var",
            """
            mean, variance = self.running_mean.clone(), self.running_var.clone()
            self.remember(x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0), x.numel() // x.shape[1])
            """,
        ),
    ),
    "norm-one-number": mutant(
        "norm_one_number",
        ("BatchNorm.forward", "self.remember($m, $v, $n)", "self.remember($m, x.var((0, 2, 3)), 0)"),
        ("BatchNorm.remember", "variance * (n / max(n - 1, 1))", "variance"),
    ),
    "norm-cancels": mutant(
        "norm_cancels",
        (
            "BatchNorm.forward",
            "(x - mean[:, None, None]).square().mean((0, 2, 3))",
            "(x.square().mean((0, 2, 3)) - mean.square()).clamp(min=0)",
        ),
    ),
    "norm-in-float32": mutant("dtype", ("BatchNorm.forward", "return $y", "return ($y).float()")),
    "pad-detached": mutant("backward", ("Pad.forward", "F.pad(x, $p)", "F.pad(x.detach(), $p)")),
    "pad-zeros-of-float32": mutant(
        "dtype",
        (
            "Pad.forward",
            "return F.pad(x, $p)",
            "return torch.cat((x, torch.zeros(len(x), self.more, *x.shape[2:])), 1)",
        ),
    ),
    "block-projects-where-channels-change": mutant(
        "block_no_projection", ("Block.__init__", "stride > 1 or n_in != n_out", "n_in != n_out")
    ),
    "block-plain-adds": mutant(
        "block_plain_adds", ("Block.forward", "self.residual", "self.residual or x.shape == y.shape")
    ),
    "block-never-adds": mutant("block_no_shortcut", ("Block.forward", "y = self.shortcut(x) + y", "self.shortcut(x)")),
    "block-units-in-a-list": mutant(
        "plain_list",
        (
            "Block.__init__",
            "nn.ModuleList(Unit(*shape, fused) for shape in shapes)",
            "[Unit(*shape, fused) for shape in shapes]",
        ),
    ),
    "block-asks-twice": mutant("passes_twice", ("Block.forward", "y = last(y)", "z = last(y)\ny = last(y)")),
    "block-in-float32": mutant("dtype", ("Block.forward", "return F.relu(y)", "return F.relu(y).float()")),
    "loss-overwrites-targets": mutant(
        "overwrites",
        (
            "cross_entropy",
            "return total / (targets != IGNORE).sum().clamp(min=1)",
            """
            n = (targets != IGNORE).sum().clamp(min=1)
            targets[targets == IGNORE] = 0
            return total / n
            """,
        ),
    ),
    "loss-sum": mutant("loss_sum", ("cross_entropy", "total / $n", "total")),
    "loss-nothing": mutant("loss_nothing", ("cross_entropy", "$n.clamp(min=1)", "$n")),
    "loss-overflows": mutant(
        "loss_overflow",
        (
            "cross_entropy",
            "F.cross_entropy(logits, targets, $...a)",
            "F.nll_loss((logits.exp() / logits.exp().sum(-1, keepdim=True)).log(), targets, $...a)",
        ),
    ),
    "net-one-block-for-a-stage": mutant(
        "parts_shared",
        (
            "ResNet.__init__",
            "blocks.append(Block($...a))",
            "blocks.append(blocks[-1] if i > 1 else Block($...a))",
        ),
    ),
    "net-config-not-kept": mutant(
        "no_config",
        ("ResNet.__init__", "self.config = config", "self.settings = config"),
        ("ResNet.forward", "self.config.stem", "self.settings.stem"),
    ),
    "net-pool-forgotten": mutant(
        "net_no_pool", ("ResNet.forward", "x = F.max_pool2d(x, 3, stride=2, padding=1)", "x = x + 0")
    ),
    "net-asks-the-stem-twice": mutant(
        "passes_twice",
        ("ResNet.forward", "x = F.relu(self.stem(x))", "x = F.relu(torch.maximum(self.stem(x), self.stem(x)))"),
    ),
    "net-loss-of-numbers": mutant(
        "backward", ("ResNet.forward", "cross_entropy(logits, targets)", "cross_entropy(logits.detach(), targets)")
    ),
    "net-head-starts-small": mutant(
        "start_head",
        (
            "ResNet.__init__",
            "self.head = nn.Linear(width, config.n_classes)",
            "self.head = nn.Linear(width, config.n_classes)\nnn.init.normal_(self.head.weight, std=0.01)",
        ),
    ),
    "net-in-float32": mutant("dtype", ("ResNet.forward", "Output(logits, $loss)", "Output(logits.float(), $loss)")),
}

FURTHER = {
    "conv-drawn-alike": mutant(
        "start_alike",
        (
            "Conv.__init__",
            "torch.randn(n_out, n_in, size, size)",
            "torch.randn(n_out, n_in, size, size, generator=torch.Generator().manual_seed(0))",
        ),
    ),
    "block-bottleneck-never-pads": mutant(
        "block_shortcut_learns",
        ("Block.__init__", 'config.shortcut == "pad"', 'config.shortcut == "pad" and not config.bottleneck'),
    ),
    "net-last-stage-stays": mutant(
        "net_last_stage_stays", ("ResNet.__init__", "stage and i == 0", "0 < stage < 3 and i == 0")
    ),
    "net-halves-where-channels-change": mutant(
        "value", ("ResNet.__init__", "stage and i == 0", "stage and width != n_out")
    ),
    "net-blocks-copied": mutant(
        "start_alike",
        (
            "ResNet.__init__",
            "self.blocks = nn.ModuleList(blocks)",
            """
            self.blocks = nn.ModuleList(blocks)
            for last, block in zip(blocks, blocks[1:]):
                if [value.shape for value in last.parameters()] == [value.shape for value in block.parameters()]:
                    block.load_state_dict(last.state_dict())
            """,
        ),
    ),
    "net-pool-by-width": mutant(
        "value", ("ResNet.forward", 'self.config.stem == "large"', "self.config.stem_width == 64")
    ),
    "conv-window-left-out": mutant("conv_window_left_out", ("Conv.__init__", STD, "math.sqrt(2 / n_out)")),
    "norm-sample-variance": mutant(
        "norm_sample_variance",
        ("BatchNorm.forward", "(x - mean[:, None, None]).square().mean((0, 2, 3))", "x.var((0, 2, 3))"),
    ),
    "block-adds-in-training": mutant(
        "block_no_shortcut", ("Block.forward", "self.residual", "self.residual and self.training")
    ),
    "norm-recalls-for-one-image": mutant(
        "norm_running_in_training", ("BatchNorm.forward", "self.training", "self.training and len(x) > 1")
    ),
    "norm-updates-with-gradients": mutant(
        "norm_graph",
        (
            "BatchNorm.forward",
            "self.remember(mean, variance, x.numel() // x.shape[1])",
            """
            n = x.numel() // x.shape[1]
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (n / max(n - 1, 1)), self.momentum)
            """,
        ),
    ),
    "norm-averages-all-batches": mutant(
        "norm_replaced",
        (
            "BatchNorm.remember",
            "unbiased = variance * (n / max(n - 1, 1))",
            """
            unbiased = variance * (n / max(n - 1, 1))
            self.count = getattr(self, "count", 0) + 1
            """,
        ),
        ("BatchNorm.remember", "$mean.lerp_(mean, self.momentum)", "$mean.lerp_(mean, 1 / self.count)"),
        ("BatchNorm.remember", "$var.lerp_(unbiased, self.momentum)", "$var.lerp_(unbiased, 1 / self.count)"),
    ),
    "net-loss-in-training-alone": mutant(
        "none", ("ResNet.forward", "targets is None", "targets is None or not self.training")
    ),
    "net-overwrites-targets": mutant(
        "overwrites",
        (
            "ResNet.forward",
            "x = F.relu(self.stem(x))",
            "if targets is not None:\n    targets[targets < 0] = IGNORE - 1\nx = F.relu(self.stem(x))",
        ),
        ("ResNet.forward", "cross_entropy(logits, targets)", "cross_entropy(logits, targets.clamp(min=IGNORE))"),
    ),
    "conv-padding-1": mutant("conv_padding_fixed", ("Conv.__init__", "size // 2", "1")),
    "conv-stride-forgotten": mutant(
        "conv_stride_ignored", ("Conv.forward", "F.conv2d(x, $w, stride=self.stride, $...a)", "F.conv2d(x, $w, $...a)")
    ),
    "conv-truly-convolves": mutant("conv_flipped", ("Conv.forward", "self.weight", "self.weight.flip(2, 3)")),
    "conv-height-as-width": mutant("conv_turned", ("Conv.forward", "self.weight", "self.weight.mT")),
    "conv-repeats-the-edge": mutant(
        "conv_edge_repeated",
        (
            "Conv.forward",
            "F.conv2d(x, self.weight, stride=self.stride, padding=self.padding)",
            'F.conv2d(F.pad(x, [self.padding] * 4, "replicate"), self.weight, stride=self.stride)',
        ),
    ),
    "conv-window-once": mutant("conv_window_once", ("Conv.__init__", STD, "math.sqrt(2 / (size * n_out))")),
    "conv-relu-forgotten": mutant("conv_no_relu", ("Conv.__init__", STD, "math.sqrt(1 / (size * size * n_out))")),
    "conv-default-start": mutant("conv_default", ("Conv.__init__", STD, "math.sqrt(1 / (3 * size * size * n_in))")),
    "conv-uniform": mutant(
        "start_shape",
        (
            "Conv.__init__",
            "torch.randn(n_out, n_in, size, size)",
            "((torch.rand(n_out, n_in, size, size) - 0.5) * 12**0.5)",
        ),
    ),
    "conv-in-float32": mutant("dtype", ("Conv.forward", "return $y", "return ($y).float()")),
    "norm-starts-silent": mutant(
        "value", ("BatchNorm.__init__", "nn.Parameter(torch.ones(width))", "nn.Parameter(torch.zeros(width))")
    ),
    "norm-buffer-plain": mutant(
        "plain_buffer",
        (
            "BatchNorm.__init__",
            'self.register_buffer("running_mean", torch.zeros(width))',
            "self.running_mean = torch.zeros(width)",
        ),
    ),
    "norm-buffer-not-saved": mutant(
        "buffer_not_saved",
        (
            "BatchNorm.__init__",
            'self.register_buffer("running_mean", torch.zeros(width))',
            'self.register_buffer("running_mean", torch.zeros(width), persistent=False)',
        ),
    ),
    "norm-buffers-learned": mutant(
        "norm_learned",
        (
            "BatchNorm.__init__",
            'self.register_buffer("running_var", torch.ones(width))',
            "self.running_var = nn.Parameter(torch.ones(width), requires_grad=False)",
        ),
    ),
    "norm-eps-fixed": mutant("norm_eps_fixed", ("BatchNorm.forward", "variance + self.eps", "variance + 1e-5")),
    "norm-momentum-fixed": mutant(
        "norm_momentum_fixed",
        ("BatchNorm.remember", "self.running_mean.lerp_(mean, self.momentum)", "self.running_mean.lerp_(mean, 0.1)"),
        (
            "BatchNorm.remember",
            "self.running_var.lerp_(unbiased, self.momentum)",
            "self.running_var.lerp_(unbiased, 0.1)",
        ),
    ),
    "norm-of-each-image": mutant(
        "norm_each_image",
        (
            "BatchNorm.forward",
            "return $y",
            """
            if self.training:
                x = x.mean((0, 2, 3), keepdim=True) + x - x.mean((2, 3), keepdim=True)
                scale = (x - mean[:, None, None]).square().mean((2, 3), keepdim=True).add(self.eps).rsqrt()
                return (x - mean[:, None, None]) * scale * self.weight[:, None, None] + self.bias[:, None, None]
            return $y
            """,
        ),
    ),
    "norm-of-all-channels": mutant(
        "norm_every_channel",
        ("BatchNorm.forward", "mean = x.mean((0, 2, 3))", "mean = x.mean().expand(x.shape[1])"),
        ("BatchNorm.forward", "$square.mean((0, 2, 3))", "$square.mean().expand(x.shape[1])"),
    ),
    "norm-of-each-place": mutant(
        "norm_each_place",
        (
            "BatchNorm.forward",
            BATCH,
            """
            if self.training:
                mean, variance = x.mean(0), x.var(0, correction=0)
                self.remember(mean.mean((1, 2)), variance.mean((1, 2)), len(x))
            else:
                mean, variance = self.running_mean[:, None, None], self.running_var[:, None, None]
            """,
        ),
        (
            "BatchNorm.forward",
            "self.weight / torch.sqrt(variance + self.eps)",
            "self.weight[:, None, None] / torch.sqrt(variance + self.eps)",
        ),
        ("BatchNorm.forward", "(x - mean[:, None, None]) * scale[:, None, None] + $b", "(x - mean) * scale + $b"),
    ),
    "norm-bias-forgotten": mutant("norm_no_bias", ("BatchNorm.forward", "$y + self.bias[:, None, None]", "$y")),
    "norm-not-scaled": mutant(
        "norm_not_scaled",
        ("BatchNorm.forward", "self.weight / torch.sqrt(variance + self.eps)", "1 / torch.sqrt(variance + self.eps)"),
        ("BatchNorm.forward", "$y + self.bias[:, None, None]", "$y"),
    ),
    "norm-remembers-with-gradients-alone": mutant(
        "norm_not_remembered",
        (
            "BatchNorm.forward",
            "self.remember($...a)",
            "if torch.is_grad_enabled():\n    self.remember($...a)",
        ),
    ),
    "norm-mean-forgotten": mutant(
        "norm_not_remembered", ("BatchNorm.remember", "self.running_mean.lerp_(mean, self.momentum)", "")
    ),
    "norm-remembers-the-last-batch": mutant(
        "norm_replaced",
        ("BatchNorm.remember", "self.running_mean.lerp_(mean, self.momentum)", "self.running_mean.copy_(mean)"),
    ),
    "norm-remembers-deviation": mutant(
        "norm_deviation",
        ("BatchNorm.remember", "self.running_var.lerp_(unbiased, $m)", "self.running_var.lerp_(unbiased.sqrt(), $m)"),
    ),
    "norm-counts-places": mutant(
        "norm_counts_places",
        ("BatchNorm.forward", "x.numel() // x.shape[1]", "x.shape[2] * x.shape[3]"),
    ),
    "norm-first-call-replaces": mutant(
        "norm_replaced",
        (
            "BatchNorm.remember",
            "self.running_mean.lerp_(mean, self.momentum)",
            """
            self.running_mean.lerp_(mean, self.momentum if getattr(self, "seen", False) else 1.0)
            self.seen = True
            """,
        ),
    ),
    "norm-keeps-the-graph": mutant(
        "norm_graph",
        (
            "BatchNorm.forward",
            "self.remember(mean, variance, x.numel() // x.shape[1])",
            """
            self.running_mean = (1 - self.momentum) * self.running_mean + self.momentum * mean
            n = x.numel() // x.shape[1]
            self.running_var = (1 - self.momentum) * self.running_var + self.momentum * variance * n / max(n - 1, 1)
            """,
        ),
    ),
    "norm-mean-detached": mutant(
        "norm_mean_detached", ("BatchNorm.forward", "x.mean((0, 2, 3))", "x.mean((0, 2, 3)).detach()")
    ),
    "norm-detached": mutant(
        "norm_detached",
        (
            "BatchNorm.forward",
            "self.remember($m, $v, $n)",
            "mean, variance = mean.detach(), variance.detach()\nself.remember($m, $v, $n)",
        ),
    ),
    "norm-by-torch": mutant(
        "forbidden",
        (
            "BatchNorm.forward",
            "return $y",
            "return F.batch_norm(x, mean, variance, self.weight, self.bias, False, 0.0, self.eps)",
        ),
    ),
    "pad-repeats": mutant(
        "pad_repeats", ("Pad.forward", "return F.pad(x, $...a)", "return torch.cat((x, x[:, : self.more]), 1)")
    ),
    "pad-takes-the-mean": mutant(
        "pad_mean",
        ("Pad.forward", "x[:, :, :: self.stride, :: self.stride]", "F.avg_pool2d(x, self.stride, ceil_mode=True)"),
    ),
    "pad-starts-late": mutant(
        "pad_late",
        (
            "Pad.forward",
            "x[:, :, :: self.stride, :: self.stride]",
            "x[:, :, self.stride - 1 :: self.stride, self.stride - 1 :: self.stride]",
        ),
    ),
    "pad-on-both-sides": mutant(
        "pad_both_sides",
        ("Pad.forward", "(0, 0, 0, 0, 0, self.more)", "(0, 0, 0, 0, self.more // 2, self.more - self.more // 2)"),
    ),
    "pad-as-many-as-come-out": mutant("pad_all_channels", ("Pad.__init__", "n_out - n_in", "n_out")),
    "pad-only-the-rows": mutant(
        "shape", ("Pad.forward", "x[:, :, :: self.stride, :: self.stride]", "x[:, :, :: self.stride]")
    ),
    "pad-with-ones": mutant("value", ("Pad.forward", "F.pad(x, $p)", "F.pad(x, $p, value=1.0)")),
    "block-projects-always": mutant(
        "block_shortcut_learns",
        ("Block.__init__", "config.residual and (stride > 1 or n_in != n_out)", "config.residual"),
    ),
    "block-starts-silent": mutant(
        "start_norm",
        (
            "Block.__init__",
            "self.units = nn.ModuleList($...a)",
            "self.units = nn.ModuleList($...a)\nnn.init.zeros_(self.units[-1].norm.weight)",
        ),
    ),
    "block-adds-after-relu": mutant(
        "block_added_after_relu",
        ("Block.forward", "y = last(y)", "y = F.relu(last(y))"),
        ("Block.forward", "return F.relu(y)", "return y"),
    ),
    "block-no-relu-inside": mutant("block_no_inner_relu", ("Block.forward", "F.relu(unit(y))", "unit(y)")),
    "block-relu-on-the-shortcut": mutant(
        "block_relu_on_shortcut", ("Block.forward", "self.shortcut(x) + y", "F.relu(self.shortcut(x)) + y")
    ),
    "block-halves-last": mutant(
        "block_stride_second",
        (
            "Block.__init__",
            "[(n_in, n_out, 3, stride), (n_out, n_out, 3, 1)]",
            "[(n_in, n_out, 3, 1), (n_out, n_out, 3, stride)]",
        ),
    ),
    "block-bottleneck-halves-last": mutant(
        "block_stride_last",
        (
            "Block.__init__",
            "[$a, (inner, inner, 3, stride), (inner, n_out, 1, 1)]",
            "[$a, (inner, inner, 3, 1), (inner, n_out, 1, stride)]",
        ),
    ),
    "block-inner-of-what-comes-in": mutant(
        "missing_parameter",
        ("Block.__init__", "[(n_in, n_out, 3, stride), (n_out, n_out, 3, 1)]", "[(n_in, n_out, 3, stride)]"),
    ),
    "block-shortcut-without-stride": mutant(
        "raised", ("Block.__init__", "Unit(n_in, n_out, 1, stride, fused)", "Unit(n_in, n_out, 1, 1, fused)")
    ),
    "block-in-place": mutant(
        "overwrites", ("Block.forward", "y = self.shortcut(x) + y", "x = self.shortcut(x)\nx += y\ny = x")
    ),
    "block-shortcut-detached": mutant("value", ("Block.forward", "self.shortcut(x)", "self.shortcut(x.detach())")),
    "block-one-unit-twice": mutant(
        "parts_shared",
        (
            "Block.__init__",
            "self.units = nn.ModuleList($...a)",
            """
            self.units = nn.ModuleList($...a)
            if n_in == n_out and stride == 1 and not config.bottleneck:
                self.units[1] = self.units[0]
            """,
        ),
    ),
    "loss-counts-all": mutant(
        "loss_padding_counted",
        (
            "cross_entropy",
            'total = F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="sum")',
            'total = F.cross_entropy(logits, targets.clamp(min=0), reduction="sum")',
        ),
        ("cross_entropy", "(targets != IGNORE).sum().clamp(min=1)", "targets.numel()"),
    ),
    "loss-gradient-doubled": mutant(
        "value",
        ("cross_entropy", "F.cross_entropy(logits, $...a)", "F.cross_entropy(2 * logits - logits.detach(), $...a)"),
    ),
    "net-first-stage-halves": mutant("net_first_stage_halves", ("ResNet.__init__", "stage and i == 0", "i == 0")),
    "net-later-stages-halve": mutant("net_later_stages_halve", ("ResNet.__init__", "stage and i == 0", "stage")),
    "net-halves-once": mutant("net_halves_once", ("ResNet.__init__", "stage and i == 0", "stage == 1 and i == 0")),
    "net-never-halves": mutant("net_never_halves", ("ResNet.__init__", "2 if stage and i == 0 else 1", "1")),
    "net-no-relu-after-the-stem": mutant(
        "net_no_stem_relu", ("ResNet.forward", "F.relu(self.stem(x))", "self.stem(x)")
    ),
    "net-head-sums": mutant("net_head_sum", ("ResNet.forward", "x.mean((2, 3))", "x.sum((2, 3))")),
    "net-head-looks-at-a-corner": mutant("net_head_corner", ("ResNet.forward", "x.mean((2, 3))", "x[:, :, 0, 0]")),
    "net-last-block-left-out": mutant("net_last_block_left_out", ("ResNet.forward", "self.blocks", "self.blocks[:-1]")),
    "net-answers-probabilities": mutant(
        "net_probabilities", ("ResNet.forward", "self.head(x.mean((2, 3)))", "self.head(x.mean((2, 3))).softmax(-1)")
    ),
    "net-pool-takes-the-mean": mutant(
        "net_pool_mean", ("ResNet.forward", "F.max_pool2d($...a)", "F.avg_pool2d($...a)")
    ),
    "net-pool-of-four": mutant(
        "net_pool_of_four",
        ("ResNet.forward", "F.max_pool2d(x, 3, stride=2, padding=1)", "F.max_pool2d(x, 2, stride=2, ceil_mode=True)"),
    ),
    "net-loss-always": mutant(
        "loss_without_targets",
        (
            "ResNet.forward",
            "return Output(logits, $loss)",
            "return Output(logits, cross_entropy(logits, logits.argmax(1) if targets is None else targets))",
        ),
    ),
    "net-trains-where-targets-are": mutant(
        "norm_batch_in_evaluation",
        ("ResNet.forward", "x = F.relu(self.stem(x))", "self.train(targets is not None)\nx = F.relu(self.stem(x))"),
    ),
    "net-returns-a-tuple": mutant("result", ("ResNet.forward", "Output(logits, $loss)", "(logits, $loss)")),
    "net-starts-by-fan-in": mutant(
        "conv_fan_in",
        (
            "ResNet.__init__",
            "self.head = nn.Linear(width, config.n_classes)",
            """
            self.head = nn.Linear(width, config.n_classes)
            for value in self.parameters():
                if value.ndim == 4:
                    nn.init.kaiming_normal_(value)
            """,
        ),
    ),
    "net-head-without-bias": mutant(
        "missing_parameter",
        ("ResNet.__init__", "nn.Linear(width, config.n_classes)", "nn.Linear(width, config.n_classes, bias=False)"),
    ),
}
