"""The packages of arbench, which has four folders here: a new subpackage is shipped without being listed."""

from setuptools import find_namespace_packages, setup

FOLDERS = {
    "arbench": "arbench",
    "arbench.adapters": "adapters",
    "arbench.suites": "suites",
    "arbench.reports": "reports",
}


def packages() -> list[str]:
    """Folders of data without code are among them, so that their files are shipped too."""
    found = []
    for prefix, folder in FOLDERS.items():
        found += [prefix, *(f"{prefix}.{name}" for name in find_namespace_packages(folder, exclude=["*__pycache__*"]))]
    return found


setup(packages=packages(), package_dir=FOLDERS)
