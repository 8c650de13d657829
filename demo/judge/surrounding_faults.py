"""Faults around Redis and the app: monitoring, the remediator's own restarts, and its log."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time

import yaml

from demo.faults import app_bad_code, redis_killed
from demo.judge.scene import Scene
from demo.stack import processes


def restart_that_is_ours(scene: Scene) -> None:
    """Deploy a bad release, so that the rollback restarts the app and the app's own alert fires."""
    app_bad_code.inject(scene.probe)

    def alert() -> None:
        while not any(item["steps"] for item in scene.probe.runs("AppHighErrorRate")):
            time.sleep(0.2)
        scene.fire("AppDown", seconds=60, service="app")
        time.sleep(4)
        scene.resolve("AppDown", service="app")

    threading.Thread(target=alert, daemon=True).start()


def short_interruption(scene: Scene) -> None:
    """Stop the app for some seconds, until its alert has arrived, and then let it continue.

    If it continued as soon as the alert fired, Alertmanager might send nothing, because it first waits for other alerts
    of the group.
    """
    stopped = [scene.probe.pid("app"), *scene.app_processes()]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    scene.wait(lambda: scene.probe.runs("AppDown"), "a run for the alert of a stopped app", 120)
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)


def stop_exporter(scene: Scene) -> None:
    """Stop the exporter of a healthy Redis."""
    scene.supervisor.call("stopProcess", "redis-exporter")


def wrong_scrape_target(scene: Scene) -> None:
    """Give Prometheus a wrong port of the app."""
    path = scene.settings.state / "prometheus/prometheus.yml"
    content = yaml.safe_load(path.read_text())
    job = next(each for each in content["scrape_configs"] if each["job_name"] == "fastapi-app")
    for static in job["static_configs"]:
        static["targets"] = ["127.0.0.1:9"]
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    scene.kill("prometheus", signal.SIGHUP)


def nothing_is_wrong(scene: Scene) -> None:
    """Send an alert about a healthy Redis."""
    scene.fire("RedisDown", service="redis")


def log_on_small_disk(scene: Scene) -> None:
    """Make the remediator write its log to a small separate file system, and fill this file system."""
    folder = scene.settings.state / "full"
    folder.mkdir(exist_ok=True)
    subprocess.run(
        ("mount", "-t", "tmpfs", "-o", "size=64k", "remediator-judge", str(folder)), check=True, capture_output=True
    )
    scene.cleanup.callback(subprocess.run, ("umount", "-l", str(folder)), capture_output=True)
    command = scene.command("remediator")
    scene.reconfigure("remediator", command=f"sh -c 'exec {command} >> \"{folder}/remediator.log\" 2>&1'")
    scene.wait(lambda: scene.probe.get(scene.settings.ports.remediator, "/readyz"), "the remediator", 120)
    with (folder / "ballast").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            scene.noted["full"] = True


def killed_with_full_log(scene: Scene) -> None:
    """Kill Redis while the remediator cannot write its log."""
    time.sleep(1.5)
    redis_killed.inject(scene.probe)


def needs_root(_: Scene) -> str | None:
    """Return what is missing for a separate file system."""
    return None if os.geteuid() == 0 else "root, to mount a small file system"


def remediator_gone(scene: Scene) -> str | None:
    """Return a sentence if the remediator stopped serving."""
    return None if processes.running(scene.settings) and scene.probe.pid("remediator") else "the remediator stopped"
