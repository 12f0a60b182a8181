"""Map the top-level folders of this repository onto one import package.

``simcore/`` is imported as ``nanophantom.simcore`` and so on: the folders a reader
walks through are the sub-packages, and none of their plain names is installed.
"""

from setuptools import find_packages, setup

FOLDERS = ["simcore", "samples", "instruments", "scenarios", "analysis", "validation"]

setup(
    package_dir={"nanophantom": "nanophantom", **{f"nanophantom.{f}": f for f in FOLDERS}},
    packages=["nanophantom"]
    + [f"nanophantom.{f}" for f in FOLDERS]
    + [f"nanophantom.{f}.{sub}" for f in FOLDERS for sub in find_packages(f)],
)
