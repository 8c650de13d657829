#!/bin/sh
# systemctl of a simulated host: systemctl.sh FOLDER [options] show|restart [options] UNIT
# FOLDER/UNIT has the properties of the unit. A restart is logged in FOLDER/calls, and waits while FOLDER/hold exists.
folder=$1
for unit; do :; done
case " $* " in
*" show "*)
  if [ -e "$folder/$unit" ]; then cat "$folder/$unit"; else printf 'LoadState=not-found\nActiveState=inactive\nSubState=dead\nResult=success\nMainPID=0\nInvocationID=\nNRestarts=0\nExecMainStatus=0\nActiveEnterTimestampMonotonic=0\n'; fi
  ;;
*" restart "*)
  echo "begun $unit" >> "$folder/calls"
  while [ -e "$folder/hold" ]; do sleep 0.05; done
  count=$(($(grep -c . "$folder/calls")))
  read -r up _ < /proc/uptime
  if [ -e "$folder/$unit.broken" ]; then active=failed; sub=failed; pid=0; result=exit-code; else active=active; sub=running; pid=$((1000 + count)); result=success; fi
  printf 'LoadState=loaded\nActiveState=%s\nSubState=%s\nResult=%s\nMainPID=%s\nInvocationID=%032d\nNRestarts=0\nExecMainStatus=0\nActiveEnterTimestampMonotonic=%s%s0000\n' \
    "$active" "$sub" "$result" "$pid" "$count" "${up%.*}" "${up#*.}" > "$folder/$unit.new"
  mv "$folder/$unit.new" "$folder/$unit"
  echo "done $unit" >> "$folder/calls"
  [ "$active" = active ]
  ;;
*) echo "Unknown command verb" >&2; exit 1 ;;
esac
