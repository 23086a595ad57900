from kakehashi.journey.stations import Station

STATION = Station(
    "bigram",
    "kakehashi.models.bigram",
    symbols=("count", "cross_entropy", "Bigram"),
    needs=("value",),
    forbid=("cross_entropy", "nll_loss"),
)
