"""`python -m benchmarks NAME [--full] [--only PIECE] [--json]`.

Exit code 0: every goal is met, 1: not every one, 2: a wrong call.
"""

import argparse
import json
import sys

import benchmarks
from benchmarks.rows import Row
from benchmarks.table import line
from kakehashi import Mistake


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks", description="Measure speed and quality beside a peer.")
    parser.add_argument("name", help=", ".join(benchmarks.NAMES))
    parser.add_argument("--full", action="store_true", help="the rows that take longer, too")
    parser.add_argument("--only", action="append", default=[], metavar="PIECE", help="this piece; may be said again")
    parser.add_argument("--json", action="store_true", help="rows go to stderr, one JSON object to stdout")
    given = parser.parse_args()
    out = sys.stderr if given.json else sys.stdout

    def tell(row: Row) -> None:
        print(line(row), file=out, flush=True)

    try:
        result = benchmarks.run(given.name, given.full, tell, given.only)
    except Mistake as mistake:
        print(f"error: {mistake}", file=sys.stderr)
        return mistake.exit_code
    if given.json:
        print(json.dumps(result))
    return int(any(row["met"] is False for row in result["rows"]))


if __name__ == "__main__":
    sys.exit(main())
