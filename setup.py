"""What pyproject.toml cannot say: the files of experiments/ are installed too, within the package."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["raytune_hpo*"]), "raytune_hpo.examples"],
    package_dir={"raytune_hpo.examples": "experiments"},
)
