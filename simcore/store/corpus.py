"""A corpus: several datasets made from one recipe, each a dataset of its own."""

from __future__ import annotations

from pathlib import Path

from nanophantom.simcore.store import files, layout


class Corpus:
    """A folder with ``corpus.json``, the recipe, and ``items/000000/`` and so on.

    Raises
    ------
    ValueError
        The folder is no corpus, or of a newer format.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        header = layout.read_versioned(self.path, layout.CORPUS, layout.CORPUS_FORMAT, "corpus")
        self.n_items: int = header["n_items"]

    @classmethod
    def create(cls, path: Path | str, recipe_yaml: str, n_items: int) -> Corpus:
        """Start a corpus in a folder that doesn't exist yet (ValueError if it does)."""
        path = Path(path)
        if n_items < 1:
            raise ValueError(f"a corpus needs at least one item, not {n_items}")
        header = {"format": layout.CORPUS_FORMAT, "version": layout.VERSION, "n_items": n_items}
        with files.new_folder(path) as folder:
            (folder / "items").mkdir()
            files.write_whole(folder / layout.RECIPE, recipe_yaml.encode())
            files.write_whole(folder / layout.CORPUS, layout.dump_json(header).encode())
        return cls(path)

    @classmethod
    def resume(cls, path: Path | str, recipe_yaml: str) -> Corpus:
        """Reopen a corpus (ValueError if there is none, or its recipe is another one)."""
        path = Path(path)
        if (path / layout.DATASET).is_file():
            raise ValueError(f"{path} is a single dataset; resume it without --count")
        if not is_corpus(path):
            raise ValueError(f"{path} holds no corpus that was started; name another folder (-o)")
        corpus = cls(path)
        if layout.read_recipe(path) != recipe_yaml:
            raise ValueError(f"{path} was started with another recipe; name another folder (-o)")
        return corpus

    def item(self, number: int) -> Path:
        """Return the folder of one item."""
        return self.path / "items" / f"{number:06d}"

    @property
    def items(self) -> tuple[Path, ...]:
        """Folders of all items, made or not."""
        return tuple(self.item(number) for number in range(self.n_items))


def is_corpus(path: Path | str) -> bool:
    """Tell a corpus from a dataset."""
    return (Path(path) / layout.CORPUS).is_file()
