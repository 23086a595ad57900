"""Checks of the recurrent station. B = 3, T = 6, C = 5, K = 7, V = 11, L = 3; what torch.nn has, is the oracle."""

from collections.abc import Sequence
from itertools import product

import torch
from torch import nn

from kakehashi.journey import lm_checks
from kakehashi.journey.checking import Wrong, check, fresh, gradients, part, same, shake, shape, twin
from kakehashi.journey.lm_checks import (
    DROPOUT,
    HALF,
    LEFT_PAD,
    Loss,
    alike,
    changed,
    drops,
    in_pieces,
    keeps_its_config,
    normal,
    suspect,
    targets_with_gaps,
)

B, T, C, K, V, L = 3, 6, 5, 7, 11, 3
SIZES = {"vocab_size": V, "n_layers": L, "n_embd": C, "n_hidden": K}
EXACT = 1e-5  # a few steps of the same sums in another order
CELLS = {  # its gates; the tensors of its state; torch's step, as in nn.LSTMCell; torch's loop, as in nn.LSTM
    "rnn": (1, 1, torch.rnn_tanh_cell, torch.rnn_tanh),
    "gru": (3, 1, torch.gru_cell, torch.gru),
    "lstm": (4, 2, torch.lstm_cell, torch.lstm),
}


def tensors(name, value, *sizes):
    """The value, if it is a tuple of tensors of these shapes."""
    if value is None:
        raise Wrong("none", name=name)
    if not isinstance(value, tuple | list) or len(value) != len(sizes):
        many = f" of {len(value)}" if isinstance(value, tuple | list) else ""
        raise Wrong("tuple", name=name, seen=f"{type(value).__name__}{many}", expected=len(sizes))
    return tuple(shape(f"{name}[{i}]", each, size) for i, (each, size) in enumerate(zip(value, sizes, strict=True)))


# A step of each cell


def given(cell, rng):
    """x (B, G K), the tensors of the state, each (B, K), weight (G K, K), bias (G K)."""
    n_gates, n_state, *_ = CELLS[cell]
    x, bias = (torch.randn(*size, n_gates * K, generator=rng) for size in ((B,), ()))
    state = tuple(torch.randn(B, K, generator=rng) for _ in range(n_state))
    return x, state, torch.randn(n_gates * K, K, generator=rng) / K**0.5, bias


def torchs(cell):
    """torch's own step; the identity as its weight_ih lets x through."""

    def step(x, state, weight, bias):
        through, nothing = torch.eye(len(weight)).to(weight), torch.zeros_like(bias)
        after = CELLS[cell][2](x, state if cell == "lstm" else state[0], through, weight, nothing, bias)
        return after if cell == "lstm" else (after,)

    return step


def steps(name, step):
    """(x (B, T, G K), weight, bias, *state) -> the states after each step (B, T, n K)."""

    def run(x, weight, bias, *state):
        seen = []
        for now in x.unbind(1):
            state = tensors(name, step(now, state, weight, bias), *[(B, K)] * len(state))
            seen.append(torch.cat(state, -1))
        return torch.stack(seen, 1)

    return run


def one_step(cell, mine, inputs):
    """Mine, torch's: the tensors of the state side by side."""
    x, state, weight, bias = inputs
    own = steps(cell, getattr(mine, cell))(*map(fresh, (x[:, None], weight, bias, *state)))
    return own[:, 0], torch.cat(torchs(cell)(*inputs), -1)


def usual_mistakes(cell, inputs):
    """What they would give."""
    x, state, weight, bias = inputs
    step, nothing = torchs(cell), torch.zeros_like(state[0])
    return {
        "step_no_bias": torch.cat(step(x, state, weight, torch.zeros_like(bias)), -1),
        "step_no_memory": torch.cat(step(x, (nothing, *state[1:]), weight, bias), -1),
    }


