"""Datasets on disk: measured, truth and provenance in separate files of one folder.

``dataset.json`` (layout, nominal settings; marks completeness) · ``recipe.yaml`` · ``inputs/`` ·
``shards/K.h5`` (measured only) · ``truth/run.h5``, ``truth/K.h5`` · ``manifest.jsonl`` (one line
for each finished file) · ``master.emd`` (an index over the shards that other packages open) ·
``provenance.json``, ``wisdom``. All but the last two are the same bytes whoever made them, in
whatever order, on however many workers, in one go or resumed after a crash.
"""

from nanophantom.simcore.store.corpus import Corpus, is_corpus
from nanophantom.simcore.store.files import require_space
from nanophantom.simcore.store.reader import Dataset
from nanophantom.simcore.store.verify import verify
from nanophantom.simcore.store.writer import DatasetWriter, Receipt, ShardWriter, versions

__all__ = [
    "Corpus",
    "Dataset",
    "DatasetWriter",
    "Receipt",
    "ShardWriter",
    "is_corpus",
    "require_space",
    "verify",
    "versions",
]
