from mutants import mutant

KEYS = {
    "ops-tanh-slope-unsquared": "tanh_unsquared",
    "ops-factors-swapped": "mul_own",
    "ops-quotient-sign": "div_sign",
    "ops-quotient-unsquared": "div_square",
    "ops-where-gives-both": "where_both",
    "ops-sum-divides": "sum_divided",
    "ops-sum-stretches-the-wrong-axis": "sum_axis",
    "ops-amax-each-takes-all": "amax_whole",
    "ops-cumsum-runs-forward": "cumsum_forward",
    "ops-logsumexp-overflows": "lse_overflow",
    "ops-permute-again": "permute_again",
    "ops-pad-frame-shifts": "pad_behind",
    "ops-cat-stretches-from-the-start": "cat_stretch",
    "ops-getitem-keeps-the-last": "getitem_repeated",
    "ops-scatter-overwrites": "scatter_overwrites",
    "ops-windows-stride-swapped": "windows_stride_swapped",
    "ops-fold-overwrites": "fold_overwrites",
    "ops-matmul-untransposed": "matmul_transpose",
    "ops-matmul-order": "matmul_order",
    "ops-einsum-letters-exchanged": "einsum_exchanged",
}

EXP = 'return record("exp", np.exp(x.data), (x, lambda g, y: g * y), reads_output=True)'
PAIRED = "x = as_tensor(x, like=y if isinstance(y, Tensor) else None)\ny = as_tensor(y, like=x)\n"
UNPAIRED = "x, y = as_tensor(x), as_tensor(y)\n"
CAT = "return record('cat', out, *((x, stretch(i)) for i, x in enumerate(xs)))"

