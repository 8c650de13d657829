"""Old backups fill the data file system of Redis."""

from __future__ import annotations

from typing import Any

from demo.compose.faults import probes

ALERT = "RedisDiskFull"
TELLS = "old backups fill the 48 MiB data file system of Redis"
PLAYBOOKS = ("redis-disk-full",)
_BALLAST = """
local parts = {}
for i = 1, 6500 do
  local piece = {}
  for j = 1, 64 do piece[j] = redis.sha1hex(i .. ':' .. j):sub(1, 16) end
  parts[i] = table.concat(piece)
end
return redis.call('SET', 'demo:ballast', table.concat(parts))
"""
_FILL = """
set -e
mkdir -p /data/backups
chmod 2775 /data/backups
age=0
while [ "$(df --output=pcent /data | tail -n 1 | tr -d ' %')" -le 88 ]; do
  age=$((age + 1))
  cp /data/dump.rdb /data/backups/dump-$age.rdb
  touch -d "$age days ago" /data/backups/dump-$age.rdb
done
"""


def inject(stack: Any) -> None:
    """Write real snapshots of some megabytes, each a day older than the last."""
    probes.redis(stack, "EVAL", _BALLAST, "0")
    probes.redis(stack, "SAVE")
    stack.docker("exec", stack.container("redis"), "sh", "-c", _FILL)
    probes.redis(stack, "DEL", "demo:ballast")


def healed(stack: Any) -> str | None:
    used = stack.docker("exec", stack.container("redis"), "sh", "-c", "df --output=pcent /data | tail -n 1")
    if not used or int(used.strip().rstrip("%")) > 80:
        return None
    if probes.redis(stack, "SET", "demo:probe", "1", "EX", "10") != "OK":
        return None
    return f"{used.strip()} used, and Redis accepts a write"
