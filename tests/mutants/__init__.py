"""What each station must catch, and the key of the text that must be among those it says: one file a station.

KEYS        fault of the catalogue -> key
MUTANTS     what else a person may write: name -> (key, edits of the reference)
FURTHER     more of these, left to the slow tests
"""

from kakehashi.source import Edit


def mutant(key: str, *edits: tuple[str, str, str]) -> tuple[str, list[Edit]]:
    return key, [Edit(*each) for each in edits]