def steps_right(cell, mine, inputs):
    """Three steps in a row and their gradients are torch's, and so is a step of large numbers, or in half precision."""
    x, state, weight, bias = inputs
    own, theirs = steps(cell, getattr(mine, cell)), steps(cell, torchs(cell))
    gradients(cell, own, theirs, torch.stack((x, -x, x), 1), weight, bias, *state, tol=EXACT)
    large = 1e3 * x[:, None], weight, bias, *(10 * each for each in state)  # e^x is infinite beyond 88
    same(f"{cell} of large numbers", own(*large), theirs(*large), tol=EXACT)
    half = [each.bfloat16() for each in (x[:, None], weight, bias, *state)]
    same(f"{cell} in bfloat16", own(*half), theirs(*half), tol=HALF)


@check("rnn", 100)
def rnn_writes_its_state_anew(mine, ref, rng):
    inputs = x, (h,), weight, bias = given("rnn", rng)
    inside = x + h @ weight.T + bias
    suspect(
        "the state after rnn",
        *one_step("rnn", mine, inputs),
        tol=EXACT,
        **usual_mistakes("rnn", inputs),
        rnn_no_tanh=inside,
        rnn_relu=torch.relu(inside),
        rnn_transposed=torch.tanh(x + h @ weight + bias),
        rnn_added=h + torch.tanh(inside),
    )
    steps_right("rnn", mine, inputs)


@check("gru", 200)
def gru_mixes_old_and_new(mine, ref, rng):
    inputs = x, (h,), weight, bias = given("gru", rng)
    (x_r, x_z, x_n), (h_r, h_z, h_n) = x.chunk(3, -1), (h @ weight.T + bias).chunk(3, -1)
    r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
    w_n, b_n = weight.chunk(3)[2], bias.chunk(3)[2]

    def mixed(inside, squash=torch.tanh):
        return (1 - z) * squash(inside) + z * h

    new = torch.tanh(x_n + r * h_n)
    suspect(
        "the state after gru",
        *one_step("gru", mine, inputs),
        tol=EXACT,
        **usual_mistakes("gru", inputs),
        gru_update_inverted=z * new + (1 - z) * h,
        gru_gates_swapped=(1 - r) * torch.tanh(x_n + z * h_n) + r * h,
        gru_reset_missing=mixed(x_n + h_n),
        gru_reset_on_input=mixed(r * x_n + h_n),
        gru_reset_on_both=mixed(r * (x_n + h_n)),
        gru_reset_on_state=mixed(x_n + (r * h) @ w_n.T + b_n),
        gru_reset_not_on_bias=mixed(x_n + r * (h @ w_n.T) + b_n),
        gru_no_tanh=mixed(x_n + r * h_n, lambda inside: inside),
        gru_new_only=new,
    )
    steps_right("gru", mine, inputs)


@check("lstm", 300)
def lstm_adds_to_its_cell(mine, ref, rng):
    inputs = x, (h, c), weight, bias = given("lstm", rng)
    gates = (x + h @ weight.T + bias).chunk(4, -1)

    def state(order=(0, 1, 2, 3), content=torch.tanh, shown=torch.tanh):
        i, f, g, o = (gates[at] for at in order)
        after = f.sigmoid() * c + i.sigmoid() * content(g)
        return torch.cat((o.sigmoid() * shown(after), after), -1)

    (right, after), show = state().chunk(2, -1), gates[3].sigmoid()
    never = c + gates[0].sigmoid() * gates[2].tanh()
    suspect(
        "the state after lstm",
        *one_step("lstm", mine, inputs),
        tol=EXACT,
        **usual_mistakes("lstm", inputs),
        lstm_forget_and_input=state((1, 0, 2, 3)),
        lstm_content_and_output=state((0, 1, 3, 2)),
        lstm_content_bare=state(content=lambda g: g),
        lstm_content_sigmoid=state(content=torch.sigmoid),
        lstm_shown_bare=state(shown=lambda c: c),
        lstm_old_shown=torch.cat((show * c.tanh(), after), -1),
        lstm_handed_on_swapped=torch.cat((after, right), -1),
        lstm_never_forgets=torch.cat((show * never.tanh(), never), -1),
    )
    steps_right("lstm", mine, inputs)


# Layer


