"""`python -m app`: check the settings, then exec gunicorn."""

import os
import shutil
import sys
import time
from pathlib import Path

from app.release import read_release
from app.settings import Settings, SettingsError, environment, load_settings

EX_CONFIG = 78
CONFIG_FILE = Path(__file__).with_name("gunicorn.conf.py")


def main() -> None:
    """Replace this process by gunicorn's master. With wrong settings, print one line each and exit with status 78."""
    try:
        settings = load_settings()
        read_release(settings.release_dir, faults_enabled=settings.faults_enabled).require_variables(environment())
    except SettingsError as error:
        for line in str(error).splitlines():
            print(f"ERROR app.settings {line}", file=sys.stderr)  # noqa: T201 (logging is not set up yet)
        sys.exit(EX_CONFIG)
    # prometheus_client chooses its multiprocess mode at import, so the variable must be set first.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(_metrics_dir(settings))
    os.environ["APP_STARTED_AT"] = str(time.time())
    command = [sys.executable, "-m", "gunicorn", "--config", str(CONFIG_FILE)]
    os.execv(sys.executable, command)  # noqa: S606 (our own interpreter, constant arguments)


def _metrics_dir(settings: Settings) -> Path:
    """Return an empty directory for this master. Directories of masters that were killed are removed."""
    parent = settings.state_dir / "metrics"
    parent.mkdir(parents=True, exist_ok=True)
    for folder in parent.iterdir():
        if folder.name == str(os.getpid()) or not Path("/proc", folder.name).exists():
            shutil.rmtree(folder, ignore_errors=True)
    own = parent / str(os.getpid())
    own.mkdir()
    return own


if __name__ == "__main__":
    main()
