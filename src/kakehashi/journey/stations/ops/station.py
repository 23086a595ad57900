from kakehashi.journey.stations import Station

STATION = Station(
    "ops",
    "kakehashi.autograd.ops",
    symbols=(
        "exp",
        "tanh",
        "add",
        "mul",
        "div",
        "where",
        "sum",
        "amax",
        "cumsum",
        "logsumexp",
        "reshape",
        "permute",
        "pad",
        "cat",
        "getitem",
        "scatter",
        "windows",
        "fold",
        "matmul",
        "einsum",
    ),
    needs=("walk",),
)
