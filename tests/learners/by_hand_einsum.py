"""Right gradients with one-hot matrices and einsum: no indexing, no sum without its letters."""

import numpy as np


def onehot(indices, size, like):
    return (indices[..., None] == np.arange(size)).astype(like.dtype)


def embedding_backward(dx, table, contexts):
    rows, width = table.shape
    shares = dx.reshape(*contexts.shape, width)
    return np.einsum("bnv,bnc->vc", onehot(contexts, rows, table), shares)


def linear_backward(dy, x, weight):
    return (
        np.einsum("bo,oi->bi", dy, weight),
        np.einsum("bo,bi->oi", dy, x),
        np.einsum("bo->o", dy),
    )


def projected(dy, normed):
    """dy without its parts along the ones and along normed, column by column."""
    B = dy.shape[0]
    along_ones = np.einsum("bk,ck->bk", dy * 0 + 1, dy) / B
    along_normed = np.einsum("bk,ck,ck->bk", normed, normed, dy) / B
    return dy - along_ones - along_normed


def batch_norm_backward(dy, kept, weight):
    dx = np.einsum("bk,k,k->bk", projected(dy, kept.normed), weight, kept.inverse)
    return [dx, np.einsum("bk,bk->k", dy, kept.normed), np.einsum("bk->k", dy)]


def batch_norm_backward_short(dy, kept, weight):
    B, K = dy.shape
    ones = np.ones((B, B), dy.dtype)
    outer = np.einsum("bk,ck->kbc", kept.normed, kept.normed)
    keeps = np.eye(B, dtype=dy.dtype) - (ones + outer) / B  # (K, B, B): one matrix a feature
    return np.einsum("k,k,kbc,ck->bk", weight, kept.inverse, keeps, dy)


def tanh_backward(dh, h):
    return dh * (1 + h) * (1 - h)


def cross_entropy_backward(kept, targets):
    B, V = kept.counts.shape
    hit = onehot(targets, V, kept.counts)
    # of log p = log counts - log total, each logit moves its own count alone
    through_counts = -hit / B
    through_total = np.einsum("bv,b,bu->bv", kept.counts, 1 / kept.total[:, 0], hit) / B
    return through_counts + through_total


def cross_entropy_backward_short(kept, targets):
    p = kept.counts / kept.total
    return (p - onehot(targets, p.shape[1], p)) / len(p)


def backward(weights, passed):
    dlogits = cross_entropy_backward_short(passed.scored, targets=passed.targets)
    dh, *output = linear_backward(dlogits, passed.h, weights["output.weight"])
    dz, *norm = batch_norm_backward(tanh_backward(dh, passed.h), passed.norm, weights["norm.weight"])
    dx, hidden, _ = linear_backward(dz, passed.x, weights["hidden.weight"])
    table = embedding_backward(dx, weights["embedding.weight"], passed.contexts)
    names = "embedding.weight hidden.weight norm.weight norm.bias output.weight output.bias".split()
    return dict(zip(names, (table, hidden, *norm, *output), strict=True))
