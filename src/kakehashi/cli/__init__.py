"""The command line: parse, call one public function, show. No logic that a library call would not have.

    console.py    what commands share: printing, --json, errors, progress
    models.py     train  sample  translate  classify  eval  runs  show  data
    convert.py    convert
    diff.py       diff
    logs.py       logs fit|scan|watch|accept
    gate.py       logs gate
    predictor.py  export
    journey.py    start  grade  hint  reset  fault
    tour.py       tour
    bench.py      bench
    tokenizer.py  tokenizer

Exit codes: 0 done, 1 the answer is no, 2 the call was wrong, 3 cannot tell, 130 interrupted.
"""

import os
import sys
from typing import NoReturn


def main(argv: list[str] | None = None) -> NoReturn:
    """Run one command and leave with its exit code. argv: without the program's name."""
    arguments = sys.argv[1:] if argv is None else argv
    # Libraries that would fetch something by themselves are told not to before they are imported
    if os.environ.get("KAKEHASHI_OFFLINE") == "1":
        os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")
    from kakehashi.cli import console

    console.run(arguments)
