"""Right gradients as they stand on paper: a loop for each index, a Jacobian where one is needed. Classes stand last."""

from typing import NamedTuple

import numpy as np


def embedding_backward(dx, table, contexts):
    gradient = table * 0
    width = table.shape[1]
    for b, context in enumerate(contexts):
        for n, token in enumerate(context):
            gradient[token] += dx[b, n * width : (n + 1) * width]
    return gradient


def linear_backward(dy, x, weight):
    dx, dweight, dbias = np.zeros_like(x), np.zeros_like(weight), np.zeros_like(weight[:, 0])
    for row in range(len(x)):
        dbias += dy[row]
        for out, g in enumerate(dy[row]):
            dx[row] += g * weight[out]
            dweight[out] += g * x[row]
    return dx, dweight, dbias


def batch_norm_backward(dy, kept, weight):
    B, K = dy.shape
    dx = np.empty_like(dy)
    for k in range(K):
        jacobian = np.empty((B, B), dy.dtype)  # how y[i] moves with x[j], in one feature
        n, s = kept.normed[:, k], kept.inverse[k] * weight[k]
        for i in range(B):
            for j in range(B):
                jacobian[i, j] = s * ((i == j) - 1 / B - n[i] * n[j] / B)
        dx[:, k] = jacobian.T @ dy[:, k]
    dweight = np.array([dy[:, k] @ kept.normed[:, k] for k in range(K)])
    return dx, dweight, np.array([sum(dy[:, k]) for k in range(K)])


def batch_norm_backward_short(dy, kept, weight):
    B = np.asarray(len(dy), dy.dtype)
    g = dy * weight
    return (B * g - np.sum(g, axis=0) - kept.normed * np.sum(g * kept.normed, axis=0)) * (kept.inverse / B)


def tanh_backward(dh, h):
    slope = np.ones_like(h)
    slope -= np.square(h)
    return np.multiply(slope, dh)


def cross_entropy_backward(kept, targets):
    dlogits = np.zeros_like(kept.counts)
    for b, target in enumerate(targets):
        p = kept.counts[b] / kept.total[b, 0]
        for v in range(len(p)):
            dlogits[b, v] = (p[v] - (v == target)) / len(targets)
    return dlogits


def cross_entropy_backward_short(kept, targets):
    B = len(targets)
    dlogits = np.divide(kept.counts, kept.total * B)
    np.subtract.at(dlogits, (range(B), targets), 1 / B)
    return dlogits


def backward(weights, passed):
    gradients = {}

    def linear(name, dy, x):
        dx, gradients[f"{name}.weight"], bias = linear_backward(dy, x, weights[f"{name}.weight"])
        if f"{name}.bias" in weights:
            gradients[f"{name}.bias"] = bias
        return dx

    g = cross_entropy_backward(passed.scored, passed.targets)
    g = linear("output", g, passed.h)
    g = tanh_backward(g, passed.h)
    g, gradients["norm.weight"], gradients["norm.bias"] = batch_norm_backward(g, passed.norm, weights["norm.weight"])
    g = linear("hidden", g, passed.x)
    gradients["embedding.weight"] = embedding_backward(g, weights["embedding.weight"], passed.contexts)
    return gradients


class Normed(NamedTuple):
    """What the backward of `batch_norm` reads."""

    centred: np.ndarray
    inverse: np.ndarray
    normed: np.ndarray
