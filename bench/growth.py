"""Measure each guard with 100 and with 10,000 actions in its windows: ``python -m bench.growth [--json]``

SQLite counts the instructions of its virtual machine, so that the result does not depend on the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

from tests.extensions.guards.test_growth import FEW, MANY, work_of_guards


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        few = asyncio.run(work_of_guards(Path(folder) / "few.db", FEW))
        many = asyncio.run(work_of_guards(Path(folder) / "many.db", MANY))
    result: dict[str, Any] = {
        "tens_of_instructions": {name: {str(FEW): few[name], str(MANY): many[name]} for name in few},
        "all_guards_many_to_few": round(sum(many.values()) / sum(few.values()), 2),
    }
    print(json.dumps(result, indent=2) if asked.json else f"{result}")


if __name__ == "__main__":
    main()
