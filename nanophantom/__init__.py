"""Virtual instruments of nanocharacterization with exact ground truth."""

from typing import Any

__version__ = "0.1.0"
__all__ = ["Dataset", "Run", "acquire", "analyse", "instrument", "run", "sample", "score"]


def __getattr__(name: str) -> Any:
    """Import the face on first use, so that the command line starts quickly."""
    if name == "Dataset":
        from nanophantom.simcore.store import Dataset

        return Dataset
    if name in __all__:
        from nanophantom import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
