from kakehashi.journey.stations import Station

STATION = Station(
    "walk",
    "kakehashi.autograd.walk",
    symbols=("sum_to", "uses", "shares", "recomposed", "walk"),
    needs=("by_hand",),
)
