"""Packaging of lsap_jax. Tool settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
PICTURES = (".png", ".svg")


def found(pattern: str, file: str) -> str:
    """The first group of a pattern, in a line of a file."""
    match = re.search(pattern, (ROOT / file).read_text(encoding="utf-8"), re.M)
    assert match is not None, f"{file} has no line {pattern}"
    return match[1]


VERSION = found(r'^__version__ = "(.+)"$', "lsap_jax/__init__.py")
REPOSITORY = found(r'^repository-code: "(.+)"$', "CITATION.cff")


def anywhere(markdown: str) -> str:
    """Text of this folder whose links work elsewhere, too: to the files of this version in the repository."""

    def absolute(link: re.Match) -> str:
        kind = "raw" if link[1].endswith(PICTURES) else "blob"
        return f"]({REPOSITORY}/{kind}/v{VERSION}/{link[1]})"

    return re.sub(r"\]\((?!\w+:|#)([^)]+)\)", absolute, markdown)


setup(
    name="lsap_jax",
    version=VERSION,
    author=found("^  - name: (.+)$", "CITATION.cff"),
    url=REPOSITORY,
    project_urls={
        "Documentation": f"{REPOSITORY}/tree/v{VERSION}/docs",
        "Changelog": f"{REPOSITORY}/blob/v{VERSION}/CHANGELOG.md",
        "Issues": f"{REPOSITORY}/issues",
    },
    keywords=["GAN inversion", "StyleGAN2", "image editing", "latent space", "JAX"],
    description="GAN inversion in JAX: real images to latent codes of a pretrained StyleGAN2, in batches of thousands",
    long_description=anywhere((ROOT / "README.md").read_text(encoding="utf-8")),
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=find_packages(include=["lsap_jax", "lsap_jax.*", "convert_weights"]),
    # The experiments lie beside the code, where people look for them, and are installed inside it; in a checkout,
    # lsap_jax/configs points to them.
    package_dir={"lsap_jax.configs": "configs"},
    package_data={
        "lsap_jax.report": ["*.html", "*.css", "*.js"],
        "lsap_jax.live": ["*.html", "*.css", "*.js"],
        "lsap_jax": ["assets/*", "assets/**/*"],
        "": ["py.typed"],
    },
    include_package_data=False,
    install_requires=[
        "absl-py>=2",
        "flax>=0.12",
        "jax>=0.8",
        "ml-collections>=1",
        "numpy>=2",
        "optax>=0.2.5",
        "orbax-checkpoint>=0.11.20",
        "pillow>=11",
        "rich>=13",
        "safetensors>=0.5",
        "scipy>=1.11",
        "tensorstore>=0.1.74",
    ],
    extras_require={
        "cuda": ["jax[cuda12]>=0.8"],
        "docs": ["mkdocs-material>=9.5", "mkdocstrings[python]>=0.27"],
        "tpu": ["jax[tpu]>=0.8"],
        "heic": ["pillow-heif>=1"],
        "ray": ["ray>=2.40"],
        "studio": ["anywidget>=0.9", "starlette>=0.40", "uvicorn>=0.30"],
        "superpixels": ["scikit-image>=0.24"],
        "svm": ["scikit-learn>=1.5"],
        "tfds": ["array_record", "importlib_resources", "tensorflow-datasets"],
        "video": ["imageio-ffmpeg>=0.5"],
        "dev": [
            "anywidget>=0.9",
            "build",
            "hypothesis>=6.100",
            "imageio-ffmpeg>=0.5",
            "ipykernel",
            "ipywidgets>=8",  # the sliders of the quickstart
            "mypy>=1.15",
            "nbclient",
            "nbformat",
            "pillow-heif>=1",
            "pytest>=8.3",
            "pytest-cov>=6",
            "pytest-xdist>=3.6",
            "ray>=2.40",
            "ruff>=0.12",
            "scikit-image>=0.24",  # a photograph for the face detector
            "scikit-learn>=1.5",
            "selenium>=4.20",
            "starlette>=0.40",
            "uvicorn>=0.30",
            "setuptools>=77",  # the test of the wheel builds without a network
            "twine>=6.1",
        ],
    },
    entry_points={"console_scripts": ["lsap-jax = lsap_jax.cli:main"]},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Environment :: GPU",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Processing",
        "Typing :: Typed",
    ],
)
