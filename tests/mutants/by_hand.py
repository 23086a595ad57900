from mutants import mutant

KEYS = {
    "by_hand-embedding-keeps-the-last": "embedding_repeated",
    "by_hand-weight-transposed": "linear_dweight_transposed",
    "by_hand-bias-averaged": "sum_averaged",
    "by_hand-norm-gain-unused": "norm_gain_unused",
    "by_hand-norm-gain-of-centred": "norm_gain_of_centred",
    "by_hand-norm-forgets-the-variance": "norm_forgets_variance",
    "by_hand-norm-forgets-the-mean": "norm_forgets_mean",
    "by_hand-norm-sample-variance": "norm_sample_variance",
    "by_hand-norm-root-sign": "norm_variance_sign",
    "by_hand-norm-root-slope": "norm_inverse_slope",
    "by_hand-norm-short-sums": "norm_variance_undivided",
    "by_hand-tanh-of-its-output": "tanh_of_output",
    "by_hand-loss-summed": "ce_undivided",
    "by_hand-loss-forgets-the-total": "ce_others_lost",
    "by_hand-loss-every-row": "ce_every_row",
    "by_hand-loss-damages-what-was-kept": "overwrites",
    "by_hand-tanh-left-out": "backward_no_tanh",
}

ADD_AT = "np.add.at(dtable, contexts, dx.reshape(*contexts.shape, -1))"
LINEAR = "return dx, dweight, dbias"
SECOND = "dcentred += 2 / B * centred * dvariance"
SHORT = "weight * inverse * (dy - dy.mean(0) - normed * (dy * normed).mean(0))"
TANH = "dh * (1 - h**2)"
AT_TARGETS = "dlogits[np.arange(len(targets)), targets] -= 1"
HIDDEN = 'dx, d["hidden.weight"], _ = linear_backward(dz, x, w["hidden.weight"])'
NORM = 'batch_norm_backward(dy, norm, w["norm.weight"])'
EMBEDDING = 'd["embedding.weight"] = embedding_backward(dx, w["embedding.weight"], contexts)'


def embedding(key, replace):
    return mutant(key, ("embedding_backward", ADD_AT, replace))


def linear(key, find, replace):
    return mutant(key, ("linear_backward", find, replace))


def norm(key, find, replace):
    return mutant(key, ("batch_norm_backward", find, replace))


def short(key, replace):
    return mutant(key, ("batch_norm_backward_short", SHORT, replace))


def tanh(key, replace):
    return mutant(key, ("tanh_backward", TANH, replace))


def loss(key, find, replace):
    return mutant(key, ("cross_entropy_backward", find, replace))


def loss_short(key, find, replace):
    return mutant(key, ("cross_entropy_backward_short", find, replace))


def whole(key, find, replace):
    return mutant(key, ("backward", find, replace))


