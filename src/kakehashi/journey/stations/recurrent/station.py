from kakehashi.journey.stations import Station

STATION = Station(
    "recurrent",
    "kakehashi.models.recurrent",
    symbols=("rnn", "gru", "lstm", "Layer", "Recurrent"),
    needs=("wavenet",),
    forbid=("rnn_tanh", "rnn_relu", "gru", "lstm", "rnn_tanh_cell", "rnn_relu_cell", "gru_cell", "lstm_cell"),
)
