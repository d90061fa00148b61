"""Whether the pinned packages have known vulnerabilities: `python .ci/advisories.py PIP-AUDIT CONSTRAINTS`.

pip-audit asks PyPI for the advisories about each version. Where PyPI cannot be reached, or knows nothing of
the packages, as behind a mirror, pip-audit finds nothing, and that must not pass for an answer. One line then
says that nothing was audited, and the exit code is 0. It is 1 where a package has a vulnerability.
"""  # noqa: INP001 - a script of CI's

import json
import subprocess
import sys


def verdict(report: str) -> tuple[int, str]:
    """The exit code and what to print of a report of pip-audit's, which is empty if it failed."""
    try:
        packages = json.loads(report)["dependencies"]
    except ValueError:
        return 0, "NOT audited: pip-audit cannot reach the advisories from here"
    vulnerable = [package for package in packages if package.get("vulns")]
    if vulnerable:
        lines = [
            f"{package['name']} {package['version']}: {found['id']}, "
            f"fixed in {', '.join(found['fix_versions']) or 'no version yet'}"
            for package in vulnerable
            for found in package["vulns"]
        ]
        return 1, "\n".join(lines)
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    audited = len(packages) - len(unknown)
    if not audited:
        return 0, f"NOT audited: the index knows nothing of the {len(unknown)} pinned versions"
    left = f"; not known to the index, so not audited: {', '.join(unknown)}" if unknown else ""
    return 0, f"no known vulnerability in {audited} packages{left}"


def main(pip_audit: str, constraints: str) -> int:
    """Run pip-audit and print what its report means."""
    command = [pip_audit, "--requirement", constraints, "--no-deps", "--disable-pip", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - CI's own command
    code, text = verdict(done.stdout)
    if not done.stdout:
        text += f" ({(done.stderr.strip().splitlines() or ['it says nothing'])[-1]})"
    print(text)  # noqa: T201 - what it is for
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
