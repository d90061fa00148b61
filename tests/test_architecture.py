"""A room imports only from the rooms below it, and `inspectors` imports nothing from other rooms."""

import ast
import graphlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent / "worker" / "keyhole"
#: The rooms, lowest first. A room can import itself and the rooms listed before it.
ROOMS = [
    "release",
    "service_manager",
    "health",
    "inspectors",
    "masking",
    "errors",
    "reasons",
    "remedies",
    "small_files",
    "suggestions",
    "toml_lines",
    "toml_problems",
    "toml_files",
    "versions",
    "tracing",
    "sources",
    "scan",
    "store",
    "results",
    "jobs",
    "intake",
    "metrics",
    "reports",
    "confinement",
    "limits",
    "settings",
    "api",
    "aio",
    "fleet",
    "app",
    "tasks",
    "dashboard",
    "cli",
]
#: Modules outside this order, with the rooms that each can import in addition to itself.
ASIDE = {
    "": {"api", "errors", "inspectors", "reasons", "release", "scan", "settings"},
    "logs": {"inspectors", "masking"},
    "builders": set(),
    "demo": {"builders", "reasons", "scan"},
    "embedded": {"errors", "results", "settings"},
    "__main__": {"cli", "health"},
}
#: The rooms of the inspectors, lowest first.
INNER_ROOMS = ["volumes", "partitions", "compression", "formats", "archives"]
#: The core of the inspectors, which imports only itself. All other modules next to the rooms use the rooms.
CORE = {
    *("base", "capture", "effort", "errors", "extents", "facts", "fields", "findings"),
    *("memory", "readers", "region", "remembered", "text", "wrapper"),
}
#: The only modules that import Celery. `recurrence` uses it only to parse crontabs.
CELERY = {"fleet", "app.py", "tasks.py", "intake/recurrence.py", "cli/worker.py"}
#: All modules that the inspectors import from outside Keyhole. `google_crc32c` computes CRC-32C, which Python
#: lacks. `defusedxml` parses XML safely. From `urllib` and `xml`, the inspectors use only parsers.
OUTSIDE = {
    "google_crc32c",
    "defusedxml",
    "abc",
    "array",
    "backports",
    "binascii",
    "bisect",
    "bz2",
    "codecs",
    "collections",
    "compression",
    "contextlib",
    "contextvars",
    "dataclasses",
    "enum",
    "functools",
    "hashlib",
    "heapq",
    "importlib",  # the public names are imported on first use
    "itertools",
    "json",
    "logging",
    "lz4",
    "lzma",
    "operator",
    "re",
    "stat",
    "struct",
    "sys",
    "typing",
    "unicodedata",
    "urllib",
    "uuid",
    "weakref",
    "xml",
    "zlib",
}


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Return all nodes of a file's syntax tree."""
    return tuple(ast.walk(ast.parse(path.read_text())))


def imports(path: Path) -> Iterator[str]:
    """Return the modules that a file imports, at the top or inside functions."""
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "keyhole":
                yield from (
                    f"keyhole.{alias.name}" if (ROOT / f"{alias.name}.py").exists() else "keyhole"
                    for alias in node.names
                )
            else:
                yield node.module


FILES = sorted(ROOT.rglob("*.py"))


def rooms_above(path: Path) -> set[str]:
    """Return the rooms that a file imports although they are above its own."""
    place = path.relative_to(ROOT).with_suffix("").parts
    room = "" if place == ("__init__",) else place[0]
    used = {room_of(module) for module in imports(path) if module.split(".")[0] == "keyhole"} - {room, ""}
    if room not in ROOMS:
        return used - ASIDE[room]
    below = set(ROOMS[: ROOMS.index(room)])
    # `cli` is above all rooms. `app` reads the settings and configures the log.
    return used - below - (set(ASIDE) if room in {"cli", "app"} else set())


def test_arrows_run_down_only() -> None:
    assert {path: above for path in FILES if (above := rooms_above(path))} == {}


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports inside functions and under TYPE_CHECKING are included."""
    modules = {module_of(path): path for path in FILES}
    graph: dict[str, set[str]] = {module: set() for module in modules}
    for module, path in modules.items():
        for node in nodes(path):
            if isinstance(node, ast.Import):
                graph[module] |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
                graph[module] |= {name if name in modules else node.module for name in names.values()}
    known = {module: (used & modules.keys()) - {module} for module, used in graph.items()}
    graphlib.TopologicalSorter(known).prepare()


IN_INSPECTORS = sorted((ROOT / "inspectors").rglob("*.py"))


def test_inspectors_have_no_io_no_clock_and_no_settings() -> None:
    for path in IN_INSPECTORS:
        assert {module.split(".")[0] for module in imports(path)} - {"keyhole"} <= OUTSIDE, path


def test_only_the_edge_reads_settings() -> None:
    readers = {
        path.relative_to(ROOT)
        for path in FILES
        if any(module.startswith("keyhole.settings") for module in imports(path))
    }
    rooms = {path.with_suffix("").parts[0] for path in readers}
    assert rooms <= {"__init__", "settings", "api", "aio", "app", "fleet", "cli", "embedded"}


def test_commands_print_tables_by_the_console_that_escapes() -> None:
    """`rich`'s own console prints control characters unchanged."""
    for path in (ROOT / "cli").glob("*.py"):
        calls = {getattr(node.func, "id", "") for node in nodes(path) if isinstance(node, ast.Call)}
        assert "Console" not in calls, path


def test_the_core_of_the_inspectors_stands_alone_and_their_rooms_in_an_order() -> None:
    for path in IN_INSPECTORS:
        used = {module.split(".")[2] for module in imports(path) if module.startswith("keyhole.inspectors.")}
        place = path.relative_to(ROOT / "inspectors").with_suffix("").parts[0]
        if place in CORE:
            assert used <= CORE, path
        elif place in INNER_ROOMS:
            above = {*INNER_ROOMS[INNER_ROOMS.index(place) + 1 :], "catalogue", "inspection"}
            assert used.isdisjoint(above), path


def test_celery_is_imported_only_where_work_is_published_and_done() -> None:
    users = {
        path.relative_to(ROOT)
        for path in FILES
        if any(module.split(".")[0] == "celery" for module in imports(path))
    }
    assert [path for path in users if not CELERY & {path.parts[0], str(path)}] == []


def test_only_audits_know_prices() -> None:
    """The other modules only load the price table and pass it on."""
    users = {path.relative_to(ROOT) for path in FILES if "keyhole.intake.audits.prices" in imports(path)}
    outside = {str(path) for path in users if path.parts[:2] != ("intake", "audits")}
    assert outside == {"settings/__init__.py", "fleet/services.py", "cli/plan.py"}


def test_no_test_module_is_a_library() -> None:
    """Code that several tests use is in modules whose names do not begin with `test_`."""
    tests = ROOT.parents[1] / "tests"
    library = re.compile(
        r"^\s*(?:from|import) tests(?:[.\w]*\.test_\w+|[.\w]* import .*\btest_\w+)", re.MULTILINE
    )
    found = {path: library.findall(path.read_text()) for path in sorted(tests.rglob("*.py"))}
    assert {path: lines for path, lines in found.items() if lines} == {}