MUTANTS = {
    # what any op can have wrong
    "exp-borrowed": mutant("op_borrowed", ("exp", EXP, "return x.exp()")),
    "exp-not-returned": mutant("none", ("exp", EXP, EXP.removeprefix("return "))),
    "exp-array": mutant("op_array", ("exp", EXP, "return np.exp(x.data)")),
    "exp-overwrites": mutant("overwrites", ("exp", "np.exp(x.data)", "np.exp(x.data, out=x.data)")),
    "exp-output-missing": mutant(
        "op_output_missing", ("exp", EXP, 'return record("exp", np.exp(x.data), (x, lambda g, y: g * y))')
    ),
    "exp-gradient-array": mutant("op_gradient_type", ("exp", "g * y", "g.data * y.data")),
    "exp-gradient-constant": mutant("op_constant", ("exp", "g * y", "g * y.data")),
    "exp-result-held": mutant(
        "op_changed", ("exp", EXP, 'y = np.exp(x.data)\nreturn record("exp", y, (x, lambda g: g * y))')
    ),
    "exp-g-unused": mutant("op_g_unused", ("exp", "g * y", "y")),
    # one number
    "tanh-overflows": mutant(
        "tanh_overflow", ("tanh", "np.tanh(x.data)", "(np.exp(2 * x.data) - 1) / (np.exp(2 * x.data) + 1)")
    ),
    # two
    "add-scaled": mutant(
        "add_scaled",
        (
            "add",
            'record("add", out, (x, lambda g: g), (y, lambda g: g))',
            'record("add", out, (x, lambda g: g * y), (y, lambda g: g * x))',
        ),
    ),
    "add-forgets-one": mutant(
        "no_gradient",
        (
            "add",
            'record("add", out, (x, lambda g: g), (y, lambda g: g))',
            'record("add", out, (x, lambda g: g))',
        ),
    ),
    "add-numbers": mutant(
        "op_number", ("add", 'x, y, out = _pair("add", x, y, np.add)', UNPAIRED + "out = x.data + y.data")
    ),
    "add-error-of-numpy": mutant(
        "op_error_kind", ("add", 'x, y, out = _pair("add", x, y, np.add)', PAIRED + "out = x.data + y.data")
    ),
    "add-error-swallowed": mutant(
        "op_error_none",
        (
            "add",
            'x, y, out = _pair("add", x, y, np.add)',
            """
            try:
                x, y, out = _pair("add", x, y, np.add)
            except ShapeError:
                return x
            """,
        ),
    ),
    "mul-numbers": mutant(
        "op_number", ("mul", 'x, y, out = _pair("mul", x, y, np.multiply)', UNPAIRED + "out = x.data * y.data")
    ),
    "div-exchanged": mutant(
        "op_swapped",
        (
            "div",
            'record("div", out, (x, lambda g: g / y), (y, lambda g: -g * x / (y * y)))',
            'record("div", out, (x, lambda g: -g * x / (y * y)), (y, lambda g: g / y))',
        ),
    ),
    "div-numbers": mutant(
        "op_number", ("div", 'x, y, out = _pair("div", x, y, np.true_divide)', UNPAIRED + "out = x.data / y.data")
    ),
    "where-mask-held": mutant(
        "op_reused", ("where", "np.array(plain(condition), dtype=bool)", "np.asarray(plain(condition), dtype=bool)")
    ),
    # many
    "sum-mean": mutant(
        "sum_mean", ("sum", "x.data.sum(axis=dims, keepdims=keepdim)", "x.data.mean(axis=dims, keepdims=keepdim)")
    ),
    "lse-of-nothing": mutant("lse_of_nothing", ("logsumexp", "np.where(np.isfinite(top), top, 0)", "top")),
    "lse-slope-overflows": mutant(
        "lse_overflow",
        (
            "logsumexp",
            "return total if keepdim else squeeze(total, dim)",
            """
            out = total.data if keepdim else total.data.squeeze(dim)
            y = exp(x) / sum(exp(x), dim, keepdim=True)
            return record("logsumexp", out, (x, lambda g: (g if keepdim else unsqueeze(g, dim)) * y))
            """,
        ),
    ),
    "lse-top-lost": mutant(
        "lse_top_lost",
        (
            "logsumexp",
            "log(sum(exp(x - Tensor(top)), dim, keepdim=True)) + Tensor(top)",
            "log(sum(exp(x - Tensor(top)), dim, keepdim=True))",
        ),
    ),
    # another shape
    "reshape-fortran": mutant(
        "reshape_order", ("reshape", "x.data.reshape(shape)", 'x.data.reshape(shape, order="F")')
    ),
    "reshape-always-a-view": mutant("op_view_false", ("reshape", "_base(x, out)", "x")),
    "cat-late-binding": mutant(
        "cat_stretch",
        (
            "cat",
            CAT,
            """
            edges = []
            for i, x in enumerate(xs):
                edges.append((x, lambda g: stretch(i)(g)))
            return record("cat", out, *edges)
            """,
        ),
    ),
    "cat-error-of-numpy": mutant(
        "op_error_kind",
        ("cat", 'ShapeError(f"cat along {dim}: shapes {shapes} differ elsewhere")', "ValueError(shapes)"),
    ),
    # some of the numbers
    "getitem-index-held": mutant("op_reused", ("getitem", "_own(index)", "plain(index)")),
    "windows-back-by-one": mutant("value", ("windows", "fold(g, shape, stride)", "fold(g, shape, (1, 1))")),
    "fold-stride-swapped": mutant(
        "fold_stride",
        (
            "fold",
            "rows, columns = slice(i, i + H * stride[0], stride[0]), slice(j, j + W * stride[1], stride[1])",
            "rows, columns = slice(i, i + H * stride[1], stride[1]), slice(j, j + W * stride[0], stride[0])",
        ),
    ),
    # products
    "matmul-all-axes-turned": mutant("matmul_axes", ("matmul", "y.mT", "y.T"), ("matmul", "x.mT", "x.T")),
    "matmul-vectors-as-they-are": mutant(
        "matmul_axes", ("matmul", "if x.ndim == 1 or y.ndim == 1:\n    return _with_vectors(x, y)", "")
    ),
    "matmul-error-of-python": mutant("op_error_kind", ("matmul", "ShapeError($a)", "TypeError($a)")),
    "einsum-lost-letters": mutant(
        "einsum_letters", ("einsum", '"".join(c for c in name if any(c in n for n in given))', "name")
    ),
}

