"""The source files that the rules of the house are checked on."""

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src"
TEXT = {".py", ".md", ".toml", ".yaml", ".yml", ".txt", ".sh", ""}
SKIPPED = {"site", "dist", "build", "runs", "__pycache__"}


@dataclass(frozen=True)
class Source:
    """A Python file of the package."""

    path: Path
    module: str
    text: str
    tree: ast.Module

    @property
    def place(self) -> str:
        """The layer: the folder or file right below `unison`; empty for the package's own `__init__`."""
        return [*self.module.split("."), ""][1]

    def imports(self) -> list[tuple[int, str]]:
        """Line and full name of everything imported, wherever in the file, relative imports resolved."""
        found: list[tuple[int, str]] = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found += [(node.lineno, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                package = self.module.split(".")
                if self.path.name != "__init__.py":
                    package = package[:-1]
                above = package[: len(package) - node.level + 1] if node.level else []
                base = ".".join([*above, *([node.module] if node.module else [])])
                found += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
        return found


@pytest.fixture(scope="session")
def sources() -> list[Source]:
    """All files of the package."""
    return [_read(path) for path in sorted((SRC / "unison").rglob("*.py"))]


@pytest.fixture(scope="session")
def texts() -> dict[str, str]:
    """The text files of the repository by relative path."""
    files = [
        path
        for path in sorted(ROOT.rglob("*"))
        if path.is_file() and path.suffix in TEXT and _is_ours(path.relative_to(ROOT))
    ]
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8", errors="ignore") for path in files}


def _is_ours(path: Path) -> bool:
    hidden = [part for part in path.parts if part.startswith(".") and part not in (".ci", path.name)]
    return not hidden and not SKIPPED & set(path.parts) and path.name not in ("LICENSE", ".git")


def _read(path: Path) -> Source:
    text = path.read_text(encoding="utf-8")
    parts = path.relative_to(SRC).with_suffix("").parts
    module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return Source(path, module, text, ast.parse(text))
