from kakehashi.journey.stations import Station

STATION = Station(
    "value",
    "kakehashi.autograd.value",
    symbols=(
        "Value.__add__",
        "Value.__mul__",
        "Value.__sub__",
        "Value.__truediv__",
        "Value.__neg__",
        "Value.__pow__",
        "Value.exp",
        "Value.log",
        "Value.tanh",
        "Value.relu",
        "Value.order",
        "Value.backward",
    ),
)
