"""Old backups fill the file system of Redis' data."""

from __future__ import annotations

from typing import Any

from deploy.compose.faults import looks

ALERT = "RedisDiskFull"
TELLS = "old backups fill the 48 MiB file system of Redis' data"
PLAYBOOKS = ("redis-disk-full",)
_FILL = """
set -e
mkdir -p /data/backups
redis-cli --version >/dev/null
for i in 1 2 3 4 5 6; do
  cp /data/dump.rdb /data/backups/dump-$i.rdb
  head -c 7000000 /dev/zero | tr '\\0' 'x' >> /data/backups/filler-$i.rdb
done
"""


def inject(stack: Any) -> None:
    looks.redis(stack, "SAVE")
    stack.docker("exec", stack.container("redis"), "sh", "-c", _FILL)


def healed(stack: Any) -> str | None:
    used = stack.docker("exec", stack.container("redis"), "sh", "-c", "df --output=pcent /data | tail -n 1")
    if not used or int(used.strip().rstrip("%")) > 80:
        return None
    if looks.redis(stack, "SET", "demo:probe", "1", "EX", "10") != "OK":
        return None
    return f"{used.strip()} used, and Redis takes a write"
