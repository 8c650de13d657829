#!/bin/sh
# journalctl of a simulated host: journalctl.sh FOLDER [options]; prints FOLDER/journal.
[ -e "$1/journal" ] && cat "$1/journal"
exit 0
