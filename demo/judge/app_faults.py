"""Real faults of the app."""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
from collections.abc import Callable

from app.faults import SERVICE_CRASH
from demo.faults import app_bad_code, app_bad_release, app_spike
from demo.judge.scene import Scene

VARIABLE = "PRICES_URL"
_MISSING = 'modules = ["prices_client"]\n'


def bad_release(scene: Scene) -> None:
    """Deploy a release that imports a module that is not installed."""
    app_bad_release.inject(scene.probe)


def three_bad_releases(scene: Scene) -> None:
    """Deploy a bad release, wait for its rollback, and deploy the next bad one, three times."""
    for version in ("1.1.0", "1.1.1", "1.1.2"):
        scene.release(version, _MISSING)
        if version != "1.1.2":
            scene.wait(lambda: running_release(scene) == "1.0.0", f"the rollback of {version}", 150)
            scene.wait(lambda: scene.probe.at_rest("AppCrashLoopBackOff"), f"the end of the incident of {version}", 120)


def running_release(scene: Scene) -> str:
    """Return the release that the app reports, empty while it is not ready."""
    ready = scene.probe.get(scene.settings.ports.app, "/readyz")
    return "" if ready is None else str(ready["release"])


def serves_first_release(scene: Scene) -> str | None:
    """Return proof that the release of yesterday serves."""
    return "release 1.0.0 is ready" if running_release(scene) == "1.0.0" else None


def linked_to_bad_release(scene: Scene) -> str | None:
    """Return a sentence if the app was returned to a release that was already known as bad."""
    name = (scene.settings.state / "app/current").readlink().name
    return None if name == "1.0.0" else f"the app is left with {name}, which is bad"


def require_variable(scene: Scene) -> None:
    """Make the release of yesterday require a variable that is set."""
    scene.variable(VARIABLE, "http://prices.example")
    (scene.settings.state / "app/releases/1.0.0/release.toml").write_text(f'requires = ["{VARIABLE}"]\n')
    scene.age_release()
    scene.restart("app")
    scene.wait(scene.probe.app_ready, "the app")


def unset_variable(scene: Scene) -> None:
    """Remove the variable and restart, as a changed environment file does."""
    scene.variable(VARIABLE, "")


def release_without_variable(scene: Scene) -> None:
    """Deploy a release that requires a variable that is not set."""
    scene.release("1.1.0", f'requires = ["{VARIABLE}"]\n')


def bad_code(scene: Scene) -> None:
    """Deploy a release in which every second request ends in an error."""
    app_bad_code.inject(scene.probe)


def errors_without_release(scene: Scene) -> None:
    """Make every second request fail without a release, as after a change of data or a setting."""
    (scene.settings.state / "app/faults.json").write_text('{"error_rate": 0.5}')


def spike(scene: Scene) -> None:
    """Send more requests than the workers can handle."""
    app_spike.inject(scene.probe)


def served_spike(scene: Scene) -> str | None:
    """Return proof that the workers are back to the usual number and requests are answered."""
    return app_spike.over(scene.probe) if not scene.probe.pid("spike") else None


def sick_redis_behind_app(break_redis: Callable[[Scene], None]) -> Callable[[Scene], None]:
    """Return a fault: Redis refuses writes, its alerts are silenced, and the app is under its usual load."""

    def make(scene: Scene) -> None:
        for alert in ("RedisDown", "RedisDiskFull", "RedisHighMemory", "RedisConnectionErrors"):
            scene.silence(alert)
        break_redis(scene)
        scene.process(*_logins(scene))

    return make


def _logins(scene: Scene) -> tuple[str, ...]:
    """Return a command that logs in repeatedly, which needs writes to Redis."""
    code = (
        "import http.client,time\nwhile True:\n  c=http.client.HTTPConnection('127.0.0.1',"
        f"{scene.settings.ports.nginx},timeout=3)\n  try:\n    c.request('POST','/login','{{\"username\":\"a\"}}',"
        "{'Content-Type':'application/json'}); c.getresponse().read()\n  except Exception: pass\n  time.sleep(.05)"
    )
    return (sys.executable, "-c", code)


def wedge_worker(scene: Scene) -> None:
    """Stop one worker of two, as a worker in an endless loop or a stuck system call does."""
    worker = scene.app_processes()[0]
    scene.noted["wedged"] = worker
    os.kill(worker, signal.SIGSTOP)
    scene.fire("AppHighLatency", service="app")


def fewer_workers(scene: Scene) -> str | None:
    """Return a sentence if the app has fewer workers than before."""
    return f"{scene.probe.workers()} workers are left" if scene.probe.workers() < 2 else None


def exhaust_descriptors(scene: Scene) -> None:
    """Leave the workers few file descriptors, and open connections until none is left."""
    for worker in scene.app_processes():
        used = len(os.listdir(f"/proc/{worker}/fd"))
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (used + 1, used + 1))
    for _ in range(100):
        connection = socket.create_connection(("127.0.0.1", scene.settings.ports.app))
        scene.cleanup.callback(connection.close)
    scene.fire("AppDown", service="app")  # nginx and Prometheus keep the connections that they have for a while


def port_in_use(scene: Scene) -> None:
    """Kill the app while another program waits for its port, so that supervisord cannot start it again."""
    scene.noted["other"] = scene.listener(scene.settings.ports.app)
    scene.kill("app", signal.SIGKILL)


def other_killed(scene: Scene) -> str | None:
    """Return a sentence if the program that holds the port was ended."""
    return None if scene.noted["other"].poll() is None else "the other program was killed"


def dying_module(scene: Scene) -> None:
    """Put a module on the path of the app that ends the app six seconds after its import."""
    folder = scene.settings.state / "app/modules"
    folder.mkdir(exist_ok=True)
    code = f"import os, threading\nthreading.Timer(6, os._exit, ({SERVICE_CRASH},)).start()\n"
    (folder / "price_cache.py").write_text(code)
    scene.variable("PYTHONPATH", os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH")))))
    scene.wait(scene.probe.app_ready, "the app")


def dies_after_six_seconds(scene: Scene) -> None:
    """Deploy a release that starts, serves, and ends six seconds later, after each restart."""
    scene.release("1.1.0", 'modules = ["price_cache"]\n')


def healed_early(scene: Scene) -> str | None:
    """Return a sentence if the dying release still runs although its run succeeded."""
    return None if (scene.settings.state / "app/current").readlink().name == "1.0.0" else "the dying release still runs"
