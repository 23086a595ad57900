import torch

from kakehashi.journey.checking import Wrong, check, fresh, gradients, same, shake, twin


@check("squash", 10)
def squash_is_log_1_plus_exp(mine, ref, rng):
    x = torch.randn(4, 3, generator=rng)
    same("squash(x)", mine.squash(fresh(x)), torch.nn.functional.softplus(x))


@check("squash", order=11)
def squash_survives_large_numbers(mine, ref, rng):
    if not mine.squash(torch.tensor([200.0])) <= 200.0:
        raise Wrong("overflows", x=200)


@check("Gain.forward", 20)
def gain_multiplies(mine, ref, rng):
    gain = shake(ref.Gain(3), rng)
    gradients("Gain", twin("Gain", mine.Gain(3), gain), gain, torch.randn(4, 3, generator=rng))


@check("Net", 30)
def net_adds(mine, ref, rng):
    net = shake(ref.Net(3), rng)
    gradients("Net", twin("Net", mine.Net(3), net), net, torch.randn(4, 3, generator=rng))


@check("", 90)
def net_learns(mine, ref, rng):
    net, x = mine.Net(3), torch.randn(4, 3, generator=rng)
    before = net(x).square().mean()
    before.backward()
    with torch.no_grad():
        net.gain.weight -= 0.1 * net.gain.weight.grad
    if not net(x).square().mean() < before:
        raise Wrong("does_not_learn")
