"""The packages in the lock files: licence list, software bill of materials (SBOM), and audit for advisories.

``python -m tests.support.supply_chain licences`` writes ``docs/licences.md``. ``sbom`` writes CycloneDX JSON to
``build/sbom.cdx.json``. ``audit`` asks the advisory database that pip-audit reaches, and says so if it reaches none.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
import uuid
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RUNTIME, DEMO, DEVELOPMENT = "requirements.lock", "requirements-demo.lock", "requirements-dev.lock"
_PIN = re.compile(r"^([a-z0-9._-]+)==([0-9][\w.!+]*)", re.MULTILINE)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
COPYLEFT = {
    "codespell": "a command-line tool of `make lint`; no code imports it",
    "pymerkle": "an independent implementation of RFC 6962, which two tests compare with ours",
}
"""Packages under the GPL that the tests need, and why. None of them is distributed."""
_KNOWN = {
    "promql-parser": "Apache-2.0",
    "sigstore-models": "Apache-2.0",
    "supervisor": "BSD-3-Clause-Modification",
}
"""Licences of packages whose metadata names none, from their licence files."""
_CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
    "GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
}


def pins(lock: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return version and SHA-256 hashes of each package in a lock file."""
    text = (ROOT / lock).read_text(encoding="utf-8")
    found = list(_PIN.finditer(text))
    ends = [each.start() for each in found[1:]] + [len(text)]
    return {
        each[1]: (each[2], tuple(_HASH.findall(text[each.start() : end])))
        for each, end in zip(found, ends, strict=True)
    }


def licence(name: str) -> str:
    """Return the licence of an installed package, ``unknown`` if neither its metadata nor this file has it."""
    try:
        about = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return _KNOWN.get(name, "unknown")
    if expression := about.get("License-Expression"):
        return str(expression)
    told = [each.rpartition(" :: ")[2] for each in about.get_all("Classifier") or () if each.startswith("License ::")]
    named = [_CLASSIFIERS.get(each, each) for each in told if each != "OSI Approved"]
    if named:
        return " OR ".join(sorted(set(named)))
    first = str(about.get("License") or "").strip().partition("\n")[0]
    return first if 0 < len(first) < 40 else _KNOWN.get(name, "unknown")


def licences_page() -> str:
    """Return the page with the licences."""
    return "\n".join(_page_lines()) + "\n"


def _page_lines() -> Iterator[str]:
    yield "# Licences of dependencies\n"
    yield "`python -m tests.support.supply_chain licences` generates this page, and a test compares the two.\n"
    runtime, development = pins(RUNTIME), pins(DEVELOPMENT)
    yield "## Runtime\n"
    yield "`requirements.lock`: what the image of the service contains.\n"
    yield from _table(runtime)
    yield "## Development\n"
    yield "`requirements-dev.lock` also has these packages: extras, the demonstration, tests and tools.\n"
    yield from _table({name: pin for name, pin in development.items() if name not in runtime})
    yield "## Packages under the GPL\n"
    yield "No package under the GPL is part of what is distributed. The tests use these:\n"
    for name, why in sorted(COPYLEFT.items()):
        yield f"- `{name}` ({licence(name)}): {why}."


def _table(packages: Mapping[str, tuple[str, tuple[str, ...]]]) -> Iterator[str]:
    yield "| Package | Version | Licence |"
    yield "|---|---|---|"
    for name, (version, _) in sorted(packages.items()):
        yield f"| {name} | {version} | {licence(name).replace('|', '/')} |"
    yield ""


def sbom() -> dict[str, Any]:
    """Return the SBOM of the image of the service, in the format CycloneDX 1.6."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    packages = pins(RUNTIME)
    refs = [f"pkg:pypi/{name}@{version}" for name, (version, _) in sorted(packages.items())]
    this = f"pkg:pypi/{project['name']}@{project['version']}"
    digest = uuid.uuid5(uuid.NAMESPACE_URL, (ROOT / RUNTIME).read_text(encoding="utf-8"))
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{digest}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": this,
                "name": project["name"],
                "version": project["version"],
                "purl": this,
                "licenses": [{"expression": project["license"]}],
            }
        },
        "components": [
            {
                "type": "library",
                "bom-ref": ref,
                "name": name,
                "version": version,
                "purl": ref,
                "licenses": [{"license": {"name": licence(name)}}],
                "hashes": [{"alg": "SHA-256", "content": each} for each in hashes],
            }
            for ref, (name, (version, hashes)) in zip(refs, sorted(packages.items()), strict=True)
        ],
        "dependencies": [{"ref": this, "dependsOn": refs}, *({"ref": ref} for ref in refs)],
    }


def audit() -> int:
    """Look for advisories about all locked packages. Return 1 if there are any, 2 if no data was reached."""
    argv = [sys.executable, "-m", "pip_audit", "--disable-pip", "--no-deps", "--progress-spinner", "off"]
    done = subprocess.run(
        [*argv, "--format", "json", "-r", str(ROOT / DEVELOPMENT)], capture_output=True, text=True, check=False
    )
    return judge(done.stdout, done.stderr)


def judge(answer: str, error: str) -> int:
    """Print the findings of pip-audit, and return the exit status of :func:`audit`."""
    try:
        listed = json.loads(answer)["dependencies"]
    except (ValueError, KeyError, TypeError):
        print(f"no advisory data was reached: {error.strip().splitlines()[-1] if error.strip() else 'no answer'}")
        return 2
    audited = [each for each in listed if "vulns" in each]
    for each in audited:
        for found in each["vulns"]:
            fixed = ", ".join(found.get("fix_versions", ())) or "no version"
            print(f"{each['name']} {each['version']}: {found['id']}, fixed in {fixed}")
    if not audited:
        print(f"no advisory data was reached for any of {len(listed)} packages; nothing was audited")
        return 2
    print(f"{len(audited)} of {len(listed)} packages were audited")
    return 1 if any(each["vulns"] for each in audited) else 0


def main(what: str) -> int:
    """Run one of the commands in the docstring of the module."""
    if what == "licences":
        (ROOT / "docs/licences.md").write_text(licences_page(), encoding="utf-8")
    elif what == "sbom":
        target = ROOT / "build/sbom.cdx.json"
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps(sbom(), indent=2) + "\n", encoding="utf-8")
        print(target.relative_to(ROOT))
    elif what == "audit":
        return audit()
    else:
        print(f"unknown command {what!r}; expected licences, sbom or audit")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) == 2 else ""))
