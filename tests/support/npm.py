"""npm packages of a lock, installed once below `build`, and the Node.js among them."""

import shutil
from functools import partial
from pathlib import Path

from support.once import InstallError, installed_once, run_installer

NODE = Path("node_modules") / "node" / "bin" / "node"

_MANIFESTS = ("package.json", "package-lock.json")


def installed(locked: Path, name: str) -> Path:
    """The folder `name` in `build` with what `locked`/package-lock.json pins. Raises `InstallError`."""
    return installed_once(name, [locked / manifest for manifest in _MANIFESTS], partial(_install, locked))


def _install(locked: Path, folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise InstallError(f"npm is needed to install {folder.name}; install Node.js 20 or newer with npm")
    for manifest in _MANIFESTS:
        shutil.copyfile(locked / manifest, folder / manifest)
    run_installer([npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"], folder)