# as plausible, and caught by the same checks: left to the slow tests
FURTHER = {
    # what any op can have wrong
    "exp-forgets": mutant("op_forgets", ("exp", EXP, "return Tensor(np.exp(x.data))")),
    "exp-in-float32": mutant("dtype", ("exp", "np.exp(x.data)", "np.exp(x.data.astype(np.float32))")),
    "exp-output-unasked": mutant("op_output_unasked", ("exp", "lambda g, y: g * y", "lambda g: g * exp(x)")),
    "exp-sign": mutant("op_sign", ("exp", "g * y", "-g * y")),
    # one number
    "exp-slope-lost": mutant("exp_slope_lost", ("exp", "g * y", "g")),
    "exp-of-input": mutant("exp_of_input", ("exp", "g * y", "g * x")),
    "exp-power-rule": mutant("exp_power_rule", ("exp", "g * y", "g * x * exp(x - 1)")),
    "exp-held-below-80": mutant("value", ("exp", "np.exp(x.data)", "np.exp(np.minimum(x.data, 80))")),
    "exp-base": mutant("exp_base", ("exp", "np.exp(x.data)", "np.exp2(x.data)")),
    "tanh-plus": mutant("tanh_plus", ("tanh", "1 - y * y", "1 + y * y")),
    "tanh-of-input": mutant("tanh_of_input", ("tanh", "1 - y * y", "1 - x * x")),
    "tanh-slope-lost": mutant("tanh_slope_lost", ("tanh", "g * (1 - y * y)", "g")),
    # two
    "mul-constant": mutant("op_constant", ("mul", "g * y", "g * y.data"), ("mul", "g * x", "g * x.data")),
    "div-x-lost": mutant("div_x_lost", ("div", "-g * x / (y * y)", "-g / (y * y)")),
    "add-as-a-difference": mutant(
        "op_sign",
        (
            "add",
            'record("add", out, (x, lambda g: g), (y, lambda g: g))',
            'record("add", out, (x, lambda g: g), (y, lambda g: -g))',
        ),
    ),
    "add-error-of-another": mutant("op_error_words", ("add", '_pair("add", x, y, np.add)', '_pair("+", x, y, np.add)')),
    "add-of-tensors-and-numbers": mutant(
        "raised",
        (
            "add",
            'x, y, out = _pair("add", x, y, np.add)',
            """
            like = x if isinstance(x, Tensor) else y
            x, y = (Tensor(np.asarray(z, like.dtype)) if isinstance(z, int | float) else z for z in (x, y))
            out = x.data + y.data
            """,
        ),
    ),
    "add-in-the-dtype-of-the-first": mutant("dtype", ("add", "np.add", "lambda a, b: (a + b).astype(a.dtype)")),
    "mul-in-the-dtype-of-the-first": mutant("dtype", ("mul", "np.multiply", "lambda a, b: (a * b).astype(a.dtype)")),
    "mul-error-of-numpy": mutant(
        "op_error_kind", ("mul", 'x, y, out = _pair("mul", x, y, np.multiply)', PAIRED + "out = x.data * y.data")
    ),
    "div-error-of-numpy": mutant(
        "op_error_kind", ("div", 'x, y, out = _pair("div", x, y, np.true_divide)', PAIRED + "out = x.data / y.data")
    ),
    "where-error-of-numpy": mutant(
        "op_error_kind", ("where", "x, y, out = _pair($...all)", PAIRED + "out = np.where(mask, x.data, y.data)")
    ),
    "mul-by-0-forgets": mutant(
        "op_forgets",
        (
            "mul",
            'x, y, out = _pair("mul", x, y, np.multiply)',
            """
            if isinstance(y, int) and y == 0:
                return Tensor(np.zeros_like(x.data))
            x, y, out = _pair("mul", x, y, np.multiply)
            """,
        ),
    ),
    "mul-as-a-sum": mutant("mul_whole", ("mul", "g * y", "g"), ("mul", "g * x", "g")),
    "mul-arrays-held": mutant(
        "op_changed",
        (
            "mul",
            'record("mul", out, (x, lambda g: g * y), (y, lambda g: g * x))',
            '(lambda a, b: record("mul", out, (x, lambda g: g * b), (y, lambda g: g * a)))(x.data, y.data)',
        ),
    ),
    "div-numerator": mutant("div_numerator", ("div", "lambda g: g / y", "lambda g: g")),
    "div-times": mutant("div_times", ("div", "lambda g: g / y", "lambda g: g * y")),
    "div-floor": mutant("div_floor", ("div", "np.true_divide", "np.floor_divide")),
    "div-by-the-size": mutant("value", ("div", "np.true_divide", "lambda a, b: a / np.abs(b)")),
    "div-slope-by-the-size": mutant("value", ("div", "y * y", "y * abs(y)")),
    "where-multiplied": mutant("where_spills", ("where", "np.where(mask, a, b)", "mask * a + ~mask * b")),
    "where-inverted": mutant("where_inverted", ("where", "np.where(mask, a, b)", "np.where(mask, b, a)")),
    "where-exchanged": mutant(
        "op_swapped",
        (
            "where",
            'record("where", out, (x, lambda g: $a), (y, lambda g: $b))',
            'record("where", out, (x, lambda g: $b), (y, lambda g: $a))',
        ),
    ),
    # many
    "sum-ones": mutant("op_g_unused", ("sum", "expand(reshape(g, kept), shape)", "Tensor(np.ones(shape))")),
    "amax-everyone": mutant("amax_everyone", ("amax", "reshape(g, kept) * share", "expand(reshape(g, kept), x.shape)")),
    "amax-first": mutant(
        "amax_first",
        ("amax", "hit / hit.sum(axis=dims, keepdims=True)", "hit & (hit.cumsum(axis=dims[-1]) == 1)"),
    ),
    "cumsum-alone": mutant("cumsum_alone", ("cumsum", "flip(cumsum(flip(g, dim), dim), dim)", "g")),
    "cumsum-last-axis": mutant("cumsum_axis", ("cumsum", "x.data.cumsum(dim)", "x.data.cumsum(-1)")),
    "lse-top-learns": mutant("lse_top_learns", ("logsumexp", "$a + Tensor(top)", "$a + amax(x, dim, True)")),
    "sum-of-all": mutant("sum_of_all", ("sum", "x.data.sum(axis=dims, keepdims=keepdim)", "x.data.sum()")),
    "sum-of-the-others": mutant(
        "sum_other_axis",
        (
            "sum",
            "x.data.sum(axis=dims, $...a)",
            "x.data.sum(axis=tuple(i for i in range(x.ndim) if i not in dims), $...a)",
        ),
    ),
    "sum-keepdim-lost": mutant("shape", ("sum", "x.data.sum(axis=dims, keepdims=keepdim)", "x.data.sum(axis=dims)")),
    "sum-keepdim-of-all-lost": mutant(
        "shape",
        (
            "sum",
            "x.data.sum(axis=dims, keepdims=keepdim)",
            "x.data.sum(axis=dims, keepdims=keepdim and dim is not None)",
        ),
    ),
    "sum-not-stretched": mutant("sum_axis", ("sum", "expand(reshape(g, kept), shape)", "g")),
    "amax-keepdim-of-all-lost": mutant(
        "shape", ("amax", "top if keepdim else $a", "top if keepdim and dim is not None else $a")
    ),
    "amax-nearly": mutant("amax_nearly", ("amax", "x.data == top", "np.isclose(x.data, top)")),
    "amax-last": mutant(
        "amax_last",
        (
            "amax",
            "hit / hit.sum(axis=dims, keepdims=True)",
            "hit & (np.flip(np.flip(hit, dims[-1]).cumsum(axis=dims[-1]), dims[-1]) == 1)",
        ),
    ),
    "amax-counts-all-ties": mutant("value", ("amax", "hit.sum(axis=dims, keepdims=True)", "hit.sum()")),
    "cumsum-unflipped": mutant(
        "cumsum_unflipped", ("cumsum", "flip(cumsum(flip(g, dim), dim), dim)", "cumsum(flip(g, dim), dim)")
    ),
    "cumsum-total": mutant(
        "cumsum_total", ("cumsum", "flip(cumsum(flip(g, dim), dim), dim)", "expand(sum(g, dim, True), g.shape)")
    ),
    "cumsum-late": mutant(
        "cumsum_late", ("cumsum", "flip(cumsum(flip(g, dim), dim), dim)", "flip(cumsum(flip(g, dim), dim), dim) - g")
    ),
    "cumsum-flat": mutant("cumsum_flat", ("cumsum", "x.data.cumsum(dim)", "x.data.cumsum()")),
    "lse-log-lost": mutant(
        "lse_log_lost",
        (
            "logsumexp",
            "log(sum(exp(x - Tensor(top)), dim, keepdim=True)) + Tensor(top)",
            "sum(exp(x), dim, keepdim=True)",
        ),
    ),
    "lse-mean": mutant(
        "lse_mean", ("logsumexp", "sum(exp(x - Tensor(top)), $...a)", "mean(exp(x - Tensor(top)), $...a)")
    ),
    "lse-every-axis-of-1-lost": mutant(
        "shape", ("logsumexp", "squeeze(total, dim)", "reshape(total, [n for n in total.shape if n != 1])")
    ),
    "lse-top-clipped": mutant(
        "lse_overflow", ("logsumexp", "np.where(np.isfinite(top), top, 0)", "np.clip(top, -2000, 2000)")
    ),
    "lse-top-unlearns": mutant("lse_top_unlearns", ("logsumexp", "x - Tensor(top)", "x - amax(x, dim, True)")),
    "lse-unnormalised": mutant(
        "lse_unnormalised",
        (
            "logsumexp",
            "return total if keepdim else squeeze(total, dim)",
            """
            out = total.data if keepdim else total.data.squeeze(dim)
            return record("logsumexp", out, (x, lambda g: (g if keepdim else unsqueeze(g, dim)) * exp(x)))
            """,
        ),
    ),
    # another shape
    "reshape-does-not-go-back": mutant("reshape_back", ("reshape", "reshape(g, before)", "g")),
    "reshape-view-unsaid": mutant(
        "op_view_unsaid",
        (
            "reshape",
            'record("reshape", out, (x, lambda g: reshape(g, before)), view_of=_base(x, out))',
            'record("reshape", out, (x, lambda g: reshape(g, before)))',
        ),
    ),
    "permute-inverse": mutant("permute_inverse", ("permute", "x.data.transpose(order)", "x.data.transpose(back)")),
    "pad-sides": mutant(
        "pad_sides", ("pad", "np.pad(x.data, full, $...a)", "np.pad(x.data, [(b, a) for a, b in full], $...a)")
    ),
    "pad-corner": mutant("pad_frame", ("pad", "slice(a, a + n)", "slice(n)")),
    "reshape-turned": mutant("reshape_turned", ("reshape", "x.data.reshape(shape)", "x.data.T.reshape(shape)")),
    "permute-all": mutant("permute_all", ("permute", "x.data.transpose(order)", "x.data.T")),
    "permute-lost": mutant("permute_lost", ("permute", "permute(g, back)", "g")),
    "permute-view-unsaid": mutant(
        "op_view_unsaid",
        (
            "permute",
            'record("permute", x.data.transpose(order), (x, lambda g: permute(g, back)), view_of=x)',
            'record("permute", x.data.transpose(order), (x, lambda g: permute(g, back)))',
        ),
    ),
    "pad-with-zeros": mutant(
        "pad_value", ("pad", "np.pad(x.data, full, constant_values=value)", "np.pad(x.data, full)")
    ),
    "pad-axes": mutant(
        "pad_axes", ("pad", "[tuple(each) for each in widths]", "[tuple(each) for each in widths[::-1]]")
    ),
    "pad-first-axes": mutant(
        "shape",
        (
            "pad",
            "[(0, 0)] * (x.ndim - len(widths)) + [tuple(each) for each in widths]",
            "[tuple(each) for each in widths] + [(0, 0)] * (x.ndim - len(widths))",
        ),
    ),
    "pad-not-cut": mutant("pad_frame", ("pad", "getitem(g, inner)", "g")),
    "cat-backwards": mutant("cat_order", ("cat", "[x.data for x in xs]", "[x.data for x in xs[::-1]]")),
    "cat-first-axis": mutant("cat_axis", ("cat", "np.concatenate($a, axis=dim)", "np.concatenate($a, axis=0)")),
    "cat-all-before": mutant("cat_stretch", ("cat", "slice(ends[i - 1] if i else 0, ends[i])", "slice(0, ends[i])")),
    "cat-error-without-shapes": mutant(
        "op_error_words",
        ("cat", 'f"cat along {dim}: shapes {shapes} differ elsewhere"', 'f"cat along {dim}: shapes differ"'),
        ("cat", 'shapes = ", ".join(str(x.shape) for x in xs)', ""),
    ),
    # some of the numbers
    "getitem-always-a-view": mutant("op_view_false", ("getitem", "_base(x, out)", "x")),
    "scatter-plus-equals": mutant(
        "scatter_overwrites", ("scatter", "_add_at(out, index, g.data)", "out[index] += g.data")
    ),
    "windows-stride-lost": mutant(
        "windows_stride_lost", ("windows", "$a[..., :: stride[0], :: stride[1], :, :]", "$a")
    ),
    "getitem-list-held": mutant(
        "op_reused", ("getitem", "_own(index)", "index if isinstance(index, list) else _own(index)")
    ),
    "getitem-arrays-of-a-tuple-held": mutant(
        "op_reused", ("getitem", "_own(index)", "plain(index) if isinstance(index, tuple) else _own(index)")
    ),
    "getitem-view-unsaid": mutant("op_view_unsaid", ("getitem", "_base(x, out)", "None")),
    "getitem-not-put-back": mutant("op_gradient_shape", ("getitem", "scatter(g, index, shape, once)", "g")),
    "scatter-in-float64": mutant("dtype", ("scatter", "np.zeros(shape, g.dtype)", "np.zeros(shape)")),
    "scatter-not-read": mutant("op_gradient_shape", ("scatter", "getitem(h, index, once)", "h")),
    "windows-size-swapped": mutant(
        "windows_size_swapped",
        (
            "windows",
            "np.lib.stride_tricks.sliding_window_view(x.data, size, axis=(-2, -1))",
            "np.lib.stride_tricks.sliding_window_view(x.data, size[::-1], axis=(-2, -1))",
        ),
    ),
    "windows-axes": mutant(
        "windows_axes",
        (
            "windows",
            'record("windows", views, $a, view_of=x)',
            'record("windows", np.moveaxis(views, (-2, -1), (-4, -3)), $a, view_of=x)',
        ),
    ),
    "windows-copied": mutant(
        "op_view_false",
        ("windows", "$a[..., :: stride[0], :: stride[1], :, :]", "$a[..., :: stride[0], :: stride[1], :, :].copy()"),
    ),
    "fold-stride-lost": mutant(
        "fold_stride",
        (
            "fold",
            "rows, columns = slice(i, i + H * stride[0], stride[0]), slice(j, j + W * stride[1], stride[1])",
            "rows, columns = slice(i, i + H), slice(j, j + W)",
        ),
    ),
    "fold-back-by-one": mutant(
        "op_gradient_shape", ("fold", "windows(x, (h, w), stride)", "windows(x, (h, w), (1, 1))")
    ),
    # products
    "einsum-sorted-letters": mutant(
        "value",
        (
            "einsum",
            '"".join(c for c in name if any(c in n for n in given))',
            '"".join(c for c in sorted(name) if any(c in n for n in given))',
        ),
    ),
    "matmul-of-tensors-alone": mutant(
        "raised",
        (
            "matmul",
            "x, y = as_tensor(x), as_tensor(y)",
            "if not (isinstance(x, Tensor) and isinstance(y, Tensor)):\n    raise TypeError('not a Tensor')",
        ),
    ),
    "matmul-in-the-dtype-of-the-first": mutant(
        "dtype", ("matmul", "np.matmul", "lambda a, b: (a @ b).astype(a.dtype)")
    ),
    "matmul-elementwise": mutant("matmul_elementwise", ("matmul", "np.matmul", "np.multiply")),
    "matmul-reversed": mutant("matmul_reversed", ("matmul", "np.matmul", "lambda a, b: np.matmul(b, a)")),
    "einsum-alone": mutant(
        "einsum_alone",
        ("einsum", "expand(reshape(einsum(f\"{','.join(given)}->{present}\", g, *others), kept), shape)", "g"),
    ),
    "einsum-others-by-identity": mutant(
        "einsum_letters",
        ("einsum", "[x for j, x in enumerate(xs) if j != i]", "[x for x in xs if x is not xs[i]]"),
    ),
    "einsum-others-backwards": mutant(
        "einsum_letters",
        ("einsum", "[x for j, x in enumerate(xs) if j != i]", "[x for j, x in enumerate(xs) if j != i][::-1]"),
    ),
}
