"""`python -m benchmarks.bleu RUN`: how well a run translates the test part of its data, as sacrebleu measures it.

Cased, on the text as it stands. The signature says how the figure was made: figures compare where signatures are equal.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from kakehashi import Mistake, data
from kakehashi.inference import InferenceError, translate
from kakehashi.runs import Run


def bleu(written: Sequence[str], wanted: Sequence[str]) -> dict[str, Any]:
    """{"bleu", "signature", "n"} of a whole set. Raises InferenceError where sacrebleu is not installed."""
    try:
        from sacrebleu.metrics import BLEU
    except ImportError as error:
        raise InferenceError("sacrebleu is not installed: pip install 'kakehashi[parity]'") from error
    metric = BLEU()
    score = metric.corpus_score(list(written), [list(wanted)])
    return {"bleu": score.score, "signature": str(metric.get_signature()), "n": len(written)}


def measured(run: Run, beam: int = 4, length_penalty: float = 0.6) -> dict[str, Any]:
    """`bleu` of a run on its data's test part."""
    run.require("seq2seq")
    pairs = data.read_pairs(run.config.data.source, run.config.data.encoding).split(run.config.seed).apart.get("test")
    if not pairs:
        raise InferenceError(f"{run.config.data.name} has no part for a test: choose a run of multi30k")
    sources, wanted = zip(*pairs, strict=True)
    found = translate(run.load_model(), run.tokenizer, sources, beam=beam, length_penalty=length_penalty)
    return {"run": str(run.path), "beam": beam, "length_penalty": length_penalty} | bleu(
        [each.text for each in found], wanted
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.bleu", description="BLEU of a run on its test part.")
    parser.add_argument("run")
    parser.add_argument("--beam", type=int, default=4)
    parser.add_argument("--length-penalty", type=float, default=0.6)
    given = parser.parse_args()
    try:
        print(json.dumps(measured(Run.open(given.run), given.beam, given.length_penalty)))
    except Mistake as mistake:
        print(f"error: {mistake}", file=sys.stderr)
        return mistake.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
