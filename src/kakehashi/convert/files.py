"""What the files of this room share: the mistake, and JSON."""

import json
from pathlib import Path
from typing import Any

from kakehashi import Mistake


class ConvertError(Mistake):
    """A folder or a model that does not translate: one line that names the file, and what in it."""


def read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))  # some editors put a BOM there
    except OSError as error:
        raise ConvertError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ConvertError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ConvertError(f"{path} must hold an object, got {str(content)[:80]!r}")
    return content


def as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"
