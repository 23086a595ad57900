from kakehashi.journey.stations import Station

STATION = Station(
    "wavenet",
    "kakehashi.models.wavenet",
    symbols=("CausalConv", "Block", "WaveNet"),  # Linear and cross_entropy were built in the mlp station
    needs=("mlp",),
)
