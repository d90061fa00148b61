"""Checks the pinned packages for known vulnerabilities: `python .ci/advisories.py PIP-AUDIT CONSTRAINTS`.

pip-audit requests the advisories for each version from the package index. It also finds nothing if the index
cannot be reached, or if the index is a mirror without advisories. In these cases the script prints one line
that says that nothing was audited, and exits with 0. It exits with 1 if a package has a vulnerability.
"""  # noqa: INP001 - a script that only CI runs

import json
import subprocess
import sys


def verdict(report: str) -> tuple[int, str]:
    """Return the exit code and the text to print. `report` is pip-audit's output, empty if it failed."""
    try:
        packages = json.loads(report)["dependencies"]
    except ValueError:
        return 0, "NOT audited: pip-audit cannot reach the advisories"
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
        return 0, f"NOT audited: the index has no advisories for any of the {len(unknown)} pinned versions"
    left = f"; not audited, because the index does not have them: {', '.join(unknown)}" if unknown else ""
    return 0, f"no known vulnerability in {audited} packages{left}"


def main(pip_audit: str, constraints: str) -> int:
    """Run pip-audit, print the result, and return the exit code."""
    command = [pip_audit, "--requirement", constraints, "--no-deps", "--disable-pip", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - CI runs this command
    code, text = verdict(done.stdout)
    if not done.stdout:
        text += f" ({(done.stderr.strip().splitlines() or ['no error message'])[-1]})"
    print(text)  # noqa: T201 - the script's output
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
