"""Whether images that lie in a git repository are ignored by it."""

from __future__ import annotations

import subprocess
from pathlib import Path


def warn_of_git(images: Path, folder: Path) -> list[str]:
    """What to say where `images` lie below `folder`, a git repository's, and are not ignored."""
    if not images.exists() or not images.resolve().is_relative_to(folder.resolve()):
        return []
    below = images.resolve().relative_to(folder.resolve()).as_posix()
    try:
        asked = subprocess.run(
            ["git", "check-ignore", "--quiet", "--", below],
            cwd=folder,
            capture_output=True,
            check=False,
        )
    except OSError:  # no git
        return []
    if asked.returncode != 1:  # 0: ignored; 128: no repository
        return []
    line = f"/{below}/" if images.is_dir() else f"/{below}"
    return [
        f"{below} lies in the repository, and git does not ignore it: git add -A would take the "
        f"images; add the line {line!r} to .gitignore"
    ]
