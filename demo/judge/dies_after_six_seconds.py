"""A module of a bad release: six seconds after its import, the process ends and takes the app with it."""

import os
import threading

from app.faults import SERVICE_CRASH

threading.Timer(6, os._exit, (SERVICE_CRASH,)).start()