MUTANTS = {
    # the embedding
    "embedding-not-returned": mutant("none", ("embedding_backward", "return dtable", "")),
    "embedding-row-by-row": embedding(
        "embedding_repeated_in_a_row",
        "for tokens, share in zip(contexts, dx.reshape(*contexts.shape, -1)):\n    dtable[tokens] += share",
    ),
    "embedding-interleaved": embedding(
        "embedding_interleaved",
        "B, N = contexts.shape\nnp.add.at(dtable, contexts, dx.reshape(B, -1, N).transpose(0, 2, 1))",
    ),
    "embedding-adds-to-the-table": mutant(
        "embedding_not_from_zero", ("embedding_backward", "np.zeros_like(table)", "table.copy()")
    ),
    "embedding-into-the-table": mutant("overwrites", ("embedding_backward", "np.zeros_like(table)", "table")),
    "embedding-not-gathered": mutant(
        "embedding_not_gathered", ("embedding_backward", "return dtable", "return dx.reshape(*contexts.shape, -1)")
    ),
    "embedding-in-float64": mutant(
        "dtype_kept", ("embedding_backward", "np.zeros_like(table)", "np.zeros(table.shape)")
    ),
    "embedding-rows-of-the-batch": mutant(
        "shape",
        (
            "embedding_backward",
            "np.zeros_like(table)",
            "np.zeros_like(table, shape=(contexts.max() + 1, table.shape[1]))",
        ),
    ),
    # the linear layer
    "linear-dx-transposed": linear("linear_dx_transposed", "dy @ weight", "dy @ weight.T"),
    "linear-dx-own": linear("linear_own", "dy @ weight", "dy @ x"),
    "linear-dx-upstream": linear("upstream_lost", "dy @ weight", "np.ones_like(dy) @ weight"),
    "linear-dweight-axis": linear("linear_dweight_axis", "dy.T @ x", "dy @ x.T"),
    "linear-bias-not-summed": linear("sum_missing", "dy.sum(0)", "dy"),
    "linear-bias-axis": linear("sum_axis", "dy.sum(0)", "dy.sum(1)"),
    "linear-exchanged": linear("exchanged", LINEAR, "return dweight, dx, dbias"),
    "linear-one": linear("three", LINEAR, "return dx"),
    "linear-sign": linear("sign", LINEAR, "return -dx, -dweight, -dbias"),
    # batch normalisation
    "norm-forgets-both": norm("norm_forgets_both", LINEAR, "return dnormed * inverse, dweight, dbias"),
    "norm-replaces": norm("norm_replaces", SECOND, "dcentred = 2 / B * centred * dvariance"),
    "norm-counts-features": norm("norm_counts_features", "B = len(dy)", "B = len(weight)"),
    "norm-mean-undivided": norm("norm_mean_undivided", "dmean / B", "dmean"),
    "norm-mean-sign": norm("norm_mean_sign", "-dcentred.sum(0)", "dcentred.sum(0)"),
    "norm-eps-left-out": norm(
        "norm_eps",
        "centred, inverse, normed = kept",
        "centred, _, normed = kept\nwith np.errstate(divide='ignore'):\n    inverse = 1 / centred.std(0)",
    ),
    "norm-variance-moves-the-mean": norm(
        "norm_variance_to_mean", "dmean = -dcentred.sum(0)", "dmean = -dcentred.sum(0) - 2 / B * centred * dvariance"
    ),
    "norm-saved": norm("norm_saved", "(dnormed * centred).sum(0)", "(dnormed * normed).sum(0)"),
    "norm-overwrites-dy": norm("overwrites", "dnormed = dy * weight", "dnormed = dy\ndnormed *= weight"),
    "norm-borrows": norm("borrowed", LINEAR, "return batch_norm_backward_short(dy, kept, weight), dweight, dbias"),
    # in one line
    "short-borrows": short("borrowed", "batch_norm_backward(dy, kept, weight)[0]"),
    "short-no-variance": short("norm_forgets_variance", "weight * inverse * (dy - dy.mean(0))"),
    "short-direction": short("norm_short_direction", "weight * inverse * (dy - dy.mean(0) - (dy * normed).mean(0))"),
    "short-sign": short("norm_variance_sign", "weight * inverse * (dy - dy.mean(0) + normed * (dy * normed).mean(0))"),
    # tanh
    "tanh-unsquared": tanh("tanh_unsquared", "dh * (1 - h)"),
    "tanh-slope-lost": tanh("tanh_slope_lost", "dh"),
    "tanh-overwrites": mutant("overwrites", ("tanh_backward", f"return {TANH}", "dh *= 1 - h**2\nreturn dh")),
    # the loss, line by line
    "loss-replaces": loss("ce_target_lost", "dshifted += dcounts * counts", "dshifted = dcounts * counts"),
    "loss-total-sign": loss(
        "ce_total_sign", "-dlogs.sum(1, keepdims=True) / total", "dlogs.sum(1, keepdims=True) / total"
    ),
    "loss-exp-slope": loss("ce_exp_slope", "dcounts * counts", "dcounts"),
    "loss-through-the-probability": loss(
        "ce_hopeless",
        "return dshifted",
        "p = counts / total\ndp = dlogs / p\nreturn p * (dp - (dp * p).sum(1, keepdims=True))",
    ),
    "loss-in-float64": loss("dtype_kept", "np.zeros_like(counts)", "np.zeros(counts.shape)"),
    # the loss, in one line
    "loss-short-borrows": loss_short("borrowed", "return $dlogits", "return cross_entropy_backward(kept, targets)"),
    "loss-short-sign": loss_short("ce_target_sign", AT_TARGETS, "dlogits[np.arange(len(targets)), targets] += 1"),
    "loss-short-one-undivided": mutant(
        "ce_one_undivided",
        ("cross_entropy_backward_short", "kept.counts / kept.total", "kept.counts / kept.total / len(targets)"),
        ("cross_entropy_backward_short", "return dlogits / len(targets)", "return dlogits"),
    ),
    "loss-short-eye": loss_short("dtype_kept", AT_TARGETS, "dlogits = dlogits - np.eye(dlogits.shape[1])[targets]"),
    # the whole
    "whole-a-tuple": whole("backward_no_dict", "return d", "return tuple(d.values())"),
    "whole-other-names": whole(
        "backward_missing", "return d", "return {f'd{name}': value for name, value in d.items()}"
    ),
    "whole-misses-the-embedding": whole("backward_missing", EMBEDDING, ""),
    "whole-a-bias-too-many": whole("backward_extra", HIDDEN, HIDDEN.replace("_ =", 'd["hidden.bias"] =')),
    "whole-no-norm": whole("backward_no_norm", "linear_backward(dz, x, $weight)", "linear_backward(dy, x, $weight)"),
    "whole-gain-and-shift-exchanged": whole(
        "backward_exchanged",
        f'dz, d["norm.weight"], d["norm.bias"] = {NORM}',
        f'dz, d["norm.bias"], d["norm.weight"] = {NORM}',
    ),
    "whole-steps": whole("overwrites", "return d", "for name in d:\n    w[name][...] -= d[name]\nreturn d"),
}

