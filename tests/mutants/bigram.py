from mutants import mutant

KEYS = {
    "bigram-table-transposed": "count_transposed",
    "bigram-padding-counted": "count_padding",
    "bigram-smoothing-missing": "count_smoothing",
    "bigram-columns-normalised": "count_columns",
    "bigram-loss-mean-over-all": "loss_mean_over_all",
}

MUTANTS = {
    "count-all-pairs-once": mutant(
        "value", ("count", "smoothed = counts + smoothing", "smoothed = counts.clamp(max=1) + smoothing")
    ),
    "count-no-log": mutant(
        "count_log",
        ("count", "torch.log(smoothed / smoothed.sum(1, keepdim=True))", "smoothed / smoothed.sum(1, keepdim=True)"),
    ),
    "count-not-normalised": mutant("count_log", ("count", "torch.log(smoothed / $sums)", "torch.log(smoothed)")),
    "count-softmax": mutant("value", ("count", "torch.log(smoothed / $sums)", "torch.log_softmax(smoothed, 1)")),
    "count-fixed-smoothing": mutant("count_smoothing_fixed", ("count", "counts + smoothing", "counts + 1.0")),
    "count-padding-as-last": mutant(
        "count_padding_last",
        ("count", "seen = targets != IGNORE", ""),
        (
            "count",
            "pairs = tokens[seen] * vocab_size + targets[seen]",
            "pairs = (tokens * vocab_size + targets.masked_fill(targets < 0, vocab_size - 1)).flatten()",
        ),
    ),
    "bigram-random-start": mutant(
        "value",
        ("Bigram.__init__", "torch.zeros(config.vocab_size, $v)", "torch.randn(config.vocab_size, $v)"),
    ),
    "bigram-column": mutant("bigram_column", ("Bigram.forward", "self.table[tokens]", "self.table.T[tokens]")),
    "bigram-log-probabilities": mutant(
        "value", ("Bigram.forward", "self.table[tokens]", "self.table[tokens].log_softmax(-1)")
    ),
    "bigram-detached": mutant("backward", ("Bigram.forward", "self.table[tokens]", "self.table.detach()[tokens]")),
    "bigram-loss-of-all": mutant("loss_padding_added", ("cross_entropy", "(log_p * seen).sum()", "log_p.sum()")),
    "bigram-loss-unnormalised": mutant(
        "loss_unnormalised",
        (
            "cross_entropy",
            "logits.gather(-1, wanted).squeeze(-1) - logits.logsumexp(-1)",
            "logits.gather(-1, wanted).squeeze(-1)",
        ),
    ),
    "bigram-loss-overflows": mutant(
        "loss_overflow", ("cross_entropy", "logits.logsumexp(-1)", "logits.exp().sum(-1).log()")
    ),
    "bigram-loss-skips-token-0": mutant("number", ("cross_entropy", "seen = targets != IGNORE", "seen = targets > 0")),
    "bigram-loss-views": mutant(
        "raised",
        ("cross_entropy", "seen = targets != IGNORE", "targets = targets.view(-1)\nseen = targets != IGNORE"),
        (
            "cross_entropy",
            "logits.gather(-1, wanted).squeeze(-1)",
            "logits.flatten(0, 1).gather(-1, wanted).squeeze(-1)",
        ),
        ("cross_entropy", "logits.logsumexp(-1)", "logits.flatten(0, 1).logsumexp(-1)"),
    ),
    "bigram-loss-nothing-counted": mutant("loss_nothing", ("cross_entropy", "seen.sum().clamp(min=1)", "seen.sum()")),
    "bigram-loss-no-gradient": mutant(
        "value", ("cross_entropy", "logits.gather(-1, wanted)", "logits.detach().gather(-1, wanted)")
    ),
    "count-not-returned": mutant(
        "none", ("count", "return torch.log(smoothed / $sums)", "torch.log(smoothed / $sums)")
    ),
    "bigram-config-not-kept": mutant("no_config", ("Bigram.__init__", "self.config = config", "")),
    "bigram-state-raises": mutant("raised", ("Bigram.new_state", "TokenWindow(batch_size, 0)", "TokenWindow(0)")),
    "bigram-state-remembers": mutant(
        "shape", ("Bigram.new_state", "TokenWindow(batch_size, 0)", "TokenWindow(batch_size, 1)")
    ),
    "bigram-state-not-returned": mutant(
        "none", ("Bigram.new_state", "return TokenWindow(batch_size, 0)", "TokenWindow(batch_size, 0)")
    ),
}
