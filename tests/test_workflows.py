"""Workflows, issue templates and the image: that they are well-formed, and name what is there."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TEMPLATES = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def load(path):
    return yaml.safe_load(path.read_text("utf-8"))


def steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_there_are_workflows_for_tests_docs_and_the_wheel():
    assert [path.stem for path in WORKFLOWS] == ["docs", "tests", "wheel"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows(path):
    workflow = load(path)
    assert workflow["name"] == path.stem and workflow[True]  # YAML reads the key `on` as true
    assert workflow["permissions"] == {"contents": "read"}, "a job that needs more says so itself"
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"] <= 120 and job["runs-on"] == "ubuntu-latest", name
        assert set(job.get("needs", "").split()) <= workflow["jobs"].keys()
    for step in steps(workflow):
        assert ("uses" in step) != ("run" in step)
        assert re.fullmatch(r"actions/[\w-]+@v\d+", step.get("uses", "actions/x@v1")), "of GitHub's own, with a version"


def test_workflows_run_what_is_there():
    """Targets of make exist, dry; Python is none that setup.py refuses."""
    workflows = [load(path) for path in WORKFLOWS]
    runs = [step["run"] for workflow in workflows for step in steps(workflow) if "run" in step]
    targets = {target for run in runs for target in re.findall(r"^make (\S+)$", run, re.M)}
    assert targets == {"test", "lint", "docs"} and ".ci/run" in runs and (ROOT / ".ci" / "run").is_file()
    for target in targets:
        assert subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True).returncode == 0, target
    pythons = {
        job["strategy"]["matrix"]["python"][0] for w in workflows for job in w["jobs"].values() if "strategy" in job
    }
    (least,) = re.findall(r'python_requires=">=(.+)"', (ROOT / "setup.py").read_text("utf-8"))
    assert pythons == {least}


def test_ci_builds_the_docs_after_the_linters():
    lines = (ROOT / ".ci" / "run").read_text("utf-8").splitlines()
    order = [line for line in lines if line in ("make test", "make lint", "make docs", "make test-slow")]
    assert order == ["make test", "make lint", "make docs", "make test-slow"]


@pytest.mark.parametrize("path", [path for path in TEMPLATES if path.stem != "config"], ids=lambda path: path.stem)
def test_issue_templates_ask_for_the_doctor(path):
    template = load(path)
    assert template["name"] and template["description"]
    fields = {field["id"]: field for field in template["body"]}
    assert len(fields) == len(template["body"])
    assert "lsap-jax doctor" in fields["doctor"]["attributes"]["label"] and fields["doctor"]["validations"]["required"]


def test_the_image_has_what_the_wheel_is_built_from():
    """.dockerignore leaves in what MANIFEST.in names and setup.py reads, and nothing that is not there."""
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    manifest = (ROOT / "MANIFEST.in").read_text("utf-8")
    (named,) = re.findall(r"^include (CHANGELOG.*)$", manifest, re.M)
    assert kept == {*named.split(), "setup.py", "MANIFEST.in", "lsap_jax", "convert_weights", "configs"}
    assert all((ROOT / name).exists() for name in kept)


def docker_runs() -> bool:
    docker = shutil.which("docker")
    return docker is not None and subprocess.run([docker, "info"], capture_output=True, timeout=60).returncode == 0


@pytest.mark.slow
def test_the_image_works():
    if not docker_runs():
        pytest.skip("Docker does not run here")
    build = subprocess.run(["docker", "build", "--tag", "lsap_jax_test", "."], cwd=ROOT, capture_output=True, text=True)
    assert build.returncode == 0, build.stderr
    help = subprocess.run(["docker", "run", "--rm", "lsap_jax_test"], capture_output=True, text=True)
    assert help.returncode == 0 and "usage: lsap-jax COMMAND" in help.stdout, help.stderr