FURTHER = {
    # the embedding
    "embedding-assigned": embedding("embedding_repeated", "dtable[contexts] = dx.reshape(*contexts.shape, -1)"),
    "embedding-place-by-place": embedding(
        "embedding_repeated_in_a_column",
        "for i, share in enumerate(np.split(dx, contexts.shape[1], axis=1)):\n    dtable[contexts[:, i]] += share",
    ),
    "embedding-averaged": embedding(
        "embedding_averaged",
        f"{ADD_AT}\ndtable /= np.maximum(np.bincount(contexts.ravel(), minlength=len(table)), 1)[:, None]",
    ),
    "embedding-from-ones": mutant(
        "embedding_not_from_zero", ("embedding_backward", "np.zeros_like(table)", "np.ones_like(table)")
    ),
    "embedding-other-rows-touched": embedding(
        "embedding_not_from_zero", f"{ADD_AT}\ndtable[~np.isin(np.arange(len(table)), contexts)] -= 0.1"
    ),
    "embedding-last-row-frozen": embedding("embedding_last_row", f"{ADD_AT}\ndtable[-1] = 0"),
    "embedding-counts": embedding("upstream_lost", "np.add.at(dtable, contexts, 1)"),
    "embedding-sign": mutant("sign", ("embedding_backward", "return dtable", "return -dtable")),
    # the linear layer
    "linear-dx-order": linear("linear_order", "dy @ weight", "weight @ dy"),
    "linear-dx-order-transposed": linear("linear_order", "dy @ weight", "weight.T @ dy"),
    "linear-dx-elementwise": linear("linear_elementwise", "dy @ weight", "dy * weight"),
    "linear-dx-not-gathered": linear("linear_not_gathered", "dy @ weight", "dy[:, :, None] * weight"),
    "linear-dweight-own": linear("linear_own", "dy.T @ x", "dy.T @ weight"),
    "linear-dweight-not-summed": linear("sum_missing", "dy.T @ x", "dy[:, :, None] * x[:, None]"),
    "linear-dweight-averaged": linear("sum_averaged", "dy.T @ x", "dy.T @ x / len(x)"),
    "linear-bias-last-axis": linear("sum_axis", "dy.sum(0)", "dy.sum(-1, keepdims=True)"),
    "linear-bias-keeps-axis": linear("sum_keeps_axis", "dy.sum(0)", "dy.sum(0, keepdims=True)"),
    "linear-bias-everything": linear("sum_everything", "dy.sum(0)", "dy.sum()"),
    "linear-two": linear("three", LINEAR, "return dx, dweight"),
    "linear-in-float64": linear("dtype_kept", "dy.sum(0)", "dy.sum(0, dtype=np.float64)"),
    # batch normalisation
    "norm-variance-undivided": norm("norm_variance_undivided", SECOND, "dcentred += 2 * centred * dvariance"),
    "norm-both-undivided": norm("norm_both_undivided", "B = len(dy)", "B = 1"),
    "norm-square-slope": norm("norm_square_slope", "2 / B", "1 / B"),
    "norm-mean-not-summed": norm("norm_mean_unsummed", "-dcentred.sum(0)", "-dcentred"),
    "norm-root-as-quotient": norm("norm_inverse_slope", "-0.5 * inverse**3", "-(inverse**2)"),
    "norm-root-exponent-kept": norm("norm_inverse_slope", "-0.5 * inverse**3", "-0.5 * inverse"),
    "norm-inverse-unused": norm("norm_inverse_unused", "dnormed * inverse", "dnormed * 1"),
    "norm-eps-fixed": norm(
        "norm_eps",
        "centred, inverse, normed = kept",
        "centred, _, normed = kept\ninverse = ((centred**2).mean(0) + 1e-5) ** -0.5",
    ),
    "norm-saved-twice": norm(
        "norm_saved", "centred, inverse, normed = kept", "_, inverse, normed = kept\ncentred = normed"
    ),
    "norm-variance-over-features": norm(
        "norm_features", "(dnormed * centred).sum(0)", "(dnormed * centred).sum(1, keepdims=True)"
    ),
    "norm-mean-over-features": norm("norm_features", "-dcentred.sum(0)", "-dcentred.sum(1)"),
    "norm-mean-over-everything": norm("norm_everything", "-dcentred.sum(0)", "-dcentred.sum()"),
    "norm-overwrites-centred": norm("overwrites", SECOND, "centred *= 2 / B * dvariance\ndcentred += centred"),
    "norm-dbias-scaled": norm("norm_shift_scaled", "dy.sum(0)", "dnormed.sum(0)"),
    "norm-dweight-scaled": norm("norm_gain_twice", "(dy * normed).sum(0)", "(dnormed * normed).sum(0)"),
    "norm-dweight-not-summed": norm("sum_missing", "(dy * normed).sum(0)", "dy * normed"),
    "norm-dbias-axis": norm("sum_axis", "dy.sum(0)", "dy.sum(1)"),
    "norm-exchanged": norm("exchanged", LINEAR, "return dx, dbias, dweight"),
    "norm-three-missing": norm("three", LINEAR, "return dx"),
    # in one line
    "short-mean-summed": short(
        "norm_mean_undivided", "weight * inverse * (dy - dy.sum(0) - normed * (dy * normed).mean(0))"
    ),
    "short-no-mean": short("norm_forgets_mean", "weight * inverse * (dy - normed * (dy * normed).mean(0))"),
    "short-centred": short(
        "norm_short_centred", "weight * inverse * (dy - dy.mean(0) - kept.centred * (dy * kept.centred).mean(0))"
    ),
    "short-no-gain": short("norm_gain_unused", "inverse * (dy - dy.mean(0) - normed * (dy * normed).mean(0))"),
    "short-no-inverse": short("norm_inverse_unused", "weight * (dy - dy.mean(0) - normed * (dy * normed).mean(0))"),
    "short-sample-variance": short(
        "norm_sample_variance",
        "weight * inverse * (dy - dy.mean(0) - normed * (dy * normed).sum(0) / (len(dy) - 1))",
    ),
    "short-features": short("norm_features", "weight * inverse * (dy - dy.mean(0) - normed * (dy * normed).mean(1))"),
    "short-everything": short(
        "norm_everything", "weight * inverse * (dy - dy.mean() - normed * (dy * normed).mean(0))"
    ),
    "short-three": short("type", f"({SHORT}, (dy * normed).sum(0), dy.sum(0))"),
    "short-one-row": short("norm_one_row", f"dy * weight * inverse if len(dy) == 1 else {SHORT}"),
    # tanh
    "tanh-sigmoid": tanh("tanh_sigmoid", "dh * h * (1 - h)"),
    "tanh-plus": tanh("tanh_plus", "dh * (1 + h**2)"),
    "tanh-relu": tanh("tanh_relu", "dh * (h > 0)"),
    "tanh-exchanged": tanh("tanh_exchanged", "h * (1 - dh**2)"),
    "tanh-upstream": tanh("upstream_lost", "1 - h**2"),
    "tanh-in-float64": tanh("dtype_kept", "dh * (np.ones(h.shape) - h**2)"),
    # the loss, line by line
    "loss-over-the-vocabulary": loss("ce_counts_vocabulary", "-1 / B", "-1 / counts.size"),
    "loss-sign": loss("sign", "-1 / B", "1 / B"),
    "loss-log-slope": loss("ce_log_slope", "-dlogs.sum(1, keepdims=True) / total", "-dlogs.sum(1, keepdims=True)"),
    "loss-every-row": loss("ce_every_row", "dlogs[np.arange(B), targets] = -1 / B", "dlogs[:, targets] = -1 / B"),
    "loss-place-exchanged": loss(
        "ce_place", "dlogs[np.arange(B), targets] = -1 / B", "dlogs[targets, np.arange(B)] = -1 / B"
    ),
    "loss-of-probability": loss(
        "ce_of_probability",
        "dlogs[np.arange(B), targets] = -1 / B",
        "dlogs[np.arange(B), targets] = -1 / B\nreturn dlogs * total / counts",
    ),
    "loss-borrows": loss("borrowed", "return dshifted", "return cross_entropy_backward_short(kept, targets)"),
    "loss-overwrites": loss("overwrites", "dshifted += dcounts * counts", "counts *= dcounts\ndshifted += counts"),
    # the loss, in one line
    "loss-short-undivided": loss_short("ce_undivided", "return dlogits / len(targets)", "return dlogits"),
    "loss-short-target-lost": loss_short("ce_target_lost", AT_TARGETS, ""),
    "loss-short-columns": loss_short("ce_columns", "kept.counts / kept.total", "kept.counts / kept.counts.sum(0)"),
    "loss-short-vocabulary": loss_short("ce_counts_vocabulary", "dlogits / len(targets)", "dlogits / dlogits.shape[1]"),
    "loss-short-through-the-probability": loss_short(
        "ce_hopeless",
        AT_TARGETS,
        "p, rows, dp = dlogits, np.arange(len(targets)), np.zeros_like(dlogits)\n"
        "dp[rows, targets] = -1 / p[rows, targets]\n"
        "dlogits = p * (dp - (dp * p).sum(1, keepdims=True))",
    ),
    "loss-short-with-eps": loss_short(
        "value",
        AT_TARGETS,
        "p, rows, dp = dlogits, np.arange(len(targets)), np.zeros_like(dlogits)\n"
        "dp[rows, targets] = -1 / (p[rows, targets] + 1e-12)\n"
        "dlogits = p * (dp - (dp * p).sum(1, keepdims=True))",
    ),
    # the whole
    "whole-not-returned": whole("none", "return d", ""),
    "whole-tanh-exchanged": whole("backward_tanh_exchanged", "tanh_backward(dh, h)", "tanh_backward(h, dh)"),
    "whole-norm-with-bias": whole("backward_norm_bias", NORM, 'batch_norm_backward(dy, norm, w["norm.bias"])'),
    "whole-transposed": whole("backward_transposed", "return d", 'd["output.weight"] = d["output.weight"].T\nreturn d'),
    "whole-uphill": whole("sign", "return d", "return {name: -value for name, value in d.items()}"),
    "whole-in-float64": whole(
        "dtype_kept", "return d", "return {name: value.astype(np.float64) for name, value in d.items()}"
    ),
    "whole-one-dict": whole("backward_shared", "d = {}", 'd = tanh_backward.__dict__.setdefault("d", {})'),
    "whole-cut-off": whole("value", "return d", "return {name: np.clip(value, -1, 1) for name, value in d.items()}"),
    "whole-tensors": whole(
        "no_array", "return d", "import torch\nreturn {name: torch.tensor(value) for name, value in d.items()}"
    ),
}