class Read(nn.Module):
    """A layer of ours as a module of one tensor, for `gradients`: h at each time, then the state after the last."""

    def __init__(self, layer, begins=None, real=None):
        super().__init__()
        self.layer, self.begins, self.real = layer, begins, real

    def forward(self, x, *state):
        begins = torch.zeros(x.shape[:2], dtype=torch.bool) if self.begins is None else fresh(self.begins)
        result = self.layer(x, state, begins, *([] if self.real is None else [fresh(self.real)]))
        if not isinstance(result, tuple | list) or len(result) != 2:
            raise Wrong("layer_result", seen=type(result).__name__)
        h = shape("Layer: h at each time", result[0], (*x.shape[:2], K))
        last = tensors("Layer: the state after the last", result[1], *[(len(x), K)] * len(state))
        return torch.cat((h, torch.stack(last, 1)), 1)


class Torchs(nn.Module):
    """torch's own layer with the same weights, in the same form."""

    def __init__(self, cell, layer):
        super().__init__()
        self.cell, self.layer = cell, layer

    def forward(self, x, *state):
        first = tuple(each[None] for each in state)
        weights = [getattr(self.layer, name) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        h, *last = CELLS[self.cell][3](
            x, first if self.cell == "lstm" else first[0], weights, True, 1, 0.0, False, False, True
        )
        return torch.cat((h, *(each.transpose(0, 1) for each in last)), 1)


def layers(mine, ref, rng, cell):
    """Twins C -> K with random weights, x (B, T, C), the tensors of a state."""
    theirs = shake(ref.Layer(cell, C, K), rng)
    state = tuple(torch.randn(B, K, generator=rng) for _ in range(CELLS[cell][1]))
    return twin("Layer", mine.Layer(cell, C, K), theirs), theirs, torch.randn(B, T, C, generator=rng), state


@check("Layer", 400)
def layer_has_its_parameters(mine, ref, rng):
    for cell in CELLS:
        layers(mine, ref, rng, cell)


@check("Layer", 410)
def layer_starts_open(mine, ref, rng):
    for cell in CELLS:
        for n_in in (40, 90):
            starts_open(cell, [mine.Layer(cell, n_in, 90)])


def starts_open(cell, fresh_layers):
    """Weights are normal, each gate's drawn anew; biases are 0, but for the forget gate."""
    n_gates, n_hidden, drawn = CELLS[cell][0], fresh_layers[0].weight_hh.shape[1], []
    usual = (3 * n_hidden) ** -0.5
    zeros = torch.zeros(n_gates * n_hidden)
    right = zeros.clone()
    if cell == "lstm":
        right[n_hidden : 2 * n_hidden] = 1
    for own in fresh_layers:
        widths = own.weight_ih.shape[1], n_hidden
        for name, fan, other in zip(("weight_ih", "weight_hh"), widths, reversed(widths), strict=True):
            for gate in getattr(own, name).detach().chunk(n_gates):
                normal(f"{name} of {cell}", gate, fan**-0.5, start_fan=other**-0.5, start_default=usual)
                if any(torch.equal(gate, each) for each in drawn):
                    raise Wrong("start_repeated", name=f"{name} of {cell}")
                drawn.append(gate)
        if cell == "lstm":
            suspect("bias_hh of lstm", own.bias_hh, zeros, forget_twice=right)
            if changed(right, own.bias_ih).any() and alike(own.bias_ih.sort().values, right.sort().values):
                raise Wrong("forget_elsewhere", gate="ifgo"[int(own.bias_ih.argmax()) // n_hidden])
        suspect(f"bias_ih of {cell}", own.bias_ih, right, forget_missing=zeros)
        same(f"bias_hh of {cell}", own.bias_hh, zeros)


@check("Layer", 420)
def layer_reads_from_left_to_right(mine, ref, rng):
    for cell in CELLS:
        own, theirs, x, state = layers(mine, ref, rng, cell)
        whole = Torchs(cell, theirs)
        right = whole(x, *state)
        output = Read(own)(fresh(x), *map(fresh, state))
        if cell == "lstm" and alike(output[:, T - 1], right[:, -1]):
            raise Wrong("layer_shows_its_cell")
        backwards = whole(x.flip(1), *state)
        weights = theirs.state_dict()
        biases = {}
        for key, name, value in (
            ("layer_bias_ih", "bias_ih", 0 * theirs.bias_ih),
            ("layer_bias_hh", "bias_hh", 0 * theirs.bias_hh),
            ("layer_bias_ih_twice", "bias_hh", theirs.bias_ih),
        ):
            other = ref.Layer(cell, C, K)
            other.load_state_dict(weights | {name: value})
            biases[key] = Torchs(cell, other)(x, *state)
        suspect(
            f"Layer of {cell}: h at each time, and the state after the last",
            output,
            right,
            tol=EXACT,
            layer_backwards=torch.cat((backwards[:, :T].flip(1), backwards[:, T:]), 1),
            layer_state_ignored=whole(x, *map(torch.zeros_like, state)),
            layer_late=torch.cat((state[0][:, None], right[:, : T - 1], right[:, T:]), 1),
            **biases,
        )
        for rows, times in ((1, T), (B, 1), (1, 1)):
            some = x[:rows, :times], *(each[:rows] for each in state)
            same(f"Layer of {cell}: rows, times {rows}, {times}", Read(own)(*map(fresh, some)), whole(*some), tol=EXACT)


@check("Layer", 430)
def layer_has_a_gradient(mine, ref, rng):
    for cell in CELLS:
        own, theirs, x, state = layers(mine, ref, rng, cell)
        x = x.repeat(1, 7, 1)  # long: a state detached every so many tokens should show
        first = x[:, :1].clone().requires_grad_()
        late = Read(own)(torch.cat((first, x[:, 1:]), 1), *state)[:, x.shape[1] - 1].sum()
        reached = torch.autograd.grad(late, first, allow_unused=True)[0] if late.requires_grad else None
        if reached is None or not reached.any():
            raise Wrong("layer_history")
        gradients(f"Layer of {cell}", Read(own), Torchs(cell, theirs), x, *state, tol=EXACT)


@check("Layer", 440)
def layer_empties_its_state(mine, ref, rng):
    begins = torch.zeros(B, T).bool()
    begins[0, 2] = begins[1, 0] = begins[1, 4] = True
    for cell in CELLS:
        own, theirs, x, state = layers(mine, ref, rng, cell)
        suspect(
            f"Layer of {cell} with tokens that begin a document",
            Read(own, begins)(fresh(x), *map(fresh, state)),
            Read(theirs, begins)(x, *state),
            begins_ignored=Read(theirs)(x, *state),
            begins_after=Read(theirs, later(begins))(x, *state),
            begins_everywhere=Read(theirs, begins.any(0).expand(B, T))(x, *state),
            begins_leave_the_cell=with_old_cell(theirs, x, state, begins),
        )


def later(where):
    """(B, T) bool -> the same a token later."""
    return torch.cat((torch.zeros_like(where[:, :1]), where[:, :-1]), 1)


def with_old_cell(layer, x, state, begins):
    """What a layer gives that empties h alone; the same as the right one but for an LSTM."""
    seen = []
    for t in range(T):
        state = state[0].masked_fill(begins[:, t, None], 0), *state[1:]
        _, state = layer(x[:, t : t + 1], state, torch.zeros(B, 1).bool())
        seen.append(state[0])
    return torch.stack((*seen, *state), 1)


@check("Layer", 450)
def layer_leaves_its_state_at_padding(mine, ref, rng):
    """On the left, on the right, and with holes; what stands at padding itself does not count."""
    holes = torch.tensor([[1, 0, 1, 1, 0, 1]]).bool().expand(B, T)
    for cell in CELLS:
        own, theirs, x, state = layers(mine, ref, rng, cell)
        for real in (LEFT_PAD, LEFT_PAD.flip(1), holes):
            counted = torch.cat((real, torch.ones(B, len(state)).bool()), 1)
            right = Read(theirs, None, real)(x, *state)[counted]
            suspect(
                f"Layer of {cell} with padding",
                Read(own, None, real)(fresh(x), *map(fresh, state))[counted],
                right,
                padding_written=Read(theirs)(x, *state)[counted],
                padding_inverted=Read(theirs, None, ~real)(x, *state)[counted],
                padding_empties=Read(theirs, later(~real))(x, *state)[counted],
            )
            # a row may be filled with END: as padding it ends nothing
            if not alike(Read(own, ~real, real)(fresh(x), *map(fresh, state))[counted], right):
                raise Wrong("padding_begins")


@check("Layer", 470)
def layer_runs_in_half_precision(mine, ref, rng):
    for cell in CELLS:
        own, theirs, x, state = layers(mine, ref, rng, cell)
        x, *state = (each.bfloat16() for each in (x, *state))
        name = f"Layer of {cell} in bfloat16"
        same(name, Read(own.bfloat16())(x, *state), Read(theirs.bfloat16())(x, *state), tol=HALF)
        # what beginnings and padding do, is judged in float32; here their masks only leave the dtype as it is
        masked = Read(own, torch.eye(B, T).bool(), LEFT_PAD)(x, *state)
        if masked.dtype != x.dtype:
            raise Wrong("dtype", name=f"{name} with padding", seen=masked.dtype, expected=x.dtype)


# Recurrent


def model(mine, ref, rng, **settings):
    """Twins with random weights, evaluating."""
    settings = SIZES | settings
    theirs = shake(ref.Recurrent(ref.Config(**settings)), rng).eval()
    return twin("Recurrent", mine.Recurrent(mine.Config(**settings)), theirs), theirs


def by_hand(theirs, tokens, begins, which: Sequence[int] = range(L)):
    """The logits of a reference model for given beginnings, (B, T), through some of its layers."""
    x, state = theirs.embedding(tokens), theirs.new_state(len(tokens))
    for i in which:
        x, _ = theirs.layers[i](x, state.layers[i], begins)
    return theirs.output(x)


def inside(rng):
    """(3, 6), a slice of tokens in the midst of documents."""
    return torch.randint(1, V, (B, T + 1), generator=rng)[:, :-1]


def with_ends(rng):
    """Documents end in the midst."""
    tokens = inside(rng)
    tokens[0, 2] = tokens[1, 0] = tokens[1, 4] = 0
    return tokens


@check("Recurrent", 500)
def model_has_its_parameters(mine, ref, rng):
    for cell in CELLS:
        model(mine, ref, rng, cell=cell)


@check("Recurrent", 505)
def model_keeps_its_config(mine, ref, rng):
    config = mine.Config(**SIZES)
    keeps_its_config("Recurrent", mine.Recurrent(config), config)


@check("Recurrent", 510)
def model_predicts_at_every_position(mine, ref, rng):
    own, _ = model(mine, ref, rng)
    lm_checks.predicts_at_every_position(own, V, (B, T), (1, 1), (2, 4))


@check("Recurrent", 515)
def model_begins_with_nothing(mine, ref, rng):
    for cell, (_, n_state, *_) in CELLS.items():
        own, _ = model(mine, ref, rng, cell=cell)
        found = part("new_state", own.new_state(4), "layers")
        if len(found) != L:
            raise Wrong("state_layers", seen=len(found), expected=L)
        for each in found:
            for value in tensors("new_state: a layer", each, *[(4, K)] * n_state):
                same("new_state", value, torch.zeros(4, K))


@check("Recurrent", 520)
def model_remembers_the_past_alone(mine, ref, rng):
    own, _ = model(mine, ref, rng, cell="rnn")
    tokens = inside(rng)
    other = tokens.clone()
    other[0, 2] = tokens[0, 2] % (V - 1) + 1
    moved = changed(own(tokens).logits, own(other).logits).any(-1)[0]
    if moved[:2].any():
        raise Wrong("window_future", position=moved.nonzero()[0, 0], later=2)
    if not moved[2]:
        raise Wrong("window_self")
    if not moved[3:].any():
        raise Wrong("model_forgets")


@check("Recurrent", 530)
def model_keeps_batches_apart(mine, ref, rng):
    own, _ = model(mine, ref, rng)
    lm_checks.keeps_batches_apart(own, V, with_ends(rng))


@check("Recurrent", 540)
def model_computes_its_logits(mine, ref, rng):
    for cell in CELLS:
        own, theirs = model(mine, ref, rng, cell=cell)
        for tokens in (inside(rng), with_ends(rng), with_ends(rng)[1:2]):
            output, right, begins = own(tokens).logits, theirs(tokens).logits, tokens == 0
            if alike(output, right):
                continue
            suspect(
                "logits",
                output,
                right,
                model_ends_ignored=by_hand(theirs, tokens, torch.zeros_like(begins)),
                model_ends_late=by_hand(theirs, tokens, later(begins)),
                model_ends_inverted=by_hand(theirs, tokens, ~begins),
                model_layers_left_out=by_hand(theirs, tokens, begins, [0]),
                model_layers_shared=by_hand(theirs, tokens, begins, [0, *[L - 1] * (L - 1)]),
            )


@check("Recurrent", 560)
def model_goes_on_from_its_state(mine, ref, rng):
    for cell in CELLS:
        own, theirs = model(mine, ref, rng, cell=cell)
        for training in (False, True):
            own.train(training)
            lm_checks.goes_on_from_its_state(own, theirs, with_ends(rng), (1,) * T, (3, 1, 2))


@check("Recurrent", 570)
def model_hands_on_no_history(mine, ref, rng):
    own, _ = model(mine, ref, rng)
    for training in (False, True):
        state = own.new_state(1)
        own.train(training)(inside(rng)[:1], state=state)
        for i, each in enumerate(part("new_state", state, "layers")):
            each = tensors(f"the state of layer {i}", each, (1, K), (1, K))
            if any(value.requires_grad for value in each):
                raise Wrong("model_history", layer=i)


@check("Recurrent", 580)
def model_does_not_read_padding(mine, ref, rng):
    own, theirs = model(mine, ref, rng)
    tokens = inside(rng)
    for training, given in ((False, tokens), (True, tokens), (False, with_ends(rng))):
        own.train(training)
        lm_checks.leaves_out_padding(own, theirs, given)
        right = theirs(given, pad=LEFT_PAD).logits[LEFT_PAD]
        same("logits of padded tokens one by one", in_pieces(own, (1,) * T, given, LEFT_PAD)[LEFT_PAD], right)


def unmixed(mine, ref, rng, cell, n_layers):
    """Twins whose layers have no memory and mix nothing: tanh of what they read, for an LSTM tanh of tanh."""
    sizes = {"cell": cell, "n_layers": n_layers, "n_embd": K, "dropout": DROPOUT}
    own, theirs = model(mine, ref, rng, **sizes)
    content, biases = {"rnn": (0, [0]), "gru": (2, [0, -1e3, 0]), "lstm": (2, [1e3, -1e3, 0, 1e3])}[cell]  # a gate's
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.zero_()
        theirs.embedding.weight.fill_(0.5)
        theirs.output.weight.copy_(torch.eye(V, K))
        for layer in theirs.layers:
            layer.weight_ih.unflatten(0, (-1, K))[content].copy_(torch.eye(K))
            layer.bias_ih.copy_(torch.tensor(biases).repeat_interleave(K))
    return twin("Recurrent", own, theirs), theirs


@check("Recurrent", 590)
def model_drops_out_in_training_only(mine, ref, rng):
    """From what comes out of layers without memory or mixing follows where values were dropped, and how often."""
    tokens, more = torch.ones(256, T, dtype=torch.long), 1 / (1 - DROPOUT)
    for cell, n in product(CELLS, (2, 1)):
        own, theirs = unmixed(mine, ref, rng, cell, n)
        if not alike(own(tokens).logits, theirs(tokens).logits):
            raise Wrong("model_dropout_in_evaluation")
        own.train()

        def value(*scales, cell=cell):
            x = torch.tensor(0.5)
            for scale in scales[:-1]:
                x = (x * scale).tanh().tanh() if cell == "lstm" else (x * scale).tanh()
            return x * scales[-1]

        for state in (None, own.new_state(len(tokens))):
            output = own(tokens, state=state).logits[..., :K]
            kept, dropped = output[output != 0], 1 - (1 - DROPOUT) ** (n + 1)
            for key, left_out in (
                ("model_dropout_missing", range(n + 1)),
                ("model_dropout_of_embeddings", range(1)),
                ("model_dropout_between", range(1, n)),
                ("model_dropout_of_the_last", range(n, n + 1)),
                ("model_dropout_of_the_layers", range(1, n + 1)),
            ):
                scales = [1 if at in left_out else more for at in range(n + 1)]
                if left_out and alike(kept, value(*scales).expand_as(kept)):
                    raise Wrong(key)
            zero = output == 0
            for axis in range(3):
                # chance drops two neighbours at once share^2 of the time, within 0.03; a mask shared, 0.06 more often
                if (zero & zero.roll(1, axis)).float().mean() > zero.float().mean() ** 2 + 0.03:
                    raise Wrong("model_dropout_shared", axis=axis)
            drops(f"Recurrent of {cell}", output, value(*[more] * (n + 1)) * (1 - dropped), dropped)
        h = part("new_state", state, "layers")[0][0]
        if not alike(h[h != 0], value(more, 1).expand_as(h[h != 0])):
            raise Wrong("model_dropout_of_the_state")


@check("Recurrent", 600)
def model_starts_modestly(mine, ref, rng):
    own = mine.Recurrent(mine.Config(vocab_size=50, n_embd=30, n_hidden=100))
    normal("embedding.weight", own.embedding.weight, 1.0, start_small=0.02)
    normal("output.weight", own.output.weight, 0.01, start_output_gain=0.1, start_default=300**-0.5)
    same("output.bias at the start", own.output.bias, torch.zeros(50))
    lm_checks.starts_undecided(own, 50, rng)
    for cell in CELLS:
        starts_open(cell, mine.Recurrent(mine.Config(cell=cell, n_layers=L, n_embd=40, n_hidden=90)).layers)


@check("Recurrent", 610)
def model_has_a_gradient(mine, ref, rng):
    for cell in CELLS:
        own, theirs = model(mine, ref, rng, cell=cell)
        tokens, targets = with_ends(rng), targets_with_gaps(rng, B, T, V)
        right = theirs(tokens, targets)
        same("logits beside a loss", part("forward", own(tokens, fresh(targets)), "logits"), right.logits)
        gradients("loss", Loss(own, targets), Loss(theirs, targets), tokens)
        tokens, targets = torch.cat((tokens, inside(rng)), 1), torch.randint(V, (B, 2 * T), generator=rng)
        own.train()
        gradients("losses of two windows", Windows(own, targets), Windows(theirs, targets), tokens)


class Windows(nn.Module):
    """The losses of two windows of a stream with the state handed on, as `train --carry` takes them."""

    def __init__(self, model, targets):
        super().__init__()
        self.model, self.targets = model, targets

    def forward(self, tokens):
        state, losses = self.model.new_state(B), []
        for given, targets in zip(tokens.split(T, 1), self.targets.split(T, 1), strict=True):
            losses.append(shape("loss", part("forward", self.model(given, targets, state=state), "loss"), ()))
        return torch.stack(losses)


@check("Recurrent", 620)
def model_runs_in_half_precision(mine, ref, rng):
    own, theirs = model(mine, ref, rng)
    tokens = with_ends(rng)
    for each in own.bfloat16().new_state(B).layers:
        for value in each:
            same("new_state of a model in bfloat16", value, torch.zeros(B, K).bfloat16())
    same("logits in bfloat16", own.bfloat16()(tokens).logits, theirs.bfloat16()(tokens).logits, tol=HALF)


# The house


@check("", 900)
def trains_in_the_house(mine, ref, rng):
    """Stays: parts that are right one by one may disagree with each other; here the whole file runs."""
    lm_checks.trains_alike(mine.Model(mine.Config(**SIZES)), shake(ref.Model(ref.Config(**SIZES)), rng), rng, V, T)


@check("", 910)
def writes_in_the_house(mine, ref, rng):
    """Stays: generation is the other half of the house: a state, one token at a time."""
    own, theirs = mine.Model(mine.Config(**SIZES)), shake(ref.Model(ref.Config(**SIZES)), rng)
    lm_checks.continues_alike(own, theirs, with_ends(rng))
